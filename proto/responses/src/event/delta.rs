//! Reads the deltas that an agent shows while a response is made.
//!
//! The text is borrowed where it has no escapes.

use std::borrow::Cow;

use serde::Deserialize;

use super::Error;

/// `response.output_text.delta`: more of a message's text.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct OutputTextDelta<'a> {
    /// The item that grows.
    #[serde(default, borrow)]
    pub item_id: Cow<'a, str>,
    /// The item's place in the response.
    #[serde(default)]
    pub output_index: u64,
    /// The part's place in the item.
    #[serde(default)]
    pub content_index: u64,
    /// The text to append.
    #[serde(borrow)]
    pub delta: Cow<'a, str>,
}

/// `response.reasoning_summary_text.delta`: more of a summary part.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ReasoningSummaryTextDelta<'a> {
    /// The item that grows.
    #[serde(default, borrow)]
    pub item_id: Cow<'a, str>,
    /// The item's place in the response.
    #[serde(default)]
    pub output_index: u64,
    /// The part's place in the summary.
    #[serde(default)]
    pub summary_index: u64,
    /// The text to append.
    #[serde(borrow)]
    pub delta: Cow<'a, str>,
}

/// `response.reasoning_text.delta`: more of the reasoning itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ReasoningTextDelta<'a> {
    /// The item that grows.
    #[serde(default, borrow)]
    pub item_id: Cow<'a, str>,
    /// The item's place in the response.
    #[serde(default)]
    pub output_index: u64,
    /// The part's place in the item.
    #[serde(default)]
    pub content_index: u64,
    /// The text to append.
    #[serde(borrow)]
    pub delta: Cow<'a, str>,
}

impl<'a> OutputTextDelta<'a> {
    /// Reads the event's payload.
    pub fn parse(data: &'a [u8]) -> Result<Self, Error> {
        serde_json::from_slice(data).map_err(Error::Payload)
    }
}

impl<'a> ReasoningSummaryTextDelta<'a> {
    /// Reads the event's payload.
    pub fn parse(data: &'a [u8]) -> Result<Self, Error> {
        serde_json::from_slice(data).map_err(Error::Payload)
    }
}

impl<'a> ReasoningTextDelta<'a> {
    /// Reads the event's payload.
    pub fn parse(data: &'a [u8]) -> Result<Self, Error> {
        serde_json::from_slice(data).map_err(Error::Payload)
    }
}
