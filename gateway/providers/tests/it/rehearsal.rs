//! The scripted model: its streams are real ones.

use std::time::Duration;

use gateway_providers::{Answer, BodyError, Call, Providers};
use serde_json::{Value, json};
use tidegate_responses::{ErrorBody, Framer, Kind, Status, Terminal};
use tokio::time::Instant;

use crate::harness::{BODY_MAX, bare, call, in_time, parse};

async fn ask(body: &Value) -> Answer {
    let providers = Providers::build(&parse(""), &bare).unwrap();
    let model = body["model"].as_str().unwrap_or_default();
    let upstream =
        providers.route(model, None).or_else(|_| providers.route("rehearsal", None)).unwrap().upstream;
    let stream = body["stream"] == true;
    in_time(upstream.send(Call { stream, ..call(&body.to_string()) }, None)).await.unwrap()
}

fn request(model: &str, prompt: &str) -> Value {
    let content = json!([{"type": "input_text", "text": prompt}]);
    let input = json!([
        {"type": "message", "role": "developer", "content": "Be kind."},
        {"type": "message", "role": "user", "content": content},
    ]);
    json!({"model": model, "stream": true, "input": input})
}

/// The events of a stream, each read by the crate that both services use.
async fn events(answer: Answer) -> Vec<Value> {
    assert_eq!(answer.headers["content-type"], "text/event-stream");
    let bytes = in_time(answer.body.collect(BODY_MAX)).await.unwrap();
    let mut framer = Framer::new(1024 * 1024);
    let mut events = Vec::new();
    for block in framer.push(bytes).unwrap() {
        for frame in block.frames() {
            let event: Value = serde_json::from_slice(&frame.data()).unwrap();
            assert_eq!(event["type"], std::str::from_utf8(frame.event().unwrap()).unwrap());
            assert_eq!(frame.kind_str().unwrap(), event["type"].as_str().unwrap());
            assert_eq!(event["sequence_number"], events.len());
            events.push(event);
        }
    }
    assert!(framer.finish().is_none(), "the stream ends with a whole frame");
    events
}

fn types(events: &[Value]) -> Vec<&str> {
    let mut types: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    types.dedup();
    types
}

fn joined(events: &[Value], kind: &str) -> String {
    events
        .iter()
        .filter(|event| event["type"] == kind)
        .map(|event| event["delta"].as_str().unwrap())
        .collect()
}

fn terminal(events: &[Value]) -> (Kind, Terminal) {
    let last = events.last().unwrap();
    let kind = Kind::from_name(last["type"].as_str().unwrap().as_bytes());
    (kind, Terminal::parse(kind, last.to_string().as_bytes()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_stream_has_every_event_in_its_order() {
    for model in ["rehearsal", "rehearsal-short", "rehearsal-long", "rehearsal-slow"] {
        let events = events(ask(&request(model, "please sort this list")).await).await;
        let expected = [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.reasoning_summary_part.added",
            "response.reasoning_summary_text.delta",
            "response.reasoning_summary_text.done",
            "response.reasoning_summary_part.done",
            "response.output_item.done",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ];
        assert_eq!(types(&events), expected);
        let find = |kind: &str| events.iter().rev().find(|event| event["type"] == kind).unwrap();
        let text = joined(&events, "response.output_text.delta");
        assert_eq!(find("response.output_text.done")["text"], text);
        assert!(text.contains("please sort this list"), "{text}");
        let summary = joined(&events, "response.reasoning_summary_text.delta");
        assert_eq!(find("response.reasoning_summary_text.done")["text"], summary);
        let response = &events.last().unwrap()["response"];
        assert_eq!(response["output"][0]["summary"][0]["text"], summary);
        assert_eq!(response["output"][1]["content"][0]["text"], text);
        assert_eq!(response["output"][1]["id"], find("response.output_text.delta")["item_id"]);
        assert_eq!(response["id"], events[0]["response"]["id"]);
        let (kind, terminal) = terminal(&events);
        assert_eq!((kind, terminal.status), (Kind::Completed, Status::Completed));
        let usage = terminal.usage.unwrap();
        assert_eq!(usage.total_tokens, usage.input_tokens + usage.output_tokens);
        assert!(usage.input_tokens > 0 && usage.reasoning_output_tokens > 0);
        assert!(usage.output_tokens > usage.reasoning_output_tokens);
        let deltas = events.iter().filter(|event| event["type"] == "response.output_text.delta").count();
        let lengths = if model == "rehearsal-short" { 5..40 } else { 20..60 };
        let lengths = if model.ends_with("-long") || model.ends_with("-slow") { 200..800 } else { lengths };
        assert!(lengths.contains(&deltas), "{model}: {deltas}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_request_gets_the_same_answer_at_its_pace() {
    let (mut streams, mut ids) = (Vec::new(), std::collections::BTreeSet::new());
    for _ in 0..2 {
        let began = Instant::now();
        let mut events = events(ask(&request("rehearsal", "hi")).await).await;
        assert!(began.elapsed() > Duration::from_millis(200));
        ids.extend(events.iter().filter_map(|event| Some(event["item"]["id"].as_str()?.to_owned())));
        events.iter_mut().for_each(forget_what_is_its_own);
        streams.push(events);
    }
    assert_eq!(streams[0], streams[1]);
    assert_eq!(ids.len(), 4, "each answer has items of its own: {ids:?}");
    let began = Instant::now();
    events(ask(&request("rehearsal-short", "hi")).await).await;
    assert_eq!(began.elapsed(), Duration::ZERO);
    let slow = Instant::now();
    events(ask(&request("rehearsal-slow", "hi")).await).await;
    assert!(slow.elapsed() > Duration::from_secs(20));
}

/// Takes out when an answer was made, and its ids.
fn forget_what_is_its_own(value: &mut Value) {
    const OWN: [&str; 4] = ["created_at", "id", "item_id", "encrypted_content"];
    match value {
        Value::Object(fields) => {
            fields.retain(|key, _| !OWN.contains(&key.as_str()));
            fields.values_mut().for_each(forget_what_is_its_own);
        }
        Value::Array(values) => values.iter_mut().for_each(forget_what_is_its_own),
        _ => {}
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_stream_the_whole_response_comes_at_once() {
    let mut body = request("rehearsal", "hi");
    body["stream"] = json!(false);
    let answer = ask(&body).await;
    assert_eq!(answer.headers["content-type"], "application/json");
    let bytes = in_time(answer.body.collect(BODY_MAX)).await.unwrap();
    let response: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!((&response["object"], &response["status"]), (&json!("response"), &json!("completed")));
    assert_eq!(response["output"][0]["type"], "reasoning");
    assert_eq!(response["output"][1]["role"], "assistant");
    assert!(response["usage"]["output_tokens"].as_u64().unwrap() > 0);
}

#[tokio::test(start_paused = true)]
async fn a_schema_is_followed() {
    let schema = json!({
        "type": "object",
        "properties": {
            "title": {"type": "string", "maxLength": 12},
            "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}, "minItems": 2},
            "count": {"type": "integer"},
            "kind": {"enum": ["a", "b"]},
            "maybe": {"anyOf": [{"type": "null"}, {"type": "string"}]},
        },
        "required": ["title"],
        "$defs": {"tag": {"type": "string"}},
    });
    let mut body = request("rehearsal", "rehearse: cut the ribbon please");
    body["text"] = json!({"format": {"type": "json_schema", "name": "t", "strict": true, "schema": schema}});
    let events = events(ask(&body).await).await;
    let text: Value = serde_json::from_str(&joined(&events, "response.output_text.delta")).unwrap();
    assert_eq!(text["title"], "rehearse: cu");
    assert_eq!(text["tags"].as_array().unwrap().len(), 2);
    assert_eq!((&text["count"], &text["kind"], &text["maybe"]), (&json!(1), &json!("a"), &Value::Null));
}

#[tokio::test(start_paused = true)]
async fn a_recursive_schema_ends() {
    let schema = json!({"type": "object", "properties": {"next": {"$ref": "#"}}});
    let mut body = request("rehearsal-short", "hi");
    body["text"] = json!({"format": {"type": "json_schema", "name": "t", "schema": schema}});
    let events = events(ask(&body).await).await;
    serde_json::from_str::<Value>(&joined(&events, "response.output_text.delta")).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_token_limit_ends_the_answer_early() {
    let mut body = request("rehearsal-long", "hi");
    body["max_output_tokens"] = json!(80);
    let events = events(ask(&body).await).await;
    let (kind, terminal) = terminal(&events);
    assert_eq!((kind, terminal.status), (Kind::Incomplete, Status::Incomplete));
    assert_eq!(terminal.incomplete_reason.as_deref(), Some("max_output_tokens"));
    let used = terminal.usage.unwrap().output_tokens;
    assert!((70..=80).contains(&used), "{used}");
}

#[tokio::test(start_paused = true)]
async fn reasoning_is_left_out_or_encrypted_as_asked() {
    let mut body = request("rehearsal-short", "hi");
    body["reasoning"] = json!({"effort": "none"});
    let silent = events(ask(&body).await).await;
    assert!(!types(&silent).iter().any(|kind| kind.contains("reasoning")));
    assert_eq!(silent.last().unwrap()["response"]["output"].as_array().unwrap().len(), 1);
    body["reasoning"] = json!({"effort": "medium", "summary": "auto"});
    body["include"] = json!(["reasoning.encrypted_content"]);
    let events = events(ask(&body).await).await;
    assert!(events.last().unwrap()["response"]["output"][0]["encrypted_content"].is_string());
}

#[tokio::test(start_paused = true)]
async fn faults_are_rehearsed_on_request() {
    for (prompt, status, code) in [
        ("rehearse: error rate_limit", 429, Some("rate_limit_exceeded")),
        ("  REHEARSE:  error   overloaded ", 503, Some("server_is_overloaded")),
        ("rehearse: error server", 500, None),
        ("rehearse: error bad_request", 400, None),
    ] {
        let answer = ask(&request("rehearsal", prompt)).await;
        assert_eq!(answer.status, status, "{prompt}");
        assert_eq!(answer.headers.get("retry-after").is_some(), status == 429);
        let body = in_time(answer.body.collect(BODY_MAX)).await.unwrap();
        assert_eq!(ErrorBody::parse(&body).unwrap().code.as_deref(), code);
    }
    for (prompt, kind, code) in [
        ("rehearse: error context", Kind::Failed, Some("context_length_exceeded")),
        ("rehearse: fail", Kind::Failed, Some("server_error")),
        ("rehearse: incomplete", Kind::Incomplete, None),
        ("rehearse: slow", Kind::Completed, None),
        ("rehearse: dinner", Kind::Completed, None),
    ] {
        let began = Instant::now();
        let events = events(ask(&request("rehearsal", prompt)).await).await;
        let (seen, terminal) = terminal(&events);
        assert_eq!(seen, kind, "{prompt}");
        assert_eq!(terminal.error.and_then(|error| error.code).as_deref(), code);
        assert_eq!(began.elapsed() > Duration::from_secs(5), prompt == "rehearse: slow");
        let text = joined(&events, "response.output_text.delta");
        assert_eq!(text.contains("I know: "), prompt == "rehearse: dinner");
        assert_eq!(text.is_empty(), prompt == "rehearse: error context");
    }
    let cut = ask(&request("rehearsal", "rehearse: cut")).await.body;
    assert!(matches!(in_time(cut.collect(BODY_MAX)).await, Err(BodyError::Reset { .. })));
    let began = Instant::now();
    let stalled = ask(&request("rehearsal", "rehearse: stall")).await.body;
    assert!(matches!(in_time(stalled.collect(BODY_MAX)).await, Err(BodyError::Idle { .. })));
    assert!(began.elapsed() >= Duration::from_secs(300));
}

#[tokio::test(start_paused = true)]
async fn nonsense_is_refused_like_a_provider_does() {
    let answer = ask(&json!({"model": "gpt-6", "input": "hi"})).await;
    assert_eq!(answer.status, 404);
    let body = in_time(answer.body.collect(BODY_MAX)).await.unwrap();
    assert_eq!(ErrorBody::parse(&body).unwrap().code.as_deref(), Some("model_not_found"));
    let answer = ask(&json!({"model": "rehearsal", "input": "hi", "max_output_tokens": "many"})).await;
    assert_eq!(answer.status, 400);
    for odd in
        [json!(null), json!(7), json!([]), json!([7, {"role": "user"}, {"role": "user", "content": [{}]}])]
    {
        let answer = ask(&json!({"model": "rehearsal-short", "input": odd, "stream": true})).await;
        let events = events(answer).await;
        assert!(joined(&events, "response.output_text.delta").contains("nothing"));
    }
}
