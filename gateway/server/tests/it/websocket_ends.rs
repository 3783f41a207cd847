//! What goes wrong on a caller's WebSocket, and how it ends.

use std::time::Duration;

use bytes::Bytes;
use futures_util::SinkExt as _;
use gateway_server::ServerConfig;
use gateway_testkit::{Gate as Hold, Reply, SocketScript, Turn, messages};
use serde_json::json;
use tidegate_responses::sse;
use tokio::io::AsyncWriteExt as _;
use tokio_tungstenite::tungstenite::{Message, protocol::frame::coding::CloseCode};

use crate::{
    harness::{deadline, usage},
    talker::{Talker, gate, gate_with},
};

const WIRED: &str = r#"{"type":"response.create","model":"wired-1","stream":true,"store":false,"input":[]}"#;
const PLAIN: &str = r#"{"type":"response.create","model":"scripted-1","stream":true,"input":"hi"}"#;

fn turn(id: &str) -> Vec<Bytes> {
    Turn::new(id).text(&["Hel", "lo"]).completed(usage())
}

async fn assert_talks(talker: &mut Talker, gate: &crate::harness::Gate) {
    gate.upstream.push(Reply::sse(turn("resp_fine")));
    talker.say(PLAIN).await;
    assert_eq!(talker.response().await, messages(turn("resp_fine")));
}

#[tokio::test]
async fn an_error_is_told_and_the_socket_goes_on() {
    let gate = gate().await;
    let mut talker = Talker::open(&gate).await;
    for (message, status, code) in [
        ("hello", 400, "invalid_request"),
        ("[]", 400, "invalid_request"),
        (r#"{"type":"response.create","type":"x"}"#, 400, "invalid_request"),
        (r#"{"type":"response.cancel"}"#, 400, "protocol"),
        (r#"{"model":"wired-1"}"#, 400, "protocol"),
        (r#"{"type":"response.create"}"#, 400, "model_missing"),
        (r#"{"type":"response.create","model":7}"#, 400, "invalid_request"),
    ] {
        talker.say(message).await;
        let error = talker.json().await;
        assert_eq!((&error["type"], &error["status"]), (&json!("error"), &json!(status)), "{message}");
        assert_eq!(error["error"]["code"], code, "{message}");
        assert!(error["error"]["message"].is_string(), "{message}");
    }
    assert_talks(&mut talker, &gate).await;
}

#[tokio::test]
async fn a_refusal_of_the_provider_has_its_status_its_error_and_its_headers() {
    let gate = gate().await;
    let mut talker = Talker::open(&gate).await;
    for status in [400, 401, 429, 500, 503] {
        let told =
            json!({"error": {"message": "Try again in 1.5s.", "code": "told", "type": "t", "param": null}});
        gate.upstream
            .push(Reply::json(status, &told).header("x-request-id", "req_1").header("set-cookie", "a=b"));
        talker.say(PLAIN).await;
        let error = talker.json().await;
        assert_eq!((&error["type"], &error["status"]), (&json!("error"), &json!(status)));
        assert_eq!(error["error"], told["error"]);
        let delay = if status == 429 { json!("2") } else { json!(null) };
        assert_eq!(
            (&error["headers"]["x-request-id"], &error["headers"]["retry-after"]),
            (&json!("req_1"), &delay)
        );
        assert_eq!(error["headers"]["set-cookie"], json!(null));
    }
    // The same told on the provider's socket.
    let told = r#"{"type":"error","status":429,"error":{"code":"slow","message":"m"},"headers":{"retry-after":"3"}}"#;
    gate.upstream.push_socket(SocketScript::new().answer([told]));
    talker.say(WIRED).await;
    let error = talker.json().await;
    assert_eq!(
        (&error["status"], &error["error"]["code"], &error["headers"]["retry-after"]),
        (&json!(429), &json!("slow"), &json!("3"))
    );
    // What is no stream cannot be told on a socket.
    gate.upstream.push(Reply::json(200, &json!({"object": "response"})));
    talker.say(PLAIN).await;
    assert_eq!(talker.json().await["error"]["code"], "upstream_malformed");
    assert_talks(&mut talker, &gate).await;
}

#[tokio::test]
async fn one_response_at_a_time() {
    let gate = gate().await;
    let mut talker = Talker::open(&gate).await;
    for held_before_headers in [true, false] {
        let hold = Hold::closed();
        let reply = Reply::sse(turn("resp_1"));
        gate.upstream.push(if held_before_headers {
            reply.delay_headers(&hold)
        } else {
            reply.stall_after(700, &hold)
        });
        talker.say(PLAIN).await;
        let mut events = Vec::new();
        if !held_before_headers {
            events.push(talker.event().await);
        }
        talker.say(PLAIN).await;
        let error = loop {
            let event = talker.json().await;
            if event["type"] == "error" {
                break event;
            }
            events.push(String::new());
        };
        assert_eq!(
            (&error["status"], &error["error"]["code"]),
            (&json!(400), &json!("response_in_progress"))
        );
        hold.open();
        events.extend(talker.response().await);
        assert_eq!(events.len(), messages(turn("resp_1")).len());
    }
    assert_talks(&mut talker, &gate).await;
}

/// For the caller a response is over with its last event, whatever the provider does with its connection then.
#[tokio::test]
async fn the_next_response_does_not_wait_for_the_end_of_the_provider_s_stream() {
    let gate = gate().await;
    let mut talker = Talker::open(&gate).await;
    let length = turn("resp_1").concat().len();
    for _ in 0..3 {
        let hold = Hold::closed();
        gate.upstream.push(
            Reply::sse(turn("resp_1").into_iter().chain([Bytes::from_static(b": bye\n\n")]))
                .stall_after(length, &hold),
        );
        talker.say(PLAIN).await;
        assert_eq!(talker.response().await, messages(turn("resp_1")));
    }
    assert_talks(&mut talker, &gate).await;
}

#[tokio::test]
async fn what_may_not_be_sent_ends_the_socket_with_its_code() {
    let gate = gate_with(ServerConfig { body_bytes_max: 10_000, ..ServerConfig::default() }).await;
    let cases: [(Vec<u8>, CloseCode); 4] = [
        (vec![0x82, 0x81, 0, 0, 0, 0, b'x'], CloseCode::Unsupported),
        (vec![0x81, 0x81, 0, 0, 0, 0, 0xff], CloseCode::Invalid),
        (vec![0x81, 0x01, b'x'], CloseCode::Protocol),
        // More than is read at once, so that much of it is on its way when the socket is closed.
        (
            [&[0x81, 0xff, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0][..], &vec![b'x'; 0x20_0000]].concat(),
            CloseCode::Size,
        ),
    ];
    for (sent, code) in cases {
        let mut talker = Talker::open(&gate).await;
        // What comes too late is not taken any more.
        let _cut = deadline(talker.socket.get_mut().write_all(&sent)).await;
        assert_eq!(talker.closed().await.0, code);
    }
    let mut talker = Talker::open(&gate).await;
    assert_talks(&mut talker, &gate).await;
    talker.send(Message::Ping(Bytes::from_static(b"there?"))).await;
    assert_talks(&mut talker, &gate).await;
    talker.send(Message::Close(None)).await;
    deadline(gate.gateway.close_sockets()).await;
}

#[tokio::test]
async fn a_caller_that_leaves_cancels_its_call() {
    let gate = gate().await;
    for (cancelled, politely) in [(1, true), (2, false)] {
        let hold = Hold::closed();
        gate.upstream.push(Reply::sse(turn("resp_1")).stall_after(700, &hold));
        let mut talker = Talker::open(&gate).await;
        talker.say(PLAIN).await;
        talker.event().await;
        if politely {
            talker.send(Message::Close(None)).await;
        }
        drop(talker);
        gate.upstream.wait_cancelled(cancelled).await.unwrap();
    }
    // Before the first byte of the answer, and on the provider's socket.
    let hold = Hold::closed();
    gate.upstream.push(Reply::sse(turn("resp_1")).delay_headers(&hold));
    let mut talker = Talker::open(&gate).await;
    talker.say(PLAIN).await;
    gate.upstream.wait_for_request(3).await.unwrap();
    drop(talker);
    gate.upstream.wait_cancelled(3).await.unwrap();
    gate.upstream
        .push_socket(SocketScript::new().request().send([r#"{"type":"response.created"}"#]).stall(&hold));
    let mut talker = Talker::open(&gate).await;
    talker.say(WIRED).await;
    talker.event().await;
    drop(talker);
    gate.upstream.wait_socket_end(0).await.unwrap();
    // An idle socket takes the provider's with it, too.
    gate.upstream.push_socket(SocketScript::new().answer(messages(turn("resp_1"))));
    let mut talker = Talker::open(&gate).await;
    talker.say(WIRED).await;
    talker.response().await;
    drop(talker);
    gate.upstream.wait_socket_end(1).await.unwrap();
}

/// Far more than all sockets between provider and caller hold.
const FLOOD_BYTES: usize = 64 * 1024 * 1024;

#[tokio::test]
async fn a_slow_reader_slows_its_provider() {
    let gate = gate().await;
    let data = format!(r#"{{"type":"response.output_text.delta","delta":"{}"}}"#, "x".repeat(16 * 1024));
    let delta = sse::encode("response.output_text.delta", data.as_bytes());
    let mut frames = vec![delta; FLOOD_BYTES / (16 * 1024)];
    frames.extend(turn("resp_1"));
    let count = messages(frames.clone()).len();
    gate.upstream.push(Reply::sse(frames).chunks(&[256 * 1024]));
    let mut talker = Talker::open(&gate).await;
    talker.say(PLAIN).await;
    talker.event().await;
    // Other calls are the clock: while nobody reads, the provider can send only what sockets hold.
    for _ in 0..50 {
        gate.assert_healthy().await;
    }
    let sent = gate.upstream.requests().first().unwrap().sent;
    assert!(sent < FLOOD_BYTES / 2, "{sent} bytes were taken from the provider");
    assert_eq!(talker.response().await.len(), count - 1);
}

#[tokio::test]
async fn a_stream_that_breaks_ends_with_a_failed_response() {
    let gate = gate().await;
    let mut talker = Talker::open(&gate).await;
    let told = messages(turn("resp_1"));
    let length = turn("resp_1").concat().len();
    for at in [1, length / 3, length / 2, length - 10] {
        gate.upstream.push(Reply::sse(turn("resp_1")).end_after(at));
        talker.say(PLAIN).await;
        let mut events = talker.response().await;
        let failed: serde_json::Value = serde_json::from_str(&events.pop().unwrap()).unwrap();
        assert_eq!(
            (&failed["type"], &failed["response"]["error"]["code"]),
            (&json!("response.failed"), &json!("upstream_disconnected"))
        );
        assert!(told.starts_with(&events), "at {at}");
    }
    for script in [
        SocketScript::new().request().send(&told[..2]).reset(),
        SocketScript::new().request().send(&told[..2]).close(1011, ""),
    ] {
        gate.upstream.push_socket(script);
        talker.say(WIRED).await;
        let mut events = talker.response().await;
        let failed: serde_json::Value = serde_json::from_str(&events.pop().unwrap()).unwrap();
        assert_eq!(failed["response"]["error"]["code"], "upstream_disconnected");
        assert_eq!((&failed["response"]["id"], &failed["sequence_number"]), (&json!("resp_1"), &json!(2)));
        assert!(told.starts_with(&events));
    }
    // A response on a socket that is gone cannot be gone on from.
    gate.upstream.push_socket(SocketScript::new().answer(told).close(1001, ""));
    talker.say(WIRED).await;
    talker.response().await;
    gate.upstream.wait_faults(|faults| faults.close_frames == 2).await.unwrap();
    talker.say(&WIRED.replacen("\"input\"", r#""previous_response_id":"resp_1","input""#, 1)).await;
    assert_eq!(talker.json().await["error"]["code"], "previous_response_not_found");
    assert_talks(&mut talker, &gate).await;
}

#[tokio::test]
async fn an_idle_socket_is_closed_when_the_gateway_stops_and_a_busy_one_after_its_response() {
    let gate = gate().await;
    let mut idle = Talker::open(&gate).await;
    assert_talks(&mut idle, &gate).await;
    let hold = Hold::closed();
    gate.upstream.push(Reply::sse(turn("resp_1")).stall_after(700, &hold));
    let mut busy = Talker::open(&gate).await;
    busy.say(PLAIN).await;
    let mut events = vec![busy.event().await];
    let stopping = gate.gateway.close_sockets();
    let talking = async {
        assert_eq!(idle.closed().await, (CloseCode::Restart, "the gateway stops".to_owned()));
        hold.open();
        events.extend(busy.response().await);
        assert_eq!(busy.closed().await.0, CloseCode::Restart);
        drop((idle, busy));
    };
    deadline(async { tokio::join!(stopping, talking) }).await;
    assert_eq!(events, messages(turn("resp_1")));
}

#[tokio::test]
async fn a_call_that_is_cut_fails_in_a_way_that_clients_understand() {
    let gate = gate().await;
    let hold = Hold::closed();
    gate.upstream.push(Reply::sse(turn("resp_1")).stall_after(700, &hold));
    let mut talker = Talker::open(&gate).await;
    talker.say(PLAIN).await;
    talker.event().await;
    // One who does not read cannot hold up the end.
    let data = format!(r#"{{"type":"response.output_text.delta","delta":"{}"}}"#, "x".repeat(16 * 1024));
    gate.upstream.push(Reply::sse(vec![sse::encode("response.output_text.delta", data.as_bytes()); 4096]));
    let mut deaf = Talker::open(&gate).await;
    deaf.say(PLAIN).await;
    deaf.event().await;
    gate.cut.cancel();
    let events = talker.response().await;
    let failed: serde_json::Value = serde_json::from_str(events.last().unwrap()).unwrap();
    assert_eq!(
        (&failed["type"], &failed["response"]["error"]["code"]),
        (&json!("response.failed"), &json!("gateway_stopping"))
    );
    assert_eq!(talker.closed().await.0, CloseCode::Restart);
    tokio::time::timeout(Duration::from_secs(5), gate.gateway.close_sockets()).await.unwrap();
    gate.upstream.wait_cancelled(2).await.unwrap();
}

#[tokio::test]
async fn a_socket_on_which_nothing_is_asked_is_closed() {
    let gate = gate_with(ServerConfig { websocket_idle_ms: 50, ..ServerConfig::default() }).await;
    let mut talker = Talker::open(&gate).await;
    assert_eq!(talker.closed().await, (CloseCode::Away, "nothing was asked for too long".to_owned()));
    // A call may take longer.
    let mut talker = Talker::open(&gate).await;
    let hold = Hold::closed();
    gate.upstream.push(Reply::sse(turn("resp_1")).stall_after(700, &hold));
    talker.say(PLAIN).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    hold.open();
    assert_eq!(talker.response().await, messages(turn("resp_1")));
    assert_eq!(talker.closed().await.0, CloseCode::Away);
    assert!(talker.socket.send(Message::text("too late")).await.is_err());
}
