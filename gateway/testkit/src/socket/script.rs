//! What a test writes down for a WebSocket: the handshake's answer and what happens then, step by step.
//!
//! Messages from the client are read and recorded all the time, whatever the step, unless the script is told to
//! be deaf. When all steps are played the socket stays open and idle until the client ends it.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use tidegate_responses::Framer;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, Frame};

use crate::gate::Gate;
use crate::reply::{Break, Reply};

/// Frames of scripted turns are far smaller.
const FRAME_MAX_BYTES: usize = 64 << 20;

/// What one WebSocket is going to do.
#[derive(Debug, Clone, Default)]
pub struct SocketScript {
    pub(crate) headers: HeaderMap,
    pub(crate) gate: Option<Gate>,
    pub(crate) refusal: Option<Reply>,
    pub(crate) steps: Vec<Step>,
    pub(crate) repeats: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Wait for a `response.create` that no earlier step has taken.
    Request,
    /// One message, or one frame of it.
    Send(Message),
    /// Bytes that need not be a frame.
    Raw(Bytes),
    /// A ping, then the wait for its pong.
    Ping(Bytes),
    /// Hold until the gate is open.
    Wait(Gate),
    /// Read nothing until the gate is open.
    Deaf(Gate),
    /// A close frame, then the wait for the client's end.
    Close(Option<CloseFrame>),
    /// Break the connection.
    Break(Break),
}

/// The JSON of each event of a stream: what a WebSocket sends, without the framing of the event stream.
pub fn messages(frames: impl IntoIterator<Item = Bytes>) -> Vec<String> {
    let mut framer = Framer::new(FRAME_MAX_BYTES);
    let blocks = frames.into_iter().filter_map(|frame| framer.push(frame).ok()).flatten();
    blocks
        .flat_map(|block| block.frames().collect::<Vec<_>>())
        .map(|frame| String::from_utf8_lossy(&frame.data()).into_owned())
        .collect()
}

impl SocketScript {
    /// Accepts the handshake and stays idle.
    pub fn new() -> SocketScript {
        SocketScript::default()
    }

    /// Answers the handshake with this instead of accepting it.
    pub fn refuse(reply: Reply) -> SocketScript {
        SocketScript { refusal: Some(reply), ..SocketScript::default() }
    }

    /// Sets a header of the handshake's answer. What cannot be sent as one is left out.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> SocketScript {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            self.headers.insert(name, value);
        }
        self
    }

    /// Holds the handshake's answer until the gate is open or the connection is dropped.
    #[must_use]
    pub fn delay_handshake(mut self, gate: &Gate) -> SocketScript {
        self.gate = Some(gate.clone());
        self
    }

    /// Waits for the next `response.create`, then sends these messages.
    #[must_use]
    pub fn answer(self, messages: impl IntoIterator<Item = impl Into<String>>) -> SocketScript {
        self.request().send(messages)
    }

    /// Waits for the next `response.create` and sends nothing yet.
    #[must_use]
    pub fn request(self) -> SocketScript {
        self.step(Step::Request)
    }

    /// Sends these messages unasked.
    #[must_use]
    pub fn send(mut self, messages: impl IntoIterator<Item = impl Into<String>>) -> SocketScript {
        let messages = messages.into_iter().map(|message| Step::Send(Message::text(message.into())));
        self.steps.extend(messages);
        self
    }

    /// Sends one message in frames of `bytes` each.
    #[must_use]
    pub fn send_in_frames(mut self, message: &str, bytes: usize) -> SocketScript {
        let pieces: Vec<_> = message.as_bytes().chunks(bytes.max(1)).map(Bytes::copy_from_slice).collect();
        let last = pieces.len().saturating_sub(1);
        for (index, piece) in pieces.into_iter().enumerate() {
            let data = if index == 0 { Data::Text } else { Data::Continue };
            let frame = Frame::message(piece, OpCode::Data(data), index == last);
            self.steps.push(Step::Send(Message::Frame(frame)));
        }
        self
    }

    /// Sends a text message of exactly `bytes` bytes (at least 42): an event of a type that nobody knows.
    #[must_use]
    pub fn send_large(self, bytes: usize) -> SocketScript {
        let (head, tail) = (r#"{"type":"testkit.padding","padding":""#, r#""}"#);
        let filler = "x".repeat(bytes.saturating_sub(head.len() + tail.len()));
        self.send([format!("{head}{filler}{tail}")])
    }

    /// Sends a binary message.
    #[must_use]
    pub fn send_binary(self, bytes: impl Into<Bytes>) -> SocketScript {
        self.step(Step::Send(Message::binary(bytes)))
    }

    /// Sends bytes that need not be a frame.
    #[must_use]
    pub fn send_raw(self, bytes: impl Into<Bytes>) -> SocketScript {
        self.step(Step::Raw(bytes.into()))
    }

    /// Sends a ping and waits for a pong.
    #[must_use]
    pub fn ping(self, payload: impl Into<Bytes>) -> SocketScript {
        self.step(Step::Ping(payload.into()))
    }

    /// Holds until the gate is open or the client ends the connection.
    #[must_use]
    pub fn stall(self, gate: &Gate) -> SocketScript {
        self.step(Step::Wait(gate.clone()))
    }

    /// Reads nothing until the gate is open, and so answers no ping and does not notice a close.
    #[must_use]
    pub fn deaf(self, gate: &Gate) -> SocketScript {
        self.step(Step::Deaf(gate.clone()))
    }

    /// Sends a close frame and waits for the client's end.
    #[must_use]
    pub fn close(self, code: u16, reason: &str) -> SocketScript {
        let frame = CloseFrame { code: code.into(), reason: reason.into() };
        self.step(Step::Close(Some(frame)))
    }

    /// Sends a close frame without a code and waits for the client's end.
    #[must_use]
    pub fn close_silently(self) -> SocketScript {
        self.step(Step::Close(None))
    }

    /// Resets the connection.
    #[must_use]
    pub fn reset(self) -> SocketScript {
        self.step(Step::Break(Break::Reset))
    }

    /// Ends the connection without a close frame.
    #[must_use]
    pub fn vanish(self) -> SocketScript {
        self.step(Step::Break(Break::Close))
    }

    /// Sends a message up to its first `bytes` bytes, then resets the connection.
    #[must_use]
    pub fn reset_within(self, message: &str, bytes: usize) -> SocketScript {
        let frame =
            Frame::message(Bytes::copy_from_slice(message.as_bytes()), OpCode::Data(Data::Text), true);
        let length = frame.len() - message.len() + bytes.min(message.len());
        let mut wire = Vec::new();
        // Writing to memory cannot fail.
        let _written = frame.format(&mut wire);
        wire.truncate(length);
        self.send_raw(wire).reset()
    }

    /// Begins again with the first step when all are played; only where a step waits for a request, so that it
    /// cannot run away.
    #[must_use]
    pub fn repeat(mut self) -> SocketScript {
        self.repeats = self.steps.iter().any(|step| matches!(step, Step::Request));
        self
    }

    fn step(mut self, step: Step) -> SocketScript {
        self.steps.push(step);
        self
    }
}
