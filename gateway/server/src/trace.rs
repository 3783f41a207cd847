//! The span of a call, joined to its caller's trace.
//!
//! Names and attributes follow OpenTelemetry's GenAI conventions. Never holds content.

use http::HeaderMap;
use opentelemetry::{global, propagation::Extractor};
use tidegate_responses::Usage;
use tracing::{Span, field::Empty};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

const TRACEPARENT: &str = "traceparent";

/// Opens the span of a call for `model` at `provider`.
pub(crate) fn open(headers: &HeaderMap, provider: &str, model: &str, thread: &str) -> Span {
    let span = tracing::info_span!(
        target: "tidegate::call",
        "call",
        otel.kind = "server",
        gen_ai.operation.name = "chat",
        gen_ai.provider.name = provider,
        gen_ai.request.model = model,
        gen_ai.conversation.id = thread,
        gen_ai.usage.input_tokens = Empty,
        gen_ai.usage.output_tokens = Empty,
        outcome = Empty,
    );
    if !span.is_disabled() && headers.contains_key(TRACEPARENT) {
        let parent = global::get_text_map_propagator(|propagator| propagator.extract(&Headers(headers)));
        // Without an exporter there is no trace to join.
        let _ = span.set_parent(parent);
    }
    span
}

/// Writes down how the call ended.
pub(crate) fn close(span: &Span, outcome: &'static str, usage: Option<&Usage>) {
    span.record("outcome", outcome);
    if let Some(usage) = usage {
        span.record("gen_ai.usage.input_tokens", attribute(usage.input_tokens));
        span.record("gen_ai.usage.output_tokens", attribute(usage.output_tokens));
    }
}

/// OpenTelemetry has no unsigned numbers; one would become a text.
fn attribute(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}
