//! Token counts of a response, as the provider reports them.
//!
//! Counts are never estimated here, and a report without counts is no report: "unknown" stays apart from zero.

use std::ops::{Add, AddAssign};

use crate::lenient;

/// Tokens of one response, or of several added up. Cached, cache-write and reasoning tokens are parts of the
/// input and output counts, not additions to them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Usage {
    /// All input tokens.
    pub input_tokens: u64,
    /// Input tokens that were read from the prompt cache.
    pub cached_input_tokens: u64,
    /// Input tokens that were written to the prompt cache.
    pub cache_write_input_tokens: u64,
    /// All output tokens.
    pub output_tokens: u64,
    /// Output tokens that were spent on reasoning.
    pub reasoning_output_tokens: u64,
    /// Input and output, as reported; their sum when the report leaves it out.
    pub total_tokens: u64,
}

#[derive(serde::Deserialize)]
struct Wire {
    #[serde(default, deserialize_with = "lenient::option")]
    input_tokens: Option<u64>,
    #[serde(default, deserialize_with = "lenient::or_default")]
    input_tokens_details: InputDetails,
    #[serde(default, deserialize_with = "lenient::option")]
    output_tokens: Option<u64>,
    #[serde(default, deserialize_with = "lenient::or_default")]
    output_tokens_details: OutputDetails,
    #[serde(default, deserialize_with = "lenient::option")]
    total_tokens: Option<u64>,
}

#[derive(Default, serde::Deserialize)]
struct InputDetails {
    #[serde(default, deserialize_with = "lenient::or_default")]
    cached_tokens: u64,
    #[serde(default, deserialize_with = "lenient::or_default")]
    cache_write_tokens: u64,
}

#[derive(Default, serde::Deserialize)]
struct OutputDetails {
    #[serde(default, deserialize_with = "lenient::or_default")]
    reasoning_tokens: u64,
}

impl Usage {
    /// Reads the API's `usage` object; none when it is null, no object, or counts neither input nor output.
    pub fn from_json(json: &[u8]) -> Option<Usage> {
        let wire: Wire = serde_json::from_slice(json).ok()?;
        if wire.input_tokens.is_none() && wire.output_tokens.is_none() {
            return None;
        }
        let input_tokens = wire.input_tokens.unwrap_or_default();
        let output_tokens = wire.output_tokens.unwrap_or_default();
        Some(Usage {
            input_tokens,
            cached_input_tokens: wire.input_tokens_details.cached_tokens,
            cache_write_input_tokens: wire.input_tokens_details.cache_write_tokens,
            output_tokens,
            reasoning_output_tokens: wire.output_tokens_details.reasoning_tokens,
            total_tokens: wire.total_tokens.unwrap_or_else(|| input_tokens.saturating_add(output_tokens)),
        })
    }
}

impl Add for Usage {
    type Output = Usage;

    /// Adds each count; a sum that does not fit stays at the greatest number.
    fn add(self, other: Usage) -> Usage {
        Usage {
            input_tokens: self.input_tokens.saturating_add(other.input_tokens),
            cached_input_tokens: self.cached_input_tokens.saturating_add(other.cached_input_tokens),
            cache_write_input_tokens: self
                .cache_write_input_tokens
                .saturating_add(other.cache_write_input_tokens),
            output_tokens: self.output_tokens.saturating_add(other.output_tokens),
            reasoning_output_tokens: self
                .reasoning_output_tokens
                .saturating_add(other.reasoning_output_tokens),
            total_tokens: self.total_tokens.saturating_add(other.total_tokens),
        }
    }
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Usage) {
        *self = *self + other;
    }
}
