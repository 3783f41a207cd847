//! The OpenAI Responses wire as bytes: request spans and splices, SSE frames, events by type, usage, metadata, delays.
//!
//! Pure: no sockets, no clock, no tasks. A request keeps its original bytes and is read through spans and
//! changed through splices; a stream keeps its original frames and only the few event types that somebody
//! needs are parsed. Policy, retries and routing belong to the callers: what they decide comes in as a value.

pub mod envelope;
pub mod error_body;
pub mod event;
pub mod first_party;
pub mod headers;
pub mod json;
mod lenient;
mod lookalike;
pub mod rate_limit;
pub mod redact;
pub mod request;
pub mod rerouted;
pub mod retry_after;
pub mod service_tier;
pub mod splice;
pub mod sse;
pub mod tools;
pub mod usage;

pub use envelope::TurnMetadata;
pub use error_body::ErrorBody;
pub use event::{ApiError, Item, OutputItem, Status, Terminal};
pub use json::Span;
pub use rate_limit::RateLimit;
pub use request::Request;
pub use splice::Splices;
pub use sse::{Block, Frame, Framer, Kind};
pub use tools::Tool;
pub use usage::Usage;
