//! Frames that no well-behaved client sends to an app-server, and what comes of each: an answer, an error, silence, or the end of
//! the connection.
//!
//! What comes of a frame is seen by what is asked after it: a server that is well answers that.

mod socket;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};

pub use socket::{Opcode, Socket};

/// A server that does not answer within this is taken for one that never will.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
/// How long an answer may come after that to what was asked later; Codex answers some requests aside.
const STRAGGLER_TIME: Duration = Duration::from_millis(150);
/// The id of what is asked to see whether the server is well.
const PROBE: &str = "probe";
/// A thread that nobody has.
const MISSING: &str = "01a1f863-0000-7f93-9710-f7d10b25b017";

/// What came of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered.
    Answer,
    /// It was answered with an error.
    Error,
    /// It was passed over.
    Silence,
    /// It ended its connection.
    Closed,
}

/// A frame, or what should be one.
#[derive(Debug, Clone)]
pub enum Frame {
    /// A whole frame of this kind with this payload.
    Whole(Opcode, Vec<u8>),
    /// These bytes as they are.
    Bytes(Vec<u8>),
}

impl Frame {
    /// A text, right or wrong.
    pub fn text(text: impl Into<Vec<u8>>) -> Self {
        Self::Whole(Opcode::Text, text.into())
    }
}

/// A client that has introduced itself.
pub struct Client {
    socket: Socket,
}

impl Client {
    /// Connects and introduces itself.
    pub async fn connect(at: SocketAddr) -> anyhow::Result<Self> {
        let mut socket = Socket::connect(at).await?;
        let info = json!({"name": "frames", "version": "1"});
        let params = json!({"clientInfo": info, "capabilities": {"experimentalApi": true}});
        let hello = json!({"id": "hello", "method": "initialize", "params": params});
        socket.send(&Frame::text(hello.to_string())).await?;
        let answered = async {
            while socket.receive().await?.context("no handshake")?.get("id") != Some(&json!("hello")) {}
            anyhow::Ok(())
        };
        tokio::time::timeout(ANSWER_TIME_MAX, answered).await.context("a handshake in time")??;
        Ok(Self { socket })
    }

    /// Sends a frame and asks for something after it. An error if the server does not answer that, though it keeps the connection.
    /// `stragglers` waits a moment for what is answered aside.
    pub async fn outcome(&mut self, frame: &Frame, stragglers: bool) -> anyhow::Result<Outcome> {
        // A server that has hung up in the middle of a frame says so when it is read from.
        let _ = self.socket.send(frame).await;
        let probe = json!({"id": PROBE, "method": "thread/loaded/list", "params": {}});
        let _ = self.socket.send(&Frame::text(probe.to_string())).await;
        let mut outcome = Outcome::Silence;
        let mut well = false;
        loop {
            let limit = if well { STRAGGLER_TIME } else { ANSWER_TIME_MAX };
            let message = match tokio::time::timeout(limit, self.socket.receive()).await {
                Ok(message) => message?,
                Err(_) if well => return Ok(outcome),
                Err(_) => anyhow::bail!("what was asked next was not answered"),
            };
            let Some(message) = message else { return Ok(Outcome::Closed) };
            if message.get("method").is_some() {
                continue;
            }
            let error = message.get("error");
            let code = error.and_then(|error| error.get("code")).and_then(Value::as_i64);
            anyhow::ensure!(code != Some(-32603), "the server blames itself: {message}");
            if message.get("id") == Some(&json!(PROBE)) {
                anyhow::ensure!(error.is_none(), "what was asked next was answered {message}");
                well = true;
                if !stragglers {
                    return Ok(outcome);
                }
            } else {
                outcome = if error.is_some() { Outcome::Error } else { Outcome::Answer };
            }
        }
    }
}

/// Frames by name. What comes of them differs from Codex where the second says so: there it stands what comes of them here.
#[expect(clippy::too_many_lines, reason = "a table, and nothing else")]
pub fn table() -> Vec<(&'static str, Option<Outcome>, Frame)> {
    let text = |name, text: &str| (name, None, Frame::text(text));
    let list = |name, params: &str| {
        (name, None, Frame::text(format!(r#"{{"id":1,"method":"thread/list","params":{params}}}"#)))
    };
    let read = |name, id: &str| {
        (
            name,
            None,
            Frame::text(format!(r#"{{"id":1,"method":"thread/read","params":{{"threadId":{id}}}}}"#)),
        )
    };
    let deep = |levels: usize| format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
    let id = |name, id: &str| {
        (name, None, Frame::text(format!(r#"{{"id":{id},"method":"thread/list","params":{{}}}}"#)))
    };
    let here =
        |(name, _, frame): (&'static str, Option<Outcome>, Frame), outcome| (name, Some(outcome), frame);
    vec![
        text("no JSON", "hello"),
        text("nothing", ""),
        text("a list", "[]"),
        text("a number", "7"),
        text("null", "null"),
        text("a text", "\"x\""),
        id("an id that is null", "null"),
        id("an id that is a fraction", "1.5"),
        id("an id that is a truth", "true"),
        id("an id that is an object", "{}"),
        id("an id beyond 64 bits", "99999999999999999999"),
        id("the largest id", "9223372036854775807"),
        id("an id beyond that", "18446744073709551615"),
        id("an id below nothing", "-5"),
        id("an id with an exponent", "1e0"),
        id("an empty id", "\"\""),
        id("a long id", &format!("\"{}\"", "x".repeat(100_000))),
        text("a method that is a number", r#"{"id":1,"method":5,"params":{}}"#),
        text("a method that is null", r#"{"id":1,"method":null,"params":{}}"#),
        text("an empty method", r#"{"id":1,"method":"","params":{}}"#),
        text("no method", r#"{"id":1,"params":{}}"#),
        text("no parameters", r#"{"id":1,"method":"thread/list"}"#),
        list("parameters that are null", "null"),
        list("parameters that are a list", "[]"),
        list("parameters that are a text", "\"x\""),
        list("parameters that are a number", "5"),
        text("an id twice", r#"{"id":1,"id":2,"method":"thread/list","params":{}}"#),
        text("a method twice", r#"{"id":1,"method":"thread/list","method":"thread/list","params":{}}"#),
        text("parameters twice", r#"{"id":1,"method":"thread/list","params":{},"params":{}}"#),
        read("a parameter twice", r#""a","threadId":"b""#),
        text("an unknown method", r#"{"id":1,"method":"foo/bar","params":{}}"#),
        text(
            "a long unknown method",
            &format!(r#"{{"id":1,"method":"{}","params":{{}}}}"#, "f".repeat(100_000)),
        ),
        text("more than a request has", r#"{"id":1,"method":"thread/list","params":{},"foo":1,"jsonrpc":5}"#),
        list("an unknown parameter", r#"{"foo":1}"#),
        list("a limit below nothing", r#"{"limit":-1}"#),
        list("a limit that is a fraction", r#"{"limit":1.5}"#),
        list("a limit beyond all", r#"{"limit":99999999999999999999999}"#),
        list("a limit beyond all numbers", r#"{"limit":1e400}"#),
        list("a limit that is a text", r#"{"limit":"5"}"#),
        list("deep parameters", &deep(100)),
        list("parameters as deep as may be", &deep(126)),
        list("parameters too deep", &deep(127)),
        list("parameters far too deep", &deep(100_000)),
        list("lists far too deep", &format!("{}{}", "[".repeat(100_000), "]".repeat(100_000))),
        text("half of a request", r#"{"id":1,"method":"thread/list","params":{"#),
        text("something after a request", r#"{"id":1,"method":"thread/list","params":{}} x"#),
        text(
            "two requests",
            r#"{"id":1,"method":"thread/list","params":{}}{"id":2,"method":"thread/list","params":{}}"#,
        ),
        text("a byte order mark", "\u{feff}{\"id\":1,\"method\":\"thread/list\",\"params\":{}}"),
        text("white space", " \n\t{\"id\":1,\"method\":\"thread/list\",\"params\":{}}\n "),
        // Codex reads a frame whole before it looks for whose it is; here its parameters are read by whom they are for.
        here(read("half of a character", r#""\ud800""#), Outcome::Error),
        here(read("a control character", "\"a\u{1}b\""), Outcome::Silence),
        read("an escaped zero", r#""a\u0000b""#),
        text("an answer to nothing", r#"{"id":5,"result":{}}"#),
        text("an error to nothing", r#"{"id":5,"error":{"code":1,"message":"x"}}"#),
        text("a request that answers", r#"{"id":5,"method":"thread/list","result":{},"params":{}}"#),
        text("an unknown notification", r#"{"method":"foo/bar","params":{}}"#),
        text(
            "a second introduction",
            r#"{"id":1,"method":"initialize","params":{"clientInfo":{"name":"p","version":"1"}}}"#,
        ),
        read("a thread that is a number", "5"),
        read("a thread that is none", "\"x\""),
        read("a thread without a name", "\"\""),
        read("a thread with a long name", &format!("\"{}\"", "x".repeat(1 << 20))),
        text("no thread", r#"{"id":1,"method":"thread/read","params":{}}"#),
        text(
            "input that is an object",
            r#"{"id":1,"method":"turn/start","params":{"threadId":"x","input":{}}}"#,
        ),
        text(
            "input of null",
            &format!(
                r#"{{"id":1,"method":"turn/start","params":{{"threadId":"{MISSING}","input":[null]}}}}"#
            ),
        ),
        text(
            "a name that is a truth",
            &format!(
                r#"{{"id":1,"method":"thread/name/set","params":{{"threadId":"{MISSING}","name":true}}}}"#
            ),
        ),
        (
            "a request in bytes",
            None,
            Frame::Whole(Opcode::Binary, br#"{"id":1,"method":"thread/list","params":{}}"#.to_vec()),
        ),
        ("bytes", None, Frame::Whole(Opcode::Binary, b"\xff\xfe\0".to_vec())),
        ("a ping", None, Frame::Whole(Opcode::Ping, b"abc".to_vec())),
        ("a pong that nobody asked for", None, Frame::Whole(Opcode::Pong, b"abc".to_vec())),
        ("a text that is none", None, Frame::text(b"{\"id\":1,\"method\":\"x\xff\"}".to_vec())),
        ("a kind that there is not", None, Frame::Whole(Opcode::Other(3), b"{}".to_vec())),
        ("a continuation of nothing", None, Frame::Whole(Opcode::Other(0), b"{}".to_vec())),
        ("a frame without a mask", None, Frame::Bytes(b"\x81\x02{}".to_vec())),
        (
            "a length beyond all",
            None,
            Frame::Bytes(b"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0".to_vec()),
        ),
        (
            "more than may be sent",
            None,
            Frame::text(format!(
                r#"{{"id":1,"method":"thread/read","params":{{"threadId":"{}"}}}}"#,
                "x".repeat(17 << 20)
            )),
        ),
    ]
}
