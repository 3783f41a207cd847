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

/// One exporter a signal; each connects when it first has something to send.
pub(super) struct Exporters {
    pub(super) spans: SpanExporter,
    pub(super) metrics: MetricExporter,
    pub(super) logs: LogExporter,
}

impl Exporters {
    pub(super) fn new(endpoint: &str, telemetry: &TelemetryConfig) -> Result<Self, Error> {
        if !["http://", "https://"].iter().any(|scheme| endpoint.starts_with(scheme)) {
            let expected = "http://host:port or https://host:port";
            return Err(Error::Setting { key: "otlp_endpoint", expected });
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
    exporter: SpanExporter,
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

pub(super) fn loggers(exporter: LogExporter, resource: Resource, lost: &Arc<Lost>) -> SdkLoggerProvider {
    let batch = logs::BatchConfigBuilder::default()
        .with_max_queue_size(QUEUE_MAX)
        .with_max_export_batch_size(BATCH_MAX)
        .with_scheduled_delay(BATCH_DELAY)
        .build();
    let queue = BatchLogProcessor::builder(Counted::new(exporter, lost)).with_batch_config(batch).build();
    SdkLoggerProvider::builder().with_log_processor(Gate::new(queue, lost)).with_resource(resource).build()
}
