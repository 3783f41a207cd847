//! A terminal of 100 by 30 cells around a program: what it paints can be read as text, keys can be typed, and the
//! questions that programs ask a terminal are answered.
//!
//! Nothing here waits for time to pass: callers wait for something to be on the screen, under a deadline.

use std::ffi::OsString;
use std::io;
use std::num::NonZeroU16;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use pty_process::{OwnedReadPty, OwnedWritePty, Size};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Child;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use vt100::{Callbacks, Parser, Screen};

use crate::process::Group;

const COLUMNS: u16 = 100;
const ROWS: u16 = 30;
/// Keys and answers that wait for the program to read them.
const INPUT_QUEUE_MAX: usize = 64;

/// A program in its terminal; the program is killed when this is dropped.
pub struct Terminal {
    child: Child,
    group: Group,
    screen: Arc<Mutex<Parser<Answers>>>,
    painted: watch::Receiver<u64>,
    input: mpsc::Sender<Vec<u8>>,
    _tasks: JoinSet<()>,
}

impl Terminal {
    /// Starts `program` in `directory` with exactly this environment.
    pub fn start(
        program: &Path,
        arguments: &[&str],
        environment: &[(&'static str, OsString)],
        directory: &Path,
    ) -> anyhow::Result<Self> {
        let (pty, pts) = pty_process::open().context("open a pseudo-terminal")?;
        pty.resize(Size::new(ROWS, COLUMNS))?;
        let command = pty_process::Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .current_dir(directory)
            .kill_on_drop(true);
        // The program becomes a session leader, and so the leader of its own process group.
        let child =
            command.spawn(pts).with_context(|| format!("start {} in a terminal", program.display()))?;
        let group = Group::of(&child);
        let rows = NonZeroU16::new(ROWS).context("a terminal has rows")?;
        let columns = NonZeroU16::new(COLUMNS).context("a terminal has columns")?;
        let screen = Arc::new(Mutex::new(Parser::new_with_callbacks(rows, columns, 0, Answers::default())));
        let (paint, painted) = watch::channel(0);
        let (input, typed) = mpsc::channel(INPUT_QUEUE_MAX);
        let (read, write) = pty.into_split();
        let mut tasks = JoinSet::new();
        tasks.spawn(paint_screen(read, Arc::clone(&screen), paint, input.clone()));
        tasks.spawn(type_input(write, typed));
        Ok(Self { child, group, screen, painted, input, _tasks: tasks })
    }

    /// The text on the screen, line by line.
    pub fn screen(&self) -> String {
        let screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        screen.screen().contents()
    }

    /// Types `keys`.
    pub async fn send(&self, keys: &str) -> anyhow::Result<()> {
        self.input.send(keys.as_bytes().to_vec()).await.context("the terminal is closed")
    }

    /// Types a line of text, sees it on the screen, and presses Enter.
    pub async fn enter(&mut self, text: &str, limit: Duration) -> anyhow::Result<()> {
        self.send(text).await?;
        self.wait_for_text(text, limit).await?;
        self.send("\r").await
    }

    /// Waits until `text` is on the screen.
    pub async fn wait_for_text(&mut self, text: &str, limit: Duration) -> anyhow::Result<()> {
        self.wait_for(&format!("{text:?}"), limit, |screen| screen.contains(text)).await
    }

    /// Waits until the screen is as `wanted` says; a failure shows the screen as it was.
    pub async fn wait_for(
        &mut self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> anyhow::Result<()> {
        let seen = async {
            loop {
                if wanted(&self.screen.lock().unwrap_or_else(PoisonError::into_inner).screen().contents()) {
                    return Ok(());
                }
                self.painted.changed().await.context("the program closed its terminal")?;
            }
        };
        let outcome =
            tokio::time::timeout(limit, seen).await.unwrap_or_else(|_| Err(anyhow::anyhow!("timed out")));
        outcome.with_context(|| format!("waited {limit:?} for {what}; the screen was\n{}", self.screen()))
    }

    /// Waits for the program to end.
    pub async fn wait_exit(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        let ended = tokio::time::timeout(limit, self.child.wait()).await;
        let status = ended.with_context(|| format!("did not exit; the screen was\n{}", self.screen()))??;
        self.group.release();
        Ok(status)
    }
}

async fn paint_screen(
    mut program: OwnedReadPty,
    screen: Arc<Mutex<Parser<Answers>>>,
    painted: watch::Sender<u64>,
    input: mpsc::Sender<Vec<u8>>,
) {
    let mut bytes = vec![0; 16 << 10];
    // The end of a pseudo-terminal is an error, not an empty read.
    while let Ok(read) = program.read(&mut bytes).await {
        let Some(seen) = bytes.get(..read).filter(|seen| !seen.is_empty()) else { return };
        let answers = {
            let mut screen = screen.lock().unwrap_or_else(PoisonError::into_inner);
            screen.process(seen);
            std::mem::take(&mut screen.callbacks_mut().0)
        };
        painted.send_modify(|frames| *frames = frames.wrapping_add(1));
        if !answers.is_empty() && input.send(answers).await.is_err() {
            return;
        }
    }
}

async fn type_input(mut program: OwnedWritePty, mut typed: mpsc::Receiver<Vec<u8>>) {
    while let Some(keys) = typed.recv().await {
        let written: io::Result<()> = program.write_all(&keys).await;
        if written.is_err() {
            return;
        }
    }
}

/// What a terminal has to answer, gathered while the program's output is parsed.
#[derive(Debug, Default)]
struct Answers(Vec<u8>);

impl Callbacks for Answers {
    fn unhandled_csi(
        &mut self,
        screen: &mut Screen,
        first: Option<u8>,
        _second: Option<u8>,
        parameters: &[&[u16]],
        last: char,
    ) {
        let parameter = parameters.first().and_then(|values| values.first()).copied().unwrap_or(0);
        match (first, last, parameter) {
            (None, 'n', 6) => {
                let (row, column) = screen.cursor_position();
                self.0.extend(
                    format!("\x1b[{};{}R", row.saturating_add(1), column.saturating_add(1)).into_bytes(),
                );
            }
            (None, 'c', _) => self.0.extend(b"\x1b[?62;c"),
            _ => {}
        }
    }

    fn unhandled_osc(&mut self, _screen: &mut Screen, parameters: &[&[u8]]) {
        match parameters {
            [b"10", b"?"] => self.0.extend(b"\x1b]10;rgb:dddd/dddd/dddd\x1b\\"),
            [b"11", b"?"] => self.0.extend(b"\x1b]11;rgb:0000/0000/0000\x1b\\"),
            _ => {}
        }
    }
}
