//! Calls over a caller's WebSocket: events as they came, over a provider's WebSocket and over HTTP.

use bytes::Bytes;
use gateway_testkit::{Dice, Reply, SocketScript, Turn, messages, text_turn};
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{
    Error,
    protocol::frame::{
        Frame,
        coding::{Data, OpCode},
    },
};

use crate::{
    harness::{Gate, KEY, bytes_of, json_of, usage},
    talker::{Talker, gate},
};

/// What Codex sends first: nothing to generate.
const PREWARM: &str =
    r#"{"type":"response.create","model":"wired-1","stream":true,"store":false,"input":[],"generate":false}"#;
const FIRST: &str = r#"{"type":"response.create","model":"wired-1","stream":true,"store":false,"input":[{"type":"odd_item","x":"\u00e9"}],"unknown":1.0}"#;
const SECOND: &str = r#"{"type":"response.create","model":"wired-1","stream":true,"store":false,"previous_response_id":"resp_1","input":[]}"#;
/// The same for a provider without WebSockets, whose responses are not stored.
const PLAIN: &str =
    r#"{"type":"response.create","model":"scripted-1","stream":true,"store":false,"input":[]}"#;
/// And one whose responses are.
const STORED: &str = r#"{"type":"response.create","model":"scripted-1","stream":true,"input":"hi"}"#;

fn turn(id: &str) -> Vec<Bytes> {
    Turn::new(id).reasoning(&["Thinking"], "sealed").text(&["Hel", "lo ", "wörld"]).completed(usage())
}

#[tokio::test]
async fn responses_follow_each_other_on_one_socket_as_on_the_provider_s() {
    let gate = gate().await;
    let script = SocketScript::new()
        .answer(messages(turn("resp_0")))
        .answer(messages(turn("resp_1")))
        .answer(messages(turn("resp_2")));
    gate.upstream.push_socket(script);
    let headers =
        [("session-id", "s"), ("x-codex-window-id", "t:0"), ("cookie", "a=b"), ("x-oai-attestation", "x")];
    let mut talker = Talker::open_with(&gate, &headers).await.unwrap();
    for (index, message) in [PREWARM, FIRST, SECOND].into_iter().enumerate() {
        talker.say(message).await;
        assert_eq!(talker.response().await, messages(turn(&format!("resp_{index}"))));
    }
    let asked: Vec<_> =
        gate.upstream.messages().into_iter().map(|message| (message.socket, message.text)).collect();
    assert_eq!(asked, [PREWARM, FIRST, SECOND].map(|message| (0, message.to_owned())));
    let socket = gate.upstream.sockets().remove(0);
    assert_eq!(socket.header("authorization"), Some(format!("Bearer {KEY}").as_str()));
    assert_eq!((socket.header("session-id"), socket.header("x-codex-window-id")), (Some("s"), Some("t:0")));
    assert_eq!((socket.header("cookie"), socket.header("x-oai-attestation")), (None, None));
    assert_eq!((gate.upstream.requests().len(), gate.upstream.sockets().len()), (0, 1));
    // Another caller's socket has a way of its own.
    gate.upstream.push_socket(SocketScript::new().answer(messages(turn("resp_9"))));
    let mut other = Talker::open(&gate).await;
    other.say(FIRST).await;
    assert_eq!(other.response().await, messages(turn("resp_9")));
    assert_eq!(gate.upstream.sockets().len(), 2);
}

#[tokio::test]
async fn a_provider_without_websockets_is_called_over_http() {
    let gate = gate().await;
    let headers = [
        ("openai-beta", "responses_websockets=2026-02-06"),
        ("x-codex-turn-metadata", "old"),
        ("x-codex-turn-state", "of another turn"),
    ];
    let mut talker = Talker::open_with(&gate, &headers).await.unwrap();
    gate.upstream.push(Reply::sse(turn("resp_1")).chunks(&[7]));
    let described = STORED.replacen(
        "\"input\"",
        r#""client_metadata":{"x-codex-turn-metadata":"{\"turn\":\"é\"}","ws_request_header_traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},"input""#,
        1,
    );
    talker.say(&described).await;
    assert_eq!(talker.response().await, messages(turn("resp_1")));
    let seen = gate.upstream.requests().remove(0);
    assert_eq!(seen.body, described.replacen(r#""type":"response.create","#, "", 1).as_bytes());
    assert_eq!(seen.header("x-codex-turn-metadata"), Some(r#"{"turn":"\u00e9"}"#));
    assert!(seen.header("traceparent").unwrap().starts_with("00-0af7651916cd43dd8448eb211c80319c-"));
    assert_eq!((seen.header("openai-beta"), seen.header("x-codex-turn-state")), (None, None));
    assert_eq!(seen.header("accept"), Some("text/event-stream"));
    // Another model on the same socket takes the way that its provider has.
    gate.upstream.push_socket(SocketScript::new().answer(messages(turn("resp_2"))));
    talker.say(FIRST).await;
    assert_eq!(talker.response().await, messages(turn("resp_2")));
}

/// Codex goes on from a response by its id, and from one without an id by sending everything.
#[tokio::test]
async fn a_response_that_nobody_keeps_cannot_be_gone_on_from() {
    let gate = gate().await;
    let mut talker = Talker::open(&gate).await;
    talker.say(&PREWARM.replace("wired-1", "scripted-1")).await;
    let warmed: Vec<Value> =
        talker.response().await.iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    assert_eq!(warmed.len(), 2);
    assert_eq!(
        (&warmed[1]["type"], &warmed[1]["response"]["id"]),
        (&json!("response.completed"), &json!(""))
    );
    assert_eq!(gate.upstream.requests().len(), 0, "there is nothing to ask for");

    gate.upstream.push(Reply::sse(turn("resp_1")));
    talker.say(PLAIN).await;
    let mut expected = messages(turn("resp_1"));
    let last = expected.last_mut().unwrap();
    *last = last.replacen(r#""id":"resp_1""#, r#""id":"""#, 1);
    assert_eq!(talker.response().await, expected);

    talker.say(&SECOND.replace("wired-1", "scripted-1")).await;
    let error = talker.json().await;
    assert_eq!((&error["type"], &error["status"]), (&json!("error"), &json!(400)));
    assert_eq!(error["error"]["code"], "previous_response_not_found");
    assert_eq!(gate.upstream.requests().len(), 1);
}

#[tokio::test]
async fn what_an_answer_over_http_says_in_headers_is_told_in_events() {
    let gate = gate().await;
    let mut talker = Talker::open(&gate).await;
    let reply =
        Reply::sse(turn("resp_1")).header("x-codex-turn-state", "sticky").header("openai-model", "other");
    gate.upstream.push(reply.header("x-codex-primary-used-percent", "12").header("set-cookie", "a=b"));
    talker.say(STORED).await;
    let events = talker.response().await;
    let told: Value = serde_json::from_str(&events[0]).unwrap();
    assert_eq!(told["type"], "response.metadata");
    // A model that is not OpenAI's is nothing that Codex may take for a sign of abuse.
    assert_eq!(told["headers"], json!({"x-codex-turn-state": "sticky", "openai-model": "scripted-1"}));
    let limits: Value = serde_json::from_str(&events[1]).unwrap();
    assert_eq!(limits["type"], "codex.rate_limits");
    assert_eq!(limits["rate_limits"]["primary"]["used_percent"], 12.0);
    assert_eq!(events[2..], messages(turn("resp_1")));
    // What Codex answers is a header again.
    gate.upstream.push(Reply::sse(turn("resp_2")));
    talker
        .say(&STORED.replacen("\"input\"", r#""client_metadata":{"x-codex-turn-state":"sticky"},"input""#, 1))
        .await;
    assert_eq!(talker.response().await, messages(turn("resp_2")));
    assert_eq!(gate.upstream.requests()[1].header("x-codex-turn-state"), Some("sticky"));
}

#[tokio::test]
async fn the_turn_state_of_a_provider_s_handshake_is_told_once() {
    let gate = gate().await;
    let script = SocketScript::new()
        .header("x-codex-turn-state", "sticky")
        .header("x-codex-primary-used-percent", "9");
    gate.upstream.push_socket(script.answer(messages(turn("resp_0"))).answer(messages(turn("resp_1"))));
    let mut talker = Talker::open(&gate).await;
    talker.say(PREWARM).await;
    let first = talker.response().await;
    assert_eq!(first[0], r#"{"type":"response.metadata","headers":{"x-codex-turn-state":"sticky"}}"#);
    assert_eq!(first[1..], messages(turn("resp_0")));
    talker.say(FIRST).await;
    assert_eq!(talker.response().await, messages(turn("resp_1")));
}

/// The events of generated streams, whatever their writes and frames: byte for byte those of the provider.
#[tokio::test]
async fn generated_streams_pass_byte_for_byte_however_they_are_cut() {
    let gate = gate().await;
    let mut talker = Talker::open(&gate).await;
    for seed in 0..120 {
        let mut dice = Dice::new(seed);
        let id = format!("resp_{seed}");
        let stream = dice.stream(&id);
        let told: Vec<String> =
            messages(stream.clone()).into_iter().filter(|message| !message.is_empty()).collect();
        let sizes = dice.sizes();

        gate.upstream.push(Reply::sse(stream.clone()).chunks(&sizes));
        talker.say(STORED).await;
        assert!(talker.response().await == told, "seed {seed}, over http in writes of {sizes:?}");

        let framed = told.iter().fold(SocketScript::new().request(), |script, message| {
            script.send_in_frames(message, 1 + dice.below(message.len()))
        });
        gate.upstream.push_socket(framed);
        let mut wired = Talker::open(&gate).await;
        wired.say(FIRST).await;
        assert!(wired.response().await == told, "seed {seed}, over a websocket");

        gate.upstream.push(Reply::sse(stream.clone()).chunks(&sizes));
        let posted = gate.post(r#"{"model":"scripted-1","stream":true,"input":"hi"}"#).await;
        assert!(bytes_of(posted).await == stream.concat(), "seed {seed}, without a websocket");
    }
}

#[tokio::test]
async fn a_message_may_come_in_fragments_and_without_what_goes_without_saying() {
    let gate = gate().await;
    let mut talker = Talker::open(&gate).await;
    gate.upstream.push(Reply::sse(turn("resp_1")));
    let message = r#"{"type":"response.create","model":"scripted-1","input":"hi","x":"wörld"}"#;
    let pieces: Vec<_> = message.as_bytes().chunks(3).map(Bytes::copy_from_slice).collect();
    let last = pieces.len() - 1;
    for (index, piece) in pieces.into_iter().enumerate() {
        let data = if index == 0 { Data::Text } else { Data::Continue };
        talker.send(Frame::message(piece, OpCode::Data(data), index == last).into_message()).await;
    }
    assert_eq!(talker.response().await, messages(turn("resp_1")));
    let seen = gate.upstream.requests().remove(0);
    assert_eq!((&seen.json()["stream"], &seen.json()["x"]), (&json!(true), &json!("wörld")));
    // Says that a response has arrived, and wants no answer.
    talker.say(r#"{"type":"response.processed","response_id":"resp_1"}"#).await;
    gate.upstream.push(Reply::sse(turn("resp_2")));
    talker.say(STORED).await;
    assert_eq!(talker.response().await, messages(turn("resp_2")));
}

trait IntoMessage {
    fn into_message(self) -> tokio_tungstenite::tungstenite::Message;
}

impl IntoMessage for Frame {
    fn into_message(self) -> tokio_tungstenite::tungstenite::Message {
        tokio_tungstenite::tungstenite::Message::Frame(self)
    }
}

#[tokio::test]
async fn an_upgrade_is_refused_so_that_the_client_goes_on_over_http() {
    let plain = Gate::start().await;
    for path in ["/v1/responses", "/responses"] {
        let upgrade = Request::get(format!("http://{}{path}", plain.at))
            .header("connection", "keep-alive, Upgrade")
            .header("upgrade", "WebSocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .body(Full::default())
            .unwrap();
        let response = plain.send(upgrade).await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()["x-tidegate-generation"]),
            (426, &"1".parse().unwrap())
        );
        assert_eq!(json_of(response).await["error"]["code"], "websocket_unsupported");
    }
    let gate = gate().await;
    let Err(Error::Http(answer)) = Talker::open_with(&gate, &[("sec-websocket-version", "8")]).await else {
        panic!("version 8 was accepted");
    };
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["sec-websocket-version"]),
        (426, &"13".parse().unwrap())
    );
    for (upgrade, status) in
        [("connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n", "400"), ("", "405")]
    {
        let answer =
            gate.raw(format!("GET /v1/responses HTTP/1.1\r\nhost: x\r\n{upgrade}\r\n").as_bytes()).await;
        assert!(answer.starts_with(format!("HTTP/1.1 {status}").as_bytes()), "{upgrade}");
    }
    gate.upstream.push(Reply::sse(text_turn(&["fine"], usage())));
    let mut talker = Talker::open(&gate).await;
    talker.say(STORED).await;
    assert_eq!(talker.response().await, messages(text_turn(&["fine"], usage())));
}
