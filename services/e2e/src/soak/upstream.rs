//! An upstream that plays what each request asks for, and remembers of each request how often it came, how much of its
//! answer was written, and when the gateway hung up.
//!
//! Speaks HTTP/1.1 by hand, and WebSockets: what leaves, and when, must not depend on a library's buffers. Requests are told
//! apart by their order, the text that stands in `input`.

pub(super) mod socket;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Small, so that what was written can be told from what was read.
const SEND_BUFFER_BYTES: u32 = 32 * 1024;
const BACKLOG: u32 = 4096;
/// More than any request of a scenario has.
const REQUEST_BYTES_MAX: usize = 16 << 20;
const HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
const LAST_HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n";
const NOT_FOUND: &[u8] = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";

/// A part of an answer.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// Status and headers.
    Head,
    /// The same of an answer after which the connection ends.
    LastHead,
    /// A chunk, written on its own; on a WebSocket these bytes as they are.
    Send(Bytes),
    /// The same so many times, as fast as it is taken.
    Flood(Bytes, u64),
    Pause(Duration),
    /// Until the gate opens.
    Until(watch::Receiver<bool>),
    /// Until the gateway hangs up.
    Hold,
    /// Break with a TCP reset.
    Reset,
    /// Break with a TCP end.
    Close,
}

/// One request.
#[derive(Debug)]
pub(super) struct Asked {
    /// The head, as it came; on a WebSocket that of its handshake.
    pub(super) head: String,
    /// The body.
    pub(super) body: Value,
}

impl Asked {
    /// The text of `input`.
    pub(super) fn order(&self) -> &str {
        self.body.get("input").and_then(Value::as_str).unwrap_or_default()
    }

    /// A header.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields.into_iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// What became of the requests of one order.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Story {
    /// How often it came.
    pub(super) begun: u32,
    /// When the gateway hung up before the end.
    pub(super) gone: Option<Instant>,
    /// Whether the whole answer was written.
    pub(super) whole: bool,
}

#[derive(Default)]
struct Memory {
    stories: Mutex<HashMap<String, Story>>,
    changed: Notify,
    running: AtomicU64,
    sockets: AtomicU64,
    written: Mutex<HashMap<String, Arc<AtomicU64>>>,
}

/// A running upstream; its connections break when it is dropped.
pub(super) struct Upstream {
    at: SocketAddr,
    memory: Arc<Memory>,
    _accepting: JoinSet<()>,
}

type Play = Arc<dyn Fn(&Asked) -> Vec<Step> + Send + Sync>;

impl Upstream {
    pub(super) async fn start(
        play: impl Fn(&Asked) -> Vec<Step> + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let listener = socket.listen(BACKLOG)?;
        let at = listener.local_addr()?;
        let memory = Arc::new(Memory::default());
        let play: Play = Arc::new(play);
        let mut accepting = JoinSet::new();
        let shared = Arc::clone(&memory);
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                if let Ok((stream, _)) = listener.accept().await {
                    connections.spawn(serve(stream, Arc::clone(&play), Arc::clone(&shared)));
                }
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { at, memory, _accepting: accepting })
    }

    pub(super) fn at(&self) -> SocketAddr {
        self.at
    }

    /// How many answers are under way.
    pub(super) fn running(&self) -> u64 {
        self.memory.running.load(Ordering::Relaxed)
    }

    /// How many WebSockets are open.
    pub(super) fn sockets(&self) -> u64 {
        self.memory.sockets.load(Ordering::Relaxed)
    }

    /// Waits until a story is as `told` says; nothing if that takes too long. Its order is forgotten then.
    pub(super) async fn story(
        &self,
        order: &str,
        limit: Duration,
        told: impl Fn(&Story) -> bool,
    ) -> Option<Story> {
        let reached = async {
            loop {
                let changed = self.memory.changed.notified();
                if let Some(story) = self.memory.stories().get(order).copied().filter(&told) {
                    return story;
                }
                changed.await;
            }
        };
        tokio::time::timeout(limit, reached).await.ok()
    }

    /// Every order that came and was not forgotten.
    pub(super) fn orders(&self) -> Vec<String> {
        self.memory.stories().keys().cloned().collect()
    }

    /// What is known of an order, which is forgotten.
    pub(super) fn forget(&self, order: &str) -> Option<Story> {
        self.memory.stories().remove(order)
    }

    /// The body bytes that were written of each answer so far.
    pub(super) fn written(&self) -> HashMap<String, u64> {
        let written = self.memory.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.iter().map(|(order, bytes)| (order.clone(), bytes.load(Ordering::Relaxed))).collect()
    }
}

impl Memory {
    fn stories(&self) -> MutexGuard<'_, HashMap<String, Story>> {
        self.stories.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, order: &str, change: impl FnOnce(&mut Story)) {
        change(self.stories().entry(order.to_owned()).or_default());
        self.changed.notify_waiters();
    }

    /// Notes an answer from its beginning to its end; whether its connection goes on.
    async fn noted(&self, order: &str, answer: impl Future<Output = Ended>) -> bool {
        self.note(order, |story| story.begun += 1);
        self.running.fetch_add(1, Ordering::Relaxed);
        let ended = answer.await;
        self.running.fetch_sub(1, Ordering::Relaxed);
        match ended {
            Ended::Whole => self.note(order, |story| story.whole = true),
            Ended::Broken => {}
            Ended::Gone => self.note(order, |story| story.gone = Some(Instant::now())),
        }
        matches!(ended, Ended::Whole)
    }
}

async fn serve(mut stream: TcpStream, play: Play, memory: Arc<Memory>) {
    // Each chunk leaves on its own.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let mut read = BytesMut::new();
    while let Some(asked) = request(&mut stream, &mut read).await {
        if asked.header("upgrade").is_some_and(|upgrade| upgrade.eq_ignore_ascii_case("websocket")) {
            return socket::serve(stream, read, asked, (play, memory)).await;
        }
        if !asked.head.starts_with("POST ") {
            if stream.write_all(NOT_FOUND).await.is_err() {
                return;
            }
            continue;
        }
        let order = asked.order();
        let answer = answer(&mut stream, play(&asked), order, &memory);
        if !memory.noted(order, answer).await {
            return;
        }
    }
}

/// How an answer ended.
enum Ended {
    Whole,
    /// By the script.
    Broken,
    /// The gateway hung up.
    Gone,
}

async fn answer(stream: &mut TcpStream, steps: Vec<Step>, order: &str, memory: &Memory) -> Ended {
    let written = Arc::<AtomicU64>::default();
    if steps.iter().any(|step| matches!(step, Step::Flood(..))) {
        let mut all = memory.written.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(order.to_owned(), Arc::clone(&written));
    }
    for step in steps {
        let stays = match step {
            Step::Head => stream.write_all(HEAD).await.is_ok(),
            Step::LastHead => stream.write_all(LAST_HEAD).await.is_ok(),
            Step::Send(bytes) => stream.write_all(&chunk(&bytes)).await.is_ok(),
            Step::Flood(bytes, times) => flood(stream, &bytes, times, &written).await,
            Step::Pause(time) => while_here(stream, tokio::time::sleep(time)).await,
            Step::Until(mut gate) => {
                while_here(stream, async { drop(gate.wait_for(|open| *open).await) }).await
            }
            Step::Hold => while_here(stream, std::future::pending()).await,
            Step::Reset => {
                // Fails only if the gateway was faster.
                let _ = stream.set_zero_linger();
                return Ended::Broken;
            }
            Step::Close => return Ended::Broken,
        };
        if !stays {
            return Ended::Gone;
        }
    }
    if stream.write_all(b"0\r\n\r\n").await.is_ok() { Ended::Whole } else { Ended::Gone }
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

async fn flood(stream: &mut TcpStream, bytes: &[u8], times: u64, written: &AtomicU64) -> bool {
    let chunk = chunk(bytes);
    for _ in 0..times {
        if stream.write_all(&chunk).await.is_err() {
            return false;
        }
        written.fetch_add(u64::try_from(bytes.len()).unwrap_or(0), Ordering::Relaxed);
    }
    true
}

/// Waits, unless the gateway hangs up before.
async fn while_here(stream: &mut TcpStream, wait: impl Future<Output = ()>) -> bool {
    let mut more = [0; 1];
    tokio::select! {
        biased;
        // A gateway that waits for an answer sends nothing.
        _ = stream.read(&mut more) => false,
        () = wait => true,
    }
}

/// The next request; none when the gateway has no more or sends what nobody understands.
async fn request(stream: &mut TcpStream, read: &mut BytesMut) -> Option<Asked> {
    let head = loop {
        if let Some(end) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let head = read.split_to(end);
            read.advance(4);
            break String::from_utf8_lossy(&head).into_owned();
        }
        more(stream, read).await?;
    };
    let mut asked = Asked { head, body: Value::Null };
    let length: usize = asked.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    while read.len() < length {
        more(stream, read).await?;
    }
    asked.body = serde_json::from_slice(&read.split_to(length)).unwrap_or_default();
    Some(asked)
}

async fn more(stream: &mut TcpStream, read: &mut BytesMut) -> Option<()> {
    let count = stream.read_buf(read).await.ok()?;
    (count > 0 && read.len() <= REQUEST_BYTES_MAX).then_some(())
}
