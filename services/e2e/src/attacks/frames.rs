//! HTTP/2 as bytes (RFC 9113, RFC 7541): frames that may be wrong in any way, and a connection that sends them and counts
//! what comes back.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::Fired;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A write that makes no progress for so long means that the server reads no more.
const STUCK_AFTER: Duration = Duration::from_secs(5);
/// How long connecting to a service on loopback may take, under attack.
const CONNECT_MAX: Duration = Duration::from_secs(20);

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

/// Of DATA and HEADERS.
pub(super) const END_STREAM: u8 = 1;
/// Of SETTINGS and PING.
const ACK: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

/// `:status: 200`, as the first field of a header block: an entry of the static table.
pub(super) const STATUS_200: u8 = 0x80 | 8;

/// What a PING holds that asks how far the server is; no flood sends it.
const OWN_PING: [u8; 8] = *b"how far?";

/// Appends a frame.
pub(super) fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    out.extend_from_slice(length.get(1..).unwrap_or_default());
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// Appends a field as a literal with a new name, which the decoder does not keep.
pub(super) fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    literal(out, 0x00, name, value);
}

/// The same, but the decoder keeps it in its table.
pub(super) fn kept_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    literal(out, 0x40, name, value);
}

fn literal(out: &mut Vec<u8>, pattern: u8, name: &[u8], value: &[u8]) {
    out.push(pattern);
    for text in [name, value] {
        length(out, text.len());
        out.extend_from_slice(text);
    }
}

/// A length before a text that is not compressed: an integer with a prefix of seven bits.
fn length(out: &mut Vec<u8>, length: usize) {
    const PREFIX_MAX: usize = 127;
    let byte = |value: usize| u8::try_from(value).unwrap_or(u8::MAX);
    if length < PREFIX_MAX {
        return out.push(byte(length));
    }
    out.push(byte(PREFIX_MAX));
    let mut rest = length - PREFIX_MAX;
    while rest >= 128 {
        out.push(byte(rest % 128 + 128));
        rest /= 128;
    }
    out.push(byte(rest));
}

/// The fields of a request, as a header block.
pub(super) fn block(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        field(&mut block, name, value);
    }
    block
}

/// The header block of a model call.
pub(super) fn call(at: SocketAddr) -> Vec<u8> {
    block(&[
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", b"/v1/responses"),
        (b":authority", at.to_string().as_bytes()),
        (b"content-type", b"application/json"),
    ])
}

/// The header block of a request without a body.
pub(super) fn get(at: SocketAddr, path: &str) -> Vec<u8> {
    block(&[
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":path", path.as_bytes()),
        (b":authority", at.to_string().as_bytes()),
    ])
}

/// What a connection has seen.
#[derive(Debug, Default)]
struct Seen {
    ended: AtomicBool,
    resets: AtomicU64,
    answers: AtomicU64,
    good: AtomicU64,
    caught_up: AtomicU64,
    sent_away: Mutex<Option<u32>>,
    news: Notify,
}

/// A connection to attack over.
pub(super) struct Connection {
    write: OwnedWriteHalf,
    seen: Arc<Seen>,
    shots: u64,
    bytes: u64,
    pings: u64,
    _reader: JoinSet<()>,
}

/// Whether an attacker reads what the server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// As clients do.
    Always,
    /// Lets it pile up.
    Never,
}

impl Connection {
    /// Connects and opens HTTP/2 with this payload of the first SETTINGS.
    pub(super) async fn open(at: SocketAddr, settings: &[u8], reading: Reading) -> anyhow::Result<Self> {
        let stream = tokio::time::timeout(CONNECT_MAX, TcpStream::connect(at)).await.context("connect")??;
        stream.set_nodelay(true)?;
        let (read, write) = stream.into_split();
        let seen = Arc::new(Seen::default());
        let mut reader = JoinSet::new();
        match reading {
            Reading::Always => drop(reader.spawn(note(read, Arc::clone(&seen)))),
            Reading::Never => drop(reader.spawn(async move {
                let _held = read;
                std::future::pending().await
            })),
        }
        let mut opening = PREFACE.to_vec();
        frame(&mut opening, SETTINGS, 0, 0, settings);
        frame(&mut opening, SETTINGS, ACK, 0, &[]);
        let mut connection = Self { write, seen, shots: 0, bytes: 0, pings: 0, _reader: reader };
        connection.send(&opening, 0).await;
        Ok(connection)
    }

    /// Sends bytes that hold so many shots; whether the server still takes them.
    pub(super) async fn send(&mut self, bytes: &[u8], shots: u64) -> bool {
        if self.has_ended() {
            return false;
        }
        let written = tokio::time::timeout(STUCK_AFTER, self.write.write_all(bytes)).await;
        let is_sent = matches!(written, Ok(Ok(())));
        if is_sent {
            self.shots += shots;
            self.bytes += u64::try_from(bytes.len()).unwrap_or(0);
        }
        is_sent
    }

    /// Whether the server has closed or sent the client away.
    pub(super) fn has_ended(&self) -> bool {
        self.seen.ended.load(Ordering::Relaxed) || self.sent_away().is_some()
    }

    fn sent_away(&self) -> Option<u32> {
        *self.seen.sent_away.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until so many streams have been answered or reset, the server has ended the connection, or the time is over.
    pub(super) async fn wait_answers(&self, count: u64, limit: Duration) {
        let enough =
            |seen: &Seen| seen.answers.load(Ordering::Relaxed) + seen.resets.load(Ordering::Relaxed) >= count;
        self.wait(limit, enough).await;
    }

    async fn wait(&self, limit: Duration, enough: impl Fn(&Seen) -> bool) {
        let waited = async {
            loop {
                let news = self.seen.news.notified();
                tokio::pin!(news);
                // Whatever comes between the look and the wait counts.
                news.as_mut().enable();
                if enough(&self.seen) || self.has_ended() {
                    return;
                }
                news.await;
            }
        };
        let _ = tokio::time::timeout(limit, waited).await;
    }

    /// Waits until the server has seen everything that was sent, or has ended the connection.
    pub(super) async fn settle(&mut self) {
        let mut ping = Vec::new();
        frame(&mut ping, PING, 0, 0, &OWN_PING);
        // Where it is not taken, the end is about to be seen.
        self.pings += u64::from(self.send(&ping, 0).await);
        let pings = self.pings;
        self.wait(STUCK_AFTER, |seen| seen.caught_up.load(Ordering::Relaxed) >= pings).await;
    }

    /// How many streams have been answered with 200.
    pub(super) fn good_answers(&self) -> u64 {
        self.seen.good.load(Ordering::Relaxed)
    }

    /// Whether the server has answered or reset a stream, or ended the connection.
    pub(super) fn has_said_something(&self) -> bool {
        let said = self.seen.answers.load(Ordering::Relaxed) + self.seen.resets.load(Ordering::Relaxed);
        said > 0 || self.has_ended()
    }

    /// Ends the connection and adds what it has done.
    pub(super) fn close(self, fired: &mut Fired) {
        fired.shots += self.shots;
        fired.bytes += self.bytes;
        fired.connections += 1;
        fired.resets += self.seen.resets.load(Ordering::Relaxed);
        fired.ended += u64::from(self.has_ended());
        if let Some(code) = self.sent_away() {
            *fired.sent_away.entry(code).or_default() += 1;
        }
    }
}

/// Reads frames to the end of the connection.
async fn note(mut read: OwnedReadHalf, seen: Arc<Seen>) {
    let mut head = [0; 9];
    let mut payload = Vec::new();
    while read.read_exact(&mut head).await.is_ok() {
        let [a, b, c, kind, flags, ..] = head;
        payload.resize(usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or_default(), 0);
        if read.read_exact(&mut payload).await.is_err() {
            break;
        }
        match kind {
            // A GOAWAY with NO_ERROR is no refusal, but the client has to go all the same.
            GOAWAY => {
                let code = payload.get(4..8).and_then(|code| code.try_into().ok()).map(u32::from_be_bytes);
                *seen.sent_away.lock().unwrap_or_else(PoisonError::into_inner) = code;
            }
            RST_STREAM => {
                seen.resets.fetch_add(1, Ordering::Relaxed);
            }
            HEADERS if flags & END_HEADERS != 0 => {
                seen.answers.fetch_add(1, Ordering::Relaxed);
                let is_good = payload.first() == Some(&STATUS_200);
                seen.good.fetch_add(u64::from(is_good), Ordering::Relaxed);
            }
            PING if flags & ACK != 0 && payload == OWN_PING => {
                seen.caught_up.fetch_add(1, Ordering::Relaxed);
            }
            _ => continue,
        }
        seen.news.notify_waiters();
    }
    seen.ended.store(true, Ordering::Relaxed);
    seen.news.notify_waiters();
}
