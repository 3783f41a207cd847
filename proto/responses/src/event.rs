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

#[cfg(test)]
mod tests;

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
