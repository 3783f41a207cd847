//! The W3C trace context that a request came with, or that a model call leaves with.

use opentelemetry::{Context, global, propagation::Extractor, trace::SpanContext};

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";
/// The longest state that is passed on, which is the longest that every system has to take.
const STATE_BYTES_MAX: usize = 512;

/// A trace context as headers have it; empty texts stand for none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TraceContext {
    /// Which trace, and which span of it is the parent.
    pub traceparent: String,
    /// What tracing systems keep with it.
    pub tracestate: String,
}

impl TraceContext {
    /// What a client says of its trace. What is no trace context is none; it keeps nobody from anything.
    #[must_use]
    pub fn said(traceparent: &str, tracestate: &str) -> Self {
        if !is_parent(traceparent) {
            return Self::default();
        }
        let keeps = tracestate.len() <= STATE_BYTES_MAX
            && tracestate.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        let tracestate = if keeps { tracestate } else { "" };
        Self { traceparent: traceparent.to_owned(), tracestate: tracestate.to_owned() }
    }

    /// The context that it tells of; one that tells of none if it cannot be read.
    pub(crate) fn told(&self) -> Context {
        let nobody = Context::new();
        match self.traceparent.is_empty() {
            true => nobody,
            false => {
                global::get_text_map_propagator(|propagator| propagator.extract_with_context(&nobody, self))
            }
        }
    }

    /// That of a span.
    pub(crate) fn of(span: &SpanContext) -> Self {
        let flags = span.trace_flags().to_u8();
        Self {
            traceparent: format!("00-{}-{}-{flags:02x}", span.trace_id(), span.span_id()),
            tracestate: span.trace_state().header(),
        }
    }
}

/// Whether a text has the form of version 00: four numbers of fixed lengths, in lower case.
fn is_parent(text: &str) -> bool {
    let is_hex = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let parts: Vec<&str> = text.split('-').collect();
    let lengths = parts.iter().map(|part| part.len());
    lengths.eq([2, 32, 16, 2]) && parts.first() == Some(&"00") && parts.iter().all(|part| is_hex(part))
}

impl Extractor for TraceContext {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            TRACEPARENT => Some(&self.traceparent),
            TRACESTATE if !self.tracestate.is_empty() => Some(&self.tracestate),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT, TRACESTATE]
    }
}

#[cfg(test)]
mod tests {
    use super::TraceContext;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn only_a_trace_context_is_one() {
        let said = TraceContext::said(PARENT, "corp=x");
        assert_eq!((said.traceparent.as_str(), said.tracestate.as_str()), (PARENT, "corp=x"));
        for wrong in [
            "",
            "x",
            "00-1-2-01",
            &PARENT.to_uppercase(),
            &PARENT.replace("00-", "01-"),
            &format!("{PARENT}-1"),
        ] {
            assert_eq!(TraceContext::said(wrong, "corp=x"), TraceContext::default(), "{wrong}");
        }
        for state in ["a\nb", &"x".repeat(513)] {
            assert_eq!(TraceContext::said(PARENT, state).tracestate, "");
        }
    }
}
