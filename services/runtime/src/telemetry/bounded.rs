//! Keeps the queues before the collector bounded and counts what is lost on the way.
//!
//! The SDK's own queues drop silently while a process runs. So what enters a queue passes a gate here, which is as wide as
//! the queue, and what leaves it passes a counter: what finds the gate closed, and what the collector did not take, is
//! counted as lost.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry::logs::Severity;
use opentelemetry::metrics::Meter;
use opentelemetry::{Context, InstrumentationScope, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{LogBatch, LogExporter, LogProcessor, SdkLogRecord};
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter, SpanProcessor};

/// How many spans, and how many log records, wait for the collector; what comes on top is lost.
pub(super) const QUEUE_MAX: usize = 8_192;

/// What was lost of one signal.
#[derive(Debug, Default)]
pub(super) struct Lost {
    /// How many are in the queue or on their way.
    waiting: AtomicUsize,
    /// How many found the queue full.
    full: AtomicU64,
    /// How many the collector did not take.
    failed: AtomicU64,
}

impl Lost {
    fn enter(&self) -> bool {
        let more = |waiting: usize| (waiting < QUEUE_MAX).then_some(waiting + 1);
        let entered = self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok();
        if !entered {
            self.full.fetch_add(1, Ordering::Relaxed);
        }
        entered
    }

    fn leave(&self, count: usize, taken: bool) {
        let less = |waiting: usize| Some(waiting.saturating_sub(count));
        // The closure always gives a value.
        let _ = self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        if !taken {
            self.failed.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }
}

/// Shows what was lost as `tidegate.telemetry.dropped`.
pub(super) fn show(meter: &Meter, spans: &Arc<Lost>, logs: &Arc<Lost>) {
    let signals = [("traces", Arc::clone(spans)), ("logs", Arc::clone(logs))];
    meter
        .u64_observable_counter("tidegate.telemetry.dropped")
        .with_description("Spans and log records that did not reach the collector, by signal and reason.")
        .with_callback(move |counter| {
            for (signal, lost) in &signals {
                for (reason, count) in [("queue_full", &lost.full), ("export_failed", &lost.failed)] {
                    let labels = [KeyValue::new("signal", *signal), KeyValue::new("reason", reason)];
                    counter.observe(count.load(Ordering::Relaxed), &labels);
                }
            }
        })
        .build();
}

/// The gate before a queue.
#[derive(Debug)]
pub(super) struct Gate<P> {
    queue: P,
    lost: Arc<Lost>,
}

impl<P> Gate<P> {
    pub(super) fn new(queue: P, lost: &Arc<Lost>) -> Self {
        Self { queue, lost: Arc::clone(lost) }
    }
}

impl<P: SpanProcessor> SpanProcessor for Gate<P> {
    fn on_start(&self, span: &mut Span, cx: &Context) {
        self.queue.on_start(span, cx);
    }

    fn on_end(&self, span: SpanData) {
        if self.lost.enter() {
            self.queue.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.queue.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.queue.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.queue.set_resource(resource);
    }
}

impl<P: LogProcessor> LogProcessor for Gate<P> {
    fn emit(&self, data: &mut SdkLogRecord, instrumentation: &InstrumentationScope) {
        if self.lost.enter() {
            self.queue.emit(data, instrumentation);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.queue.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.queue.shutdown_with_timeout(timeout)
    }

    fn event_enabled(&self, level: Severity, target: &str, name: Option<&str>) -> bool {
        self.queue.event_enabled(level, target, name)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.queue.set_resource(resource);
    }
}

/// The counter behind a queue.
pub(super) struct Counted<E> {
    exporter: E,
    lost: Arc<Lost>,
}

impl<E> Counted<E> {
    pub(super) fn new(exporter: E, lost: &Arc<Lost>) -> Self {
        Self { exporter, lost: Arc::clone(lost) }
    }
}

impl<E> fmt::Debug for Counted<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counted").field("lost", &self.lost).finish_non_exhaustive()
    }
}

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        let result = self.exporter.export(batch).await;
        self.lost.leave(count, result.is_ok());
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl<E: LogExporter> LogExporter for Counted<E> {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        let count = batch.iter().count();
        let result = self.exporter.export(batch).await;
        self.lost.leave(count, result.is_ok());
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn event_enabled(&self, level: Severity, target: &str, name: Option<&str>) -> bool {
        self.exporter.event_enabled(level, target, name)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_get_in_and_what_is_not_taken_is_counted() {
        let lost = Lost::default();
        assert_eq!((0..QUEUE_MAX + 3).filter(|_| lost.enter()).count(), QUEUE_MAX);
        lost.leave(10, true);
        lost.leave(7, false);
        assert_eq!((0..20).filter(|_| lost.enter()).count(), 17, "as many as have left");
        assert_eq!((lost.full.into_inner(), lost.failed.into_inner()), (3 + 3, 7));
    }
}
