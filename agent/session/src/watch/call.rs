//! One attempt at a model call, from its start to its end.

use std::time::{Duration, SystemTime};

use agent_threads::{CallPurpose, TraceOutcome, TracedCall, Usage};
use opentelemetry::{
    Context, KeyValue,
    global::{BoxedSpan, BoxedTracer},
    trace::{Span as _, SpanKind, Status, Tracer as _},
};
use tokio::time::Instant;

use super::conventions as names;
use crate::{clock::now_ms, trace_context::TraceContext};

/// An attempt that is under way.
pub(super) struct CallWatch {
    started: Instant,
    first: Option<Duration>,
    facts: TracedCall,
    span: Option<BoxedSpan>,
}

impl CallWatch {
    /// Begins below the turn's span, if that is sampled.
    pub(super) fn begin(
        tracer: &BoxedTracer,
        turn: Option<&Context>,
        (call, attempt): (u32, u32),
        purpose: CallPurpose,
        (provider, model): (&str, &str),
    ) -> Self {
        let span = turn.map(|turn| {
            let builder = tracer
                .span_builder(format!("{} {model}", names::CHAT))
                .with_kind(SpanKind::Client)
                .with_start_time(SystemTime::now());
            let mut span = tracer.build_with_context(builder, turn);
            span.set_attribute(KeyValue::new(names::OPERATION, names::CHAT));
            span.set_attribute(KeyValue::new(names::REQUEST_MODEL, model.to_owned()));
            span.set_attribute(KeyValue::new(names::REQUEST_STREAM, true));
            span.set_attribute(KeyValue::new(names::CALL, i64::from(call)));
            span.set_attribute(KeyValue::new(names::ATTEMPT, i64::from(attempt)));
            let kind = match purpose {
                CallPurpose::Turn => "turn",
                CallPurpose::Compaction => "compaction",
            };
            span.set_attribute(KeyValue::new(names::REQUEST_KIND, kind));
            span
        });
        Self {
            started: Instant::now(),
            first: None,
            facts: TracedCall {
                started_at_ms: now_ms(),
                first_event_ms: None,
                purpose,
                call,
                attempt,
                provider: provider.to_owned(),
                model: model.to_owned(),
                outcome: TraceOutcome::Interrupted,
                reason: None,
                usage: None,
            },
            span,
        }
    }

    /// What the gateway goes on with.
    pub(super) fn context(&self) -> Option<TraceContext> {
        self.span.as_ref().map(|span| TraceContext::of(span.span_context()))
    }

    /// A provider has taken the call.
    pub(super) fn taken(&mut self, provider: &str) {
        provider.clone_into(&mut self.facts.provider);
    }

    /// The provider's stream brings something.
    pub(super) fn event(&mut self) {
        if self.first.is_none() {
            self.first = Some(self.started.elapsed());
        }
    }

    /// The attempt is over.
    pub(super) fn end(
        self,
        outcome: TraceOutcome,
        reason: Option<String>,
        usage: Option<Usage>,
    ) -> TracedCall {
        let Self { first, mut facts, span, .. } = self;
        facts.outcome = outcome;
        facts.first_event_ms = first.map(|first| u64::try_from(first.as_millis()).unwrap_or(u64::MAX));
        facts.usage = usage;
        facts.reason = reason;
        if let Some(mut span) = span {
            span.set_attribute(KeyValue::new(names::PROVIDER_NAME, facts.provider.clone()));
            span.set_attribute(KeyValue::new(names::OUTCOME, names::outcome(outcome)));
            if let Some(first) = first {
                span.set_attribute(KeyValue::new(names::RESPONSE_FIRST_CHUNK, first.as_secs_f64()));
            }
            if let Some(usage) = usage {
                span.set_attributes(tokens(usage));
            }
            if let Some(reason) = &facts.reason {
                // The gateway's reasons are words of its own; a provider's text is not among them.
                span.set_attribute(KeyValue::new(names::ERROR_TYPE, reason.clone()));
                span.set_status(Status::error(reason.clone()));
            }
            span.end();
        }
        facts
    }
}

/// Tokens as attributes. OpenTelemetry has no unsigned numbers.
pub(super) fn tokens(usage: Usage) -> [KeyValue; 4] {
    let count = |name, count| KeyValue::new(name, i64::try_from(count).unwrap_or(i64::MAX));
    [
        count(names::INPUT_TOKENS, usage.input_tokens),
        count(names::CACHE_READ_TOKENS, usage.cached_input_tokens),
        count(names::OUTPUT_TOKENS, usage.output_tokens),
        count(names::REASONING_TOKENS, usage.reasoning_output_tokens),
    ]
}
