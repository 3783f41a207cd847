//! Clients that send a byte now and then: heads that never end, and bodies that never come.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::Fired;

/// How slowly, and by how many.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// How many clients do it at once.
    pub connections: usize,
    /// How long each waits before its next byte.
    pub every: Duration,
    /// When a client that the server still bears gives up.
    pub give_up: Duration,
}

/// What each client sends: at once, and then a byte at a time, over and over.
#[derive(Debug, Clone)]
pub(super) struct Drip {
    pub(super) first: Arc<[u8]>,
    pub(super) then: Arc<[u8]>,
}

/// Heads that come a byte at a time. Shots are bytes.
pub async fn slow_heads(at: SocketAddr, pace: Pace) -> anyhow::Result<Fired> {
    let beginning = format!("GET /v1/models HTTP/1.1\r\nhost: {at}\r\nx-slow: ");
    slowly(at, pace, Drip { first: beginning.as_bytes().into(), then: Arc::from(*b"a") }).await
}

/// Bodies that come a byte at a time, after a head that announces a large one. Shots are bytes.
pub async fn slow_bodies(at: SocketAddr, pace: Pace) -> anyhow::Result<Fired> {
    let beginning = format!(
        "POST /v1/responses HTTP/1.1\r\nhost: {at}\r\ncontent-type: application/json\r\ncontent-length: 1000000\r\n\r\n"
    );
    slowly(at, pace, Drip { first: beginning.as_bytes().into(), then: Arc::from(*b"a") }).await
}

/// Attacks with as many clients as the pace has. Shots are the bytes after the first ones.
pub(super) async fn slowly(at: SocketAddr, pace: Pace, drip: Drip) -> anyhow::Result<Fired> {
    let mut clients = JoinSet::new();
    for _ in 0..pace.connections {
        clients.spawn(one(at, pace, drip.clone()));
    }
    let mut fired = Fired::default();
    while let Some(ended) = clients.join_next().await {
        fired.add(&ended??);
    }
    Ok(fired)
}

async fn one(at: SocketAddr, pace: Pace, drip: Drip) -> anyhow::Result<Fired> {
    let mut stream =
        tokio::time::timeout(pace.give_up, TcpStream::connect(at)).await.context("connect in time")??;
    let mut fired = Fired { connections: 1, ..Fired::default() };
    let mut answer = Vec::new();
    let dribble = async {
        if stream.write_all(&drip.first).await.is_err() {
            return;
        }
        fired.bytes += u64::try_from(drip.first.len()).unwrap_or(0);
        let (mut read, mut write) = stream.split();
        let mut bytes = drip.then.iter().cycle();
        loop {
            tokio::select! {
                read = read.read_buf(&mut answer) => if !matches!(read, Ok(count) if count > 0) { return },
                () = tokio::time::sleep(pace.every), if !drip.then.is_empty() => {
                    let byte = bytes.next().copied().unwrap_or_default();
                    if write.write_all(&[byte]).await.is_err() {
                        // Whatever the server has said is still to be read.
                        return drop(read.read_to_end(&mut answer).await);
                    }
                    fired.shots += 1;
                    fired.bytes += 1;
                }
            }
        }
    };
    fired.ended = u64::from(tokio::time::timeout(pace.give_up, dribble).await.is_ok());
    fired.status(status(&answer));
    Ok(fired)
}

/// The status of the first answer.
fn status(answer: &[u8]) -> u16 {
    let status = answer.get(9..12).and_then(|status| std::str::from_utf8(status).ok());
    status.and_then(|status| status.parse().ok()).unwrap_or(0)
}
