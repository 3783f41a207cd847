//! Reads how a response ended: identity, usage, status, error; from its last event or from a whole body.

use serde::Deserialize;

use super::Error;
use crate::json::{self, Span};
use crate::lenient;
use crate::sse::Kind;
use crate::usage::Usage;

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
        let event = json::document(data)?;
        let response = json::member(data, event, "response");
        let mut terminal = response.map(|at| Terminal::of_response(data, at)).unwrap_or_default();
        // The event's name is what readers go by; a status that is missing or strange does not change it.
        if terminal.status != Status::Cancelled {
            terminal.status = status;
        }
        Ok(terminal)
    }

    /// Reads the body of an answer that is not a stream.
    pub fn parse_body(body: &[u8]) -> Result<Terminal, Error> {
        Ok(Terminal::of_response(body, json::document(body)?))
    }

    /// Reads a response that stands in checked text; the output, which is most of it, is stepped over. Of a field that stands
    /// twice the last counts, as it does for most readers.
    fn of_response(bytes: &[u8], response: Span) -> Terminal {
        let mut terminal = Terminal::default();
        for member in json::members(bytes, response).map_while(Result::ok) {
            let value = member.value.of(bytes);
            match &*member.name(bytes) {
                b"id" => terminal.response_id = lenient::text_of(value),
                b"model" => terminal.model = lenient::text_of(value),
                b"service_tier" => terminal.service_tier = lenient::text_of(value),
                b"usage" => terminal.usage = Usage::from_json(value),
                b"status" => {
                    let name = lenient::text_of(value);
                    terminal.status = name.as_deref().map(Status::from_name).unwrap_or_default();
                }
                b"error" => terminal.error = serde_json::from_slice(value).ok(),
                b"incomplete_details" => {
                    let reason = json::member(bytes, member.value, "reason");
                    terminal.incomplete_reason = reason.and_then(|reason| lenient::text_of(reason.of(bytes)));
                }
                _ => {}
            }
        }
        terminal
    }

    fn parse_error(data: &[u8]) -> Result<Terminal, Error> {
        let event: ErrorEvent = serde_json::from_slice(data).map_err(Error::Payload)?;
        let flat = ApiError { code: event.code, kind: None, message: event.message, param: event.param };
        let error = event.error.or(Some(flat)).filter(|error| !error.is_empty());
        Ok(Terminal { status: Status::Failed, error, ..Terminal::default() })
    }
}
