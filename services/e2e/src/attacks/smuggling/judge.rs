//! Sends payloads and judges what became of them, by what the client saw and what the upstream got.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use gateway_testkit::{Recorded, Upstream};

use super::super::frames::{Connection, Reading};
use super::{Payload, Wire};
use crate::http::Raw;

/// How long an HTTP/2 payload may stay without an answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// What the client saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fate {
    /// The statuses of HTTP/1 answers in their order; of HTTP/2 only a 200 is told, as nothing else is decoded.
    pub statuses: Vec<u16>,
    /// Whether the server refused: it ended the connection or the stream, or answered otherwise than with 200.
    pub is_refused: bool,
}

/// What became of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing has reached the upstream.
    Refused,
    /// One request has reached the upstream, and it was the outer one.
    Passed,
}

/// Sends a payload and waits for its end.
pub async fn play(at: SocketAddr, payload: &Payload) -> anyhow::Result<Fate> {
    match payload.wire {
        Wire::Http1 => {
            let mut raw = Raw::connect(at).await?;
            raw.send(&payload.bytes).await?;
            let text = String::from_utf8_lossy(&raw.finish_bytes().await?).into_owned();
            let statuses = statuses(&text);
            let is_refused = !statuses.contains(&200);
            Ok(Fate { statuses, is_refused })
        }
        Wire::Http2 => {
            let mut connection = Connection::open(at, &[], Reading::Always).await?;
            connection.send(&payload.bytes, 1).await;
            connection.wait_answers(1, ANSWER_MAX).await;
            anyhow::ensure!(connection.has_said_something(), "no answer to {}", payload.name);
            let is_good = connection.good_answers() > 0;
            Ok(Fate { statuses: if is_good { vec![200] } else { Vec::new() }, is_refused: !is_good })
        }
    }
}

/// The statuses of all answers on a connection. Bodies of a gateway's answers hold no status line of their own.
fn statuses(text: &str) -> Vec<u16> {
    let lines = text.split("HTTP/1.").skip(1);
    lines.filter_map(|line| line.get(2..5)?.parse().ok()).filter(|status| *status != 100).collect()
}

/// Judges a payload by what the upstream has recorded; an error is a hole.
pub fn judge(
    payload: &Payload,
    fate: &Fate,
    upstream: &Upstream,
    seen: &[Recorded],
) -> anyhow::Result<Verdict> {
    let with = |mark: &str| {
        let holds = |request: &&Recorded| {
            let head = format!("{} {:?} {:?}", request.path, request.query, request.headers);
            head.contains(mark) || String::from_utf8_lossy(&request.body).contains(mark)
        };
        seen.iter().filter(holds).collect::<Vec<_>>()
    };
    let tell = || format!("{} -> {fate:?}", payload.name);
    anyhow::ensure!(with(&payload.hidden).is_empty(), "what was hidden has reached the upstream: {}", tell());
    match with(&payload.outer).as_slice() {
        [] => {
            anyhow::ensure!(fate.is_refused, "answered with 200 by nobody: {}", tell());
            let all_refused = fate.statuses.iter().all(|status| (400..500).contains(status));
            anyhow::ensure!(all_refused, "refused in another way: {}", tell());
            Ok(Verdict::Refused)
        }
        [request] => {
            anyhow::ensure!(fate.statuses == [200], "passed with other answers: {}", tell());
            in_own_framing(request, upstream).with_context(tell)?;
            Ok(Verdict::Passed)
        }
        several => anyhow::bail!("{} requests have reached the upstream: {}", several.len(), tell()),
    }
}

fn in_own_framing(request: &Recorded, upstream: &Upstream) -> anyhow::Result<()> {
    let lengths: Vec<_> = request.headers.get_all("content-length").iter().collect();
    anyhow::ensure!(lengths == [request.body.len().to_string().as_str()], "its length is {lengths:?}");
    for name in
        ["transfer-encoding", "transfer_encoding", "content_length", "te", "trailer", "upgrade", "keep-alive"]
    {
        anyhow::ensure!(!request.headers.contains_key(name), "it has the caller's {name}");
    }
    anyhow::ensure!(
        request.authority.as_deref() == Some(upstream.address().to_string().as_str()),
        "it asks {:?}",
        request.authority
    );
    anyhow::ensure!(request.path == "/v1/responses", "it asks for {}", request.path);
    anyhow::ensure!(request.json().is_object(), "its body is {:?}", request.body);
    Ok(())
}
