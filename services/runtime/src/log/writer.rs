//! Moves log lines to a slow sink through a bounded queue on a thread of its own.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// How many lines wait; at a few hundred bytes each this is a few MiB.
const LINES_MAX: usize = 8_192;
/// How long the end of the process waits for a stalled sink.
const FLUSH_MAX: Duration = Duration::from_secs(1);

enum Message {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

/// Gives each event a handle on the queue.
#[derive(Debug, Clone)]
pub(super) struct Lines {
    queue: SyncSender<Message>,
    lost: Arc<AtomicU64>,
}

/// Waits for the queue to be written; also done on drop.
#[derive(Debug)]
pub(crate) struct Flush {
    queue: SyncSender<Message>,
}

/// Starts the thread that writes to `sink`.
pub(super) fn start(sink: impl Write + Send + 'static) -> (Lines, Flush) {
    let (queue, lines) = sync_channel(LINES_MAX);
    let lost = Arc::<AtomicU64>::default();
    let counter = Arc::clone(&lost);
    // Without a thread the queue is closed and lines are counted as lost: logging is never a reason to fail.
    let _ = std::thread::Builder::new().name("log".to_owned()).spawn(move || run(&lines, sink, &counter));
    (Lines { queue: queue.clone(), lost }, Flush { queue })
}

fn run(lines: &Receiver<Message>, mut sink: impl Write, lost: &AtomicU64) {
    // A failed write has nowhere to be reported.
    while let Ok(message) = lines.recv() {
        let count = lost.swap(0, Ordering::Relaxed);
        if count > 0 {
            let _ = writeln!(sink, "{{\"level\":\"WARN\",\"message\":\"log lines lost\",\"count\":{count}}}");
        }
        match message {
            Message::Line(line) => drop(sink.write_all(&quiet(line))),
            Message::Flush(done) => {
                let _ = sink.flush();
                let _ = done.send(());
            }
        }
    }
}

/// The same line with DEL and the C1 controls as JSON escapes. JSON leaves them as they are, and a terminal that shows a
/// log acts on them.
fn quiet(line: Vec<u8>) -> Vec<u8> {
    let is_loud = |pair: &[u8]| matches!(pair, [0xc2, 0x80..=0x9f] | [0x7f, _]);
    if !line.windows(2).any(is_loud) {
        return line;
    }
    let escaped = |letter: char| match letter {
        '\u{7f}'..='\u{9f}' => format!("\\u{:04x}", u32::from(letter)),
        letter => letter.to_string(),
    };
    String::from_utf8_lossy(&line).chars().map(escaped).collect::<String>().into_bytes()
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.queue.try_send(Message::Line(line.to_vec())).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
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
        let (done, written) = sync_channel(1);
        if self.queue.try_send(Message::Flush(done)).is_ok() {
            let _ = written.recv_timeout(FLUSH_MAX);
        }
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
    use std::sync::mpsc::{Receiver, sync_channel};
    use std::sync::{Arc, Mutex};

    use super::{LINES_MAX, quiet, start};

    #[test]
    fn no_line_commands_a_terminal() {
        let line = "{\"model\":\"a\u{7f}\u{9b}31mb\u{85}\u{a0}é\"}\n";
        let expected = "{\"model\":\"a\\u007f\\u009b31mb\\u0085\u{a0}é\"}\n";
        assert_eq!(String::from_utf8(quiet(line.into())).unwrap(), expected);
        let json = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
        assert_eq!(json(expected), json(line));
    }

    /// A sink that takes nothing until it is released.
    struct Stalled(Receiver<()>, Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Stalled {
        fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
            let _ = self.0.recv();
            self.1.lock().unwrap().extend_from_slice(line);
            Ok(line.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stalled_sink_loses_lines_but_holds_nobody_up() {
        let (release, stalled) = sync_channel(0);
        let written = Arc::<Mutex<Vec<u8>>>::default();
        let (mut lines, flush) = start(Stalled(stalled, Arc::clone(&written)));
        for _ in 0..LINES_MAX + 100 {
            lines.write_all(b"line\n").unwrap();
        }
        drop(release);
        while flush_queued(&flush).is_err() {
            std::thread::yield_now();
        }
        let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        assert!(text.contains("\"message\":\"log lines lost\",\"count\":"), "{text:.200}");
        assert!(text.matches("line\n").count() <= LINES_MAX + 1);
    }

    fn flush_queued(flush: &super::Flush) -> Result<(), ()> {
        let (done, written) = sync_channel(1);
        flush.queue.try_send(super::Message::Flush(done)).map_err(|_| ())?;
        written.recv().map_err(|_| ())
    }
}
