//! One agent process with a data directory of its own; killed when dropped.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// How long anything may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);
/// Log lines that nobody has read yet.
const LINES_MAX: usize = 1_000;

pub(crate) struct Agent {
    pub(crate) child: Child,
    pub(crate) home: TempDir,
    lines: mpsc::Receiver<String>,
    _reader: JoinSet<()>,
}

impl Agent {
    /// Starts an agent; its gateway is a socket that nobody listens on.
    pub(crate) fn start(args: &[&str]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_agentd"))
            .args(args)
            .env("TIDEGATE_HOME", home.path())
            .env_remove("TIDEGATE_GATEWAY")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::channel(LINES_MAX);
        let mut reader = JoinSet::new();
        reader.spawn(read(child.stderr.take().unwrap(), sender));
        Self { child, home, lines, _reader: reader }
    }

    /// Waits for a log line with this text and returns what follows it, up to a quote.
    pub(crate) async fn says(&mut self, text: &str) -> String {
        let mut seen = Vec::new();
        loop {
            let line = tokio::time::timeout(DEADLINE, self.lines.recv()).await.unwrap();
            let line = line.unwrap_or_else(|| unreachable!("the agent never said {text:?}: {seen:#?}"));
            if let Some((_, rest)) = line.split_once(text) {
                return rest.split('"').next().unwrap_or(rest).to_owned();
            }
            seen.push(line);
        }
    }

    pub(crate) fn terminate(&self) {
        let id = i32::try_from(self.child.id().unwrap()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), Signal::TERM).unwrap();
    }

    /// Waits for its end and returns its exit code.
    pub(crate) async fn ended(&mut self) -> Option<i32> {
        tokio::time::timeout(DEADLINE, self.child.wait()).await.unwrap().unwrap().code()
    }
}

async fn read(stderr: ChildStderr, lines: mpsc::Sender<String>) {
    let mut reader = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = reader.next_line().await {
        // A test that reads no lines is not interested in them.
        let _ = lines.try_send(line);
    }
}
