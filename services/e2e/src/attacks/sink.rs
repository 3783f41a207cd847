//! Something to attack that costs next to nothing: it takes bytes as fast as it is told to, and answers so much that an
//! attacker goes on. What a good client of another process suffers meanwhile is the attacker's own doing.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use super::frames::{CONTINUATION, END_HEADERS, HEADERS, PING, STATUS_200, frame};

const READ_BYTES: usize = 16 << 10;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEAD_BYTES: usize = 9;
const ACK: u8 = 1;
const REFUSAL: &[u8] = b"HTTP/1.1 431 No\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
/// Who has sent so much, or this, has said enough to be answered.
const ENOUGH_BYTES: usize = 64 << 10;
const FAREWELL: &[u8] = b"connection: close\r\n";

/// What a sink speaks.
#[derive(Clone)]
pub enum Kind {
    /// HTTP.
    Plain,
    /// HTTP over TLS.
    Tls(TlsAcceptor),
}

/// How fast a sink takes what it gets.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// So many bytes, from all connections together,
    pub bytes: u64,
    /// in so much time.
    pub time: Duration,
    /// How long somebody is held who does not ask for an end.
    pub hold: Duration,
}

/// A running sink.
pub struct Sink {
    at: SocketAddr,
    _accepting: JoinSet<()>,
}

#[derive(Clone)]
struct Drain {
    pace: Pace,
    next: Arc<Mutex<Instant>>,
}

impl Sink {
    /// Opens one on the current thread.
    pub async fn open(kind: Kind, pace: Pace) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let at = listener.local_addr()?;
        let drain = Drain { pace, next: Arc::new(Mutex::new(Instant::now())) };
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                let (kind, drain) = (kind.clone(), drain.clone());
                connections.spawn(async move {
                    // Attackers hang up in any way they like.
                    let _ended = match kind {
                        Kind::Plain => drain.take(tcp).await,
                        Kind::Tls(acceptor) => drain.secure(acceptor, tcp).await,
                    };
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { at, _accepting: accepting })
    }

    /// Where it listens.
    pub fn at(&self) -> SocketAddr {
        self.at
    }
}

impl Drain {
    /// Waits until so many bytes may have come.
    async fn wait(&self, bytes: usize) {
        let until = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let share = f64::from(u32::try_from(bytes).unwrap_or(u32::MAX));
            let all = f64::from(u32::try_from(self.pace.bytes.max(1)).unwrap_or(u32::MAX));
            *next = (*next).max(Instant::now()) + self.pace.time.mul_f64(share / all);
            *next
        };
        tokio::time::sleep_until(until).await;
    }

    async fn secure(self, acceptor: TlsAcceptor, tcp: tokio::net::TcpStream) -> std::io::Result<()> {
        let accepted = tokio::time::timeout(self.pace.hold, acceptor.accept(tcp)).await;
        self.take(accepted.map_err(std::io::Error::other)??).await
    }

    async fn take(self, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
        let mut read = Vec::with_capacity(READ_BYTES);
        let held = Instant::now() + self.pace.hold;
        loop {
            let more = tokio::time::timeout_at(held, stream.read_buf(&mut read)).await;
            let Ok(count) = more else { return stream.write_all(REFUSAL).await };
            let count = count?;
            if count == 0 {
                return Ok(());
            }
            self.wait(count).await;
            if read.len() >= PREFACE.len() && read.starts_with(PREFACE) {
                read.drain(..PREFACE.len());
                return self.take_frames(stream, read).await;
            }
            let asks = read.windows(FAREWELL.len()).any(|window| window == FAREWELL);
            if read.len() > ENOUGH_BYTES
                || (asks && read.ends_with(b"\r\n\r\n"))
                || (asks && read.ends_with(b"}"))
            {
                return stream.write_all(REFUSAL).await;
            }
        }
    }

    async fn take_frames(
        self,
        mut stream: impl AsyncRead + AsyncWrite + Unpin,
        mut read: Vec<u8>,
    ) -> std::io::Result<()> {
        let mut answers = Vec::new();
        loop {
            let mut from = 0;
            while let Some(rest) = read.get(from..).filter(|rest| rest.len() >= HEAD_BYTES) {
                let &[a, b, c, kind, flags, d, e, f, g, ref payload @ ..] = rest else { break };
                let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(0);
                let Some(payload) = payload.get(..length) else { break };
                match kind {
                    PING if flags & ACK == 0 => frame(&mut answers, PING, ACK, 0, payload),
                    HEADERS | CONTINUATION if flags & END_HEADERS != 0 => {
                        let stream = u32::from_be_bytes([d, e, f, g]);
                        frame(&mut answers, HEADERS, END_HEADERS, stream, &[STATUS_200]);
                    }
                    _ => {}
                }
                from += HEAD_BYTES + length;
            }
            read.drain(..from);
            stream.write_all(&answers).await?;
            answers.clear();
            let count = stream.read_buf(&mut read).await?;
            if count == 0 {
                return Ok(());
            }
            self.wait(count).await;
        }
    }
}
