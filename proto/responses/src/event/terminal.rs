//! Reads how a response ended: identity, usage, status, error; from its last event or from a whole body.

use serde::Deserialize;

use super::Error;
use crate::lenient;
use crate::sse::Kind;
use crate::usage::{Reported, Usage};

/// How a response ended. A field is none when the upstream did not tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Terminal {
    /// The upstream's id of the response.
    pub response_id: Option<String>,
    /// The model that answered.
    pub model: Option<String>,
    /// The tier that served it.
    pub service_tier: Option<String>,
    /// Tokens as reported; none is "unknown", not zero.
    pub usage: Option<Usage>,
    /// How it ended.
    pub status: Status,
    /// What went wrong.
    pub error: Option<ApiError>,
    /// Why the response is incomplete.
    pub incomplete_reason: Option<String>,
}

/// A response's `status`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Status {
    /// It came to its end.
    Completed,
    /// It was cut short, by a token limit or a content filter.
    Incomplete,
    /// It failed.
    Failed,
    /// It was cancelled upstream.
    Cancelled,
    /// It is still being made (a background response).
    InProgress,
    /// It waits to be made (a background response).
    Queued,
    /// Not told, or a word that we do not know.
    #[default]
    Unknown,
}

impl Status {
    fn from_name(name: &str) -> Status {
        match name {
            "completed" => Status::Completed,
            "incomplete" => Status::Incomplete,
            "failed" => Status::Failed,
            "cancelled" => Status::Cancelled,
            "in_progress" => Status::InProgress,
            "queued" => Status::Queued,
            _ => Status::Unknown,
        }
    }
}

/// The `error` object of the API.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct ApiError {
    /// The stable code, as in `rate_limit_exceeded`.
    #[serde(default, deserialize_with = "lenient::text")]
    pub code: Option<String>,
    /// The class of error, on the wire `type`.
    #[serde(default, rename = "type", deserialize_with = "lenient::text")]
    pub kind: Option<String>,
    /// Text for people.
    #[serde(default, deserialize_with = "lenient::text")]
    pub message: Option<String>,
    /// The request field that is meant.
    #[serde(default, deserialize_with = "lenient::text")]
    pub param: Option<String>,
}

impl ApiError {
    fn is_empty(&self) -> bool {
        *self == ApiError::default()
    }
}

#[derive(Default, Deserialize)]
struct WireResponse {
    #[serde(default, deserialize_with = "lenient::text")]
    id: Option<String>,
    #[serde(default, deserialize_with = "lenient::text")]
    model: Option<String>,
    #[serde(default, deserialize_with = "lenient::text")]
    service_tier: Option<String>,
    #[serde(default)]
    usage: Option<Reported>,
    #[serde(default, deserialize_with = "lenient::text")]
    status: Option<String>,
    #[serde(default, deserialize_with = "lenient::option")]
    error: Option<ApiError>,
    #[serde(default, deserialize_with = "lenient::option")]
    incomplete_details: Option<IncompleteDetails>,
}

#[derive(Deserialize)]
struct IncompleteDetails {
    #[serde(default, deserialize_with = "lenient::text")]
    reason: Option<String>,
}

#[derive(Deserialize)]
struct ResponseEvent {
    #[serde(default)]
    response: Option<WireResponse>,
}

/// `error` comes flat (`code`, `message`) over SSE and nested (`error: {..}`) over WebSocket.
#[derive(Deserialize)]
struct ErrorEvent {
    #[serde(default, deserialize_with = "lenient::option")]
    error: Option<ApiError>,
    #[serde(default, deserialize_with = "lenient::text")]
    code: Option<String>,
    #[serde(default, deserialize_with = "lenient::text")]
    message: Option<String>,
    #[serde(default, deserialize_with = "lenient::text")]
    param: Option<String>,
}

impl Terminal {
    /// Reads the payload of an event that ends a response ([`Kind::is_terminal`]).
    pub fn parse(kind: Kind, data: &[u8]) -> Result<Terminal, Error> {
        let status = match kind {
            Kind::Completed => Status::Completed,
            Kind::Incomplete => Status::Incomplete,
            Kind::Failed => Status::Failed,
            Kind::Error => return Terminal::parse_error(data),
            other => return Err(Error::NotTerminal(other)),
        };
        let event: ResponseEvent = serde_json::from_slice(data).map_err(Error::Payload)?;
        let mut terminal = Terminal::from_wire(event.response.unwrap_or_default());
        // The event's name is what readers go by; a status that is missing or strange does not change it.
        if terminal.status != Status::Cancelled {
            terminal.status = status;
        }
        Ok(terminal)
    }

    /// Reads the body of an answer that is not a stream.
    pub fn parse_body(body: &[u8]) -> Result<Terminal, Error> {
        serde_json::from_slice(body).map(Terminal::from_wire).map_err(Error::Payload)
    }

    fn parse_error(data: &[u8]) -> Result<Terminal, Error> {
        let event: ErrorEvent = serde_json::from_slice(data).map_err(Error::Payload)?;
        let flat = ApiError { code: event.code, kind: None, message: event.message, param: event.param };
        let error = event.error.or(Some(flat)).filter(|error| !error.is_empty());
        Ok(Terminal { status: Status::Failed, error, ..Terminal::default() })
    }

    fn from_wire(wire: WireResponse) -> Terminal {
        Terminal {
            response_id: wire.id,
            model: wire.model,
            service_tier: wire.service_tier,
            usage: wire.usage.and_then(|reported| reported.0),
            status: wire.status.as_deref().map(Status::from_name).unwrap_or_default(),
            error: wire.error,
            incomplete_reason: wire.incomplete_details.and_then(|details| details.reason),
        }
    }
}
