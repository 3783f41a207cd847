//! Starts logging, tracing and metrics, and shuts them down within a bounded time.
//!
//! Lines go to standard error always; metrics are collected always and shown on `/metrics`; traces, metrics and
//! logs go to an OpenTelemetry collector when an endpoint is set. A collector that is down, slow or hostile
//! costs dropped telemetry and nothing else: queues are bounded, never waited for, and emptied by threads of
//! their own. What the exporters themselves log is kept out of the exports.

mod bounded;
mod otlp;
mod views;

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::metrics::{Meter, MeterProvider as _};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{InstrumentationScope, KeyValue, global};
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use prometheus::Registry;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::Dispatch;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use crate::cli::Exit;
use crate::config::Problem;
use crate::log::{FilterError, Flush, LogConfig, filter, filter_text};

/// How long the end of the process waits for the last export.
pub const SHUTDOWN_MAX: Duration = Duration::from_secs(5);
/// Crates (by the beginning of their names) whose own events are not exported: they would be about the export.
const EXPORTERS: [&str; 5] = ["h2", "hyper", "tonic", "tower", "opentelemetry"];

/// What is exported, and where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// The collector's gRPC endpoint, such as `http://127.0.0.1:4317`; `OTEL_EXPORTER_OTLP_ENDPOINT` is used when
    /// this is not set. Nothing is exported without one.
    pub otlp_endpoint: Option<String>,
    /// The service name that telemetry carries instead of the program's own.
    pub service_name: Option<String>,
    /// Which part of the traces that begin here is kept, from 0.0 to 1.0; callers' decisions are respected.
    pub sample_ratio: f64,
    /// How often metrics are exported, in milliseconds.
    pub export_interval_ms: u64,
    /// How long one export may take, in milliseconds.
    pub export_timeout_ms: u64,
    /// A level or a list of `target=level` filters for spans other than those of model calls, which `sample_ratio` alone
    /// decides about.
    #[serde(deserialize_with = "filter_text")]
    pub level: String,
    /// A level or a list of `target=level` filters for log lines that are exported besides being written to standard
    /// error. `info` exports a line for each call, which costs about as much as the rest of a small call.
    #[serde(deserialize_with = "filter_text")]
    pub log_level: String,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            otlp_endpoint: None,
            service_name: None,
            sample_ratio: 1.0,
            export_interval_ms: 30_000,
            export_timeout_ms: 5_000,
            level: "info".to_owned(),
            log_level: "warn".to_owned(),
        }
    }
}

impl TelemetryConfig {
    /// Checks the table; `at` is its dotted key.
    pub fn check(&self, at: &str) -> Result<(), Vec<Problem>> {
        let problem = |(key, expected)| Problem::new(format!("{at}.{key}"), format!("must be {expected}"));
        let found: Vec<_> = self.wrong().map(problem).collect();
        if found.is_empty() { Ok(()) } else { Err(found) }
    }

    /// The keys with values that cannot be used, and what they may be.
    fn wrong(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let rows = [
            (self.otlp_endpoint.as_deref().is_none_or(otlp::is_endpoint), "otlp_endpoint", otlp::ENDPOINT),
            ((0.0..=1.0).contains(&self.sample_ratio), "sample_ratio", "from 0.0 to 1.0"),
            (
                (100..=3_600_000).contains(&self.export_interval_ms),
                "export_interval_ms",
                "from 100 to 3600000",
            ),
            ((100..=60_000).contains(&self.export_timeout_ms), "export_timeout_ms", "from 100 to 60000"),
        ];
        rows.into_iter().filter(|(fine, ..)| !fine).map(|(_, key, expected)| (key, expected))
    }
}

/// The program that speaks: its name and version.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// The name, such as `gatewayd`.
    pub name: &'static str,
    /// The version.
    pub version: &'static str,
}

/// What telemetry takes from the environment; read once.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub otlp_endpoint: Option<String>,
}

impl Environment {
    /// Reads the variables of this process.
    pub fn read() -> Self {
        let endpoint = std::env::var("OTEL_EXPORTER_OTLP_ENDPOINT").ok();
        Self { otlp_endpoint: endpoint.filter(|endpoint| !endpoint.is_empty()) }
    }
}

/// Why telemetry cannot start. Settings are the operator's to fix, the rest is a bug; no retry helps.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A filter is wrong.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// A setting cannot be used.
    #[error("telemetry setting {key} must be {expected}")]
    Setting {
        /// The key inside the telemetry table.
        key: &'static str,
        /// What it may be.
        expected: &'static str,
    },
    /// The endpoint cannot be used.
    #[error("telemetry setting otlp_endpoint cannot be used")]
    Endpoint(#[source] opentelemetry_otlp::ExporterBuildError),
    /// The metrics registry refused.
    #[error("cannot set up metrics")]
    Metrics(#[source] opentelemetry_sdk::error::OTelSdkError),
    /// Telemetry was started twice in one process.
    #[error("telemetry is already running in this process")]
    Twice,
}

impl Error {
    /// How the process ends because of this.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Filter(_) | Self::Setting { .. } | Self::Endpoint(_) => Exit::Config,
            Self::Metrics(_) | Self::Twice => Exit::Failure,
        }
    }
}

/// Running telemetry. Keep it until the end and call [`shutdown`](Self::shutdown).
#[derive(Debug)]
pub struct Telemetry {
    meters: SdkMeterProvider,
    tracers: Option<SdkTracerProvider>,
    loggers: Option<SdkLoggerProvider>,
    registry: Registry,
    flush: Flush,
}

impl Telemetry {
    /// Starts telemetry for the whole process; needs a running runtime.
    pub fn start(
        program: Program,
        log: &LogConfig,
        telemetry: &TelemetryConfig,
        environment: &Environment,
    ) -> Result<Self, Error> {
        let (this, dispatch) = Self::prepare(program, log, telemetry, environment)?;
        // The dispatch comes last: what the globals say about themselves is no news to an operator.
        global::set_text_map_propagator(TraceContextPropagator::new());
        global::set_meter_provider(this.meters.clone());
        if let Some(tracers) = &this.tracers {
            global::set_tracer_provider(tracers.clone());
        }
        tracing::dispatcher::set_global_default(dispatch).map_err(|_| Error::Twice)?;
        Ok(this)
    }

    /// Sets everything up without touching the process's globals; the dispatch is where events go.
    pub fn prepare(
        program: Program,
        log: &LogConfig,
        telemetry: &TelemetryConfig,
        environment: &Environment,
    ) -> Result<(Self, Dispatch), Error> {
        if let Some((key, expected)) = telemetry.wrong().next() {
            return Err(Error::Setting { key, expected });
        }
        let resource = resource(program, telemetry);
        let registry = Registry::new();
        let endpoint = telemetry.otlp_endpoint.as_deref().or(environment.otlp_endpoint.as_deref());
        let otlp = endpoint.map(|endpoint| otlp::Exporters::new(endpoint, telemetry)).transpose()?;
        let prometheus = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .build()
            .map_err(Error::Metrics)?;
        let mut meters = views::install(SdkMeterProvider::builder().with_resource(resource.clone()))
            .with_reader(prometheus);
        let (mut tracers, mut loggers) = (None, None);
        let lost = [Arc::<bounded::Lost>::default(), Arc::default()];
        if let Some(otlp) = otlp {
            meters = meters.with_reader(otlp::metrics(otlp.metrics, telemetry));
            tracers = Some(otlp::tracers(otlp.spans, telemetry, resource.clone(), &lost[0]));
            loggers = Some(otlp::loggers(otlp.logs, resource, &lost[1]));
        }
        let (lines, flush) = log.layer()?;
        let spans = match &tracers {
            Some(provider) => {
                let scope = InstrumentationScope::builder(program.name).with_version(program.version).build();
                let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer_with_scope(scope));
                Some(layer.with_filter(exported(&telemetry.level)?))
            }
            None => None,
        };
        let events = match &loggers {
            Some(provider) => {
                Some(OpenTelemetryTracingBridge::new(provider).with_filter(exported(&telemetry.log_level)?))
            }
            None => None,
        };
        let subscriber = tracing_subscriber::registry().with(lines).with(spans).with(events);
        let meters = meters.build();
        bounded::show(&meters.meter("telemetry"), &lost[0], &lost[1]);
        Ok((Self { meters, tracers, loggers, registry, flush }, Dispatch::new(subscriber)))
    }

    /// What `/metrics` shows.
    pub fn registry(&self) -> Registry {
        self.registry.clone()
    }

    /// The meter of one crate. Give every instrument a description: Prometheus tools ask for it.
    pub fn meter(&self, name: &'static str) -> Meter {
        self.meters.meter(name)
    }

    /// Sends what is left and stops, within [`SHUTDOWN_MAX`] and a flush of the log.
    pub async fn shutdown(self) {
        let Self { meters, tracers, loggers, flush, .. } = self;
        let mut parts: Vec<Box<dyn FnOnce() -> OTelSdkResult + Send>> = Vec::new();
        parts.push(Box::new(move || meters.shutdown_with_timeout(SHUTDOWN_MAX)));
        if let Some(tracers) = tracers {
            parts.push(Box::new(move || tracers.shutdown_with_timeout(SHUTDOWN_MAX)));
        }
        if let Some(loggers) = loggers {
            parts.push(Box::new(move || loggers.shutdown_with_timeout(SHUTDOWN_MAX)));
        }
        // All at once, off the async threads: each blocks until its last export is answered.
        let parts: Vec<_> = parts.into_iter().map(tokio::task::spawn_blocking).collect();
        let all = futures_util::future::join_all(parts);
        match tokio::time::timeout(SHUTDOWN_MAX, all).await {
            Ok(results) if results.iter().all(|result| matches!(result, Ok(Ok(())))) => {}
            _ => tracing::warn!("the last telemetry could not be exported"),
        }
        // The flush is bounded by itself; a failed join means that it panicked, and then there is nothing to keep.
        let _ = tokio::task::spawn_blocking(move || flush.flush()).await;
    }
}

/// Who speaks; one process is one instance.
fn resource(program: Program, telemetry: &TelemetryConfig) -> Resource {
    let name = telemetry.service_name.clone().unwrap_or_else(|| program.name.to_owned());
    Resource::builder()
        .with_service_name(name)
        .with_attribute(KeyValue::new("service.version", program.version))
        .with_attribute(KeyValue::new("service.instance.id", uuid::Uuid::now_v7().to_string()))
        .build()
}

/// The filter of exported spans and logs: the configured one, without the exporters' own events.
fn exported(level: &str) -> Result<EnvFilter, FilterError> {
    let quiet = EXPORTERS.iter().map(|name| format!(",{name}=off")).collect::<String>();
    filter(&format!("{level}{quiet}"))
}
