//! What is counted of calls: each once, by the way in which it ended, with what it used.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use bytes::Bytes;
use gateway_server::ServerConfig;
use gateway_testkit::{Gate as Hold, Reply, Turn};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use opentelemetry::metrics::MeterProvider as _;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{
    Registry,
    proto::{LabelPair, Metric, MetricFamily, MetricType},
};
use serde_json::json;
use tidegate_proto::{
    failure_of,
    gateway::v1::{
        DescribeProvidersRequest, ListModelsRequest, WatchRateLimitsRequest, respond_request::Message,
    },
};
use tokio_stream::StreamExt as _;
use tonic::Code;

use crate::{
    harness::{Door, Gate, bytes_of, deadline, usage},
    stream::Stream,
    talker::Talker,
    telemetry::Lines,
};

const CALL: &str = r#"{"model":"scripted-1","stream":true,"input":"hi"}"#;

/// A gateway, and what it shows of its instruments.
pub(crate) struct Counted {
    pub(crate) gate: Gate,
    shown: Registry,
    _meters: SdkMeterProvider,
}

impl Counted {
    pub(crate) async fn start(config: ServerConfig) -> Self {
        Self::with(config, scripted).await
    }

    /// A gateway with this configuration of providers, which is given the address of the upstream.
    pub(crate) async fn with(config: ServerConfig, providers: impl Fn(&str) -> String) -> Self {
        Self::behind(config, providers, &Door::default()).await
    }

    /// The same behind this door.
    pub(crate) async fn behind(
        config: ServerConfig,
        providers: impl Fn(&str) -> String,
        door: &Door<'_>,
    ) -> Self {
        let shown = Registry::new();
        let reader = opentelemetry_prometheus::exporter()
            .with_registry(shown.clone())
            .scope_info_enabled(false)
            .without_target_info()
            .build()
            .unwrap();
        let meters = SdkMeterProvider::builder().with_reader(reader).build();
        let gate = Gate::measured(config, providers, door, &meters.meter("test")).await;
        Self { gate, shown, _meters: meters }
    }

    /// The series of an instrument as lines, in order. Of times only their number is told.
    pub(crate) fn series(&self, name: &str) -> Vec<String> {
        let families = self.shown.gather();
        let of = |family: &&MetricFamily| family.name() == name;
        let lines = families
            .iter()
            .filter(of)
            .flat_map(|family| family.get_metric().iter().map(move |series| line(family, series)));
        let mut lines: Vec<String> = lines.collect();
        lines.sort();
        lines
    }

    /// All series, as lines with their names.
    fn all(&self) -> String {
        let names = self.shown.gather().iter().map(|family| family.name().to_owned()).collect::<Vec<_>>();
        let lines = names.iter().flat_map(|name| self.series(name).into_iter().map(move |line| (name, line)));
        lines.map(|(name, line)| format!("{name} {line}\n")).collect()
    }

    async fn ends(&self, reply: Reply) {
        self.gate.upstream.push(reply);
        bytes_of(self.gate.post(CALL).await).await;
    }
}

/// The scripted upstream as a provider without a key.
fn scripted(base_url: &str) -> String {
    format!(
        "model_provider = \"scripted\"\n[model_providers.scripted]\nbase_url = \"{base_url}\"\n\
         request_max_retries = 0\nmodels = [\"scripted-1\"]\n"
    )
}

/// Labels and value of one series of a family.
fn line(family: &MetricFamily, series: &Metric) -> String {
    let label = |pair: &LabelPair| format!("{}={}", pair.name(), pair.value());
    let mut labels: Vec<String> = series.get_label().iter().map(label).collect();
    labels.sort();
    let (histogram, timed) = (series.get_histogram(), family.name().ends_with("_seconds"));
    let (count, sum) = (histogram.get_sample_count(), histogram.get_sample_sum());
    let value = match family.get_field_type() {
        MetricType::COUNTER => series.get_counter().get_value().to_string(),
        MetricType::HISTOGRAM if timed => format!("{count} times"),
        MetricType::HISTOGRAM => format!("{count} with {sum}"),
        _ => series.get_gauge().get_value().to_string(),
    };
    format!("{{{}}} {value}", labels.join(", "))
}

/// Reads an answer until it has this.
async fn read_until(body: &mut Incoming, text: &str) {
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains(text) {
        let frame = deadline(body.frame()).await.unwrap().unwrap();
        seen.extend_from_slice(&frame.into_data().unwrap());
    }
}

fn turn() -> Vec<Bytes> {
    Turn::new("resp_1").text(&["Hel", "lo"]).completed(usage())
}

#[tokio::test]
async fn a_call_is_counted_once_with_what_it_took_and_used() {
    let counted = Counted::start(ServerConfig::default()).await;
    let hold = Hold::closed();
    counted.gate.upstream.push(Reply::sse(turn()).stall_after(100, &hold));
    let answer = counted.gate.post(CALL).await;
    assert_eq!(counted.series("tidegate_gateway_calls_running"), ["{} 1"]);
    hold.open();
    bytes_of(answer).await;
    insta::assert_snapshot!("a_call_in_numbers", counted.all());
}

#[tokio::test]
async fn calls_are_counted_by_how_they_ended() {
    let counted = Counted::start(ServerConfig::default()).await;
    let upstream = &counted.gate.upstream;
    counted.ends(Reply::sse(turn())).await;
    counted.ends(Reply::sse(Turn::new("resp_2").incomplete("max_output_tokens", usage()))).await;
    counted.ends(Reply::sse(Turn::new("resp_3").failed("context_length_exceeded", "too long"))).await;
    counted.ends(Reply::json(429, &json!({"error": {"message": "slow down"}}))).await;
    counted.ends(Reply::sse(turn()).end_after(100)).await;
    counted.ends(Reply::close()).await;

    // One leaves in the middle, one once it has seen the end, which the provider's connection has not reached.
    let end: usize = turn().iter().map(Bytes::len).sum();
    let (middle, tail) = (Hold::closed(), Hold::closed());
    for (number, at, hold, seen) in [(1, 700, &middle, "resp_1"), (2, end, &tail, "response.completed")] {
        upstream.push(Reply::sse(turn()).stall_after(at, hold));
        let mut body = counted.gate.post(CALL).await.into_body();
        read_until(&mut body, seen).await;
        drop(body);
        upstream.wait_cancelled(number).await.unwrap();
    }

    let ends = [
        ("caller_gone", Some("caller_gone"), 1),
        ("broken", Some("upstream_disconnected"), 1),
        ("completed", None, 2),
        ("failed", Some("failed"), 1),
        ("incomplete", None, 1),
        ("refused", Some("429"), 1),
        ("unsent", Some("upstream_disconnected"), 1),
    ];
    let expected = |value: fn(u32) -> String| {
        let mut lines = ends.map(|(outcome, error, calls)| {
            let error = error.map_or(String::new(), |error| format!("error_type={error}, "));
            format!(
                "{{{error}gen_ai_operation_name=chat, gen_ai_provider_name=scripted, \
                 gen_ai_request_model=scripted-1, tidegate_outcome={outcome}, tidegate_provider=scripted, \
                 tidegate_tenant=local}} {}",
                value(calls)
            )
        });
        lines.sort();
        lines
    };
    assert_eq!(counted.series("tidegate_gateway_calls_total"), expected(|calls| calls.to_string()));
    let durations = counted.series("gen_ai_client_operation_duration_seconds");
    assert_eq!(durations, expected(|calls| format!("{calls} times")));
    assert_eq!(counted.series("tidegate_gateway_calls_running"), ["{} 0"]);
    assert_eq!(counted.series("tidegate_gateway_held_bytes"), ["{} 0"]);
}

#[tokio::test]
async fn calls_that_are_not_opened_are_counted_by_their_reason() {
    let config = ServerConfig { body_bytes_max: 1000, ..ServerConfig::default() };
    let counted = Counted::start(config).await;
    let large = "x".repeat(1001);
    for body in [r#"{"model":"nobody-s","input":"hi"}"#, r#"{"input":"hi"}"#, "{", "{", &large] {
        bytes_of(counted.gate.post(body.to_owned()).await).await;
    }
    let mut stream = Stream::open(&counted.gate).await;
    stream.call("{", 1000).await;
    let status = deadline(stream.events.next()).await.unwrap().unwrap_err();
    assert_eq!(failure_of(&status).reason, "invalid_request");
    let expected = [
        ("body_too_large", "http", 1),
        ("invalid_request", "grpc", 1),
        ("invalid_request", "http", 2),
        ("model_missing", "http", 1),
        ("model_not_found", "http", 1),
    ]
    .map(|(reason, surface, calls)| {
        format!("{{tidegate_reason={reason}, tidegate_surface={surface}}} {calls}")
    });
    assert_eq!(counted.series("tidegate_gateway_rejected_total"), expected);
    assert!(counted.series("tidegate_gateway_calls_total").is_empty());
}

#[tokio::test]
async fn strangers_are_counted_and_logged_on_every_surface() {
    let (lines, _guard) = Lines::collect();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.toml");
    std::fs::write(&path, "").unwrap();
    let callers = format!("[authentication]\nkeys_file = {:?}\n", path.display().to_string());
    let door = Door { callers: &callers, policy: "" };
    let counted = Counted::behind(ServerConfig::default(), scripted, &door).await;
    assert_eq!(counted.gate.post(CALL).await.status(), 401);
    assert_eq!(counted.gate.get("/v1/models").await.status(), 401);
    assert!(Talker::open_with(&counted.gate, &[]).await.is_err());
    let mut client = counted.gate.grpc().await;
    let refused = [
        deadline(client.respond(tokio_stream::pending())).await.map(drop),
        deadline(client.list_models(ListModelsRequest {})).await.map(drop),
        deadline(client.describe_providers(DescribeProvidersRequest {})).await.map(drop),
        deadline(client.watch_rate_limits(WatchRateLimitsRequest::default())).await.map(drop),
    ];
    assert!(
        refused
            .iter()
            .all(|refused| refused.as_ref().is_err_and(|status| status.code() == Code::Unauthenticated))
    );
    let expected = [("grpc", 4), ("http", 2), ("websocket", 1)].map(|(surface, times)| {
        format!("{{tidegate_reason=unauthenticated, tidegate_surface={surface}}} {times}")
    });
    assert_eq!(counted.series("tidegate_gateway_rejected_total"), expected);
    let lines = lines.of("tidegate::access");
    assert!(lines.iter().all(|line| line["reason"] == "unauthenticated"), "{lines:?}");
    let surfaces: Vec<_> = lines.iter().map(|line| line["surface"].as_str().unwrap()).collect();
    assert_eq!(surfaces, ["http", "http", "websocket", "grpc", "grpc", "grpc", "grpc"]);
}

#[tokio::test]
async fn what_is_sent_instead_of_a_call_is_counted_and_who_asks_for_something_else_is_not() {
    let counted = Counted::start(ServerConfig::default()).await;
    let mut stream = Stream::open(&counted.gate).await;
    stream.body("{}", 10).await;
    let status = deadline(stream.events.next()).await.unwrap().unwrap_err();
    assert_eq!(failure_of(&status).reason, "protocol");
    drop(Stream::open(&counted.gate).await);
    assert_eq!(counted.gate.get("/v1/models").await.status(), 200);
    counted.gate.grpc().await.list_models(ListModelsRequest {}).await.unwrap();
    let expected = ["{tidegate_reason=protocol, tidegate_surface=grpc} 1"];
    assert_eq!(counted.series("tidegate_gateway_rejected_total"), expected);
}

#[tokio::test]
async fn a_call_that_its_own_deadline_ends_says_so() {
    let counted = Counted::start(ServerConfig::default()).await;
    let upstream = &counted.gate.upstream;
    let limit = std::time::Duration::from_millis(300);
    for (number, reply) in [
        Reply::sse(turn()).delay_headers(&Hold::closed()),
        Reply::sse(turn()).stall_after(700, &Hold::closed()),
    ]
    .into_iter()
    .enumerate()
    {
        upstream.push(reply);
        let mut stream = Stream::open_within(&counted.gate, limit).await;
        stream.call(CALL, 1000).await;
        let last = async { while let Some(Ok(_)) = stream.events.next().await {} };
        deadline(last).await;
        upstream.wait_cancelled(number + 1).await.unwrap();
    }
    let mut stream = Stream::open_within(&counted.gate, limit).await;
    stream.message(Message::Start(Box::default())).await;
    assert_eq!(deadline(stream.events.next()).await.unwrap().unwrap_err().code(), Code::DeadlineExceeded);
    // A gateway's own clock may be a moment behind.
    let rejected = async {
        while counted.series("tidegate_gateway_rejected_total").is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    deadline(rejected).await;
    let ended = counted.series("tidegate_gateway_calls_total");
    assert_eq!(
        ended.len(),
        2,
        "one before its answer, for a model that is not known to be one, and one in it"
    );
    for ended in ended {
        assert!(ended.contains("error_type=deadline_exceeded"), "{ended}");
        assert!(ended.contains("tidegate_outcome=deadline_exceeded"), "{ended}");
    }
    let expected = ["{tidegate_reason=deadline_exceeded, tidegate_surface=grpc} 1"];
    assert_eq!(counted.series("tidegate_gateway_rejected_total"), expected);
}
