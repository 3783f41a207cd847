//! How a socket ends when it should not, and what that means for the call on it.

use std::time::Duration;

use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use super::wire::MESSAGE_BYTES_MAX;
use crate::body::BodyError;
use crate::send::SendError;

/// The code that stands for a close frame without one.
const NO_CODE: u16 = 1005;

/// Why nothing more comes from a socket.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The connection is gone, or was closed in a way that another one need not share.
    Lost(Box<dyn std::error::Error + Send + Sync>),
    /// The provider closed because of what it was sent: another socket would be closed as well.
    Refused(Closed),
    /// Nothing came for too long, or nothing could be sent.
    Silent { limit: Duration },
    /// A message is too large.
    TooLarge,
    /// Not a WebSocket's bytes, or not text.
    Malformed(Box<dyn std::error::Error + Send + Sync>),
}

/// What a close frame said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("closed with code {code}{}{reason}", if reason.is_empty() { "" } else { ": " })]
pub(crate) struct Closed {
    code: u16,
    reason: String,
}

impl Broken {
    pub(crate) fn of(error: Error) -> Broken {
        match error {
            Error::Capacity(_) => Broken::TooLarge,
            Error::ConnectionClosed
            | Error::AlreadyClosed
            | Error::Io(_)
            | Error::Tls(_)
            | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Broken::Lost(error.into()),
            _ => Broken::Malformed(error.into()),
        }
    }

    pub(crate) fn closed(frame: Option<CloseFrame>) -> Broken {
        let (code, reason) = match frame {
            Some(frame) => (u16::from(frame.code), printable(&frame.reason)),
            None => (NO_CODE, String::new()),
        };
        let closed = Closed { code, reason };
        match code {
            // Normal, going away, no code; internal error, restart, try later.
            1000 | 1001 | NO_CODE | 1011..=1013 => Broken::Lost(closed.into()),
            _ => Broken::Refused(closed),
        }
    }

    pub(crate) fn binary() -> Broken {
        Broken::Malformed("a binary message".into())
    }

    /// Whether another socket may do better.
    pub(crate) fn is_lost(&self) -> bool {
        matches!(self, Self::Lost(_))
    }
}

/// A reason as it may stand in an error: control characters are spaces.
fn printable(reason: &str) -> String {
    reason.chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
}

impl From<Broken> for BodyError {
    fn from(broken: Broken) -> BodyError {
        match broken {
            Broken::Lost(source) => BodyError::Reset { source },
            Broken::Refused(closed) => BodyError::Closed { source: closed.into() },
            Broken::Silent { limit } => BodyError::Idle { limit },
            Broken::TooLarge => BodyError::TooLarge { limit: MESSAGE_BYTES_MAX },
            Broken::Malformed(source) => BodyError::Malformed { source },
        }
    }
}

impl From<Broken> for SendError {
    fn from(broken: Broken) -> SendError {
        match broken {
            Broken::Lost(source) => SendError::ClosedBeforeHeaders { source },
            Broken::Refused(closed) => SendError::Closed { source: closed.into() },
            Broken::Silent { limit } => SendError::Timeout { limit },
            Broken::TooLarge => {
                SendError::Malformed { source: BodyError::TooLarge { limit: MESSAGE_BYTES_MAX }.into() }
            }
            Broken::Malformed(source) => SendError::Malformed { source },
        }
    }
}
