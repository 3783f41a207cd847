//! Typed reading of the few event types that anybody needs parsed.
//!
//! Terminal events give usage and errors, items and deltas serve an agent. Fields that are unknown are
//! ignored, fields of an unexpected type count as missing: an upstream's novelty must not fail a response.

mod delta;
mod item;
mod terminal;

pub use self::delta::{OutputTextDelta, ReasoningSummaryTextDelta, ReasoningTextDelta};
pub use self::item::{Item, OutputItem, OutputItemEvent};
pub use self::terminal::{ApiError, Status, Terminal};

use crate::json::{self, Span};

#[cfg(test)]
mod tests;

/// The longest id that is kept of a stream; real ones have some fifty bytes.
const ID_BYTES_MAX: usize = 256;

/// The id of the response that a `response.created` begins; none if it is longer than any real one. Read no further than the
/// id, which stands before all that the request has in common with its response.
pub fn created_id(data: &[u8]) -> Option<Box<str>> {
    let below = |start| Span::new(start, data.len());
    let mut event = json::members(data, below(json::skip_whitespace(data, 0)));
    while let Some((key, value)) = event.start().ok()? {
        if key.of(data) == br#""response""# {
            let id = json::member(data, below(value), "id")?;
            return json::string(data, id).ok().filter(|id| id.len() <= ID_BYTES_MAX).map(Into::into);
        }
        event.go_on(json::skip_value(data, value).ok()?);
    }
    None
}

/// Why an event's payload cannot be read. The upstream's fault.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The payload is not JSON, or not of the event's outer shape.
    #[error("event payload cannot be read")]
    Payload(#[source] serde_json::Error),
    /// The payload is not JSON.
    #[error("event payload is not json")]
    Json(#[from] crate::json::Error),
    /// The event does not end a response.
    #[error("event of kind {0:?} does not end a response")]
    NotTerminal(crate::sse::Kind),
}
