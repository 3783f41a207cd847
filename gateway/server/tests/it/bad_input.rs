//! Every kind of bad input gets a clear typed error on both surfaces and leaves the gateway healthy.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use bytes::Bytes;
use gateway_server::ServerConfig;
use tidegate_proto::{
    failure_of,
    gateway::v1::{BodyChunk, Fault, RespondRequest, respond_request::Message},
};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use crate::harness::{Gate, deadline, json_of};

/// A body, the reason that it is refused with, and a word that the message must have.
fn bodies() -> Vec<(Bytes, &'static str, &'static str)> {
    let fixed: [(&'static [u8], _, _); 13] = [
        (b"", "invalid_request", "expected"),
        (b"{", "invalid_request", "byte 1"),
        (b"not json", "invalid_request", "byte 0"),
        (b"[1,2]", "invalid_request", "object"),
        (b"{\"model\":\"scripted-1\"}}", "invalid_request", "byte 22"),
        (b"{\"model\":\"scripted-1\",}", "invalid_request", "expected"),
        (b"{\"model\":\"\xff\xfe\"}", "invalid_request", "utf-8"),
        (b"{\"model\":7}", "invalid_request", "model"),
        (b"{\"model\":\"scripted-1\",\"stream\":\"yes\"}", "invalid_request", "stream"),
        (b"{\"model\":\"scripted-1\",\"model\":\"b\"}", "invalid_request", "twice"),
        (b"{\"input\":\"hi\"}", "model_missing", "model"),
        (b"{\"model\":\"nobody-serves-this\",\"stream\":true}", "model_not_found", "nobody-serves-this"),
        (b"{\"model\":\"\\ud800\"}", "invalid_request", "byte 9"),
    ];
    let mut all: Vec<_> =
        fixed.into_iter().map(|(body, reason, word)| (Bytes::from(body), reason, word)).collect();
    let deep = format!("{{\"model\":\"scripted-1\",\"input\":{}1{}}}", "[".repeat(5000), "]".repeat(5000));
    all.push((deep.into(), "invalid_request", "deep"));
    all
}

#[tokio::test]
async fn over_http() {
    let gate = Gate::start().await;
    for (body, reason, word) in bodies() {
        let response = gate.post(body.clone()).await;
        assert_eq!(response.status(), 400, "{body:?}");
        let error = json_of(response).await["error"].clone();
        assert_eq!(error["code"], reason, "{body:?}: {error}");
        assert!(error["message"].as_str().unwrap().contains(word), "{body:?}: {error}");
    }
    assert_eq!(gate.upstream.requests().len(), 0);
    gate.assert_healthy().await;
}

#[tokio::test]
async fn over_grpc() {
    let gate = Gate::start().await;
    for (body, reason, word) in bodies() {
        let messages = [
            Message::Start(Box::default()),
            Message::BodyChunk(BodyChunk { data: body.clone(), last: true }),
        ];
        let status = respond(&gate, messages).await;
        let failure = failure_of(&status);
        assert_eq!(failure.reason, reason, "{body:?}: {status}");
        assert_eq!(failure.fault(), Fault::Caller);
        assert!(failure.message.contains(word), "{body:?}: {failure:?}");
    }
    assert_eq!(gate.upstream.requests().len(), 0);
    gate.assert_healthy().await;
}

#[tokio::test]
async fn messages_out_of_order_are_refused() {
    let gate = Gate::start().await;
    let start = || Message::Start(Box::default());
    let chunk = |last| Message::BodyChunk(BodyChunk { data: Bytes::from_static(b"{"), last });
    let cases = [
        (vec![chunk(true)], "protocol"),
        (vec![start(), start()], "protocol"),
        (vec![start(), chunk(false)], "body_cut"),
        (vec![start()], "body_cut"),
    ];
    for (messages, reason) in cases {
        let status = respond(&gate, messages).await;
        assert_eq!(failure_of(&status).reason, reason, "{status}");
    }
    gate.assert_healthy().await;
}

#[tokio::test]
async fn too_large_a_body_is_refused_before_it_is_kept() {
    let config = ServerConfig { body_bytes_max: 1000, ..ServerConfig::default() };
    let gate = Gate::with(config, "").await;
    let response = gate.post(vec![b' '; 1001]).await;
    assert_eq!(response.status(), 413);
    assert_eq!(json_of(response).await["error"]["code"], "body_too_large");

    let mut chunked =
        b"POST /v1/responses HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..3 {
        chunked.extend_from_slice(b"1f4\r\n");
        chunked.extend_from_slice(&[b' '; 0x1f4]);
        chunked.extend_from_slice(b"\r\n");
    }
    let answer = gate.raw(&chunked).await;
    assert!(answer.starts_with(b"HTTP/1.1 413"), "{}", String::from_utf8_lossy(&answer));

    let messages = [
        Message::Start(Box::default()),
        Message::BodyChunk(BodyChunk { data: vec![b' '; 600].into(), last: false }),
        Message::BodyChunk(BodyChunk { data: vec![b' '; 600].into(), last: true }),
    ];
    assert_eq!(failure_of(&respond(&gate, messages).await).reason, "body_too_large");
    gate.assert_healthy().await;
}

#[tokio::test]
async fn an_encoded_body_is_refused_with_what_to_do() {
    let gate = Gate::start().await;
    let mut request = gate.request("x");
    request.headers_mut().append("content-encoding", "br".parse().unwrap());
    let response = gate.send(request).await;
    assert_eq!(response.status(), 415);
    assert!(json_of(response).await["error"]["message"].as_str().unwrap().contains("`br`"));
}

#[tokio::test]
async fn a_half_open_socket_is_given_up() {
    let config = ServerConfig { body_timeout_ms: 50, ..ServerConfig::default() };
    let gate = Gate::with(config, "").await;
    let mut stream = TcpStream::connect(gate.at).await.unwrap();
    stream
        .write_all(b"POST /v1/responses HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{")
        .await
        .unwrap();
    let mut answer = vec![0; 32];
    deadline(tokio::io::AsyncReadExt::read_exact(&mut stream, &mut answer)).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&answer));
    gate.assert_healthy().await;
}

#[tokio::test]
async fn a_body_that_stops_over_grpc_is_given_up() {
    let config = ServerConfig { body_timeout_ms: 50, ..ServerConfig::default() };
    let gate = Gate::with(config, "").await;
    let start = RespondRequest { message: Some(Message::Start(Box::default())) };
    let never = tokio_stream::StreamExt::chain(tokio_stream::iter([start]), tokio_stream::pending());
    let mut events = deadline(gate.grpc().await.respond(never)).await.unwrap().into_inner();
    let status = deadline(events.message()).await.unwrap_err();
    assert_eq!(failure_of(&status).reason, "body_timeout");
    gate.assert_healthy().await;
}

#[tokio::test]
async fn a_provider_that_is_not_there_is_told_as_such() {
    let gate = Gate::with(
        ServerConfig::default(),
        "[model_providers.gone]\nbase_url = \"http://127.0.0.1:9/v1\"\nrequest_max_retries = 0\nmodels = [\"gone-1\"]\n",
    )
    .await;
    let response = gate.post(r#"{"model":"gone-1","stream":true}"#).await;
    assert_eq!(response.status(), 502);
    let error = json_of(response).await["error"].clone();
    assert_eq!(error["code"], "upstream_unreachable", "{error}");
    gate.assert_healthy().await;
}

#[tokio::test]
async fn a_silent_provider_is_given_up() {
    let gate = Gate::with(ServerConfig::default(), "stream_idle_timeout_ms = 50\n").await;
    let hold = gateway_testkit::Gate::closed();
    let frames = gateway_testkit::text_turn(&["Hello"], crate::harness::usage());
    gate.upstream.push(gateway_testkit::Reply::sse(frames).stall_after(200, &hold));
    let body = crate::harness::bytes_of(gate.post(r#"{"model":"scripted-1","stream":true}"#).await).await;
    assert!(String::from_utf8_lossy(&body).contains("response.failed"));
    gate.upstream.wait_cancelled(1).await.unwrap();
}

async fn respond(gate: &Gate, messages: impl IntoIterator<Item = Message>) -> tonic::Status {
    let messages: Vec<_> =
        messages.into_iter().map(|message| RespondRequest { message: Some(message) }).collect();
    let answered = deadline(gate.grpc().await.respond(tokio_stream::iter(messages))).await;
    match answered {
        Err(status) => status,
        Ok(events) => deadline(events.into_inner().message()).await.unwrap_err(),
    }
}
