//! Calls over a provider's WebSocket: continuation, refusals, close codes, silence, resets, credentials.

use std::time::Duration;

use gateway_providers::{
    Answer, BodyError, Call, CallerCredential, Fault, SendError, Session, Upstream as Provider,
};
use gateway_testkit::{Gate, Reply, SocketEnd, SocketScript, Turn, Upstream, messages};
use http::header::{HeaderMap, HeaderValue};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tidegate_responses::{Usage, sse};
use tokio::time::Instant;

use crate::harness::{BODY_MAX, SECRET, call, provider};

const SOCKETS: &str = "supports_websockets = true\n";
const CONTINUES: &str =
    r#"{"model":"any","stream":true,"store":false,"previous_response_id":"resp_1","input":[]}"#;
const FRESH: &str = r#"{"model":"any","stream":true,"store":false,"input":[]}"#;

/// No wait of these tests is longer, on a clock that runs by itself.
const DEADLINE: Duration = Duration::from_secs(30);

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.unwrap()
}

fn turn(id: &str) -> Vec<String> {
    messages(Turn::new(id).text(&["Hel", "lo"]).completed(Usage::default()))
}

/// The event stream that a caller gets for these messages.
fn stream(messages: &[String]) -> Vec<u8> {
    let event = |message: &String| {
        let kind = serde_json::from_str::<Value>(message).unwrap()["type"].as_str().unwrap().to_owned();
        sse::encode(&kind, message.as_bytes())
    };
    messages.iter().flat_map(event).collect()
}

fn error(status: u16, code: &str) -> String {
    json!({"type": "error", "status": status, "error": {"type": "t", "code": code, "message": "m"}})
        .to_string()
}

struct Scene {
    upstream: Upstream,
    provider: std::sync::Arc<Provider>,
    session: Session,
}

impl Scene {
    async fn new(scripts: impl IntoIterator<Item = SocketScript>) -> Scene {
        Scene::with("env_key = \"TEST_KEY\"\n", scripts).await
    }

    async fn with(keys: &str, scripts: impl IntoIterator<Item = SocketScript>) -> Scene {
        let upstream = Upstream::start().await.unwrap();
        for script in scripts {
            upstream.push_socket(script);
        }
        let provider = provider(&upstream.base_url(), &format!("{SOCKETS}{keys}"));
        Scene { upstream, provider, session: Session::default() }
    }

    async fn send(&mut self, body: &str) -> Result<Answer, SendError> {
        self.call(call(body)).await
    }

    async fn call(&mut self, call: Call) -> Result<Answer, SendError> {
        in_time(self.provider.send(call, Some(&mut self.session))).await
    }

    /// A call that is answered as by `messages`, whole. Returns the attempts and the headers.
    async fn succeeds(&mut self, body: &str, messages: &[String]) -> (u32, HeaderMap) {
        let Answer { status, headers, body, attempts, .. } = self.send(body).await.unwrap();
        assert_eq!(status, 200);
        assert_eq!(headers["content-type"], "text/event-stream");
        assert_eq!(in_time(body.collect(BODY_MAX)).await.unwrap(), stream(messages));
        (attempts, headers)
    }

    /// How often an upgrade was asked for.
    fn upgrades(&self) -> usize {
        self.upstream.all_requests().iter().filter(|request| request.header("upgrade").is_some()).count()
    }

    fn posts(&self) -> usize {
        self.upstream.requests().len()
    }

    /// What came on which socket.
    fn asked(&self) -> Vec<(usize, String)> {
        self.upstream.messages().into_iter().map(|message| (message.socket, message.text)).collect()
    }
}

fn message(body: &str) -> String {
    body.replacen('{', r#"{"type":"response.create","#, 1)
}

/// Reads an answer up to its break.
async fn breaks(answer: Answer) -> (Vec<u8>, BodyError) {
    let (mut body, mut read) = (answer.body, Vec::new());
    loop {
        match in_time(body.frame()).await.unwrap() {
            Ok(frame) => read.extend_from_slice(&frame.into_data().unwrap()),
            Err(error) => {
                assert!(in_time(body.frame()).await.is_none(), "nothing follows an error");
                return (read, error);
            }
        }
    }
}

#[tokio::test]
async fn responses_follow_each_other_on_one_socket_bytes_untouched() {
    let script = SocketScript::new()
        .header("x-codex-turn-state", "sticky")
        .header("x-codex-primary-used-percent", "12")
        .answer(turn("resp_0"))
        .answer(turn("resp_1"))
        .answer(turn("resp_2"));
    let mut scene = Scene::new([script]).await;
    let prewarm = r#"{"model":"any", "stream":true,"store":false,"generate":false,"input":[]}"#;
    let (attempts, first) = scene.succeeds(prewarm, &turn("resp_0")).await;
    let (again, second) = scene.succeeds(FRESH, &turn("resp_1")).await;
    scene.succeeds(CONTINUES, &turn("resp_2")).await;
    assert_eq!(scene.asked(), [prewarm, FRESH, CONTINUES].map(|body| (0, message(body))));
    assert_eq!((scene.upgrades(), scene.posts(), scene.upstream.connections()), (1, 0, 1));
    assert_eq!((attempts, again), (1, 1));
    assert_eq!(first["x-codex-turn-state"], "sticky");
    assert_eq!(second["x-codex-turn-state"], "sticky");
    assert_eq!(first["x-codex-primary-used-percent"], "12");
    assert!(!second.contains_key("x-codex-primary-used-percent"), "measured for another response");
    drop(scene.session);
    let goodbye = SocketEnd::ClosedByClient { code: Some(1000), reason: String::new() };
    assert_eq!(scene.upstream.wait_socket_end(0).await.unwrap(), goodbye);
}

#[tokio::test]
async fn the_handshake_has_the_calls_headers_and_offers_nothing() {
    let mut scene = Scene::with(
        "env_key = \"TEST_KEY\"\nquery_params = { v = \"1\" }\nhttp_headers = { x-team = \"red\" }\n",
        [SocketScript::new().answer(turn("resp_1"))],
    )
    .await;
    let mut headers = HeaderMap::new();
    headers.insert("thread-id", HeaderValue::from_static("t"));
    headers.insert("authorization", HeaderValue::from_static("Bearer theirs"));
    headers.insert("sec-websocket-extensions", HeaderValue::from_static("permessage-deflate"));
    let attestation = Some(HeaderValue::from_static("{\"v\":1,\"s\":1}"));
    let answer = scene.call(Call { headers, attestation, ..call(FRESH) }).await.unwrap();
    in_time(answer.body.collect(BODY_MAX)).await.unwrap();
    let socket = scene.upstream.sockets().remove(0);
    assert_eq!((socket.path.as_str(), socket.query.as_deref()), ("/v1/responses", Some("v=1")));
    let mut sent: Vec<_> = socket
        .headers
        .iter()
        .filter(|(name, _)| *name != "sec-websocket-key" && *name != "host")
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    sent.sort();
    let expected = [
        &format!("authorization: Bearer {SECRET}"),
        "connection: Upgrade",
        "openai-beta: responses_websockets=2026-02-06",
        "sec-websocket-version: 13",
        "thread-id: t",
        "upgrade: websocket",
        &format!("user-agent: tidegate/{}", env!("CARGO_PKG_VERSION")),
        "x-oai-attestation: {\"v\":1,\"s\":1}",
        "x-team: red",
    ];
    assert_eq!(sent, expected);
    assert_eq!(socket.header("host"), Some(scene.upstream.address().to_string().as_str()));
}

#[tokio::test]
async fn a_newer_protocol_that_the_caller_asks_for_is_kept() {
    let mut scene = Scene::new([SocketScript::new().answer(turn("resp_1"))]).await;
    let mut headers = HeaderMap::new();
    headers.insert("openai-beta", HeaderValue::from_static("a=b, responses_websockets=2027-01-01"));
    scene.call(Call { headers, ..call(FRESH) }).await.unwrap();
    let beta = scene.upstream.sockets()[0].headers.get_all("openai-beta").iter().count();
    assert_eq!(beta, 1);
}

#[tokio::test]
async fn what_cannot_go_over_a_socket_goes_over_http() {
    let mut scene = Scene::with("", []).await;
    scene.upstream.set_default(Reply::sse(Turn::new("resp_1").completed(Usage::default())));
    scene.upstream.set_default_socket(SocketScript::new());
    let whole = Call { stream: false, ..call(FRESH) };
    let unwanted = Call { over_http: true, ..call(FRESH) };
    let compact = Call { operation: gateway_providers::Operation::Compact, ..call(FRESH) };
    let unreadable = call("{\"model\":1,\"model\":2}");
    for call in [whole, unwanted, compact, unreadable] {
        assert_eq!(scene.call(call).await.unwrap().status, 200);
    }
    in_time(scene.provider.send(call(FRESH), None)).await.unwrap();
    let without = provider(&scene.upstream.base_url(), "");
    in_time(without.send(call(FRESH), Some(&mut scene.session))).await.unwrap();
    assert_eq!((scene.upgrades(), scene.posts()), (0, 6));
}

#[tokio::test]
async fn a_refused_upgrade_means_http_for_the_session() {
    for status in [200, 302, 400, 404, 405, 426, 500, 501, 503] {
        let refusal = Reply::json(status, &json!({"error": {"message": "no"}}));
        let mut scene = Scene::new([SocketScript::refuse(refusal)]).await;
        scene.upstream.set_default_socket(SocketScript::new().answer(turn("resp_1")));
        scene.upstream.set_default(Reply::sse(Turn::new("resp_1").completed(Usage::default())));
        for calls in 1..=3 {
            let answer = scene.send(FRESH).await.unwrap();
            assert_eq!((answer.status.as_u16(), answer.attempts), (200, 1), "{status}");
            assert_eq!((scene.upgrades(), scene.posts()), (1, calls), "{status}");
        }
        assert_eq!(scene.upstream.faults().refusals, 1);
        scene.session = Session::default();
        scene.succeeds(FRESH, &turn("resp_1")).await;
        assert_eq!(scene.upgrades(), 2, "another session tries for itself");
    }
}

#[tokio::test]
async fn a_handshake_that_is_no_websockets_means_http() {
    for (name, value) in [
        ("upgrade", "h2c"),
        ("connection", "keep-alive"),
        ("sec-websocket-accept", "AAAA"),
        ("sec-websocket-extensions", "permessage-deflate"),
        ("sec-websocket-protocol", "chat"),
    ] {
        let reply = Reply::json(101, &Value::Null).header(name, value);
        let mut scene = Scene::new([SocketScript::refuse(reply)]).await;
        scene.upstream.push(Reply::sse(Turn::new("resp_1").completed(Usage::default())));
        assert_eq!(scene.send(FRESH).await.unwrap().status, 200, "{name}");
        assert_eq!((scene.upgrades(), scene.posts()), (1, 1), "{name}");
    }
}

#[tokio::test]
async fn a_handshake_that_takes_too_long_or_breaks_means_http() {
    let script = SocketScript::new().delay_handshake(&Gate::closed());
    let mut scene = Scene::with("websocket_connect_timeout_ms = 300\n", [script]).await;
    scene.upstream.set_default(Reply::sse(Turn::new("resp_1").completed(Usage::default())));
    let began = Instant::now();
    assert_eq!(scene.send(FRESH).await.unwrap().status, 200);
    assert!((300..5000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    assert_eq!(scene.upstream.faults().header_delays, 1);
    for refusal in [Reply::reset(), Reply::close()] {
        let mut scene = Scene::new([SocketScript::refuse(refusal)]).await;
        scene.upstream.set_default(Reply::sse(Turn::new("resp_1").completed(Usage::default())));
        assert_eq!(scene.send(FRESH).await.unwrap().status, 200);
        assert_eq!((scene.upgrades(), scene.posts()), (1, 1));
        let faults = scene.upstream.faults();
        assert_eq!(faults.resets + faults.closes, 1);
    }
}

#[tokio::test]
async fn a_refused_caller_is_answered_and_the_session_keeps_its_sockets() {
    for status in [401, 403, 429] {
        let body = json!({"error": {"message": "no", "code": "c"}});
        let refusal = Reply::json(status, &body).header("retry-after", "7").header("x-request-id", "req_1");
        let mut scene = Scene::new([SocketScript::refuse(refusal)]).await;
        scene.upstream.push_socket(SocketScript::new().answer(turn("resp_1")));
        let answer = scene.send(FRESH).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.attempts), (status, 1));
        assert_eq!(answer.headers["retry-after"], "7");
        assert_eq!(answer.headers["x-request-id"], "req_1");
        assert_eq!(in_time(answer.body.collect(BODY_MAX)).await.unwrap(), body.to_string());
        scene.succeeds(FRESH, &turn("resp_1")).await;
        assert_eq!((scene.upgrades(), scene.posts(), scene.upstream.faults().refusals), (2, 0, 1));
    }
}

#[tokio::test]
async fn an_error_before_the_response_is_an_answer_with_its_status() {
    let limits = json!({"type": "codex.rate_limits", "rate_limits": {}}).to_string();
    let told = json!({
        "type": "error", "status": 429, "headers": {"retry-after": "3", "x-codex-primary-used-percent": "100"},
        "error": {"code": "usage_limit_reached", "message": "m"},
    });
    for (script, status, body) in [
        (
            SocketScript::new().answer([error(400, "previous_response_not_found")]),
            400,
            json!({"error": {"type": "t", "code": "previous_response_not_found", "message": "m"}}),
        ),
        (
            SocketScript::new()
                .header("x-codex-primary-used-percent", "9")
                .answer([limits, told.to_string()]),
            429,
            json!({"error": {"code": "usage_limit_reached", "message": "m"}}),
        ),
    ] {
        let mut scene = Scene::new([script]).await;
        scene.upstream.push_socket(SocketScript::new().answer(turn("resp_1")));
        let answer = scene.send(CONTINUES).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.attempts), (status, 1));
        assert_eq!(answer.headers["content-type"], "application/json");
        if status == 429 {
            assert_eq!(answer.headers["retry-after"], "3");
            assert_eq!(answer.headers["x-codex-primary-used-percent"], "100");
        }
        let read = in_time(answer.body.collect(BODY_MAX)).await.unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&read).unwrap(), body);
        // Nothing that follows the error can be taken for another call's answer.
        scene.succeeds(FRESH, &turn("resp_1")).await;
        assert_eq!((scene.upgrades(), scene.posts()), (2, 0));
    }
}

#[tokio::test]
async fn a_server_error_before_the_response_is_repeated_as_over_http() {
    let failing = || SocketScript::new().answer([error(503, "server_is_overloaded")]);
    let mut scene = Scene::new([failing(), failing(), SocketScript::new().answer(turn("resp_1"))]).await;
    assert_eq!(scene.succeeds(FRESH, &turn("resp_1")).await.0, 3);
    let mut scene = Scene::new([failing()]).await;
    let answer = scene.send(CONTINUES).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.attempts), (503, 1), "there is nothing to repeat on");
}

#[tokio::test]
async fn an_error_in_the_middle_ends_the_response_and_the_socket() {
    let mut broken = turn("resp_1");
    broken.truncate(2);
    broken.push(error(500, "server_error"));
    let late = json!({"type": "response.failed", "response": {"id": "resp_1"}}).to_string();
    let script = SocketScript::new().answer(broken.clone()).send([late]);
    let mut scene = Scene::new([script, SocketScript::new().answer(turn("resp_2"))]).await;
    scene.succeeds(FRESH, &broken).await;
    scene.succeeds(FRESH, &turn("resp_2")).await;
    assert_eq!(scene.upgrades(), 2);
}

#[tokio::test]
async fn a_response_that_failed_or_is_incomplete_leaves_the_socket_good() {
    let failed = messages(Turn::new("resp_1").text(&["Hel"]).failed("server_error", "m"));
    let incomplete = messages(Turn::new("resp_2").incomplete("max_output_tokens", Usage::default()));
    let script = SocketScript::new().answer(failed.clone()).answer(incomplete.clone()).answer(turn("resp_3"));
    let mut scene = Scene::new([script]).await;
    scene.succeeds(FRESH, &failed).await;
    scene.succeeds(FRESH, &incomplete).await;
    scene.succeeds(CONTINUES, &turn("resp_3")).await;
    assert_eq!(scene.upgrades(), 1);
}

#[tokio::test]
async fn a_socket_that_has_served_its_time_is_replaced_once() {
    let used_up = || SocketScript::new().answer([error(400, "websocket_connection_limit_reached")]);
    let mut scene = Scene::new([used_up(), SocketScript::new().answer(turn("resp_1"))]).await;
    assert_eq!(scene.succeeds(FRESH, &turn("resp_1")).await.0, 2);
    let mut scene = Scene::new([used_up(), used_up(), SocketScript::new()]).await;
    let answer = scene.send(FRESH).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.attempts), (400, 2));
    let mut scene = Scene::new([used_up(), SocketScript::new()]).await;
    let lost = scene.send(CONTINUES).await.unwrap_err();
    assert!(matches!(lost, SendError::ContinuationLost), "{lost:?}");
    assert_eq!((lost.fault(), lost.is_retryable(), scene.upgrades()), (Fault::Upstream, true, 1));
}

/// What a close code before the first message, and one after it, comes to; `again` tells whether another socket is tried.
const CODES: [(u16, bool); 15] = [
    (1000, true),
    (1001, true),
    (1002, false),
    (1003, false),
    (1007, false),
    (1008, false),
    (1009, false),
    (1010, false),
    (1011, true),
    (1012, true),
    (1013, true),
    (3000, false),
    (3008, false),
    (4000, false),
    (4999, false),
];

#[tokio::test]
async fn close_codes_before_the_first_message() {
    for (code, again) in CODES {
        let closes = || SocketScript::new().request().close(code, "policy\nno");
        let mut scene = Scene::new([closes(), SocketScript::new().answer(turn("resp_1"))]).await;
        if again {
            assert_eq!(scene.succeeds(FRESH, &turn("resp_1")).await.0, 2, "{code}");
            let mut scene = Scene::new([closes(), closes(), SocketScript::new()]).await;
            let error = scene.send(FRESH).await.unwrap_err();
            assert!(matches!(error, SendError::ClosedBeforeHeaders { .. }), "{code} {error:?}");
            assert!(error.is_retryable());
            assert_eq!((scene.upgrades(), scene.upstream.faults().close_frames), (2, 2), "{code}");
        } else {
            let error = scene.send(FRESH).await.unwrap_err();
            let SendError::Closed { source } = &error else { panic!("{code} {error:?}") };
            assert_eq!(source.to_string(), format!("closed with code {code}: policy no"));
            assert!(!error.is_retryable());
            assert_eq!((scene.upgrades(), scene.upstream.faults().close_frames), (1, 1), "{code}");
        }
        assert_eq!(scene.posts(), 0);
    }
    let silently = || SocketScript::new().request().close_silently();
    let mut scene = Scene::new([silently(), SocketScript::new().answer(turn("resp_1"))]).await;
    assert_eq!(scene.succeeds(FRESH, &turn("resp_1")).await.0, 2);
}

#[tokio::test]
async fn close_codes_after_the_first_message() {
    for (code, again) in CODES {
        let begun = turn("resp_1").remove(0);
        let mut scene = Scene::new([SocketScript::new().answer([begun.clone()]).close(code, "why")]).await;
        let (read, error) = breaks(scene.send(FRESH).await.unwrap()).await;
        assert_eq!(read, stream(&[begun]));
        match (&error, again) {
            (BodyError::Reset { .. }, true) => assert!(error.is_retryable()),
            (BodyError::Closed { source }, false) => {
                assert!(!error.is_retryable());
                assert_eq!(source.to_string(), format!("closed with code {code}: why"));
            }
            _ => panic!("{code} {error:?}"),
        }
        let end = scene.upstream.wait_socket_end(0).await.unwrap();
        assert!(matches!(end, SocketEnd::ClosedByScript { answered: true, .. }), "{end:?}");
        assert_eq!((scene.upgrades(), scene.upstream.faults().close_frames), (1, 1));
    }
}

#[tokio::test]
async fn a_break_before_the_first_message_is_tried_on_one_other_socket() {
    let first = turn("resp_1").remove(0);
    for (broken, resets, closes) in [
        (SocketScript::new().request().reset(), 1, 0),
        (SocketScript::new().request().vanish(), 0, 1),
        (SocketScript::new().request().reset_within(&first, 10), 1, 0),
    ] {
        let mut scene = Scene::new([broken.clone(), SocketScript::new().answer(turn("resp_1"))]).await;
        assert_eq!(scene.succeeds(CONTINUES, &turn("resp_1")).await.0, 2, "it was lost with no socket");
        let faults = scene.upstream.faults();
        assert_eq!((faults.resets, faults.closes), (resets, closes));
        let mut scene = Scene::new([broken.clone(), broken.clone(), SocketScript::new()]).await;
        let error = scene.send(FRESH).await.unwrap_err();
        assert!(matches!(error, SendError::ClosedBeforeHeaders { .. }), "{error:?}");
        assert_eq!((scene.upgrades(), scene.posts()), (2, 0));
        let mut scene = Scene::with("request_max_retries = 0\n", [broken, SocketScript::new()]).await;
        scene.send(FRESH).await.unwrap_err();
        assert_eq!(scene.upgrades(), 1);
    }
}

#[tokio::test]
async fn a_continuation_is_lost_with_its_socket_and_nothing_else_is() {
    for end in [SocketScript::reset, SocketScript::vanish, SocketScript::close_silently] {
        let script = || end(SocketScript::new().answer(turn("resp_1")).request());
        let stored = CONTINUES.replace("false", "true");
        for (body, attempts) in [(CONTINUES, None), (FRESH, Some(2)), (stored.as_str(), Some(2))] {
            let mut scene = Scene::new([script(), SocketScript::new().answer(turn("resp_2"))]).await;
            scene.succeeds(FRESH, &turn("resp_1")).await;
            match attempts {
                Some(attempts) => {
                    assert_eq!(scene.succeeds(body, &turn("resp_2")).await.0, attempts);
                }
                None => {
                    let error = scene.send(body).await.unwrap_err();
                    assert!(matches!(error, SendError::ContinuationLost), "{error:?}");
                    assert_eq!(scene.upgrades(), 1, "the caller decides what comes next");
                    scene.succeeds(FRESH, &turn("resp_2")).await;
                }
            }
            let faults = scene.upstream.faults();
            assert_eq!(faults.resets + faults.closes + faults.close_frames, 1);
        }
    }
}

#[tokio::test]
async fn a_socket_that_ended_while_idle_is_noticed_before_it_is_used() {
    for body in [FRESH, CONTINUES] {
        let unasked = json!({"type": "codex.rate_limits"}).to_string();
        let script = SocketScript::new().answer(turn("resp_1")).send([unasked]).close(1001, "bye");
        let mut scene = Scene::new([script, SocketScript::new().answer(turn("resp_2"))]).await;
        scene.succeeds(FRESH, &turn("resp_1")).await;
        scene.upstream.wait_faults(|faults| faults.close_frames == 1).await.unwrap();
        // The frame is on its way on the loopback; nothing else can be waited for.
        tokio::time::sleep(Duration::from_millis(50)).await;
        if body == FRESH {
            assert_eq!(scene.succeeds(FRESH, &turn("resp_2")).await.0, 1);
        } else {
            let error = scene.send(body).await.unwrap_err();
            assert!(matches!(error, SendError::ContinuationLost), "{error:?}");
        }
        assert_eq!(scene.asked().iter().filter(|(socket, _)| *socket == 0).count(), 1);
    }
}

#[tokio::test]
async fn a_break_after_the_first_event_is_told_and_nothing_is_repeated() {
    let begun = turn("resp_1").remove(0);
    let next = turn("resp_1").remove(1);
    for (script, resets) in [
        (SocketScript::new().answer([begun.clone()]).reset_within(&next, 20), 1),
        (SocketScript::new().answer([begun.clone()]).vanish(), 0),
    ] {
        let mut scene = Scene::new([script, SocketScript::new()]).await;
        let (read, error) = breaks(scene.send(FRESH).await.unwrap()).await;
        assert_eq!(read, stream(std::slice::from_ref(&begun)));
        assert!(matches!(error, BodyError::Reset { .. }), "{error:?}");
        assert!(error.is_retryable());
        let faults = scene.upstream.faults();
        assert_eq!((faults.resets, faults.closes), (resets, 1 - resets));
        assert_eq!((scene.upgrades(), scene.asked().len(), scene.posts()), (1, 1, 0));
    }
}

#[tokio::test]
async fn what_a_provider_may_not_send_is_an_error() {
    let begun = turn("resp_1").remove(0);
    let begun = || SocketScript::new().answer([begun.clone()]);
    for (script, large) in [
        (begun().send_binary("{}"), false),
        (begun().send_raw(&b"\xc1\x02{}"[..]), false),
        (begun().send_raw(&b"\x81\x02\xff\xfe"[..]), false),
        (begun().send_large(16 * 1024 * 1024 + 1), true),
    ] {
        let mut scene = Scene::new([script]).await;
        let (_, error) = breaks(scene.send(FRESH).await.unwrap()).await;
        match large {
            true => assert!(matches!(error, BodyError::TooLarge { .. }), "{error:?}"),
            false => assert!(matches!(error, BodyError::Malformed { .. }), "{error:?}"),
        }
        assert!(!error.is_retryable());
    }
    let script = SocketScript::new().request().send_large(16 * 1024 * 1024 + 1);
    let error = Scene::new([script]).await.send(FRESH).await.unwrap_err();
    assert!(matches!(error, SendError::Malformed { .. }), "{error:?}");
}

#[tokio::test]
async fn large_and_fragmented_messages_come_whole() {
    let large = turn("resp_1").remove(1).replace("Hel", &"x".repeat(3 * 1024 * 1024));
    let [begun, done] = [turn("resp_1").remove(0), turn("resp_1").pop().unwrap()];
    let script = SocketScript::new()
        .request()
        .send_in_frames(&begun, 7)
        .ping("a")
        .send([large.clone()])
        .send_in_frames(&done, 100);
    let mut scene = Scene::new([script]).await;
    scene.succeeds(FRESH, &[begun, large, done]).await;
    assert_eq!(scene.upstream.sockets()[0].pongs, 1);
}

#[tokio::test]
async fn a_large_request_arrives_whole_also_at_a_slow_reader() {
    let gate = Gate::closed();
    let script = SocketScript::new().deaf(&gate).answer(turn("resp_1"));
    let mut scene = Scene::new([script]).await;
    let body = FRESH.replace("[]", &format!("[{:?}]", "y".repeat(20 * 1024 * 1024)));
    let upstream = &scene.upstream;
    let (answer, ()) =
        tokio::join!(in_time(scene.provider.send(call(&body), Some(&mut scene.session))), async {
            upstream.wait_faults(|faults| faults.stalls == 1).await.unwrap();
            gate.open();
        });
    assert_eq!(answer.unwrap().status, 200);
    assert_eq!(scene.asked(), [(0, message(&body))]);
}

#[tokio::test]
async fn a_provider_that_closes_instead_of_reading_is_understood() {
    let too_big = &b"\x88\x09\x03\xf1too big"[..];
    let mut scene = Scene::new([SocketScript::new().send_raw(too_big).deaf(&Gate::closed())]).await;
    let body = FRESH.replace("[]", &format!("[{:?}]", "y".repeat(20 * 1024 * 1024)));
    let error = scene.send(&body).await.unwrap_err();
    let SendError::Closed { source } = &error else { panic!("{error:?}") };
    assert_eq!(source.to_string(), "closed with code 1009: too big");
    assert_eq!((scene.upgrades(), scene.upstream.faults().stalls), (1, 1));
}

#[tokio::test]
async fn silence_is_given_up_and_pings_are_no_sign_of_life() {
    let keys = "stream_idle_timeout_ms = 700\n";
    let silent = SocketScript::new().request().ping("a").stall(&Gate::closed());
    let mut scene = Scene::with(keys, [silent, SocketScript::new()]).await;
    let began = Instant::now();
    let error = scene.send(FRESH).await.unwrap_err();
    assert!(
        matches!(error, SendError::Timeout { limit } if limit == Duration::from_millis(700)),
        "{error:?}"
    );
    assert!((700..5000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    assert_eq!(scene.upgrades(), 1);
    assert_eq!(scene.upstream.faults().stalls, 1);

    let begun = turn("resp_1").remove(0);
    let silent = SocketScript::new().answer([begun]).ping("a").stall(&Gate::closed());
    let mut scene = Scene::with(keys, [silent]).await;
    let answer = scene.send(FRESH).await.unwrap();
    let began = Instant::now();
    let (_, error) = breaks(answer).await;
    assert!(matches!(error, BodyError::Idle { limit } if limit == Duration::from_millis(700)), "{error:?}");
    assert!((700..5000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    assert_eq!(scene.upstream.faults().stalls, 1);
    assert_eq!(scene.upstream.sockets()[0].pongs, 1, "it was answered nevertheless");
}

#[tokio::test]
async fn after_a_long_idle_time_a_socket_is_asked_whether_it_lives() {
    for (idle, pings) in [(45, 0), (51, 1)] {
        let script = SocketScript::new().answer(turn("resp_1")).answer(turn("resp_2"));
        let mut scene = Scene::new([script]).await;
        scene.succeeds(FRESH, &turn("resp_1")).await;
        pass(idle).await;
        scene.succeeds(CONTINUES, &turn("resp_2")).await;
        assert_eq!((scene.upgrades(), scene.upstream.sockets()[0].pings), (1, pings), "{idle}");
    }
    for body in [FRESH, CONTINUES] {
        let gone = SocketScript::new().answer(turn("resp_1")).deaf(&Gate::closed());
        let mut scene = Scene::new([gone, SocketScript::new().answer(turn("resp_2"))]).await;
        scene.succeeds(FRESH, &turn("resp_1")).await;
        scene.upstream.wait_faults(|faults| faults.stalls == 1).await.unwrap();
        pass(51).await;
        let began = Instant::now();
        if body == FRESH {
            scene.succeeds(FRESH, &turn("resp_2")).await;
        } else {
            let error = scene.send(body).await.unwrap_err();
            assert!(matches!(error, SendError::ContinuationLost), "{error:?}");
        }
        assert_eq!(began.elapsed().as_secs(), 5);
    }
}

/// Lets time pass while nothing happens. The clock runs by itself otherwise: one that is stopped jumps to the next
/// time limit whenever the network takes a moment.
async fn pass(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_response_that_nobody_reads_on_is_closed() {
    let begun = turn("resp_1").remove(0);
    let stalled = || SocketScript::new().answer([begun.clone()]).stall(&Gate::closed());
    let mut scene = Scene::new([stalled(), SocketScript::new().answer(turn("resp_2"))]).await;
    let mut answer = scene.send(FRESH).await.unwrap();
    in_time(answer.body.frame()).await.unwrap().unwrap();
    drop(answer);
    let goodbye = SocketEnd::ClosedByClient { code: Some(1000), reason: String::new() };
    assert_eq!(scene.upstream.wait_socket_end(0).await.unwrap(), goodbye);
    scene.succeeds(FRESH, &turn("resp_2")).await;
    assert_eq!(scene.upstream.faults().stalls, 1);

    // The same while the first message is waited for, and when the session goes before the body.
    let mut scene = Scene::new([SocketScript::new().request().stall(&Gate::closed())]).await;
    let waiting = scene.provider.send(call(FRESH), Some(&mut scene.session));
    tokio::select! {
        _ = waiting => panic!("nothing was sent"),
        seen = scene.upstream.wait_for_message(1) => drop(seen.unwrap()),
    }
    assert_eq!(scene.upstream.wait_socket_end(0).await.unwrap(), goodbye);
    let mut scene = Scene::new([SocketScript::new().answer(turn("resp_1"))]).await;
    let answer = scene.send(FRESH).await.unwrap();
    scene.session = Session::default();
    assert_eq!(in_time(answer.body.collect(BODY_MAX)).await.unwrap(), stream(&turn("resp_1")));
    assert_eq!(scene.upstream.wait_socket_end(0).await.unwrap(), goodbye);
}

#[tokio::test]
async fn calls_at_the_same_time_have_sockets_of_their_own() {
    let gate = Gate::closed();
    let mut first = turn("resp_1");
    let script = SocketScript::new().answer([first.remove(0)]).stall(&gate).send(first);
    let mut scene = Scene::new([script, SocketScript::new().answer(turn("resp_2"))]).await;
    let slow = scene.send(FRESH).await.unwrap();
    scene.succeeds(FRESH, &turn("resp_2")).await;
    gate.open();
    assert_eq!(in_time(slow.body.collect(BODY_MAX)).await.unwrap(), stream(&turn("resp_1")));
    assert_eq!(scene.asked().into_iter().map(|(socket, _)| socket).collect::<Vec<_>>(), [0, 1]);
    // One waits for the next call, the other is closed.
    scene.upstream.wait_socket_end(1).await.unwrap();
    assert_eq!(scene.upstream.sockets()[0].end, None);
}

#[tokio::test]
async fn a_slow_reader_slows_the_provider() {
    let total = 64;
    let piece = json!({"type": "response.output_text.delta", "delta": "z".repeat(1024 * 1024)}).to_string();
    let mut all = turn("resp_1");
    let end = all.pop().unwrap();
    all.truncate(1);
    all.extend(std::iter::repeat_n(piece, total));
    all.push(end);
    let mut scene = Scene::new([SocketScript::new().answer(all.clone())]).await;
    let answer = scene.send(FRESH).await.unwrap();
    let mut before = 0;
    // Until the provider gets no further.
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let sent = scene.upstream.sockets()[0].sent;
        if sent == before {
            break;
        }
        before = sent;
    }
    assert!(before < total / 2, "{before} MiB were taken for a reader that takes nothing");
    assert_eq!(in_time(answer.body.collect(128 * 1024 * 1024)).await.unwrap(), stream(&all));
}

/// A provider whose credential is what a file says, read again when the provider has refused it.
fn command(file: &std::path::Path) -> String {
    format!("auth = {{ command = \"cat\", args = [{file:?}], refresh_interval_ms = 0 }}\n")
}

#[tokio::test]
async fn a_rejected_credential_is_recovered_once_before_the_first_event() {
    let refused = || SocketScript::refuse(Reply::json(401, &json!({"error": {"message": "no"}})));
    let told = || SocketScript::new().answer([error(401, "token_expired")]);
    for first in [refused(), told()] {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "one").unwrap();
        let mut scene =
            Scene::with(&command(file.path()), [first, SocketScript::new().answer(turn("resp_1"))]).await;
        // The first run is before the first call, so that the second one finds another token.
        scene.upstream.push(Reply::json(200, &json!({})));
        in_time(scene.provider.send(call(FRESH), None)).await.unwrap();
        std::fs::write(file.path(), "two").unwrap();
        assert_eq!(scene.succeeds(FRESH, &turn("resp_1")).await.0, 2);
        let upgrades = scene.upstream.all_requests();
        let tokens: Vec<_> = upgrades.iter().filter_map(|request| request.header("authorization")).collect();
        assert_eq!(tokens, ["Bearer one", "Bearer one", "Bearer two"]);
    }
    let another = "auth = { command = \"/bin/sh\", args = [\"-c\", \"echo $$\"], refresh_interval_ms = 0 }\n";
    let mut scene = Scene::with(another, [refused(), refused(), SocketScript::new()]).await;
    let answer = scene.send(FRESH).await.unwrap();
    assert_eq!((answer.status.as_u16(), scene.upstream.faults().refusals), (401, 2));
}

#[tokio::test]
async fn a_socket_is_not_used_for_another_credential() {
    let scripts =
        || [turn("resp_1"), turn("resp_2")].map(|turn| SocketScript::new().answer(turn.clone()).answer(turn));
    let mut scene = Scene::with("pass_through = true\n", scripts()).await;
    let with = |token: &'static str, account: Option<&'static str>, body: &str| {
        let account = account.map(HeaderValue::from_static);
        let caller = CallerCredential { authorization: HeaderValue::from_static(token), account };
        Call { caller: Some(caller), ..call(body) }
    };
    for (call, answered) in [
        (with("Bearer a", Some("x"), FRESH), "resp_1"),
        (with("Bearer a", Some("x"), CONTINUES), "resp_1"),
        (with("Bearer b", Some("x"), FRESH), "resp_2"),
    ] {
        let answer = scene.call(call).await.unwrap();
        assert_eq!(in_time(answer.body.collect(BODY_MAX)).await.unwrap(), stream(&turn(answered)));
    }
    let lost = scene.call(with("Bearer b", Some("y"), CONTINUES)).await.unwrap_err();
    assert!(matches!(lost, SendError::ContinuationLost), "{lost:?}");
    let seen: Vec<_> = scene
        .upstream
        .sockets()
        .iter()
        .map(|socket| (socket.header("authorization").unwrap().to_owned(), socket.received))
        .collect();
    assert_eq!(seen, [("Bearer a".to_owned(), 2), ("Bearer b".to_owned(), 1)]);

    // The same provider with another key, as after a change of the configuration.
    let mut scene = Scene::new(scripts()).await;
    scene.succeeds(FRESH, &turn("resp_1")).await;
    let keys = format!("{SOCKETS}experimental_bearer_token = \"other\"\n");
    scene.provider = provider(&scene.upstream.base_url(), &keys);
    scene.succeeds(FRESH, &turn("resp_2")).await;
    assert_eq!(scene.upstream.sockets()[1].header("authorization"), Some("Bearer other"));
}
