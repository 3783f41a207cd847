//! Health paths answer before the application, and follow the parts and the drain.

use std::time::Duration;

use service_runtime::Drain;
use service_runtime::health::{Health, OnlyHealth, WithHealth};
use service_runtime::log::LogConfig;
use service_runtime::serve::ServeConfig;
use service_runtime::telemetry::{Environment, Program, Telemetry, TelemetryConfig};

use crate::support::{Server, echo, within};

async fn get(server: &Server, method: &str, path: &str) -> (u16, String, String) {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let answer = server.http1(&request).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_ascii_lowercase(), body.to_owned())
}

#[tokio::test]
async fn readiness_follows_the_parts_and_the_drain() {
    // A pre-stop delay keeps the listener open while readiness is already off.
    let drain = Drain::new(Duration::from_secs(60), Duration::ZERO);
    let health = Health::new(drain.clone(), prometheus::Registry::new());
    let server =
        Server::start_with(WithHealth::new(echo(), health.clone()), ServeConfig::default(), drain.clone())
            .await;
    assert_eq!(get(&server, "GET", "/readyz").await.0, 200);

    let store = health.register("store");
    let (status, head, body) = get(&server, "GET", "/readyz").await;
    assert_eq!(
        (status, body.as_str()),
        (503, r#"{"status":"not_ready","checks":[{"name":"store","ready":false,"detail":"starting"}]}"#)
    );
    assert!(
        head.contains("content-type: application/json") && head.contains("cache-control: no-store"),
        "{head}"
    );
    store.ready();
    assert_eq!(
        get(&server, "GET", "/readyz").await.2,
        r#"{"status":"ready","checks":[{"name":"store","ready":true}]}"#
    );
    store.not_ready("disk full");
    assert!(get(&server, "GET", "/readyz").await.2.contains("disk full"));
    drop(store);
    assert!(get(&server, "GET", "/readyz").await.2.contains("stopped"));

    for path in ["/livez", "/healthz"] {
        assert_eq!(get(&server, "GET", path).await.0, 200, "a process that is not ready is still live");
    }
    drain.begin();
    within(drain.draining()).await;
    assert!(get(&server, "GET", "/readyz").await.2.contains(r#""status":"draining""#));
    assert_eq!(get(&server, "GET", "/livez").await.0, 200);
    assert!(!health.is_ready());
}

#[tokio::test]
async fn other_paths_and_methods() {
    let health = Health::new(Drain::new(Duration::ZERO, Duration::ZERO), prometheus::Registry::new());
    let server = Server::start(WithHealth::new(echo(), health)).await;
    for path in ["/", "/livez/x", "/v1/responses", "/metrics2"] {
        assert_eq!(get(&server, "GET", path).await.2, format!("app GET {path}"));
    }
    let (status, head, _) = get(&server, "POST", "/metrics").await;
    assert!(status == 405 && head.contains("allow: get, head"), "{head}");
    let (status, _, body) = get(&server, "HEAD", "/livez").await;
    assert_eq!((status, body.as_str()), (200, ""));
}

#[tokio::test]
async fn metrics_have_descriptions_and_buckets_that_fit() {
    let log = LogConfig { level: "off".to_owned(), ..LogConfig::default() };
    let program = Program { name: "probe", version: "1.2.3" };
    let (telemetry, _) =
        Telemetry::prepare(program, &log, &TelemetryConfig::default(), &Environment::default()).unwrap();
    let meter = telemetry.meter("probe");
    let duration =
        meter.f64_histogram("probe.duration").with_unit("s").with_description("How long it took.").build();
    duration.record(45.0, &[]);
    let tokens =
        meter.u64_histogram("probe.tokens").with_unit("{token}").with_description("How many.").build();
    tokens.record(70_000, &[]);
    let health = Health::new(Drain::new(Duration::ZERO, Duration::ZERO), telemetry.registry());
    let server = Server::start(WithHealth::new(echo(), health)).await;

    let (status, head, text) = get(&server, "GET", "/metrics").await;
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert!(text.contains("# HELP probe_duration_seconds How long it took."), "{text}");
    let bucket = |name: &str, le: &str, count: u64| {
        let line = text.lines().find(|line| line.starts_with(name) && line.contains(&format!("le=\"{le}\"")));
        assert!(line.is_some_and(|line| line.ends_with(&format!(" {count}"))), "{name} {le}: {text}");
    };
    bucket("probe_duration_seconds_bucket", "30", 0);
    bucket("probe_duration_seconds_bucket", "60", 1);
    bucket("probe_tokens", "65536", 0);
    bucket("probe_tokens", "262144", 1);
    assert!(text.contains("service_name=\"probe\"") && text.contains("service_version=\"1.2.3\""), "{text}");
    within(telemetry.shutdown()).await;
}

#[tokio::test]
async fn a_listener_for_health_serves_nothing_else() {
    let drain = Drain::new(Duration::ZERO, Duration::ZERO);
    let health = Health::new(drain.clone(), prometheus::Registry::new());
    let server = Server::start_with(OnlyHealth::new(health), ServeConfig::default(), drain).await;
    for (path, expected) in [("/readyz", 200), ("/metrics", 200), ("/", 404), ("/v1/responses", 404)] {
        assert_eq!(get(&server, "GET", path).await.0, expected, "{path}");
    }
}
