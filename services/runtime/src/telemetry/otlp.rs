//! The OTLP exporters over gRPC, behind bounded queues.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{
    Compression, LogExporter, MetricExporter, SpanExporter, WithExportConfig, WithTonicConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::{self, BatchLogProcessor, SdkLoggerProvider};
use opentelemetry_sdk::metrics::PeriodicReader;
use opentelemetry_sdk::trace::{self, BatchSpanProcessor, Sampler, SdkTracerProvider};

use super::bounded::{Counted, Gate, Lost, QUEUE_MAX};
use super::{Error, TelemetryConfig};

/// How many go into one export.
const BATCH_MAX: usize = 512;
/// How long a span or log record waits for others.
const BATCH_DELAY: Duration = Duration::from_secs(1);

/// What an endpoint looks like.
pub(super) const ENDPOINT: &str = "http://host:port or https://host:port";

/// Whether a text is one.
pub(super) fn is_endpoint(text: &str) -> bool {
    let uri = text.parse::<http::Uri>().ok();
    uri.is_some_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some())
}

/// One exporter a signal; each connects when it first has something to send.
pub(super) struct Exporters {
    pub(super) spans: SpanExporter,
    pub(super) metrics: MetricExporter,
    pub(super) logs: LogExporter,
}

impl Exporters {
    pub(super) fn new(endpoint: &str, telemetry: &TelemetryConfig) -> Result<Self, Error> {
        if !is_endpoint(endpoint) {
            return Err(Error::Setting { key: "otlp_endpoint", expected: ENDPOINT });
        }
        let timeout = Duration::from_millis(telemetry.export_timeout_ms);
        let spans = SpanExporter::builder().with_tonic();
        let metrics = MetricExporter::builder().with_tonic();
        let logs = LogExporter::builder().with_tonic();
        Ok(Self {
            spans: connect(spans, endpoint, timeout).build().map_err(Error::Endpoint)?,
            metrics: connect(metrics, endpoint, timeout).build().map_err(Error::Endpoint)?,
            logs: connect(logs, endpoint, timeout).build().map_err(Error::Endpoint)?,
        })
    }
}

fn connect<B: WithExportConfig + WithTonicConfig>(builder: B, endpoint: &str, timeout: Duration) -> B {
    let builder = builder.with_endpoint(endpoint).with_timeout(timeout).with_compression(Compression::Gzip);
    match endpoint.starts_with("https://") {
        // The exporter's own default trusts no certificate authority at all.
        true => builder.with_tls_config(ClientTlsConfig::new().with_enabled_roots()),
        false => builder,
    }
}

pub(super) fn metrics(
    exporter: MetricExporter,
    telemetry: &TelemetryConfig,
) -> PeriodicReader<MetricExporter> {
    PeriodicReader::builder(exporter)
        .with_interval(Duration::from_millis(telemetry.export_interval_ms))
        .build()
}

pub(super) fn tracers(
    exporter: impl trace::SpanExporter + 'static,
    telemetry: &TelemetryConfig,
    resource: Resource,
    lost: &Arc<Lost>,
) -> SdkTracerProvider {
    let batch = trace::BatchConfigBuilder::default()
        .with_max_queue_size(QUEUE_MAX)
        .with_max_export_batch_size(BATCH_MAX)
        .with_scheduled_delay(BATCH_DELAY)
        .build();
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(telemetry.sample_ratio)));
    let queue = BatchSpanProcessor::builder(Counted::new(exporter, lost)).with_batch_config(batch).build();
    SdkTracerProvider::builder()
        .with_span_processor(Gate::new(queue, lost))
        .with_sampler(sampler)
        .with_resource(resource)
        .build()
}

pub(super) fn loggers(
    exporter: impl logs::LogExporter + 'static,
    resource: Resource,
    lost: &Arc<Lost>,
) -> SdkLoggerProvider {
    let batch = logs::BatchConfigBuilder::default()
        .with_max_queue_size(QUEUE_MAX)
        .with_max_export_batch_size(BATCH_MAX)
        .with_scheduled_delay(BATCH_DELAY)
        .build();
    let queue = BatchLogProcessor::builder(Counted::new(exporter, lost)).with_batch_config(batch).build();
    SdkLoggerProvider::builder().with_log_processor(Gate::new(queue, lost)).with_resource(resource).build()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::{Receiver, channel};

    use opentelemetry::logs::{Logger as _, LoggerProvider as _};
    use opentelemetry::trace::{Tracer as _, TracerProvider as _};
    use opentelemetry_sdk::error::OTelSdkResult;
    use opentelemetry_sdk::logs::LogBatch;
    use opentelemetry_sdk::trace::SpanData;

    use super::*;

    /// Takes its first batch when it is told to, and counts what it is given.
    #[derive(Debug)]
    struct Slow {
        go: Mutex<Receiver<()>>,
        taken: Arc<AtomicUsize>,
    }

    impl Slow {
        fn take(&self, count: usize) -> OTelSdkResult {
            // Whoever has told it once leaves, and then it is open.
            let _ = self.go.lock().unwrap().recv();
            self.taken.fetch_add(count, Ordering::Relaxed);
            Ok(())
        }
    }

    impl trace::SpanExporter for Slow {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.take(batch.len())
        }
    }

    impl logs::LogExporter for Slow {
        async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
            self.take(batch.iter().count())
        }
    }

    #[test]
    fn a_caller_s_decision_about_its_trace_is_respected() {
        use opentelemetry::trace::{
            SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState,
        };
        let parent = |flags| {
            let ids = (TraceId::from(7), SpanId::from(8));
            let parent = SpanContext::new(ids.0, ids.1, flags, true, TraceState::default());
            opentelemetry::Context::new().with_remote_span_context(parent)
        };
        for (sample_ratio, flags, taken) in [(0.0, TraceFlags::SAMPLED, 1), (1.0, TraceFlags::NOT_SAMPLED, 0)]
        {
            let (seen, (_, go)) = (Arc::<AtomicUsize>::default(), channel());
            let config = TelemetryConfig { sample_ratio, ..TelemetryConfig::default() };
            let exporter = Slow { go: Mutex::new(go), taken: Arc::clone(&seen) };
            let provider = tracers(exporter, &config, Resource::builder_empty().build(), &Arc::default());
            drop(provider.tracer("test").start_with_context("span", &parent(flags)));
            provider.shutdown().unwrap();
            assert_eq!(seen.load(Ordering::Relaxed), taken, "{sample_ratio}");
        }
    }

    #[test]
    fn the_queues_are_as_wide_as_their_gates() {
        let config = TelemetryConfig::default();
        let resource = || Resource::builder_empty().build();
        for logs in [false, true] {
            let ((tell, go), lost) = (channel(), Arc::<Lost>::default());
            let taken = Arc::<AtomicUsize>::default();
            let slow = Slow { go: Mutex::new(go), taken: Arc::clone(&taken) };
            // All but the last few find room while nothing is taken; those are counted as lost.
            let over = 5;
            if logs {
                let provider = loggers(slow, resource(), &lost);
                let logger = provider.logger("test");
                (0..QUEUE_MAX + over).for_each(|_| logger.emit(logger.create_log_record()));
                drop(tell);
                provider.shutdown().unwrap();
            } else {
                let provider = tracers(slow, &config, resource(), &lost);
                let tracer = provider.tracer("test");
                (0..QUEUE_MAX + over).for_each(|_| drop(tracer.start("span")));
                drop(tell);
                provider.shutdown().unwrap();
            }
            assert_eq!(taken.load(Ordering::Relaxed), QUEUE_MAX, "logs: {logs}");
            assert!(format!("{lost:?}").contains(&format!("full: {over},")), "{lost:?}");
        }
    }
}
