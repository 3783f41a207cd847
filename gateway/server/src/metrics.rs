//! The gateway's instruments. Names follow OpenTelemetry's GenAI conventions where they have one.

use std::time::Duration;

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Histogram, Meter, UpDownCounter},
};
use tidegate_responses::Usage;

use crate::admit::Admission;

const OPERATION: &str = "gen_ai.operation.name";
const PROVIDER: &str = "gen_ai.provider.name";
const MODEL: &str = "gen_ai.request.model";
const TOKEN_TYPE: &str = "gen_ai.token.type";
const OUTCOME: &str = "tidegate.outcome";

/// The gateway's instruments.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    calls: Counter<u64>,
    running: UpDownCounter<i64>,
    duration: Histogram<f64>,
    first_chunk: Histogram<f64>,
    tokens: Histogram<u64>,
}

impl Metrics {
    pub(crate) fn new(meter: &Meter, admission: &Admission) -> Self {
        let admission = admission.clone();
        meter
            .u64_observable_gauge("tidegate.gateway.held")
            .with_unit("By")
            .with_description("Bytes of request bodies and unfinished events that running calls hold.")
            .with_callback(move |gauge| {
                gauge.observe(u64::try_from(admission.bytes()).unwrap_or(u64::MAX), &[]);
            })
            .build();
        Self {
            calls: meter
                .u64_counter("tidegate.gateway.calls")
                .with_description("Model calls that ended, by outcome.")
                .build(),
            running: meter
                .i64_up_down_counter("tidegate.gateway.calls.running")
                .with_description("Model calls that are running.")
                .build(),
            duration: meter
                .f64_histogram("gen_ai.client.operation.duration")
                .with_unit("s")
                .with_description("Time of a model call, from its arrival to its last byte.")
                .build(),
            first_chunk: meter
                .f64_histogram("gen_ai.client.operation.time_to_first_chunk")
                .with_unit("s")
                .with_description("Time from a call's arrival to the first event of its stream.")
                .build(),
            tokens: meter
                .u64_histogram("gen_ai.client.token.usage")
                .with_unit("{token}")
                .with_description("Tokens of a model call, as the provider reported them.")
                .build(),
        }
    }

    pub(crate) fn began(&self) {
        self.running.add(1, &[]);
    }

    pub(crate) fn ended(&self, call: &Ended<'_>) {
        self.running.add(-1, &[]);
        let labels = [
            KeyValue::new(OPERATION, "chat"),
            KeyValue::new(PROVIDER, call.provider.to_owned()),
            KeyValue::new(MODEL, call.model.to_owned()),
            KeyValue::new(OUTCOME, call.outcome),
        ];
        self.calls.add(1, &labels);
        self.duration.record(call.duration.as_secs_f64(), &labels);
        if let Some(first) = call.first_chunk {
            self.first_chunk.record(first.as_secs_f64(), &labels);
        }
        if let Some(usage) = call.usage {
            for (kind, count) in [("input", usage.input_tokens), ("output", usage.output_tokens)] {
                let [operation, provider, model, _] = labels.clone();
                self.tokens.record(count, &[operation, provider, model, KeyValue::new(TOKEN_TYPE, kind)]);
            }
        }
    }
}

/// What is measured of a call that ended.
pub(crate) struct Ended<'a> {
    pub(crate) provider: &'a str,
    pub(crate) model: &'a str,
    pub(crate) outcome: &'static str,
    pub(crate) duration: Duration,
    pub(crate) first_chunk: Option<Duration>,
    pub(crate) usage: Option<&'a Usage>,
}
