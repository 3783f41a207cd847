//! Runs child processes that cannot outlive their test: every child leads its own process group, and the group is
//! killed by its id when the handle goes away.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};

/// More output than this from one client means that it runs away.
const OUTPUT_BYTES_MAX: u64 = 8 << 20;

/// Kills a process group when dropped.
#[derive(Debug)]
pub struct Group(Option<Pid>);

impl Group {
    /// Takes charge of the group that `child` leads.
    pub fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw))
    }

    /// Sends `signal` to every process of the group.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let group = self.0.context("the process group is gone")?;
        rustix::process::kill_process_group(group, signal).context("signal a process group")
    }

    /// Sends `signal` to the group's leader alone.
    pub fn signal_leader(&self, signal: Signal) -> anyhow::Result<()> {
        let leader = self.0.context("the process group is gone")?;
        rustix::process::kill_process(leader, signal).context("signal a process")
    }

    /// Gives up the group: its leader was waited for, so that its id may be somebody else's soon.
    pub fn release(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // The group may be gone already, and then there is nothing to do.
            let _ = rustix::process::kill_process_group(group, Signal::KILL);
        }
    }
}

/// What a finished process left.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Output {
    /// Fails, with everything that was printed, unless the process ended well.
    pub fn success(self) -> anyhow::Result<Self> {
        anyhow::ensure!(
            self.status.success(),
            "{}\n--- stdout\n{}\n--- stderr\n{}",
            self.status,
            self.stdout,
            self.stderr
        );
        Ok(self)
    }
}

/// Runs `command` to its end and collects what it prints; kills its whole group when `limit` passes.
pub async fn run(mut command: Command, limit: Duration) -> anyhow::Result<Output> {
    let name = format!("{:?}", command.as_std());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.process_group(0).kill_on_drop(true);
    let mut child = command.spawn().with_context(|| format!("start {name}"))?;
    let mut group = Group::of(&child);
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let ended = async { tokio::try_join!(read(stdout), read(stderr), async { Ok(child.wait().await?) }) };
    let (stdout, stderr, status) =
        tokio::time::timeout(limit, ended).await.with_context(|| format!("{name} ran over {limit:?}"))??;
    group.release();
    Ok(Output { status, stdout, stderr })
}

async fn read(stream: Option<impl AsyncRead + Unpin>) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        stream.take(OUTPUT_BYTES_MAX).read_to_end(&mut bytes).await?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
