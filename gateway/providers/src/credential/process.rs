//! Runs a program that prints something secret, with a time limit, an output cap and next to no environment.
//!
//! It has a process group of its own, of which nothing is left when the run ends, however it ends. What it prints
//! on its standard error is counted and dropped; no error shows a byte of what it printed.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use futures_util::future::{Either, select, try_join};
use rustix::process::{Pid, Signal, kill_process_group};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};

use super::MintError;

/// The most that a program may print.
const STDOUT_MAX: usize = 64 * 1024;
/// The most that a program may print on its standard error.
const STDERR_MAX: usize = 1024 * 1024;
/// How long after its end a program's output may still come, from processes that it has left behind.
const GRACE: Duration = Duration::from_millis(250);
/// How long a killed program may take to be gone. It takes longer only while the kernel holds it.
const REAP_MAX: Duration = Duration::from_secs(1);
/// Where programs are looked for when there is no PATH.
const PATH_DEFAULT: &str = "/usr/local/bin:/usr/bin:/bin";

/// The longest that a run takes after its time limit.
pub(crate) const TAIL_MAX: Duration = GRACE.saturating_add(REAP_MAX);

/// A program and how it is run.
pub(crate) struct Program {
    /// A name that is looked up in the environment's PATH, or a path.
    pub(crate) command: String,
    pub(crate) args: Vec<String>,
    /// Where it runs; relative paths, also that of the program, begin there.
    pub(crate) cwd: Option<PathBuf>,
    /// Its whole environment.
    pub(crate) env: BTreeMap<String, SecretString>,
    pub(crate) timeout: Duration,
}

impl Program {
    /// How people know it. Arguments are left out: they are not made for secrets, but may hold some.
    pub(crate) fn what(&self) -> String {
        format!("command {}", self.command)
    }

    /// A number that changes when another file would be run, or none for another reason.
    pub(crate) fn inputs(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.locate().map(|(path, file)| (path, identity(&file))).hash(&mut hasher);
        hasher.finish()
    }

    /// Runs it to its end and gives what it printed.
    pub(crate) async fn run(&self) -> Result<Zeroizing<Vec<u8>>, MintError> {
        let (path, _) = self.locate().map_err(|why| MintError::permanent(self.what(), why))?;
        let passing = |why: String| MintError::passing(self.what(), why);
        let mut child = self.spawn(&path).map_err(|error| passing(format!("cannot be started: {error}")))?;
        let mut group = Group::led_by(&child);
        // As large as it may become: no copy is left behind by growing.
        let stdout = Zeroizing::new(Vec::with_capacity(STDOUT_MAX + 64));
        let mut output = Output { stdout, stderr_len: 0 };
        let ended = tokio::time::timeout(self.timeout, watch(&mut child, &mut group, &mut output)).await;
        group.kill();
        // A child that has been waited for gives its status again.
        let _ = tokio::time::timeout(REAP_MAX, child.wait()).await;
        match ended {
            Ok(Ok(status)) => output.of(status).map_err(passing),
            Ok(Err(why)) => Err(passing(why)),
            Err(_) => {
                Err(passing(format!("did not end within {} ms and was killed", self.timeout.as_millis())))
            }
        }
    }

    fn spawn(&self, path: &Path) -> io::Result<Child> {
        let mut command = Command::new(path);
        command.args(&self.args).env_clear();
        command.envs(self.env.iter().map(|(name, value)| (name, value.expose_secret())));
        if let Some(cwd) = &self.cwd {
            command.current_dir(cwd);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0).kill_on_drop(true).spawn()
    }

    /// The file to run. What is wrong here stays wrong until files change.
    fn locate(&self) -> Result<(PathBuf, Metadata), String> {
        let here = std::path::absolute(self.cwd.as_deref().unwrap_or(Path::new(".")));
        let here = here.map_err(|error| format!("no directory to run in: {error}"))?;
        if self.cwd.is_some() && !here.is_dir() {
            return Err(format!("there is no directory {}", here.display()));
        }
        if self.command.contains('/') {
            return executable(here.join(&self.command));
        }
        let path = self.env.get("PATH").map_or(PATH_DEFAULT, ExposeSecret::expose_secret);
        let mut found = Err("not found in PATH".to_owned());
        // Directories that depend on where we happen to be are no place to look for programs.
        for dir in std::env::split_paths(path).filter(|dir| dir.is_absolute()) {
            match executable(dir.join(&self.command)) {
                Ok(file) => return Ok(file),
                Err(why) if dir.join(&self.command).exists() => found = Err(why),
                Err(_) => {}
            }
        }
        found
    }
}

fn executable(path: PathBuf) -> Result<(PathBuf, Metadata), String> {
    match std::fs::metadata(&path) {
        Ok(file) if file.is_file() && file.permissions().mode() & 0o111 != 0 => Ok((path, file)),
        Ok(_) => Err(format!("{} is not an executable file", path.display())),
        Err(error) => Err(format!("{}: {}", path.display(), error.kind())),
    }
}

/// Changes when a file is replaced, written, or made accessible in another way.
pub(super) fn identity(file: &Metadata) -> [i64; 6] {
    let bits = |number: u64| i64::from_ne_bytes(number.to_ne_bytes());
    let (mtime, ctime) = (file.mtime().wrapping_mul(1_000_000_000), file.ctime().wrapping_mul(1_000_000_000));
    let (mtime, ctime) = (mtime.wrapping_add(file.mtime_nsec()), ctime.wrapping_add(file.ctime_nsec()));
    [bits(file.dev()), bits(file.ino()), bits(file.len()), mtime, ctime, i64::from(file.mode())]
}

/// The process group of a child: killed when this is dropped, at the latest.
struct Group(Option<Pid>);

impl Group {
    fn led_by(child: &Child) -> Group {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Group(id.and_then(Pid::from_raw))
    }

    /// Kills all that is left of the group, once: later its number may be another group's. Right after the child was
    /// waited for it cannot be, as numbers are not given out again that soon.
    fn kill(&mut self) {
        if let Some(leader) = self.0.take() {
            // The only failure is that nothing is left.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a program has printed.
struct Output {
    stdout: Zeroizing<Vec<u8>>,
    stderr_len: usize,
}

impl Output {
    fn of(self, status: ExitStatus) -> Result<Zeroizing<Vec<u8>>, String> {
        let how = match (status.code(), status.signal()) {
            (Some(0), _) => return Ok(self.stdout),
            (Some(code), _) => format!("exited with code {code}"),
            (None, Some(signal)) => format!("was ended by signal {signal}"),
            (None, None) => "ended in an unknown way".to_owned(),
        };
        Err(format!("{how} and wrote {} bytes to its standard error", self.stderr_len))
    }
}

/// Reads what the child prints until it ends. When it has, nothing of its group goes on.
async fn watch(child: &mut Child, group: &mut Group, output: &mut Output) -> Result<ExitStatus, String> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let pipes = try_join(read(stdout, &mut output.stdout), drain(stderr, &mut output.stderr_len));
    let status = match select(pin!(pipes), pin!(child.wait())).await {
        Either::Left((read, exit)) => {
            read?;
            exit.await
        }
        Either::Right((status, pipes)) => {
            group.kill();
            // A process that has left the group may hold the pipe; what the child printed is there by now.
            tokio::time::timeout(GRACE, pipes).await.unwrap_or(Ok(((), ())))?;
            status
        }
    };
    group.kill();
    status.map_err(|error| format!("cannot be waited for: {}", error.kind()))
}

async fn read(from: Option<impl AsyncRead + Unpin>, into: &mut Vec<u8>) -> Result<(), String> {
    let Some(from) = from else { return Ok(()) };
    let limit = u64::try_from(STDOUT_MAX + 1).unwrap_or(u64::MAX);
    from.take(limit).read_to_end(into).await.map_err(unreadable)?;
    match into.len() > STDOUT_MAX {
        true => Err(format!("printed more than {STDOUT_MAX} bytes and was killed")),
        false => Ok(()),
    }
}

async fn drain(from: Option<impl AsyncRead + Unpin>, count: &mut usize) -> Result<(), String> {
    let Some(mut from) = from else { return Ok(()) };
    let mut dropped = Zeroizing::new([0; 1024]);
    loop {
        match from.read(&mut *dropped).await.map_err(unreadable)? {
            0 => return Ok(()),
            more => *count += more,
        }
        if *count > STDERR_MAX {
            return Err(format!("printed more than {STDERR_MAX} bytes of errors and was killed"));
        }
    }
}

fn unreadable(error: io::Error) -> String {
    format!("its output cannot be read: {}", error.kind())
}
