//! What calls hold while they run: it counts as soon as it is known, only as long as it is needed, and whoever finds no
//! room is told to come back.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use std::io::Write as _;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use gateway_server::ServerConfig;
use gateway_testkit::{Gate as Hold, Reply, Turn};
use tidegate_proto::{
    failure_of,
    gateway::v1::{Failure, respond_response::Message as Answer},
};
use tidegate_responses::sse;
use tokio_stream::StreamExt as _;
use tonic::Code;

use crate::{
    counted::Counted,
    harness::{Door, Gate, bytes_of, deadline, json_of, usage},
    stream::Stream,
    talker::{self, Talker},
};

const ROOM_BYTES: usize = 1000;
/// More than half of it.
const BODY_BYTES: usize = 700;
/// What says that a message on a socket is a call, which is no part of its body.
const TYPE: &str = r#""type":"response.create","#;

fn small() -> ServerConfig {
    // Whoever is wrongly waited for is given up before the test is.
    ServerConfig { held_bytes_max: ROOM_BYTES, body_timeout_ms: 2_000, ..ServerConfig::default() }
}

/// A call of this length.
fn call(bytes: usize) -> String {
    let call = format!(r#"{{{TYPE}"model":"scripted-1","stream":true,"input":""}}"#);
    call.replace(r#""""#, &format!("\"{}\"", "x".repeat(bytes - call.len())))
}

fn turn() -> Vec<Bytes> {
    Turn::new("resp_1").text(&["Hel", "lo"]).completed(usage())
}

/// Sends raw bytes and is told that there is no room.
async fn finds_no_room(gate: &Gate, request: &[u8]) {
    let answer = String::from_utf8(gate.raw(request).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("gateway_full") && answer.contains("retry-after: 1\r\n"), "{answer}");
    gate.assert_healthy().await;
}

#[tokio::test]
async fn a_body_counts_once_it_is_announced() {
    let gate = Gate::with(small(), "").await;
    let head = "POST /v1/responses HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5000\r\n\r\n";
    finds_no_room(&gate, head.as_bytes()).await;
}

#[tokio::test]
async fn a_body_whose_length_nobody_told_counts_as_it_grows() {
    let gate = Gate::with(small(), "").await;
    let mut request =
        "POST /v1/responses HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n".to_owned();
    let call = call(1500);
    for from in [0, 500, 1000] {
        request.push_str(&format!("1f4\r\n{}\r\n", &call[from..from + 500]));
    }
    request.push_str("0\r\n\r\n");
    finds_no_room(&gate, request.as_bytes()).await;
}

fn encoded(body: &str) -> [(&'static str, Vec<u8>); 2] {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body.as_bytes()).unwrap();
    [("gzip", encoder.finish().unwrap()), ("zstd", zstd::bulk::compress(body.as_bytes(), 3).unwrap())]
}

#[tokio::test]
async fn a_body_counts_as_what_it_inflates_to() {
    let gate = Gate::with(small(), "").await;
    for (encoding, body) in encoded(&call(20 * ROOM_BYTES)) {
        assert!(body.len() < ROOM_BYTES, "{encoding}: {}", body.len());
        let mut request = gate.request(body);
        request.headers_mut().insert("content-encoding", encoding.parse().unwrap());
        let response = gate.send(request).await;
        assert_eq!(response.status(), 503, "{encoding}");
        assert_eq!(json_of(response).await["error"]["code"], "gateway_full", "{encoding}");
    }
    // What is inflated counts before the body has come to its end.
    for (encoding, body) in encoded(&call(200 * ROOM_BYTES)) {
        let part = &body[..body.len() - 5];
        let head = format!(
            "POST /v1/responses HTTP/1.1\r\nhost: localhost\r\ncontent-encoding: {encoding}\r\n\
             transfer-encoding: chunked\r\n\r\n{:x}\r\n",
            part.len()
        );
        finds_no_room(&gate, &[head.as_bytes(), part, b"\r\n"].concat()).await;
    }
    gate.assert_healthy().await;
}

#[tokio::test]
async fn a_body_over_grpc_counts_whole_and_in_pieces() {
    let limits = ServerConfig { held_bytes_max: 100_000, ..small() };
    let gate = Gate::with(limits, "").await;
    for chunk in [150_000, 50_000] {
        let mut stream = Stream::open(&gate).await;
        stream.call(&call(150_000), chunk).await;
        assert_eq!(refused(&mut stream).await.reason, "gateway_full", "pieces of {chunk}");
    }
    gate.assert_healthy().await;
}

/// A call holds as many bytes, and for another there is no room; then the provider may answer.
async fn is_held(counted: &Counted, bytes: usize, head: &Hold) {
    let gate = &counted.gate;
    assert_eq!(counted.series("tidegate_gateway_held_bytes"), [format!("{{}} {bytes}")]);
    let response = gate.post(call(BODY_BYTES)).await;
    assert_eq!(response.status(), 503);
    assert_eq!(json_of(response).await["error"]["code"], "gateway_full");
    head.open();
}

/// There is room again, although the one before has not ended.
async fn is_given_back(counted: &Counted, rest: &Hold) {
    assert_eq!(counted.series("tidegate_gateway_held_bytes"), ["{} 0"]);
    counted.gate.upstream.push(Reply::sse(turn()));
    let response = counted.gate.post(call(BODY_BYTES)).await;
    assert_eq!(response.status(), 200);
    bytes_of(response).await;
    rest.open();
}

#[tokio::test]
async fn a_call_holds_its_body_until_its_provider_answers() {
    let counted = Counted::with(small(), talker::providers).await;
    let gate = &counted.gate;
    let body = call(BODY_BYTES);
    let (head, rest) = (Hold::closed(), Hold::closed());
    gate.upstream.push(Reply::sse(turn()).delay_headers(&head).stall_after(0, &rest));
    let meanwhile = async {
        gate.upstream.wait_for_request(1).await.unwrap();
        is_held(&counted, BODY_BYTES, &head).await;
    };
    let (answer, ()) = tokio::join!(gate.post(body.clone()), meanwhile);
    is_given_back(&counted, &rest).await;
    bytes_of(answer).await;

    let (head, rest) = (Hold::closed(), Hold::closed());
    gate.upstream.push(Reply::sse(turn()).delay_headers(&head).stall_after(0, &rest));
    let mut stream = Stream::open(gate).await;
    stream.call(&body, body.len()).await;
    gate.upstream.wait_for_request(3).await.unwrap();
    is_held(&counted, BODY_BYTES, &head).await;
    assert!(matches!(stream.next().await, Answer::Head(_)));
    is_given_back(&counted, &rest).await;
    stream.response().await;

    let (head, rest) = (Hold::closed(), Hold::closed());
    gate.upstream.push(Reply::sse(turn()).delay_headers(&head).stall_after(700, &rest));
    let mut talker = Talker::open(gate).await;
    talker.say(&body).await;
    gate.upstream.wait_for_request(5).await.unwrap();
    is_held(&counted, BODY_BYTES - TYPE.len(), &head).await;
    talker.event().await;
    is_given_back(&counted, &rest).await;
    talker.response().await;
}

#[tokio::test]
async fn an_event_counts_before_it_is_whole() {
    const EVENT_BYTES: usize = 512 * 1024;
    let limits = ServerConfig { held_bytes_max: EVENT_BYTES / 4, ..ServerConfig::default() };
    let gate = Gate::with(limits, "").await;
    let long = sse::encode("response.output_text.delta", &[b'x'; EVENT_BYTES]);
    let frames = || [vec![long.clone()], turn()].concat();
    gate.upstream.push(Reply::sse(frames()).chunks(&[16 * 1024]));
    let answer = bytes_of(gate.post(call(100)).await).await;
    let text = String::from_utf8_lossy(&answer);
    assert!(text.starts_with("event: response.failed") && text.contains("gateway_full"), "{text:.300}");
    gate.upstream.push(Reply::sse(frames()).chunks(&[16 * 1024]));
    let mut stream = Stream::open(&gate).await;
    stream.call(&call(100), 1000).await;
    let Some(Answer::Failed(failed)) = stream.response().await.pop() else { panic!("the event passed") };
    let failure = failed.failure.unwrap();
    assert_eq!((failure.reason.as_str(), failure.retryable), ("gateway_full", true));
    gate.assert_healthy().await;
}

#[tokio::test]
async fn a_document_for_which_there_is_no_room_passes_and_its_usage_is_not_known() {
    let counted = Counted::start(small()).await;
    for (text, known) in [("Hello", 1), (&*"x".repeat(5000), 1), ("Hello", 2)] {
        let document = Turn::new("resp_1").text(&[text]).json(usage());
        assert_eq!(document.to_string().len() > ROOM_BYTES, text != "Hello");
        counted.gate.upstream.push(Reply::json(200, &document));
        let response = counted.gate.post(r#"{"model":"scripted-1","input":"hi"}"#).await;
        assert_eq!(json_of(response).await, document);
        let input = &counted.series("gen_ai_client_token_usage")[0];
        assert!(input.ends_with(&format!("{known} with {}", 11 * known)), "{input}");
        assert_eq!(counted.series("tidegate_gateway_held_bytes"), ["{} 0"]);
    }
}

/// Why the call that was sent on a stream before any other was refused.
async fn refused(stream: &mut Stream) -> Failure {
    let status = deadline(stream.events.next()).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    failure_of(&status)
}

#[tokio::test]
async fn whoever_is_too_much_is_told_to_come_back() {
    let one = ServerConfig { concurrent_calls_max: 1, ..ServerConfig::default() };
    for (limits, policy, reason) in [
        (one, "", "gateway_busy"),
        (ServerConfig::default(), "default.max_concurrent_calls = 1", "too_many_calls"),
        (small(), "", "gateway_full"),
    ] {
        let gate = Gate::guarded(limits, talker::providers, &Door { policy, ..Door::default() }).await;
        let hold = Hold::closed();
        gate.upstream.push(Reply::sse(turn()).stall_after(700, &hold));
        let running = gate.post(call(100)).await;
        let mut stream = Stream::open(&gate).await;
        stream.call(&call(2 * ROOM_BYTES), 10_000).await;
        let failure = refused(&mut stream).await;
        assert_eq!((failure.reason.as_str(), failure.retryable), (reason, true));
        hold.open();
        bytes_of(running).await;
    }
    let gate = Gate::start().await;
    gate.upstream.push(Reply::sse(turn()).delay_headers(&Hold::closed()));
    let mut stream = Stream::open(&gate).await;
    stream.call(&call(100), 1000).await;
    gate.upstream.wait_for_request(1).await.unwrap();
    gate.cut.cancel();
    let failure = refused(&mut stream).await;
    assert_eq!((failure.reason.as_str(), failure.retryable), ("gateway_stopping", true));
}
