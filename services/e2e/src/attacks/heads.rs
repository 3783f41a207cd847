//! Heads that are too much, and lengths that are lies.

use std::net::SocketAddr;

use futures_util::{StreamExt as _, stream};

use super::Fired;
use crate::http;

const AT_ONCE: usize = 8;

/// A head that no server should take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bomb {
    /// More fields than anybody needs.
    ManyFields(usize),
    /// One field of so many bytes.
    LongValue(usize),
    /// A target of so many bytes.
    LongTarget(usize),
}

impl Bomb {
    fn head(self, at: SocketAddr) -> String {
        let rest = format!("host: {at}\r\nconnection: close\r\n");
        match self {
            Self::ManyFields(count) => {
                let fields: String = (0..count).map(|number| format!("x-{number}: y\r\n")).collect();
                format!("GET /v1/models HTTP/1.1\r\n{rest}{fields}\r\n")
            }
            Self::LongValue(bytes) => {
                format!("GET /v1/models HTTP/1.1\r\n{rest}x: {}\r\n\r\n", "y".repeat(bytes))
            }
            Self::LongTarget(bytes) => format!("GET /{} HTTP/1.1\r\n{rest}\r\n", "y".repeat(bytes)),
        }
    }
}

/// Sends each bomb `times` times. Shots are heads.
pub async fn header_bombs(at: SocketAddr, bombs: &[Bomb], times: u64) -> anyhow::Result<Fired> {
    shoot(at, bombs.iter().map(|bomb| bomb.head(at)), times).await
}

/// Requests whose length is not what they say: too long, too short, beyond all numbers, negative. Shots are requests.
pub async fn lying_lengths(at: SocketAddr, times: u64) -> anyhow::Result<Fired> {
    const BODY: &str = "{\"model\":\"nobody-s\"}";
    const LENGTHS: [&str; 10] =
        ["21", "2", "100000000000", "18446744073709551616", "-1", "+20", "0x14", "20,20", "20 20", "2e1"];
    let request = |length| {
        format!(
            "POST /v1/responses HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{BODY}"
        )
    };
    shoot(at, LENGTHS.into_iter().map(request), times).await
}

/// Sends each request so many times, some of them at once.
async fn shoot(at: SocketAddr, requests: impl Iterator<Item = String>, times: u64) -> anyhow::Result<Fired> {
    let mut fired = Fired::default();
    for request in requests {
        let request = request.as_bytes();
        let mut answers = stream::iter(0..times).map(|_| http::send(at, request)).buffer_unordered(AT_ONCE);
        while let Some(answer) = answers.next().await {
            fired.shots += 1;
            fired.bytes += u64::try_from(request.len())?;
            fired.connections += 1;
            fired.ended += 1;
            fired.status(answer?.status);
        }
    }
    Ok(fired)
}
