//! The event types that somebody reads, told apart by name.
//!
//! A type that is not listed is [`Kind::Other`] and passes like any other.

use std::borrow::Cow;

use crate::json::{self, Span};

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `response.created`
    Created,
    /// `response.in_progress`
    InProgress,
    /// `response.output_item.added`
    OutputItemAdded,
    /// `response.output_item.done`
    OutputItemDone,
    /// `response.output_text.delta`
    OutputTextDelta,
    /// `response.reasoning_summary_text.delta`
    ReasoningSummaryTextDelta,
    /// `response.reasoning_text.delta`
    ReasoningTextDelta,
    /// `response.completed`
    Completed,
    /// `response.incomplete`
    Incomplete,
    /// `response.failed`
    Failed,
    /// `error`
    Error,
    /// `response.metadata`
    Metadata,
    /// The data is `[DONE]`, as some servers end their streams.
    Done,
    /// Any other event.
    Other,
    /// A frame without data: a comment, or only an `event` field.
    Comment,
}

impl Kind {
    /// The kind of an event type.
    pub fn from_name(name: &[u8]) -> Kind {
        match name {
            b"response.output_text.delta" => Kind::OutputTextDelta,
            b"response.reasoning_summary_text.delta" => Kind::ReasoningSummaryTextDelta,
            b"response.reasoning_text.delta" => Kind::ReasoningTextDelta,
            b"response.created" => Kind::Created,
            b"response.in_progress" => Kind::InProgress,
            b"response.output_item.added" => Kind::OutputItemAdded,
            b"response.output_item.done" => Kind::OutputItemDone,
            b"response.completed" => Kind::Completed,
            b"response.incomplete" => Kind::Incomplete,
            b"response.failed" => Kind::Failed,
            b"error" => Kind::Error,
            b"response.metadata" => Kind::Metadata,
            _ => Kind::Other,
        }
    }

    /// The kind of an event's JSON payload, as a WebSocket message or a contract event carries it.
    pub fn from_data(data: &[u8]) -> Kind {
        match type_name(data) {
            Some(name) => Kind::from_name(name.as_bytes()),
            None if data.trim_ascii() == b"[DONE]" => Kind::Done,
            None if data.is_empty() => Kind::Comment,
            None => Kind::Other,
        }
    }

    /// Whether the response ends with this event, and usage or an error is to be read from it. An `error` can
    /// be followed by `response.failed`, then the later one counts. `[DONE]` says nothing about the response.
    pub fn is_terminal(self) -> bool {
        matches!(self, Kind::Completed | Kind::Incomplete | Kind::Failed | Kind::Error)
    }
}

/// The top-level `type` of a JSON payload, read no further than that key.
pub(super) fn type_name(data: &[u8]) -> Option<Cow<'_, str>> {
    if let Some(name) = leading_type(data).and_then(|name| std::str::from_utf8(name).ok()) {
        return Some(Cow::Borrowed(name));
    }
    let object = Span { start: json::skip_whitespace(data, 0), end: data.len() };
    json::member(data, object, "type").and_then(|value| json::string(data, value).ok())
}

/// The type's name when the data starts with it, as all known servers write it.
pub(super) fn leading_type(data: &[u8]) -> Option<&[u8]> {
    let rest = data.strip_prefix(br#"{"type":""#)?;
    let end = memchr::memchr2(b'"', b'\\', rest)?;
    (rest.get(end) == Some(&b'"')).then(|| rest.get(..end)).flatten()
}
