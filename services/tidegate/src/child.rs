//! One service as a child process: started from this same program, watched, stopped in order.
//!
//! A child holds the reading end of a pipe from its parent. When the parent is gone, however it went, the pipe ends
//! and the child stops as if it had been told to.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::Read as _,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, getpid, kill_process};
use service_runtime::{Exit, Fault, ready};
use tempfile::TempDir;
use tokio::{
    net::UnixDatagram,
    process::{Child, ChildStdin, Command},
    time::{error::Elapsed, timeout},
};
use tokio_util::sync::CancellationToken;

/// How long a service may take to stop before it is killed; longer than its own grace period.
const STOP_MAX: Duration = Duration::from_secs(45);

/// Names the child that stops when its parent is gone.
const OWNED: &str = "TIDEGATE_OWNED_CHILD";

/// What an agent needs of the user's environment; everything else, every provider key included, stays behind.
const AGENT_ENVIRONMENT: [&str; 13] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TERM",
    "TZ",
    "TMPDIR",
    "NO_COLOR",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
];

/// What a child may know.
#[derive(Debug)]
pub(crate) enum Environment {
    /// Everything: the gateway reads provider keys.
    Whole,
    /// No credential, and these variables besides.
    WithoutSecrets(Vec<(&'static str, OsString)>),
}

/// Where a child's log goes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Log<'a> {
    /// To our own standard error.
    Shown,
    /// Into a file of the child's name in this directory.
    Kept(&'a Path),
}

impl Log<'_> {
    fn open(self, name: &str) -> anyhow::Result<Stdio> {
        match self {
            Self::Shown => Ok(Stdio::inherit()),
            Self::Kept(directory) => Ok(File::create(directory.join(name).with_extension("log"))?.into()),
        }
    }
}

/// A running service.
#[derive(Debug)]
pub(crate) struct Service {
    name: &'static str,
    child: Child,
    /// Its end tells the child that we are gone.
    _tether: Option<ChildStdin>,
    /// Where the child says that it listens.
    ready: UnixDatagram,
    _directory: TempDir,
}

impl Service {
    /// Starts this program again as `name` with `args`.
    pub(crate) fn start<A: AsRef<OsStr>>(
        name: &'static str,
        args: impl IntoIterator<Item = A>,
        environment: Environment,
        log: Log<'_>,
    ) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program")?;
        let directory = tempfile::Builder::new().prefix("tidegate-").tempdir()?;
        let socket = directory.path().join("ready");
        let ready = UnixDatagram::bind(&socket)?;
        let mut command = Command::new(&program);
        if let Environment::WithoutSecrets(added) = environment {
            command.env_clear().envs(kept()).envs(added);
        }
        command
            .arg(name)
            .args(args)
            .env(OWNED, "1")
            .env(ready::SOCKET, socket)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log.open(name)?)
            // Ctrl-C is ours to pass on, in the right order.
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let tether = child.stdin.take();
        Ok(Self { name, child, _tether: tether, ready, _directory: directory })
    }

    /// Waits until the service itself says that it listens: at its address somebody else may answer.
    pub(crate) async fn listens(&mut self) -> anyhow::Result<()> {
        let mut word = [0; 16];
        tokio::select! {
            status = self.child.wait() => Err(early(self.name, status)),
            told = self.ready.recv(&mut word) => Ok(told.map(drop)?),
        }
    }

    /// Waits until the service ends by itself, which it should not.
    pub(crate) async fn ended(&mut self) -> anyhow::Error {
        early(self.name, self.child.wait().await)
    }

    /// Tells the service to stop and waits for it; tells it once more, which ends its grace period, when there is no more
    /// time; kills it if it takes too long.
    pub(crate) async fn stop(mut self, at_once: &CancellationToken) -> anyhow::Result<()> {
        self.tell(Signal::TERM)?;
        if let Some(ended) = at_once.run_until_cancelled(timeout(STOP_MAX, self.child.wait())).await {
            return self.stopped(ended).await;
        }
        // Another signal than the first: two of a kind could become one.
        self.tell(Signal::INT)?;
        let ended = timeout(STOP_MAX, self.child.wait()).await;
        self.stopped(ended).await
    }

    fn tell(&self, signal: Signal) -> anyhow::Result<()> {
        match self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) {
            Some(pid) => kill_process(pid, signal).with_context(|| format!("cannot stop {}", self.name)),
            None => Ok(()),
        }
    }

    async fn stopped(&mut self, ended: Result<std::io::Result<ExitStatus>, Elapsed>) -> anyhow::Result<()> {
        match ended {
            Ok(status) => {
                let status = status?;
                anyhow::ensure!(status.success(), "{} stopped with {}", self.name, describe(status));
                Ok(())
            }
            Err(_) => {
                self.child.kill().await?;
                anyhow::bail!("{} did not stop within {} s and was killed", self.name, STOP_MAX.as_secs())
            }
        }
    }
}

fn kept() -> impl Iterator<Item = (&'static str, OsString)> {
    AGENT_ENVIRONMENT.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)))
}

/// Why the desk ends with a service that ended by itself, and how: as the service did.
fn early(name: &str, status: std::io::Result<ExitStatus>) -> anyhow::Error {
    match status {
        Ok(status) => {
            let exit = match status.code().map(Exit::of_code) {
                Some(Exit::Ok) | None => Exit::Failure,
                Some(exit) => exit,
            };
            Fault { exit, message: format!("{name} ended early ({})", describe(status)) }.into()
        }
        Err(error) => anyhow::Error::new(error).context(format!("{name} cannot be watched")),
    }
}

fn describe(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("exit code {code}"),
        None => status.to_string(),
    }
}

/// In a child: stops this process, as SIGTERM would, when the parent is gone.
pub(crate) fn follow_parent() -> anyhow::Result<()> {
    if std::env::var_os(OWNED).is_none() {
        return Ok(());
    }
    std::thread::Builder::new().name("parent".to_owned()).spawn(|| {
        let mut sink = [0; 64];
        // The parent never writes; the pipe ends with it.
        while matches!(std::io::stdin().read(&mut sink), Ok(1..)) {}
        let _ = kill_process(getpid(), Signal::TERM);
    })?;
    Ok(())
}
