//! What a provider is sent.

use gateway_providers::Call;
use gateway_testkit::{Reply, Upstream};
use http::{HeaderMap, HeaderValue};
use serde_json::json;

use crate::harness::{SECRET, call, in_time, provider};

fn ok() -> Reply {
    Reply::json(200, &json!({"id": "resp_1"}))
}

#[tokio::test]
async fn a_call_has_exactly_these_headers() {
    let upstream = Upstream::start().await.unwrap();
    upstream.push(ok());
    let keys = r#"
        env_key = "TEST_KEY"
        http_headers = { "X-Region" = "north", "user-agent" = "corp/1" }
        env_http_headers = { "x-tenant" = "TEST_TENANT", "x-none" = "TEST_UNSET" }
        query_params = { "api-version" = "2026 04", "a" = "b&c" }
    "#;
    let provider = provider(&upstream.base_url(), keys);
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("session-id", "s1"),
        ("x-codex-turn-metadata", "{\"a\":1}"),
        ("user-agent", "codex/1"),
        ("authorization", "Bearer of-the-caller"),
        ("cookie", "a=b"),
        ("host", "evil.example"),
        ("connection", "close, session-id"),
        ("keep-alive", "timeout=5"),
        ("transfer-encoding", "chunked"),
        ("content-length", "7"),
        ("content-encoding", "zstd"),
        ("accept", "text/html"),
        ("accept-encoding", "gzip"),
        ("x-forwarded-for", "10.0.0.1"),
        ("forwarded", "for=10.0.0.1"),
        ("via", "1.1 x"),
        ("te", "trailers"),
        ("upgrade", "websocket"),
        ("proxy-authorization", "Basic x"),
        ("proxy-connection", "close"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let answer = in_time(provider.send(Call { headers, ..call("{\"model\":\"m\"}") }, None)).await.unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.attempts, 1);
    let seen = upstream.wait_for_request(1).await.unwrap();
    let mut names: Vec<_> = seen.headers.keys().map(|name| name.as_str().to_owned()).collect();
    names.sort();
    let expected = [
        "accept",
        "authorization",
        "content-length",
        "content-type",
        "host",
        "session-id",
        "user-agent",
        "x-codex-turn-metadata",
        "x-region",
        "x-tenant",
    ];
    assert_eq!(names, expected);
    assert_eq!(seen.header("authorization"), Some(&*format!("Bearer {SECRET}")));
    assert_eq!(seen.header("accept"), Some("text/event-stream"));
    assert_eq!(seen.header("content-type"), Some("application/json"));
    assert_eq!(seen.header("content-length"), Some("13"));
    assert_eq!(seen.header("host"), Some(&*upstream.address().to_string()));
    assert_eq!(seen.header("user-agent"), Some("corp/1"));
    assert_eq!(seen.header("x-tenant"), Some("blue"));
    assert_eq!(seen.path, "/v1/responses");
    assert_eq!(seen.query.as_deref(), Some("a=b%26c&api-version=2026+04"));
    assert_eq!(seen.body, "{\"model\":\"m\"}");
}

#[tokio::test]
async fn without_credential_and_stream() {
    let upstream = Upstream::start().await.unwrap();
    upstream.push(ok());
    let provider = provider(&upstream.base_url(), "");
    in_time(provider.send(Call { stream: false, ..call("{}") }, None)).await.unwrap();
    let seen = upstream.wait_for_request(1).await.unwrap();
    assert_eq!(seen.header("authorization"), None);
    assert_eq!(seen.header("accept"), Some("application/json"));
    assert!(seen.header("user-agent").unwrap().starts_with("tidegate/"));
}

#[tokio::test]
async fn connections_are_used_again() {
    let upstream = Upstream::start().await.unwrap();
    upstream.set_default(ok());
    let provider = provider(&upstream.base_url(), "experimental_bearer_token = \"t\"");
    for _ in 0..5 {
        let answer = in_time(provider.send(call("{}"), None)).await.unwrap();
        answer.body.collect(1000).await.unwrap();
    }
    assert_eq!((upstream.requests().len(), upstream.connections()), (5, 1));
}
