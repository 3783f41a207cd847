//! What came over WebSockets, as a test reads it.

use http::HeaderMap;
use serde_json::Value;

use crate::state::Recorded;

/// One accepted WebSocket.
#[derive(Debug, Clone)]
pub struct Socket {
    /// The path that was asked for, without the query.
    pub path: String,
    /// Its query, if it had one.
    pub query: Option<String>,
    /// The handshake's headers as they came, with the extensions that the client offered.
    pub headers: HeaderMap,
    /// Messages that came.
    pub received: usize,
    /// Messages that were handed to the socket whole.
    pub sent: usize,
    /// Pings that came.
    pub pings: usize,
    /// Pongs that came.
    pub pongs: usize,
    /// How it ended; none while it is open.
    pub end: Option<SocketEnd>,
}

impl Socket {
    pub(crate) fn new(request: &Recorded) -> Socket {
        Socket {
            path: request.path.clone(),
            query: request.query.clone(),
            headers: request.headers.clone(),
            received: 0,
            sent: 0,
            pings: 0,
            pongs: 0,
            end: None,
        }
    }

    /// A header of the handshake as text; none when it is missing or not text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// How a WebSocket ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketEnd {
    /// The client sent a close frame first.
    ClosedByClient {
        /// Its code; none when the frame was empty.
        code: Option<u16>,
        /// Its reason.
        reason: String,
    },
    /// The script sent a close frame first.
    ClosedByScript {
        /// Whether the client answered with a close frame, and not only by ending the connection.
        answered: bool,
        /// The code of that answer.
        code: Option<u16>,
    },
    /// The script broke the connection.
    Broken,
    /// The client ended the connection without a close frame.
    Dropped,
    /// The client sent what no WebSocket may carry, a compressed message for example.
    Violated(String),
}

/// One message from a client.
#[derive(Debug, Clone)]
pub struct SocketMessage {
    /// Which socket it came on: its place in the list of sockets.
    pub socket: usize,
    /// What it says; a binary message that is no text reads as empty.
    pub text: String,
    /// Whether it came as a binary message.
    pub binary: bool,
}

impl SocketMessage {
    /// The message as JSON; null when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    /// Whether it asks for a response, and so takes the script's next answer.
    pub fn is_create(&self) -> bool {
        !self.binary && self.json().get("type").and_then(Value::as_str) == Some("response.create")
    }
}
