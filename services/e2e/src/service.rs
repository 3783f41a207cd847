//! One of the product's services as a child process: started until it says where it listens, stopped, killed, and
//! never left behind.

use std::collections::VecDeque;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::process::Group;

/// A service on loopback with nothing to load is up long before this.
const START_TIME_MAX: Duration = Duration::from_secs(30);
/// How long the last words of an ended process may take to arrive.
const LAST_WORDS_MAX: Duration = Duration::from_secs(2);
/// Lines of output that are kept for a failure's message.
const LINES_MAX: usize = 20_000;

/// A running service.
pub struct Service {
    name: String,
    child: Child,
    group: Group,
    lines: Arc<Mutex<VecDeque<String>>>,
    printed: watch::Receiver<u64>,
    _tasks: JoinSet<()>,
}

impl Service {
    /// Starts `command` and waits until `ready` finds what it looks for in a line of output.
    pub async fn start<T>(
        name: &str,
        mut command: Command,
        ready: impl Fn(&str) -> Option<T>,
    ) -> anyhow::Result<(Self, T)> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            command.process_group(0).kill_on_drop(true).spawn().with_context(|| format!("start {name}"))?;
        let group = Group::of(&child);
        let lines = Arc::new(Mutex::new(VecDeque::new()));
        let (print, printed) = watch::channel(0);
        let mut tasks = JoinSet::new();
        if let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) {
            tasks.spawn(keep(stdout, Arc::clone(&lines), print.clone()));
            tasks.spawn(keep(stderr, Arc::clone(&lines), print));
        }
        let mut service = Self { name: name.to_owned(), child, group, lines, printed, _tasks: tasks };
        let found = service.wait_for_line("its address", ready).await?;
        Ok((service, found))
    }

    /// Waits for a line of output, also among those that were printed already.
    pub async fn wait_for_line<T>(
        &mut self,
        what: &str,
        wanted: impl Fn(&str) -> Option<T>,
    ) -> anyhow::Result<T> {
        let printed = async {
            loop {
                if let Some(found) = self.find(&wanted) {
                    return Ok(found);
                }
                self.printed.changed().await.context("it ended")?;
            }
        };
        let outcome: anyhow::Result<T> = tokio::time::timeout(START_TIME_MAX, printed)
            .await
            .unwrap_or_else(|_| Err(anyhow::anyhow!("timed out")));
        outcome.with_context(|| format!("waited for {what} of {}, which said\n{}", self.name, self.output()))
    }

    /// What the service has printed.
    pub fn output(&self) -> String {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(|line| format!("{line}\n")).collect()
    }

    fn find<T>(&self, wanted: impl Fn(&str) -> Option<T>) -> Option<T> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().find_map(|line| wanted(line))
    }

    /// Whether the process is still there.
    pub fn is_running(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// The process's id, until it was waited for.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Kills the service as a crash would, and waits for it to be gone.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        self.group.signal(Signal::KILL)?;
        self.ended(START_TIME_MAX).await.map(|_| ())
    }

    /// Asks the service to end, and waits until it did.
    pub async fn stop(mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.ended(limit).await
    }

    /// Sends a signal to the service alone, not to what it started.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        self.group.signal_leader(signal)
    }

    /// Sends a signal to everything in the service's process group, as a terminal does.
    pub fn signal_group(&self, signal: Signal) -> anyhow::Result<()> {
        self.group.signal(signal)
    }

    /// Waits for the service to end.
    pub async fn ended(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        let ended = tokio::time::timeout(limit, self.child.wait()).await;
        let status =
            ended.with_context(|| format!("{} did not end; it said\n{}", self.name, self.output()))??;
        self.group.release();
        // What it said last may still be on its way; a process that it left behind may hold the pipe.
        let _rest =
            tokio::time::timeout(LAST_WORDS_MAX, async { while self.printed.changed().await.is_ok() {} })
                .await;
        Ok(status)
    }
}

async fn keep(
    output: impl AsyncRead + Unpin,
    lines: Arc<Mutex<VecDeque<String>>>,
    printed: watch::Sender<u64>,
) {
    let mut output = BufReader::new(output).lines();
    while let Ok(Some(line)) = output.next_line().await {
        let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(line);
        drop(lines);
        printed.send_modify(|count| *count = count.wrapping_add(1));
    }
}
