//! The HTTP surface: bytes untouched, answers passed on, calls cancelled, streams that break ended with a typed event.

use bytes::Bytes;
use gateway_server::ServerConfig;
use gateway_testkit::{Gate as Hold, Reply, Turn, text_turn};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use tidegate_responses::sse;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::harness::{Gate, KEY, bytes_of, deadline, json_of, usage};

const CALL: &str = r#"{ "model":"scripted-1",  "stream" : true, "unknown":{"deep":[1,2]},"input":[{"type":"odd_item","x":"\u00e9"}] }"#;

fn turn() -> Vec<Bytes> {
    Turn::new("resp_1")
        .reasoning(&["Thinking ", "it over"], "sealed")
        .text(&["Hel", "lo ", "wörld"])
        .completed(usage())
}

#[tokio::test]
async fn a_stream_passes_byte_for_byte_however_it_is_cut() {
    let gate = Gate::start().await;
    let whole: Bytes = turn().concat().into();
    let sizes: [&[usize]; 7] = [&[1], &[2], &[3, 1, 7], &[16], &[61], &[500], &[1_000_000]];
    for sizes in sizes {
        gate.upstream.push(Reply::sse(turn()).chunks(sizes));
        let response = gate.post(CALL).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(bytes_of(response).await, whole, "chunks of {sizes:?}");
    }
}

#[tokio::test]
async fn every_single_cut_of_a_stream_gives_the_same_bytes() {
    let gate = Gate::start().await;
    let frames = text_turn(&["a"], usage());
    let whole: Bytes = frames.concat().into();
    for at in (0..whole.len()).step_by(7) {
        gate.upstream.push(Reply::sse(frames.clone()).cut_at(&[at]));
        assert_eq!(bytes_of(gate.post(CALL).await).await, whole, "cut at {at}");
    }
}

#[tokio::test]
async fn the_request_reaches_the_provider_as_it_was_sent() {
    let gate = Gate::start().await;
    gate.upstream.push(Reply::sse(turn()));
    let mut request = gate.request(CALL);
    for (name, value) in [
        ("x-codex-turn-metadata", r#"{"thread_id":"t"}"#),
        ("session-id", "s"),
        ("originator", "codex_exec"),
        ("x-oai-attestation", "token"),
        ("cookie", "a=b"),
        ("x-forwarded-for", "10.0.0.1"),
    ] {
        request.headers_mut().append(name, value.parse().unwrap());
    }
    bytes_of(gate.send(request).await).await;
    let seen = gate.upstream.wait_for_request(1).await.unwrap();
    assert_eq!(seen.body, CALL.as_bytes());
    assert_eq!(seen.header("authorization"), Some(format!("Bearer {KEY}").as_str()));
    assert_eq!(seen.header("x-codex-turn-metadata"), Some(r#"{"thread_id":"t"}"#));
    assert_eq!(seen.header("originator"), Some("codex_exec"));
    for hidden in ["x-oai-attestation", "cookie", "x-forwarded-for"] {
        assert_eq!(seen.header(hidden), None, "{hidden}");
    }
}

#[tokio::test]
async fn a_document_passes_with_its_status_and_headers() {
    let gate = Gate::start().await;
    let document = Turn::new("resp_1").text(&["Hello"]).json(usage());
    gate.upstream
        .push(Reply::json(200, &document).header("x-request-id", "req_1").header("set-cookie", "a=b"));
    let response = gate.post(r#"{"model":"scripted-1","input":"hi"}"#).await;
    assert_eq!(response.headers()["x-request-id"], "req_1");
    assert!(!response.headers().contains_key("set-cookie"));
    assert!(response.headers().contains_key("x-tidegate-call-id"));
    assert_eq!(json_of(response).await, document);
}

#[tokio::test]
async fn a_refusal_of_the_provider_passes_as_it_is() {
    let gate = Gate::start().await;
    for status in [400, 401, 404, 429, 500, 503] {
        let told =
            serde_json::json!({"error": {"message": "no", "code": "told", "type": "t", "param": null}});
        gate.upstream.push(Reply::json(status, &told).header("retry-after", "7"));
        let response = gate.post(CALL).await;
        assert_eq!(response.status().as_u16(), status);
        assert_eq!(response.headers()["retry-after"], "7");
        assert_eq!(json_of(response).await, told);
    }
}

#[tokio::test]
async fn a_stream_that_breaks_ends_with_a_typed_event_at_a_frame_border() {
    let gate = Gate::start().await;
    let frames = turn();
    let whole: Bytes = frames.concat().into();
    let mut borders = vec![0];
    for frame in &frames {
        borders.push(borders.last().copied().unwrap_or(0) + frame.len());
    }
    let last = frames.len() - 1;
    let (mut resets, mut closes) = (0, 0);
    for (index, at) in (1..borders[last]).step_by(97).enumerate() {
        let reply = Reply::sse(frames.clone());
        gate.upstream.push(if index % 2 == 0 {
            resets += 1;
            reply.reset_after(at)
        } else {
            closes += 1;
            reply.end_after(at)
        });
        let seen = bytes_of(gate.post(CALL).await).await;
        let split = String::from_utf8_lossy(&seen).rfind("event: response.failed").unwrap();
        // What came before our event is whole frames of the provider, from its first byte on. A reset may overtake bytes
        // that were sent before it, a clean end may not.
        assert!(borders.contains(&split), "cut at {at}: {split} is no border");
        assert!(whole.starts_with(&seen[..split]));
        if index % 2 == 1 {
            assert_eq!(split, borders.iter().copied().filter(|border| *border <= at).max().unwrap());
        }
        assert!(!String::from_utf8_lossy(&seen).contains("response.completed"));
        // It goes on where the provider's events stopped, as far as these came.
        let told = String::from_utf8_lossy(&seen[split..]).into_owned();
        let (_, data) = told.split_once("data: ").unwrap();
        let failed: serde_json::Value = serde_json::from_str(data.trim()).unwrap();
        assert_eq!(failed["sequence_number"], borders.iter().position(|border| *border == split).unwrap());
        assert_eq!(failed["response"]["id"] == "resp_1", split > 0, "{failed}");
    }
    let faults = gate.upstream.faults();
    assert!(resets > 3 && closes > 3);
    assert_eq!(faults.resets, resets);
    gate.assert_healthy().await;
}

#[tokio::test]
async fn a_last_frame_without_its_blank_line_still_ends_the_response() {
    let gate = Gate::start().await;
    let whole: Bytes = turn().concat().into();
    let trimmed = whole.slice(..whole.len() - 1);
    gate.upstream.push(Reply::bytes(StatusCode::OK, "text/event-stream", trimmed.clone()));
    assert_eq!(bytes_of(gate.post(CALL).await).await, trimmed);
}

/// The length that a provider tells is not the length of what the caller gets.
#[tokio::test]
async fn a_stream_with_a_length_that_ends_early_ends_with_a_typed_event_too() {
    let gate = Gate::start().await;
    let cut: Bytes = turn()[..3].concat().into();
    gate.upstream.push(Reply::bytes(StatusCode::OK, "text/event-stream", cut.clone()));
    let seen = bytes_of(gate.post(CALL).await).await;
    assert!(seen.starts_with(&cut));
    assert!(seen[cut.len()..].starts_with(b"event: response.failed\n"), "{seen:?}");
    gate.assert_healthy().await;
}

#[tokio::test]
async fn a_last_frame_that_is_cut_is_not_taken_for_the_end() {
    let gate = Gate::start().await;
    let frames = turn();
    let whole: Bytes = frames.concat().into();
    for missing in [4, 30, 200] {
        gate.upstream.push(Reply::sse(frames.clone()).end_after(whole.len() - missing));
        let seen = bytes_of(gate.post(CALL).await).await;
        let text = String::from_utf8_lossy(&seen);
        assert!(text.contains("event: response.failed") && !text.contains("response.completed"), "{missing}");
    }
}

#[tokio::test]
async fn a_caller_that_leaves_cancels_the_call_upstream() {
    let gate = Gate::start().await;
    let hold = Hold::closed();
    gate.upstream.push(Reply::sse(turn()).stall_after(700, &hold));
    let response = gate.post(CALL).await;
    let mut body = response.into_body();
    deadline(body.frame()).await.unwrap().unwrap();
    drop(body);
    gate.upstream.wait_cancelled(1).await.unwrap();
    gate.assert_healthy().await;
}

#[tokio::test]
async fn a_caller_that_leaves_before_the_first_byte_cancels_too() {
    let gate = Gate::start().await;
    let hold = Hold::closed();
    gate.upstream.push(Reply::sse(turn()).delay_headers(&hold));
    let request = gate.request(CALL);
    tokio::select! {
        _ = gate.send(request) => panic!("the answer was held back"),
        seen = gate.upstream.wait_for_request(1) => { seen.unwrap(); }
    }
    gate.upstream.wait_cancelled(1).await.unwrap();
}

/// Far more than all sockets between provider and caller hold.
const FLOOD_BYTES: usize = 64 * 1024 * 1024;

#[tokio::test]
async fn a_slow_reader_slows_its_provider() {
    let gate = Gate::start().await;
    let delta = sse::encode("response.output_text.delta", &[b'x'; 16 * 1024]);
    let mut frames = vec![delta; FLOOD_BYTES / (16 * 1024)];
    frames.extend(turn());
    let whole: usize = frames.iter().map(Bytes::len).sum();
    gate.upstream.push(Reply::sse(frames).chunks(&[256 * 1024]));
    let mut body = gate.post(CALL).await.into_body();
    let mut read = deadline(body.frame()).await.unwrap().unwrap().into_data().unwrap().len();
    // Other calls are the clock: while nobody reads, the provider can send only what sockets hold.
    for _ in 0..50 {
        gate.assert_healthy().await;
    }
    let sent = gate.upstream.requests().first().unwrap().sent;
    assert!(sent < FLOOD_BYTES / 2, "{sent} bytes were taken from the provider");
    while let Some(frame) = deadline(body.frame()).await {
        read += frame.unwrap().into_data().unwrap().len();
    }
    assert_eq!(read, whole);
}

#[tokio::test]
async fn more_calls_than_may_run_are_told_to_come_back() {
    let config = ServerConfig { concurrent_calls_max: 1, ..ServerConfig::default() };
    let gate = Gate::with(config, "").await;
    let hold = Hold::closed();
    gate.upstream.push(Reply::sse(turn()).stall_after(100, &hold));
    let first = gate.post(CALL).await;
    let second = gate.post(CALL).await;
    assert_eq!(second.status(), 503);
    assert_eq!(second.headers()["retry-after"], "1");
    assert_eq!(json_of(second).await["error"]["code"], "gateway_busy");
    hold.open();
    bytes_of(first).await;
    gate.assert_healthy().await;
}

#[tokio::test]
async fn whoever_says_nothing_has_a_place_for_a_while_only() {
    let config = ServerConfig { concurrent_calls_max: 1, body_timeout_ms: 1_000, ..ServerConfig::default() };
    let gate = Gate::with(config, "").await;
    let head =
        format!("POST /v1/responses HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", CALL.len());
    for says in ["", "{"] {
        let mut silent = TcpStream::connect(gate.at).await.unwrap();
        silent.write_all(format!("{head}{says}").as_bytes()).await.unwrap();
        let refused = async {
            loop {
                gate.upstream.push(Reply::sse(turn()));
                let response = gate.post(CALL).await;
                if response.status() == 503 {
                    return response;
                }
                bytes_of(response).await;
            }
        };
        assert_eq!(json_of(deadline(refused).await).await["error"]["code"], "gateway_busy");
        let mut answer = [0; 12];
        deadline(silent.read_exact(&mut answer)).await.unwrap();
        assert_eq!(answer, *b"HTTP/1.1 408");
        gate.assert_healthy().await;
    }
}

#[tokio::test]
async fn models_are_listed_and_unknown_routes_are_not_there() {
    let gate = Gate::start().await;
    let models = json_of(gate.get("/v1/models").await).await;
    assert_eq!(models["data"][0]["id"], "scripted-1");
    assert_eq!(gate.get("/models").await.status(), 200);
    for (path, status) in [("/", 404), ("/v1/chat/completions", 404), ("/v1", 404), ("/v1/responses", 405)] {
        let response = gate.get(path).await;
        assert_eq!(response.status().as_u16(), status, "{path}");
        assert!(json_of(response).await["error"]["message"].is_string());
    }
    let upgrade = Request::get(format!("http://{}/v1/responses", gate.at))
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .body(Full::default())
        .unwrap();
    assert_eq!(gate.send(upgrade).await.status(), 426);
}

#[tokio::test]
async fn each_client_gets_the_list_of_models_in_its_form_and_once() {
    let facts = "[model_providers.scripted.model_facts.scripted-1]\nbase_instructions = \"Be brief.\"\n";
    let gate = Gate::with(ServerConfig::default(), facts).await;
    let codex = gate.get("/v1/models?client_version=0.169.0").await;
    assert_eq!(codex.headers()["content-type"], "application/json");
    assert_eq!(codex.headers()["cache-control"], "private, no-cache");
    let tag = codex.headers()["etag"].clone();
    let list = json_of(codex).await;
    let told = &list["models"][0];
    assert_eq!((&told["slug"], &told["base_instructions"]), (&"scripted-1".into(), &"Be brief.".into()));
    assert_eq!(list.get("data"), None);
    let openai = gate.get("/v1/models?limit=1").await;
    assert_ne!(openai.headers()["etag"], tag);
    assert_eq!(json_of(openai).await["data"][0]["id"], "scripted-1");

    let ask = |path: &str, known: &str| {
        let request = Request::get(format!("http://{}{path}", gate.at)).header("if-none-match", known);
        gate.send(request.body(Full::default()).unwrap())
    };
    let plain = tag.to_str().unwrap();
    for known in [plain.to_owned(), format!("\"other\", W/{plain}"), "*".to_owned()] {
        let response = ask("/models?x=1&client_version=9", &known).await;
        assert_eq!(
            (response.status(), &response.headers()["etag"]),
            (StatusCode::NOT_MODIFIED, &tag),
            "{known}"
        );
        assert!(!response.headers().contains_key("content-type"));
        assert_eq!(bytes_of(response).await, "");
    }
    for (path, known) in [("/models?client_version=9", "\"other\""), ("/models", plain)] {
        assert_eq!(ask(path, known).await.status(), 200, "{path} {known}");
    }
}
