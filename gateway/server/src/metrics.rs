//! The gateway's instruments. Names follow OpenTelemetry's GenAI conventions where they have one.

use std::{sync::Arc, time::Duration};

use opentelemetry::{
    KeyValue,
    metrics::{BoundHistogram, BoundUpDownCounter, Counter, Histogram, Meter},
};
use tidegate_responses::Usage;

use crate::{
    admit::Admission,
    conventions as names,
    http::websocket::Sockets,
    phases::Phases,
    series::{AllSeries, End, Labels},
};

/// The gateway's instruments; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    instruments: Instruments,
    series: AllSeries,
    running: BoundUpDownCounter<i64>,
    rejected: Counter<u64>,
    overhead: BoundHistogram<f64>,
    /// In the order of [`Phases::named`].
    phases: [BoundHistogram<f64>; 7],
}

/// The instruments whose labels depend on the call.
#[derive(Debug)]
pub(crate) struct Instruments {
    pub(crate) calls: Counter<u64>,
    pub(crate) duration: Histogram<f64>,
    pub(crate) first_chunk: Histogram<f64>,
    pub(crate) tokens: Histogram<u64>,
}

impl Metrics {
    pub(crate) fn new(meter: &Meter, admission: &Admission, sockets: &Sockets) -> Self {
        let (admission, sockets) = (admission.clone(), sockets.counter());
        meter
            .u64_observable_gauge("tidegate.gateway.sockets")
            .with_description("WebSockets of callers that are open.")
            .with_callback(move |gauge| gauge.observe(u64::try_from(sockets()).unwrap_or(u64::MAX), &[]))
            .build();
        meter
            .u64_observable_gauge("tidegate.gateway.held")
            .with_unit("By")
            .with_description(
                "Bytes of request bodies, of messages that are arriving, and of unfinished events.",
            )
            .with_callback(move |gauge| {
                gauge.observe(u64::try_from(admission.bytes()).unwrap_or(u64::MAX), &[]);
            })
            .build();
        let seconds = |name: &'static str, description: &'static str| {
            meter.f64_histogram(name).with_unit("s").with_description(description).build()
        };
        let phase = seconds(
            "tidegate.gateway.phase.duration",
            "Time of a phase of a model call, for calls that a provider answered.",
        );
        let overhead = seconds(
            "tidegate.gateway.overhead",
            "The gateway's own share of the time to the head of an answer: without waiting for caller or provider.",
        );
        Self(Arc::new(Inner {
            instruments: Instruments::new(meter, seconds),
            series: AllSeries::default(),
            running: meter
                .i64_up_down_counter("tidegate.gateway.calls.running")
                .with_description("Model calls that are running.")
                .build()
                .bind(&[]),
            rejected: meter
                .u64_counter("tidegate.gateway.rejected")
                .with_description("Model calls that ended before they were opened, by reason.")
                .build(),
            overhead: overhead.bind(&[]),
            phases: Phases::begin().named().map(|(name, _)| phase.bind(&[KeyValue::new(names::PHASE, name)])),
        }))
    }

    pub(crate) fn began(&self) {
        self.0.running.add(1);
    }

    pub(crate) fn rejected(&self, surface: &'static str, reason: &'static str) {
        let labels = [KeyValue::new(names::REASON, reason), KeyValue::new(names::SURFACE, surface)];
        self.0.rejected.add(1, &labels);
    }

    pub(crate) fn ended(&self, call: &Ended<'_>) {
        let Inner { instruments, series, running, overhead, phases, .. } = &*self.0;
        running.add(-1);
        let series = series.of(call.labels, call.answered);
        let ends = series.ends(instruments, call.end);
        ends.calls.add(1);
        ends.duration.record(call.duration.as_secs_f64());
        if let Some(first) = call.phases.first_chunk {
            series.first_chunk(instruments).record(first.as_secs_f64());
        }
        if let Some(usage) = call.usage {
            let [input, output] = series.tokens(instruments);
            input.record(usage.input_tokens);
            output.record(usage.output_tokens);
        }
        if let Some(took) = call.phases.overhead {
            overhead.record(took.as_secs_f64());
            for (histogram, (_, took)) in phases.iter().zip(call.phases.named()) {
                if let Some(took) = took {
                    histogram.record(took.as_secs_f64());
                }
            }
        }
    }
}

impl Instruments {
    fn new(meter: &Meter, seconds: impl Fn(&'static str, &'static str) -> Histogram<f64>) -> Self {
        Self {
            calls: meter
                .u64_counter("tidegate.gateway.calls")
                .with_description("Model calls that ended, by outcome.")
                .build(),
            duration: seconds(
                names::OPERATION_DURATION,
                "Time of a model call, from its arrival to its last byte.",
            ),
            first_chunk: seconds(
                names::TIME_TO_FIRST_CHUNK,
                "Time from a call's arrival to the first event of its stream.",
            ),
            tokens: meter
                .u64_histogram(names::TOKEN_USAGE)
                .with_unit("{token}")
                .with_description("Tokens of a model call, as the provider reported them.")
                .build(),
        }
    }
}

/// What is measured of a call that ended.
pub(crate) struct Ended<'a> {
    pub(crate) labels: Labels<'a>,
    /// Whether the provider took the call.
    pub(crate) answered: bool,
    pub(crate) end: End,
    pub(crate) duration: Duration,
    pub(crate) phases: &'a Phases,
    pub(crate) usage: Option<&'a Usage>,
}
