//! The agent's instruments. Names follow OpenTelemetry's GenAI conventions where they have one.

use std::time::Duration;

use agent_threads::{TraceOutcome, Usage};
use opentelemetry::{
    KeyValue, global,
    metrics::{Counter, Histogram, Meter},
};

use super::{conventions as names, labels::Labels, recorder::Recorder};

/// How many threads are in memory, and how many turns are running.
pub(crate) type Numbers = Box<dyn Fn() -> (usize, usize) + Send + Sync>;

/// The instruments.
pub(super) struct Metrics {
    meter: Meter,
    labels: Labels,
    turns: Counter<u64>,
    duration: Histogram<f64>,
    calls: Histogram<u64>,
    tokens: Histogram<u64>,
    retries: Counter<u64>,
    commit: Histogram<f64>,
}

/// What is measured of a turn that ended.
pub(super) struct Ended<'a> {
    pub(super) tenant: &'a str,
    pub(super) model: &'a str,
    /// Whether a model has answered in it.
    pub(super) answered: bool,
    pub(super) outcome: TraceOutcome,
    pub(super) error: Option<&'static str>,
    pub(super) duration: Duration,
    /// Attempts at model calls.
    pub(super) calls: u32,
    pub(super) usage: Usage,
}

impl Metrics {
    pub(super) fn new(recorder: &Recorder) -> Self {
        let meter = global::meter("agent");
        let dropped = recorder.dropped();
        meter
            .u64_observable_counter("tidegate.agent.trace.dropped")
            .with_description("Rows of threads' traces that were not kept.")
            .with_callback(move |counter| counter.observe(dropped(), &[]))
            .build();
        Self {
            labels: Labels::default(),
            turns: meter
                .u64_counter("tidegate.agent.turns")
                .with_description("Turns that ended, by outcome.")
                .build(),
            duration: meter
                .f64_histogram(names::INVOKE_DURATION)
                .with_unit("s")
                .with_description("Time of a turn, from its message to its end.")
                .build(),
            calls: meter
                .u64_histogram(names::INVOKE_CALLS)
                .with_unit("{inference_call}")
                .with_description("Model calls of a turn, every attempt counted.")
                .build(),
            tokens: meter
                .u64_histogram("tidegate.agent.turn.tokens")
                .with_unit("{token}")
                .with_description("Tokens of a turn, as the providers reported them.")
                .build(),
            retries: meter
                .u64_counter("tidegate.agent.retries")
                .with_description("Model calls that were asked for again because their stream broke.")
                .build(),
            commit: meter
                .f64_histogram("tidegate.agent.store.commit.duration")
                .with_unit("s")
                .with_description("Time until the store had written what a turn brought it.")
                .build(),
            meter,
        }
    }

    pub(super) fn show(&self, numbers: Numbers) {
        let numbers = std::sync::Arc::new(numbers);
        let wide = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let threads = std::sync::Arc::clone(&numbers);
        self.meter
            .u64_observable_gauge("tidegate.agent.threads.loaded")
            .with_description("Threads that are in memory.")
            .with_callback(move |gauge| gauge.observe(wide(threads().0), &[]))
            .build();
        self.meter
            .u64_observable_gauge("tidegate.agent.turns.running")
            .with_description("Turns that are running.")
            .with_callback(move |gauge| gauge.observe(wide(numbers().1), &[]))
            .build();
    }

    pub(super) fn committed(&self, took: Duration) {
        self.commit.record(took.as_secs_f64(), &[]);
    }

    pub(super) fn retried(&self) {
        self.retries.add(1, &[]);
    }

    pub(super) fn ended(&self, turn: &Ended<'_>) {
        let (tenant, model) = self.labels.of(turn.tenant, turn.model, turn.answered);
        let whose = [
            KeyValue::new(names::TENANT, tenant.to_owned()),
            KeyValue::new(names::REQUEST_MODEL, model.to_owned()),
            KeyValue::new(names::AGENT_NAME, names::AGENT),
        ];
        let with = |more: &[KeyValue]| whose.iter().chain(more).cloned().collect::<Vec<_>>();
        let mut end = vec![KeyValue::new(names::OUTCOME, names::outcome(turn.outcome))];
        end.extend(turn.error.map(|error| KeyValue::new(names::ERROR_TYPE, error)));
        let end = with(&end);
        self.turns.add(1, &end);
        self.duration.record(turn.duration.as_secs_f64(), &end);
        self.calls.record(turn.calls.into(), &whose);
        if turn.usage.total_tokens > 0 {
            for (kind, count) in [("input", turn.usage.input_tokens), ("output", turn.usage.output_tokens)] {
                self.tokens.record(count, &with(&[KeyValue::new(names::TOKEN_TYPE, kind)]));
            }
        }
    }
}
