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
        let mut terminal = Terminal::default();
        json::whole(data, |at| {
            json::each_member(data, at, 0, |name, at| match name {
                b"response" => Terminal::read(data, at, 1, &mut terminal),
                _ => json::skip_value_below(data, at, 1),
            })
        })?;
        // The event's name is what readers go by; a status that is missing or strange does not change it.
        if terminal.status != Status::Cancelled {
            terminal.status = status;
        }
        Ok(terminal)
    }

    /// Reads the body of an answer that is not a stream.
    pub fn parse_body(body: &[u8]) -> Result<Terminal, Error> {
        let mut terminal = Terminal::default();
        json::whole(body, |at| Terminal::read(body, at, 0, &mut terminal))?;
        Ok(terminal)
    }

    /// Reads and checks, in one go, the response at `at` inside `outer` containers; the output, which is most of it, is
    /// stepped over. Of a field that stands twice the last counts, as it does for most readers.
    fn read(bytes: &[u8], at: usize, outer: u32, terminal: &mut Terminal) -> Result<usize, json::Error> {
        *terminal = Terminal::default();
        json::each_member(bytes, at, outer, |name, start| {
            let end = json::skip_value_below(bytes, start, outer + 1)?;
            terminal.note(name, Span { start, end }.of(bytes));
            Ok(end)
        })
    }

    fn note(&mut self, name: &[u8], value: &[u8]) {
        match name {
            b"id" => self.response_id = lenient::text_of(value),
            b"model" => self.model = lenient::text_of(value),
            b"service_tier" => self.service_tier = lenient::text_of(value),
            b"usage" => self.usage = Usage::from_json(value),
            b"status" => {
                self.status = lenient::text_of(value).as_deref().map(Status::from_name).unwrap_or_default();
            }
            // Most often it is null, and serde makes an error of that before it is dropped.
            b"error" => {
                self.error = value.starts_with(b"{").then(|| serde_json::from_slice(value).ok()).flatten()
            }
            b"incomplete_details" => {
                let reason = json::member(value, Span::new(0, value.len()), "reason");
                self.incomplete_reason = reason.and_then(|reason| lenient::text_of(reason.of(value)));
            }
            _ => {}
        }
    }

    fn parse_error(data: &[u8]) -> Result<Terminal, Error> {
        let event: ErrorEvent = serde_json::from_slice(data).map_err(Error::Payload)?;
        let flat = ApiError { code: event.code, kind: None, message: event.message, param: event.param };
        let error = event.error.or(Some(flat)).filter(|error| !error.is_empty());
        Ok(Terminal { status: Status::Failed, error, ..Terminal::default() })
    }
}
