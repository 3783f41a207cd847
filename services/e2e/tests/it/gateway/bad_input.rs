//! Bad input over real sockets: each kind gets its own typed error, and the gateway serves the next caller.

use std::net::SocketAddr;

use gateway_testkit::Upstream;
use service_e2e::http::{self, Raw};
use service_e2e::stack::{self, Gateway, MODEL};

const LIMITS: &str = "\n[limits]\nbody_bytes_max = 20000\nbody_timeout_ms = 300\n\n\
    [connections]\nheader_read_timeout_ms = 300\nmax_header_bytes = 8192\n";

async fn gateway(upstream: &Upstream) -> anyhow::Result<Gateway> {
    Gateway::start(&format!("{}{LIMITS}", stack::provider(upstream))).await
}

async fn assert_healthy(upstream: &Upstream, gateway: &mut Gateway) -> anyhow::Result<()> {
    upstream.push(stack::says("resp_well", &["All ", "is well."]));
    let body = format!(r#"{{"model":"{MODEL}","stream":true,"input":"hi"}}"#);
    let answer =
        http::send(gateway.at, &http::post(gateway.at, "/v1/responses", "", body.as_bytes())).await?;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.text.contains("event: response.completed"), "{answer:?}");
    assert_eq!(http::get(gateway.at, "/readyz").await?.status, 200);
    assert!(gateway.service.is_running()?);
    // Nothing but the good call has reached the provider.
    assert_eq!(upstream.requests().len(), 1);
    Ok(())
}

fn create(at: SocketAddr, body: &[u8]) -> Vec<u8> {
    http::post(at, "/v1/responses", "", body)
}

fn bare(request: String) -> Vec<u8> {
    format!("{request}\r\nconnection: close\r\n\r\n").into_bytes()
}

#[tokio::test]
async fn each_kind_has_its_own_error() -> anyhow::Result<()> {
    let upstream = Upstream::start().await?;
    let mut gateway = gateway(&upstream).await?;
    let at = gateway.at;
    let good = format!(r#"{{"model":"{MODEL}"}}"#);
    let chunked = format!(
        "POST /v1/responses HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n\
         5000\r\n{}\r\n5000\r\n",
        " ".repeat(0x5000)
    );
    let foreign =
        format!("POST /v1/responses HTTP/1.1\r\nhost: evil.example\r\ncontent-length: {}", good.len());
    let cases: Vec<(&str, Vec<u8>, u16, &str)> = vec![
        ("malformed JSON", create(at, b"{\"model\":"), 400, "invalid_request"),
        ("no JSON", create(at, b"model=x"), 400, "invalid_request"),
        ("empty", create(at, b""), 400, "invalid_request"),
        ("an array", create(at, b"[1]"), 400, "invalid_request"),
        ("a model that is no text", create(at, b"{\"model\":7}"), 400, "invalid_request"),
        ("a stream that is no flag", create(at, br#"{"model":"m","stream":1}"#), 400, "invalid_request"),
        ("bad UTF-8", create(at, b"{\"model\":\"\xff\"}"), 400, "invalid_request"),
        ("no model", create(at, b"{\"input\":\"x\"}"), 400, "model_missing"),
        ("an unknown model", create(at, b"{\"model\":\"nobody-s\"}"), 400, "model_not_found"),
        ("too large, announced", create(at, &[b' '; 20_001]), 413, "body_too_large"),
        ("too large, in chunks", chunked.into_bytes(), 413, "body_too_large"),
        (
            "an encoding",
            http::post(at, "/v1/responses", "content-encoding: br\r\n", good.as_bytes()),
            415,
            "body_encoding_unsupported",
        ),
        ("an unknown route", http::post(at, "/v1/embeddings", "", b"{}"), 404, "not_found"),
        ("another method", bare(format!("DELETE /v1/responses HTTP/1.1\r\nhost: {at}")), 405, "method_not_allowed"),
        (
            "a WebSocket",
            format!(
                "GET /v1/responses HTTP/1.1\r\nhost: {at}\r\nconnection: upgrade, close\r\nupgrade: websocket\r\n\r\n"
            )
            .into_bytes(),
            426,
            "websocket_unsupported",
        ),
        (
            "a foreign page",
            http::post(at, "/v1/responses", "origin: https://evil.example\r\n", good.as_bytes()),
            403,
            "foreign_origin",
        ),
        ("a foreign name", [bare(foreign), good.clone().into_bytes()].concat(), 421, "foreign_host"),
        ("no name", bare("GET /v1/models HTTP/1.1".to_owned()), 400, "bad_host"),
    ];
    for (what, request, status, code) in cases {
        let answer = http::send(at, &request).await?;
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/json"), "{what}: {answer:?}");
        let error = answer.json()?["error"].clone();
        assert_eq!(error["code"], code, "{what}: {answer:?}");
        assert!(error["message"].as_str().is_some_and(|message| message.len() > 10), "{what}: {answer:?}");
    }
    assert_healthy(&upstream, &mut gateway).await
}

/// What is no request at all is refused by the connection, before there is anything to type.
#[tokio::test]
async fn what_is_not_http_ends_its_connection_alone() -> anyhow::Result<()> {
    let upstream = Upstream::start().await?;
    let mut gateway = gateway(&upstream).await?;
    let at = gateway.at;
    let long = format!("GET /v1/models HTTP/1.1\r\nhost: {at}\r\nx: {}\r\n\r\n", "y".repeat(20_000));
    let cases: [(&str, &[u8], &[u16]); 6] = [
        ("words", b"hello there\r\n\r\n", &[400, 0]),
        ("nothing but zeros", &[0; 64], &[400, 0]),
        ("a TLS greeting", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", &[400, 0]),
        ("a header with a zero", b"GET / HTTP/1.1\r\nhost: localhost\r\nx: a\0b\r\n\r\n", &[400]),
        ("a length that is none", b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: x\r\n\r\n", &[400]),
        ("a head without end", long.as_bytes(), &[431]),
    ];
    for (what, bytes, statuses) in cases {
        let answer = http::send(at, bytes).await?;
        assert!(statuses.contains(&answer.status), "{what}: {answer:?}");
    }
    assert_healthy(&upstream, &mut gateway).await
}

#[tokio::test]
async fn a_half_open_socket_is_given_up() -> anyhow::Result<()> {
    let upstream = Upstream::start().await?;
    let mut gateway = gateway(&upstream).await?;
    let head = format!("POST /v1/responses HTTP/1.1\r\nhost: {}\r\n", gateway.at);

    let mut without_body = Raw::connect(gateway.at).await?;
    without_body.send(format!("{head}content-length: 100\r\n\r\n{{").as_bytes()).await?;
    let mut without_head = Raw::connect(gateway.at).await?;
    without_head.send(head.as_bytes()).await?;
    let silent = Raw::connect(gateway.at).await?;

    let answer = without_body.finish().await?;
    assert_eq!(answer.status, 408, "{answer:?}");
    assert_eq!(answer.json()?["error"]["code"], "body_timeout");
    assert!([408, 0].contains(&without_head.finish().await?.status));
    assert_eq!(silent.finish().await?.text, "");
    assert_healthy(&upstream, &mut gateway).await
}
