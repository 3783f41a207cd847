//! What clients send, and what they should not, as requests and refusals.

use proptest::prelude::{ProptestConfig, any, proptest};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{Incoming, Refusal, Refused, answer, failure, notification, params, parse};

fn kind(frame: &str) -> &'static str {
    match parse(frame) {
        Incoming::Request(_) => "request",
        Incoming::Notification => "notification",
        Incoming::Answer { .. } => "answer",
        Incoming::Noise => "noise",
    }
}

#[test]
fn a_frame_is_what_it_says() {
    for (frame, expected) in [
        (r#"{"id":1,"method":"model/list","params":{}}"#, "request"),
        (r#"{"jsonrpc":"2.0","id":"a","method":"model/list"}"#, "request"),
        (r#"{"method":"model\/list","id":-7,"extra":[1]}"#, "request"),
        (r#"{"method":"initialized"}"#, "notification"),
        (r#"{"id":null,"method":"model/list"}"#, "notification"),
        (r#"{"id":0,"result":{"decision":"accept"}}"#, "answer"),
        (r#"{"id":1.5,"method":"model/list"}"#, "noise"),
        (r#"{"id":{"a":1},"method":"model/list"}"#, "noise"),
        (r#"{"id":true,"method":"model/list"}"#, "noise"),
        (r#"{"id":99999999999999999999,"method":"model/list"}"#, "noise"),
        (r#"{"id":1,"method":5}"#, "noise"),
        (r#"{"id":1,"id":2,"method":"model/list"}"#, "noise"),
        (r#"[{"id":1,"method":"model/list"}]"#, "noise"),
        ("{}", "noise"),
        ("this is not json", "noise"),
        ("", "noise"),
        (r#""text""#, "noise"),
    ] {
        assert_eq!(kind(frame), expected, "{frame}");
    }
}

#[test]
fn an_answer_is_a_result_or_a_refusal() {
    for (frame, expected) in [
        (r#"{"id":0,"result":{"a": 1}}"#, Ok(r#"{"a": 1}"#)),
        (r#"{"id":0,"result":null,"error":null}"#, Ok("null")),
        (r#"{"id":0}"#, Ok("null")),
        (r#"{"error":{"code":-32000,"message":"no"},"id":0}"#, Err(Refused)),
        (r#"{"id":0,"error":"no","result":{}}"#, Err(Refused)),
    ] {
        let Incoming::Answer { id, result } = parse(frame) else { panic!("{frame}") };
        assert_eq!((id.get(), result.map(RawValue::get)), ("0", expected), "{frame}");
    }
}

#[test]
fn ids_are_echoed_byte_for_byte() {
    for id in ["1", "-9223372036854775808", r#""a""#, r#""\u00e9\n\"""#, r#""""#] {
        let frame = format!(r#"{{"id": {id} ,"method":"x"}}"#);
        let Incoming::Request(request) = parse(&frame) else { panic!("{frame}") };
        assert_eq!(answer(request.id, &json!({})), format!(r#"{{"id":{id},"result":{{}}}}"#));
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sample {
    thread_id: String,
    limit: Option<u32>,
}

#[test]
fn wrong_parameters_are_explained_in_the_texts_that_clients_know() {
    for (text, expected) in [
        (None, "Invalid request: missing field `params`"),
        (Some("{}"), "Invalid request: missing field `threadId`"),
        (Some(r#"{"threadId":5}"#), "Invalid request: invalid type: integer `5`, expected a string"),
        (
            Some(r#"{"threadId":"a","limit":"5"}"#),
            "Invalid request: invalid type: string \"5\", expected u32",
        ),
    ] {
        let raw = text.map(|text| serde_json::value::RawValue::from_string(text.to_owned()).unwrap());
        let refusal = params::<Sample>(raw.as_deref()).unwrap_err();
        assert_eq!(refusal.to_string(), expected);
    }
    let raw = serde_json::value::RawValue::from_string(r#"{"threadId":"a","new":1}"#.to_owned()).unwrap();
    let sample = params::<Sample>(Some(&raw)).unwrap();
    assert_eq!((sample.thread_id.as_str(), sample.limit), ("a", None));
}

#[test]
fn only_an_overload_invites_a_retry() {
    let Incoming::Request(request) = parse(r#"{"id":"x","method":"y"}"#) else { panic!() };
    let text = failure(request.id, &Refusal::invalid("thread not found: z"));
    assert_eq!(text, r#"{"error":{"code":-32600,"message":"thread not found: z"},"id":"x"}"#);
    let text = failure(request.id, &Refusal::overloaded("busy"));
    let expected = r#"{"error":{"code":-32001,"message":"busy","data":"server_overloaded"},"id":"x"}"#;
    assert_eq!(text, expected);
}

#[test]
fn a_notification_carries_its_time() {
    let text = notification("thread/closed", &json!({"threadId": "a"}), 7);
    assert_eq!(text, r#"{"method":"thread/closed","params":{"threadId":"a"},"emittedAtMs":7}"#);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_text_upsets_the_parser(text in any::<String>()) {
        let _ = parse(&text);
    }

    #[test]
    fn any_text_id_survives(id in any::<String>()) {
        let frame = json!({"id": id, "method": "x"}).to_string();
        let Incoming::Request(request) = parse(&frame) else { panic!("{frame}") };
        let value: Value = serde_json::from_str(&answer(request.id, &json!(null))).unwrap();
        assert_eq!(value["id"], id);
    }
}

#[test]
fn only_what_nests_too_deep_is_passed_over() {
    let deep = |levels: usize, text: &str| {
        let inner = format!("{}{text}{}", r#"{"a":["#.repeat(levels / 2), "]}".repeat(levels / 2));
        format!(r#"{{"id":1,"method":"m","params":{inner}}}"#)
    };
    let quoted = format!("\"{}\"", r#"{[\"{[\\"#.repeat(200));
    for (frame, taken) in [
        (deep(126, "1"), true),
        (deep(128, "1"), false),
        (deep(50_000, "1"), false),
        (deep(100, &quoted), true),
    ] {
        assert_eq!(matches!(parse(&frame), Incoming::Request(_)), taken, "{}", frame.len());
    }
}
