//! Whoever is refused before its body has come is heard out, so that it sees the answer.

#![expect(clippy::unwrap_used, reason = "a client that cannot go on fails its test")]

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{Gate, deadline};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
/// The end of a stream in DATA, and an acknowledgement in PING.
const END: u8 = 1;
const END_HEADERS: u8 = 4;
const BODY: &[u8] = b"{}";

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
}

/// A field as HPACK writes one that it does not know.
fn field(name: &str, value: &str) -> Vec<u8> {
    let length = |text: &str| u8::try_from(text.len()).unwrap();
    [&[0, length(name)], name.as_bytes(), &[length(value)], value.as_bytes()].concat()
}

/// The frames that come before the acknowledgement of the PING with these bytes: kind and flags.
async fn until_pong(stream: &mut TcpStream, ping: [u8; 8]) -> Vec<(u8, u8)> {
    let mut seen = Vec::new();
    loop {
        let mut head = [0; 9];
        deadline(stream.read_exact(&mut head)).await.unwrap();
        let [_, high, low, kind, flags, ..] = head;
        let mut payload = vec![0; usize::from(u16::from_be_bytes([high, low]))];
        deadline(stream.read_exact(&mut payload)).await.unwrap();
        if kind == PING && flags == END && payload == ping {
            return seen;
        }
        seen.push((kind, flags));
    }
}

/// Sends a head, and its body once the server has been busy with the head.
async fn refused(path: &str, coding: &str) -> Vec<(u8, u8)> {
    let gate = Gate::start().await;
    let mut stream = TcpStream::connect(gate.at).await.unwrap();
    let length = BODY.len().to_string();
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "localhost"),
        (":path", path),
        ("content-encoding", coding),
        ("content-length", length.as_str()),
    ];
    let head = fields.map(|(name, value)| field(name, value)).concat();
    let begin = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(SETTINGS, 0, 0, &[]),
        frame(HEADERS, END_HEADERS, 1, &head),
        frame(PING, 0, 0, b"the head"),
    ];
    stream.write_all(&begin.concat()).await.unwrap();
    let mut seen = until_pong(&mut stream, *b"the head").await;
    stream.write_all(&frame(DATA, END, 1, BODY)).await.unwrap();
    let answered = |seen: &[(u8, u8)]| seen.contains(&(DATA, END));
    for turn in 0_u64.. {
        stream.write_all(&frame(PING, 0, 0, &turn.to_be_bytes())).await.unwrap();
        let was_answered = answered(&seen);
        seen.extend(until_pong(&mut stream, turn.to_be_bytes()).await);
        // Once more after the answer, because a reset comes behind it.
        if was_answered {
            break;
        }
    }
    seen
}

#[tokio::test]
async fn an_answer_over_http2_is_not_followed_by_a_reset_if_the_body_comes_soon() {
    for (path, coding) in [("/v1/nowhere", "identity"), ("/v1/models", "identity"), ("/v1/responses", "br")] {
        let seen = refused(path, coding).await;
        assert!(seen.iter().any(|(kind, _)| *kind == HEADERS), "{path}: {seen:?}");
        assert!(seen.iter().all(|(kind, _)| *kind != RST_STREAM), "{path}: {seen:?}");
    }
}
