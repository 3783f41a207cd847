//! The upstream on a WebSocket (RFC 6455): reads requests as they come, and writes what a script says, so that a frame can be
//! cut anywhere, a message can come in parts, and pings can come between them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Buf as _, BytesMut};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::{Asked, Ended, Memory, Play, REQUEST_BYTES_MAX, Step};

/// The rest of a message, and a whole text message if nothing came before.
pub(in super::super) const CONTINUATION: u8 = 0;
pub(in super::super) const TEXT: u8 = 1;
const CLOSE: u8 = 8;
pub(in super::super) const PING: u8 = 9;
const PONG: u8 = 10;

const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;
/// Longer payloads have their length in two or eight further bytes.
const SHORT_MAX: usize = 125;

/// Appends a frame as a server sends it.
pub(in super::super) fn frame(out: &mut Vec<u8>, opcode: u8, is_final: bool, payload: &[u8]) {
    out.push(if is_final { opcode | FINAL } else { opcode });
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length), _) if payload.len() <= SHORT_MAX => out.push(length),
        (_, Ok(length)) => {
            out.push(126);
            out.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&u64::try_from(payload.len()).unwrap_or(u64::MAX).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}

/// Accepts a handshake, and answers one request after the other.
pub(super) async fn serve(
    stream: TcpStream,
    read: BytesMut,
    handshake: Asked,
    (play, memory): (Play, Arc<Memory>),
) {
    let Some(key) = handshake.header("sec-websocket-key") else { return };
    let accept = format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {}\r\n\r\n",
        derive_accept_key(key.as_bytes())
    );
    let mut line = Line { stream, read };
    if line.stream.write_all(accept.as_bytes()).await.is_err() {
        return;
    }
    memory.sockets.fetch_add(1, Ordering::Relaxed);
    while let Some(body) = line.request().await {
        let asked = Asked { head: handshake.head.clone(), body };
        if !memory.noted(asked.order(), line.answer(play(&asked))).await {
            break;
        }
    }
    memory.sockets.fetch_sub(1, Ordering::Relaxed);
}

/// One open socket.
struct Line {
    stream: TcpStream,
    read: BytesMut,
}

impl Line {
    /// The next request; none when the gateway has no more.
    async fn request(&mut self) -> Option<Value> {
        loop {
            let (opcode, payload) = self.frame().await?;
            match opcode {
                TEXT => return serde_json::from_slice(&payload).ok(),
                PING => self.send(PONG, &payload).await?,
                CLOSE => {
                    self.send(CLOSE, &payload).await?;
                    return None;
                }
                _ => {}
            }
        }
    }

    async fn answer(&mut self, steps: Vec<Step>) -> Ended {
        for step in steps {
            let stays = match step {
                Step::Head | Step::LastHead => true,
                Step::Send(bytes) => self.stream.write_all(&bytes).await.is_ok(),
                Step::Flood(bytes, times) => self.flood(&bytes, times).await,
                Step::Pause(time) => self.while_here(tokio::time::sleep(time)).await,
                Step::Until(mut gate) => {
                    self.while_here(async { drop(gate.wait_for(|open| *open).await) }).await
                }
                Step::Hold => self.while_here(std::future::pending()).await,
                Step::Reset => {
                    // Fails only if the gateway was faster.
                    let _ = self.stream.set_zero_linger();
                    return Ended::Broken;
                }
                Step::Close => return Ended::Broken,
            };
            if !stays {
                return Ended::Gone;
            }
        }
        Ended::Whole
    }

    async fn flood(&mut self, bytes: &[u8], times: u64) -> bool {
        for _ in 0..times {
            if self.stream.write_all(bytes).await.is_err() {
                return false;
            }
        }
        true
    }

    /// Waits, unless the gateway goes before.
    async fn while_here(&mut self, wait: impl Future<Output = ()>) -> bool {
        tokio::select! {
            biased;
            // A request that comes amid an answer is not heard: the gateway asks for one at a time.
            () = async { while self.request().await.is_some() {} } => false,
            () = wait => true,
        }
    }

    async fn send(&mut self, opcode: u8, payload: &[u8]) -> Option<()> {
        let mut bytes = Vec::new();
        frame(&mut bytes, opcode, true, payload);
        self.stream.write_all(&bytes).await.ok()
    }

    /// The next frame, unmasked; none at the end, or if it is more than a request has. Safe to drop while it waits.
    async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some(frame) = taken(&mut self.read) {
                return Some(frame);
            }
            let count = self.stream.read_buf(&mut self.read).await.ok()?;
            if count == 0 || self.read.len() > REQUEST_BYTES_MAX {
                return None;
            }
        }
    }
}

/// Takes a whole frame of a client from the front, if it is there.
fn taken(read: &mut BytesMut) -> Option<(u8, Vec<u8>)> {
    let (opcode, short) = (read.first()? & !FINAL, usize::from(read.get(1)? & !MASKED));
    let (length, head) = match short {
        126 => (usize::from(u16::from_be_bytes(read.get(2..4)?.try_into().ok()?)), 4),
        127 => (usize::try_from(u64::from_be_bytes(read.get(2..10)?.try_into().ok()?)).ok()?, 10),
        short => (short, 2),
    };
    let mask: [u8; 4] = read.get(head..head + 4)?.try_into().ok()?;
    let masked = read.get(head + 4..head + 4 + length)?;
    let payload = masked.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    read.advance(head + 4 + length);
    Some((opcode, payload))
}
