//! Moves log lines to a slow sink through a bounded buffer, on a thread of its own.
//!
//! Under load the thread writes what has gathered and then rests for a moment, so that a line costs whoever logs it a copy
//! and no wake-up. The first line after silence is written at once.

use std::borrow::Cow;
use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// How many bytes of lines wait.
const BYTES_MAX: usize = 4 << 20;
/// A buffer that grew beyond this in a burst is given back.
const BYTES_KEPT: usize = 256 << 10;
/// How long lines gather after others were written.
const REST: Duration = Duration::from_millis(10);
/// How long the end of the process waits for a stalled sink.
const FLUSH_MAX: Duration = Duration::from_secs(1);

/// Gives each event a handle on the buffer.
#[derive(Debug, Clone)]
pub(super) struct Lines(Arc<Buffer>);

/// Waits for the buffer to be written; also done on drop.
#[derive(Debug)]
pub(crate) struct Flush(Arc<Buffer>);

#[derive(Debug, Default)]
struct Buffer {
    waiting: Mutex<Waiting>,
    /// The writer's: something is there, or somebody is in a hurry.
    arrived: Condvar,
    /// For those in a hurry: something was written.
    written: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    text: Vec<u8>,
    lost: u64,
    /// Whether the writer has nothing to do and wants to be woken.
    idle: bool,
    /// How often a flush was asked for, and up to which of them all is written.
    asked: u64,
    done: u64,
}

/// Starts the thread that writes to `sink`; it ends with the process.
pub(super) fn start(sink: impl Write + Send + 'static) -> (Lines, Flush) {
    let buffer = Arc::<Buffer>::default();
    let writer = Arc::clone(&buffer);
    // Without a thread the buffer fills and lines are lost: logging is never a reason to fail.
    let _ = std::thread::Builder::new().name("log".to_owned()).spawn(move || writer.run(sink));
    (Lines(Arc::clone(&buffer)), Flush(buffer))
}

impl Buffer {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: &[u8]) {
        let mut waiting = self.lock();
        if waiting.text.len() + line.len() > BYTES_MAX {
            waiting.lost += 1;
            return;
        }
        waiting.text.extend_from_slice(line);
        if mem::take(&mut waiting.idle) {
            drop(waiting);
            self.arrived.notify_one();
        }
    }

    fn run(&self, mut sink: impl Write) {
        let mut text = Vec::new();
        loop {
            let (lost, asked) = self.take(&mut text);
            // A failed write has nowhere to be reported.
            let _ = sink.write_all(&quiet(&text));
            if lost > 0 {
                let _ =
                    writeln!(sink, "{{\"level\":\"WARN\",\"message\":\"log lines lost\",\"count\":{lost}}}");
            }
            let _ = sink.flush();
            text.clear();
            text.shrink_to(BYTES_KEPT);
            let mut waiting = self.lock();
            waiting.done = asked;
            self.written.notify_all();
            let calm = |waiting: &mut Waiting| waiting.asked == asked;
            drop(self.arrived.wait_timeout_while(waiting, REST, calm));
        }
    }

    /// Waits for something to do; puts the lines into the empty `text` and tells how many are lost and which flush they
    /// are for.
    fn take(&self, text: &mut Vec<u8>) -> (u64, u64) {
        let mut waiting = self.lock();
        while waiting.text.is_empty() && waiting.lost == 0 && waiting.asked == waiting.done {
            waiting.idle = true;
            waiting = self.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        waiting.idle = false;
        mem::swap(text, &mut waiting.text);
        (mem::take(&mut waiting.lost), waiting.asked)
    }
}

/// The same lines with DEL and the C1 controls as JSON escapes. JSON leaves them as they are, and a terminal that shows a
/// log acts on them.
fn quiet(text: &[u8]) -> Cow<'_, [u8]> {
    let is_loud = |pair: &[u8]| matches!(pair, [0xc2, 0x80..=0x9f] | [0x7f, _]);
    if memchr::memchr2(0xc2, 0x7f, text).is_none() || !text.windows(2).any(is_loud) {
        return Cow::Borrowed(text);
    }
    let escaped = |letter: char| match letter {
        '\u{7f}'..='\u{9f}' => format!("\\u{:04x}", u32::from(letter)),
        letter => letter.to_string(),
    };
    Cow::Owned(String::from_utf8_lossy(text).chars().map(escaped).collect::<String>().into_bytes())
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Flush {
    /// Waits until what was logged before has been written, but not for long. Blocks.
    pub(crate) fn flush(&self) {
        let mut waiting = self.0.lock();
        waiting.asked += 1;
        let asked = waiting.asked;
        self.0.arrived.notify_one();
        drop(self.0.written.wait_timeout_while(waiting, FLUSH_MAX, |waiting| waiting.done < asked));
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
    use std::sync::{Arc, Mutex};

    use super::{BYTES_MAX, quiet, start};

    #[test]
    fn no_line_commands_a_terminal() {
        let line = "{\"model\":\"a\u{7f}\u{9b}31mb\u{85}\u{a0}é\"}\n";
        let expected = "{\"model\":\"a\\u007f\\u009b31mb\\u0085\u{a0}é\"}\n";
        assert_eq!(std::str::from_utf8(&quiet(line.as_bytes())).unwrap(), expected);
        let json = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
        assert_eq!(json(expected), json(line));
    }

    /// A sink that tells that it was called and takes nothing until it is released.
    struct Stalled {
        called: SyncSender<()>,
        release: Receiver<()>,
        written: Arc<Mutex<Vec<Vec<u8>>>>,
    }

    impl std::io::Write for Stalled {
        fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
            let _ = self.called.try_send(());
            let _ = self.release.recv();
            self.written.lock().unwrap().push(text.to_vec());
            Ok(text.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stalled_sink_loses_lines_but_holds_nobody_up() {
        let (released, release) = sync_channel(0);
        let (called, is_called) = sync_channel(1);
        let written = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let (mut lines, flush) = start(Stalled { called, release, written: Arc::clone(&written) });
        lines.write_all(b"first\n").unwrap();
        // From here on the writer holds the first line and takes no other.
        is_called.recv().unwrap();
        let line = [b"x".repeat(1023), b"\n".to_vec()].concat();
        let fitting = BYTES_MAX / line.len();
        for _ in 0..fitting + 100 {
            lines.write_all(&line).unwrap();
        }
        drop(released);
        while flush.0.lock().done < 1 {
            flush.flush();
        }
        let text = String::from_utf8(written.lock().unwrap().concat()).unwrap();
        assert!(text.starts_with("first\nxxx"), "{text:.200}");
        assert_eq!(text.matches("x\n").count(), fitting);
        assert!(text.ends_with("{\"level\":\"WARN\",\"message\":\"log lines lost\",\"count\":100}\n"));
    }

    #[test]
    fn lines_gather_while_others_are_written() {
        let (released, release) = sync_channel(0);
        let (called, is_called) = sync_channel(1);
        let written = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let (mut lines, flush) = start(Stalled { called, release, written: Arc::clone(&written) });
        lines.write_all(b"1\n").unwrap();
        is_called.recv().unwrap();
        for _ in 0..1000 {
            lines.write_all(b"2\n").unwrap();
        }
        drop(released);
        flush.flush();
        assert_eq!(*written.lock().unwrap(), [b"1\n".to_vec(), b"2\n".repeat(1000)]);
    }
}
