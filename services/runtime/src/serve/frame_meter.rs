//! Counts the HTTP/2 frames of a connection that ask for work and carry nothing of a call, and says when the connection has
//! to be read more slowly.
//!
//! PING and SETTINGS must be answered, PRIORITY and unknown types must be looked at, and no window and no limit of the HTTP/2
//! library bounds how many come. A connection that sends more of them than a client needs is not ended: it is read no faster
//! than its frames are allowed to come, so an odd client goes on and a hostile one costs little. Resets, CONTINUATION and
//! empty DATA have limits in the library; WINDOW_UPDATE is not counted, because a client may send two for each frame of an
//! answer.
//!
//! A connection that begins a crowd of streams is read in small pieces, one in each of its turns: the library works off all
//! that has come before it lets go, and reads on for each stream that it hands out, so that thousands of streams of one
//! client could stand before everybody else. So is a connection that has just begun, until it has shown that it brings no
//! crowd.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use std::{future::Future as _, pin::Pin};

use tokio::time::{Instant, Sleep};

/// What one frame costs: a thousand a second. A client that measures its round trip while it reads an answer has one PING
/// under way at a time.
const EACH: Duration = Duration::from_millis(1);
/// How far a connection may be ahead: a thousand frames at once.
const AHEAD_MAX: Duration = Duration::from_secs(1);

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEAD_BYTES: usize = 9;

/// As many streams in one read are a crowd.
const CROWD: u32 = 8;
/// After so many reads without a crowd a connection is read as it comes.
const CALM_READS: u8 = 4;
/// How much is read at once before that: enough to show more streams that are reset at once than the library bears.
pub(super) const LITTLE_BYTES: usize = 4 << 10;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

/// Where the next byte belongs.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// So many bytes of the preface have come.
    Preface(usize),
    /// So many bytes of a frame's head have come.
    Head(usize),
    /// So many bytes of a frame are still to come.
    Payload(usize),
    /// This is not HTTP/2.
    Elsewhere,
}

/// Whether a connection has read as much as it may before others have their turn; clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Turn(Arc<AtomicBool>);

impl Turn {
    pub(super) fn begin(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    fn end(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The meter of one connection.
#[derive(Debug)]
pub(super) struct FrameMeter {
    place: Place,
    /// The length of the frame whose head is being read.
    length: usize,
    /// When the frames so far will have been paid for; none before the first.
    paid: Option<Instant>,
    rest: Option<Pin<Box<Sleep>>>,
    turn: Turn,
    /// How many reads there were since the last crowd.
    calm: u8,
}

/// What begins in some bytes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Frames {
    paid_for: u32,
    streams: u32,
}

impl FrameMeter {
    pub(super) fn new(turn: Turn) -> Self {
        Self { place: Place::Preface(0), length: 0, paid: None, rest: None, turn, calm: 0 }
    }

    /// Whether no more than a little is to be read at once.
    pub(super) fn reads_little(&self) -> bool {
        self.calm < CALM_READS && matches!(self.place, Place::Head(_) | Place::Payload(_))
    }

    /// Waits until the connection may be read again.
    pub(super) fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.turn.is_over() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(rest) = &mut self.rest {
            ready!(rest.as_mut().poll(cx));
            self.rest = None;
        }
        Poll::Ready(())
    }

    /// Looks at what was read.
    pub(super) fn saw(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let Frames { paid_for: frames, streams } = self.count(bytes);
        if streams >= CROWD {
            self.turn.end();
            self.calm = 0;
        } else {
            self.calm = self.calm.saturating_add(1);
        }
        if frames == 0 {
            return;
        }
        let now = Instant::now();
        let paid = self.paid.map_or(now, |paid| paid.max(now)) + EACH * frames;
        self.paid = Some(paid);
        let over = paid.saturating_duration_since(now + AHEAD_MAX);
        if !over.is_zero() {
            self.rest = Some(Box::pin(tokio::time::sleep(over)));
        }
    }

    fn count(&mut self, mut bytes: &[u8]) -> Frames {
        let mut frames = Frames::default();
        while let [first, rest @ ..] = bytes {
            match self.place {
                Place::Elsewhere => return frames,
                Place::Payload(left) => {
                    let skipped = left.min(bytes.len());
                    bytes = bytes.get(skipped..).unwrap_or_default();
                    self.place = if skipped < left { Place::Payload(left - skipped) } else { Place::Head(0) };
                    continue;
                }
                Place::Preface(at) => {
                    self.place = match PREFACE.get(at) == Some(first) {
                        false => Place::Elsewhere,
                        true if at + 1 == PREFACE.len() => Place::Head(0),
                        true => Place::Preface(at + 1),
                    };
                }
                Place::Head(at) => {
                    match at {
                        0 => self.length = usize::from(*first),
                        1 | 2 => self.length = self.length << 8 | usize::from(*first),
                        3 => {
                            frames.paid_for = frames.paid_for.saturating_add(u32::from(is_paid_for(*first)));
                            frames.streams = frames.streams.saturating_add(u32::from(*first == HEADERS));
                        }
                        _ => {}
                    }
                    self.place = match at + 1 {
                        HEAD_BYTES if self.length > 0 => Place::Payload(self.length),
                        HEAD_BYTES => Place::Head(0),
                        next => Place::Head(next),
                    };
                }
            }
            bytes = rest;
        }
        frames
    }
}

fn is_paid_for(kind: u8) -> bool {
    !matches!(kind, DATA | HEADERS | RST_STREAM | WINDOW_UPDATE | CONTINUATION)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const UNKNOWN: u8 = 200;

    fn frame(kind: u8, length: usize) -> Vec<u8> {
        let [.., a, b, c] = length.to_be_bytes();
        // The payload looks like more PINGs.
        [vec![a, b, c, kind, 0, 0, 0, 0, 1], vec![PING; length]].concat()
    }

    fn connection(frames: &[(u8, usize)]) -> Vec<u8> {
        let frames = frames.iter().flat_map(|(kind, length)| frame(*kind, *length));
        PREFACE.iter().copied().chain(frames).collect()
    }

    #[test]
    fn frames_are_counted_wherever_they_are_cut() {
        let sent = connection(&[
            (SETTINGS, 6),
            (HEADERS, 300),
            (DATA, 70_000),
            (PING, 8),
            (DATA, 0),
            (WINDOW_UPDATE, 4),
            (UNKNOWN, 0),
            (RST_STREAM, 4),
            (CONTINUATION, 1),
            (PING, 8),
        ]);
        for size in [1, 2, 7, 9, 24, 1000, sent.len()] {
            let mut meter = FrameMeter::new(Turn::default());
            let counted: Vec<_> = sent.chunks(size).map(|bytes| meter.count(bytes)).collect();
            let sum = |of: fn(&Frames) -> u32| counted.iter().map(of).sum::<u32>();
            assert_eq!((sum(|all| all.paid_for), sum(|all| all.streams)), (4, 1), "in pieces of {size}");
        }
    }

    #[test]
    fn what_is_not_http2_is_not_counted() {
        for sent in [&b"PRI * HTTP/1.1\r\n\r\n"[..], b"POST / HTTP/1.1\r\n\r\n", b"\x06\x06\x06\x06\x06\x06"]
        {
            let sent = [sent, &frame(PING, 8)].concat();
            assert_eq!(FrameMeter::new(Turn::default()).count(&sent), Frames::default());
        }
    }

    async fn rest(meter: &mut FrameMeter) -> Duration {
        let began = Instant::now();
        poll_fn(|cx| meter.poll_rest(cx)).await;
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_read_at_the_rate_that_is_allowed() {
        let mut meter = FrameMeter::new(Turn::default());
        meter.saw(&connection(&[(SETTINGS, 0)]));
        let pings = frame(PING, 8).repeat(500);
        let began = Instant::now();
        for _ in 0..20 {
            rest(&mut meter).await;
            meter.saw(&pings);
        }
        // Ten thousand, of which a thousand may be ahead.
        rest(&mut meter).await;
        let took = began.elapsed();
        assert!((8_900..=9_100).contains(&took.as_millis()), "{took:?}");
    }

    #[tokio::test]
    async fn a_connection_that_brings_a_crowd_is_read_little_by_little_and_lets_others_in_between() {
        let turn = Turn::default();
        let mut meter = FrameMeter::new(turn.clone());
        assert!(!meter.reads_little(), "it may be HTTP/1.1");
        let mut cx = Context::from_waker(std::task::Waker::noop());
        meter.saw(&connection(&[(SETTINGS, 0)]));
        for _ in 0..3 {
            assert!(meter.reads_little() && meter.poll_rest(&mut cx).is_ready());
            meter.saw(&frame(HEADERS, 50).repeat(7));
        }
        assert!(!meter.reads_little() && meter.poll_rest(&mut cx).is_ready());
        meter.saw(&frame(HEADERS, 50).repeat(8));
        for _ in 0..2 {
            assert!(meter.reads_little() && meter.poll_rest(&mut cx).is_pending());
        }
        turn.begin();
        assert!(meter.poll_rest(&mut cx).is_ready());
        meter.saw(&frame(DATA, 500));
        assert!(meter.reads_little() && meter.poll_rest(&mut cx).is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_asks_now_and_then_never_waits() {
        let mut meter = FrameMeter::new(Turn::default());
        meter.saw(&connection(&[(SETTINGS, 30)]));
        for _ in 0..100_000 {
            assert_eq!(rest(&mut meter).await, Duration::ZERO);
            meter.saw(&frame(PING, 8));
            meter.saw(&frame(DATA, 16_384));
            tokio::time::advance(Duration::from_millis(2)).await;
        }
    }
}
