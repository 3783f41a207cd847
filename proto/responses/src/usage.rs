//! Token counts of a response, as the provider reports them.
//!
//! Counts are never estimated here, and a report without counts is no report: "unknown" stays apart from zero.

use std::ops::{Add, AddAssign};

use crate::json::{self, Span};

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

impl Usage {
    /// Reads the API's `usage` object; none when it is null, no object, or counts neither input nor output. A count that is
    /// no whole number counts as missing.
    pub fn from_json(json: &[u8]) -> Option<Usage> {
        let mut usage = Usage::default();
        let (mut input, mut output, mut total) = (None, None, None);
        each(json, |name, value| match name {
            b"input_tokens" => input = count(value),
            b"output_tokens" => output = count(value),
            b"total_tokens" => total = count(value),
            b"input_tokens_details" => {
                // Of details that stand twice the last count, like of anything else.
                (usage.cached_input_tokens, usage.cache_write_input_tokens) = (0, 0);
                let _ = each(value, |name, value| match name {
                    b"cached_tokens" => usage.cached_input_tokens = count(value).unwrap_or_default(),
                    b"cache_write_tokens" => {
                        usage.cache_write_input_tokens = count(value).unwrap_or_default()
                    }
                    _ => {}
                });
            }
            b"output_tokens_details" => {
                usage.reasoning_output_tokens = 0;
                let _ = each(value, |name, value| {
                    if name == b"reasoning_tokens" {
                        usage.reasoning_output_tokens = count(value).unwrap_or_default();
                    }
                });
            }
            _ => {}
        })?;
        input.or(output)?;
        usage.input_tokens = input.unwrap_or_default();
        usage.output_tokens = output.unwrap_or_default();
        usage.total_tokens = total.unwrap_or_else(|| usage.input_tokens.saturating_add(usage.output_tokens));
        Some(usage)
    }
}

/// Shows the members of a value, if it is an object; none when the text is not one value.
fn each(object: &[u8], mut read: impl FnMut(&[u8], &[u8])) -> Option<()> {
    let end = json::each_member(object, 0, 0, |name, start| {
        let end = json::skip_value_below(object, start, 1)?;
        read(name, Span { start, end }.of(object));
        Ok(end)
    });
    (end == Ok(object.len())).then_some(())
}

fn count(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok()?.parse().ok()
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
