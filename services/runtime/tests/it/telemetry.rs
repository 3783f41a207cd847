//! What a collector receives, and what a bad collector costs.

use std::thread;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{LogsService, LogsServiceServer};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use service_runtime::Exit;
use service_runtime::log::LogConfig;
use service_runtime::telemetry::{Environment, Error, Program, Telemetry, TelemetryConfig};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::codec::CompressionEncoding::Gzip;
use tonic::transport::Server;
use tracing::Dispatch;

use crate::support::{DEADLINE, within};

/// How long an export may take here: longer than any test.
const EXPORT_MAX: Duration = Duration::from_secs(60);

enum Received {
    Spans(ExportTraceServiceRequest),
    Metrics(ExportMetricsServiceRequest),
    Logs(ExportLogsServiceRequest),
}

/// Hands on whatever arrives.
#[derive(Clone)]
struct Sink(mpsc::UnboundedSender<Received>);

#[tonic::async_trait]
impl TraceService for Sink {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        self.0
            .send(Received::Spans(request.into_inner()))
            .map_err(|_| tonic::Status::cancelled("the test is over"))?;
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Sink {
    async fn export(
        &self,
        request: tonic::Request<ExportMetricsServiceRequest>,
    ) -> Result<tonic::Response<ExportMetricsServiceResponse>, tonic::Status> {
        self.0
            .send(Received::Metrics(request.into_inner()))
            .map_err(|_| tonic::Status::cancelled("the test is over"))?;
        Ok(tonic::Response::new(ExportMetricsServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Sink {
    async fn export(
        &self,
        request: tonic::Request<ExportLogsServiceRequest>,
    ) -> Result<tonic::Response<ExportLogsServiceResponse>, tonic::Status> {
        self.0
            .send(Received::Logs(request.into_inner()))
            .map_err(|_| tonic::Status::cancelled("the test is over"))?;
        Ok(tonic::Response::new(ExportLogsServiceResponse::default()))
    }
}

async fn collector(tasks: &mut JoinSet<()>) -> (String, mpsc::UnboundedReceiver<Received>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (sender, receiver) = mpsc::unbounded_channel();
    let sink = Sink(sender);
    tasks.spawn(async move {
        Server::builder()
            .add_service(TraceServiceServer::new(sink.clone()).accept_compressed(Gzip))
            .add_service(MetricsServiceServer::new(sink.clone()).accept_compressed(Gzip))
            .add_service(LogsServiceServer::new(sink).accept_compressed(Gzip))
            .serve_with_incoming(TcpListenerStream::new(listener))
            .await
            .unwrap();
    });
    (endpoint, receiver)
}

fn prepare(endpoint: &str) -> (Telemetry, Dispatch) {
    let log = LogConfig { level: "off".to_owned(), ..LogConfig::default() };
    let config = TelemetryConfig {
        export_timeout_ms: u64::try_from(EXPORT_MAX.as_millis()).unwrap(),
        log_level: "info".to_owned(),
        ..TelemetryConfig::default()
    };
    let environment = Environment { otlp_endpoint: Some(endpoint.to_owned()) };
    Telemetry::prepare(Program { name: "probe", version: "1.2.3" }, &log, &config, &environment).unwrap()
}

fn assert_resource(resource: Option<&Resource>) {
    let text = format!("{resource:?}");
    for part in ["service.name", "probe", "service.version", "1.2.3", "service.instance.id"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_receives_joined_spans_logs_and_metrics() {
    let mut tasks = JoinSet::new();
    let (endpoint, mut received) = collector(&mut tasks).await;
    let (telemetry, dispatch) = prepare(&endpoint);
    let counter = telemetry.meter("probe").u64_counter("probe.turns").with_description("Turns.").build();
    counter.add(3, &[]);
    tracing::dispatcher::with_default(&dispatch, || {
        let _turn = tracing::info_span!("turn").entered();
        let _call = tracing::info_span!("model_call").entered();
        tracing::info!(model = "m", "called");
        tracing::info!(target: "h2::client", "frame");
        let _own = tracing::info_span!(target: "hyper::proto", "io").entered();
    });
    within(telemetry.shutdown()).await;

    let (mut spans, mut logs, mut metrics) = (Vec::new(), Vec::new(), Vec::new());
    while let Ok(part) = received.try_recv() {
        match part {
            Received::Spans(part) => spans.extend(part.resource_spans),
            Received::Logs(part) => logs.extend(part.resource_logs),
            Received::Metrics(part) => metrics.extend(part.resource_metrics),
        }
    }
    assert_resource(spans[0].resource.as_ref());
    let spans: Vec<_> = spans.into_iter().flat_map(|of| of.scope_spans).flat_map(|of| of.spans).collect();
    let names: Vec<_> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["model_call", "turn"], "exporters' own spans stay out");
    assert_eq!(spans[0].parent_span_id, spans[1].span_id);
    assert_eq!(spans[0].trace_id, spans[1].trace_id);

    assert_resource(logs[0].resource.as_ref());
    let logs: Vec<_> = logs.into_iter().flat_map(|of| of.scope_logs).flat_map(|of| of.log_records).collect();
    assert_eq!(logs.len(), 1, "exporters' own events stay out: {logs:?}");
    assert_eq!(logs[0].span_id, spans[0].span_id);
    assert_eq!(logs[0].trace_id, spans[0].trace_id);

    assert_resource(metrics[0].resource.as_ref());
    assert!(format!("{metrics:?}").contains("probe.turns"));
}

/// What the queue of a signal takes.
const QUEUE_MAX: u32 = 8_192;
/// More than that.
const REQUESTS: u32 = QUEUE_MAX + 2_000;

/// Does what requests do, beyond every queue, until as many of each signal as expected are told to be lost, and shuts down.
async fn costs_nothing(endpoint: &str, expected: u32) {
    let (telemetry, dispatch) = prepare(endpoint);
    let (done, all_done) = oneshot::channel();
    // On a thread of its own, so that one request that waits is found by the deadline and does not hold it up.
    let requests = thread::spawn(move || {
        tracing::dispatcher::with_default(&dispatch, || {
            for _ in 0..REQUESTS {
                let _span = tracing::info_span!("request").entered();
                tracing::info!("served");
            }
        });
        let _ = done.send(());
    });
    // A collector that says nothing says nothing for longer than this. Whoever waits for it is not done by then.
    let served = tokio::time::timeout(EXPORT_MAX / 2, all_done).await;
    let all_lost = async {
        while ["traces", "logs"].iter().any(|signal| lost(&telemetry, signal) < expected) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let told = tokio::time::timeout(DEADLINE, all_lost).await;
    let lost = ["traces", "logs"].map(|signal| lost(&telemetry, signal));
    // Neither does the end of the process wait for it.
    within(telemetry.shutdown()).await;
    assert!(matches!(served, Ok(Ok(()))), "a request waited for the collector");
    requests.join().unwrap();
    assert!(told.is_ok() && lost == [expected; 2], "{lost:?} of {expected} are told to be lost");
}

/// How many the registry says were lost.
fn lost(telemetry: &Telemetry, signal: &str) -> u32 {
    let families = telemetry.registry().gather();
    let metrics = families.iter().filter(|family| family.name() == "tidegate_telemetry_dropped_total");
    let of =
        |metric: &&prometheus::proto::Metric| metric.get_label().iter().any(|label| label.value() == signal);
    let lost = metrics.flat_map(|family| family.get_metric()).filter(of);
    let lost: f64 = lost.map(|metric| metric.get_counter().get_value()).sum();
    // Prometheus has no other numbers.
    format!("{lost:.0}").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_down_costs_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    // What is refused is lost, all of it.
    costs_nothing(&endpoint, REQUESTS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_never_reads_costs_nothing() {
    // The kernel accepts for it.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    // What waits for it is not lost yet.
    costs_nothing(&format!("http://{}", listener.local_addr().unwrap()), REQUESTS - QUEUE_MAX).await;
    drop(listener);
}

#[tokio::test]
async fn buckets_fit_what_they_count() {
    let program = Program { name: "probe", version: "1.2.3" };
    let (log, config) = (LogConfig::default(), TelemetryConfig::default());
    let (telemetry, _) = Telemetry::prepare(program, &log, &config, &Environment::default()).unwrap();
    let meter = telemetry.meter("probe");
    for name in ["tidegate.gateway.overhead", "tidegate.gateway.phase.duration", "probe.turn"] {
        meter.f64_histogram(name).with_unit("s").with_description("Time.").build().record(1.0, &[]);
    }
    let families = telemetry.registry().gather();
    let first = |name: &str| {
        let family = families.iter().find(|family| family.name().starts_with(name)).unwrap();
        family.get_metric()[0].get_histogram().get_bucket()[0].upper_bound()
    };
    // What the gateway adds is microseconds, a turn is minutes.
    assert_eq!(first("tidegate_gateway_overhead"), 0.000_05);
    assert_eq!(first("tidegate_gateway_phase_duration"), 0.000_05);
    assert_eq!(first("probe_turn"), 0.005);
}

#[tokio::test]
async fn wrong_settings_are_refused() {
    let program = Program { name: "probe", version: "1.2.3" };
    let start = |log: &LogConfig, telemetry: &TelemetryConfig| {
        Telemetry::prepare(program, log, telemetry, &Environment::default()).map(drop).unwrap_err()
    };
    let log = LogConfig::default();
    let telemetry = TelemetryConfig { sample_ratio: f64::NAN, ..TelemetryConfig::default() };
    assert_eq!(start(&log, &telemetry).to_string(), "telemetry setting sample_ratio must be from 0.0 to 1.0");
    let at = |endpoint: &str| TelemetryConfig {
        otlp_endpoint: Some(endpoint.to_owned()),
        ..TelemetryConfig::default()
    };
    for endpoint in ["not a url", "127.0.0.1:4317", "ftp://127.0.0.1", "http://a b"] {
        let error = start(&log, &at(endpoint));
        assert!(matches!(error, Error::Setting { key: "otlp_endpoint", .. }), "{endpoint}: {error}");
        assert_eq!(error.exit(), Exit::Config);
        // A configuration's check has found it before.
        assert_eq!(at(endpoint).check("telemetry").unwrap_err().len(), 1);
    }
    let log = LogConfig { level: "service=loud".to_owned(), ..LogConfig::default() };
    assert!(matches!(start(&log, &TelemetryConfig::default()), Error::Filter(_)));
}
