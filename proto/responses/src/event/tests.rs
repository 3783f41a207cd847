//! Events as the API sends them, and as an odd provider might.

use proptest::prelude::*;

use super::*;
use crate::sse::Kind;
use crate::usage::Usage;

fn error(code: &str, message: &str) -> ApiError {
    ApiError { code: Some(code.into()), message: Some(message.into()), ..ApiError::default() }
}

#[test]
fn completed_gives_usage_model_and_tier() {
    let data = br#"{"type":"response.completed","sequence_number":9,"response":{"id":"resp_1","object":"response",
        "status":"completed","model":"gpt-6-sol-2026","service_tier":"priority","error":null,"incomplete_details":null,
        "output":[{"type":"message","content":[]}],"usage":{"input_tokens":100,"input_tokens_details":{"cached_tokens":64,
        "cache_write_tokens":7},"output_tokens":20,"output_tokens_details":{"reasoning_tokens":12},"total_tokens":120}}}"#;
    let usage = Usage {
        input_tokens: 100,
        cached_input_tokens: 64,
        cache_write_input_tokens: 7,
        output_tokens: 20,
        reasoning_output_tokens: 12,
        total_tokens: 120,
    };
    let expected = Terminal {
        response_id: Some("resp_1".into()),
        model: Some("gpt-6-sol-2026".into()),
        service_tier: Some("priority".into()),
        usage: Some(usage),
        status: Status::Completed,
        error: None,
        incomplete_reason: None,
    };
    assert_eq!(Terminal::parse(Kind::Completed, data).unwrap(), expected);
    let body = br#"{"id":"resp_1","object":"response","status":"completed","model":"gpt-6-sol-2026","service_tier":"priority",
        "usage":{"input_tokens":100,"input_tokens_details":{"cached_tokens":64,"cache_write_tokens":7},"output_tokens":20,
        "output_tokens_details":{"reasoning_tokens":12},"total_tokens":120}}"#;
    assert_eq!(Terminal::parse_body(body).unwrap(), expected);
}

#[test]
fn unknown_usage_is_never_zero() {
    for usage in [
        "null",
        "{}",
        "7",
        "\"many\"",
        "{\"total_tokens\":5}",
        "{\"input_tokens\":-1}",
        "{\"input_tokens\":\"3\"}",
    ] {
        let data = format!(r#"{{"type":"response.completed","response":{{"id":"r","usage":{usage}}}}}"#);
        assert_eq!(Terminal::parse(Kind::Completed, data.as_bytes()).unwrap().usage, None, "{usage}");
        assert_eq!(Usage::from_json(usage.as_bytes()), None, "{usage}");
    }
    let none = Terminal::parse(Kind::Completed, br#"{"response":{"id":"r"}}"#).unwrap();
    assert_eq!((none.usage, none.status), (None, Status::Completed));
    let partial = Usage::from_json(
        br#"{"input_tokens":3,"output_tokens":2,"input_tokens_details":null,"output_tokens_details":[]}"#,
    );
    assert_eq!(
        partial,
        Some(Usage { input_tokens: 3, output_tokens: 2, total_tokens: 5, ..Usage::default() })
    );
}

#[test]
fn of_what_stands_twice_the_last_counts() {
    let twice = r#"{"input_tokens":1,"input_tokens":3,"input_tokens_details":{"cached_tokens":9,"cache_write_tokens":9},
        "input_tokens_details":{"cached_tokens":1},"output_tokens":4,"output_tokens":2,
        "output_tokens_details":{"reasoning_tokens":8},"output_tokens_details":{}}"#;
    let usage = Usage {
        input_tokens: 3,
        cached_input_tokens: 1,
        output_tokens: 2,
        total_tokens: 5,
        ..Usage::default()
    };
    assert_eq!(Usage::from_json(twice.as_bytes()), Some(usage));
    let event = format!(r#"{{"response":{{"id":"a","model":"m"}},"response":{{"id":"b","usage":{twice}}}}}"#);
    let terminal = Terminal::parse(Kind::Completed, event.as_bytes()).unwrap();
    assert_eq!(
        (terminal.response_id.as_deref(), terminal.model, terminal.usage),
        (Some("b"), None, Some(usage))
    );
}

#[test]
fn text_that_is_not_json_counts_nothing() {
    let good = r#"{"input_tokens":3,"output_tokens":2}"#;
    for cut in 0..good.len() {
        assert_eq!(Usage::from_json(&good.as_bytes()[..cut]), None, "{}", &good[..cut]);
    }
    assert_eq!(Usage::from_json(format!("{good}x").as_bytes()), None);
    let event = format!(r#"{{"response":{{"id":"r","usage":{good}}},"type":"response.completed"}}"#);
    for cut in 0..event.len() {
        let parsed = Terminal::parse(Kind::Completed, &event.as_bytes()[..cut]);
        assert!(matches!(parsed, Err(Error::Json(_))), "{}", &event[..cut]);
    }
}

#[test]
fn failures_and_incompletes_say_why() {
    let failed = br#"{"type":"response.failed","response":{"id":"r","status":"failed","error":{"code":"rate_limit_exceeded","message":"slow down"},"usage":null}}"#;
    let failed = Terminal::parse(Kind::Failed, failed).unwrap();
    assert_eq!(
        (failed.status, failed.error),
        (Status::Failed, Some(error("rate_limit_exceeded", "slow down")))
    );

    let incomplete =
        br#"{"response":{"incomplete_details":{"reason":"max_output_tokens"},"usage":{"output_tokens":9}}}"#;
    let incomplete = Terminal::parse(Kind::Incomplete, incomplete).unwrap();
    assert_eq!(
        (incomplete.status, incomplete.incomplete_reason.as_deref()),
        (Status::Incomplete, Some("max_output_tokens"))
    );
    assert_eq!(incomplete.usage.unwrap().output_tokens, 9);

    let flat = Terminal::parse(
        Kind::Error,
        br#"{"type":"error","code":"server_error","message":"m","param":null,"sequence_number":1}"#,
    );
    assert_eq!(flat.unwrap().error, Some(error("server_error", "m")));
    let nested = Terminal::parse(
        Kind::Error,
        br#"{"type":"error","status":400,"error":{"type":"invalid_request_error","code":400,"message":"m"}}"#,
    );
    let expected = ApiError { kind: Some("invalid_request_error".into()), ..error("400", "m") };
    assert_eq!(nested.unwrap().error, Some(expected));
    assert_eq!(Terminal::parse(Kind::Error, br#"{"type":"error"}"#).unwrap().error, None);
    let cancelled = Terminal::parse(Kind::Incomplete, br#"{"response":{"status":"cancelled"}}"#).unwrap();
    assert_eq!(cancelled.status, Status::Cancelled);
}

#[test]
fn odd_types_count_as_missing() {
    let odd = br#"{"type":"response.completed","response":{"id":17,"model":["x"],"service_tier":{},"status":null,"error":"no","incomplete_details":3}}"#;
    let expected =
        Terminal { response_id: Some("17".into()), status: Status::Completed, ..Terminal::default() };
    assert_eq!(Terminal::parse(Kind::Completed, odd).unwrap(), expected);
    assert_eq!(Terminal::parse_body(b"{\"status\":\"melting\"}").unwrap(), Terminal::default());
    assert_eq!(Terminal::parse(Kind::Completed, b"{\"response\":null}").unwrap().status, Status::Completed);
    assert!(matches!(Terminal::parse(Kind::Completed, b"{"), Err(Error::Json(_))));
    assert!(matches!(Terminal::parse_body(b"[]x"), Err(Error::Json(_))));
    assert!(matches!(Terminal::parse_body(b"{\"id\":\"\xff\"}"), Err(Error::Json(_))));
    assert_eq!(Terminal::parse_body(b"[]").unwrap(), Terminal::default());
    assert!(matches!(Terminal::parse(Kind::Created, b"{}"), Err(Error::NotTerminal(Kind::Created))));
}

#[test]
fn an_escape_that_names_no_character_is_in_no_name() {
    let body = br#"{"\ud800id":"wrong","\u0069d\udc00":"wrong","i\u0064":"right"}"#;
    assert_eq!(Terminal::parse_body(body).unwrap().response_id.as_deref(), Some("right"));
}

proptest! {
    #[test]
    fn escapes_in_keys_change_nothing(dice in any::<u64>()) {
        let mut dice = dice;
        let mut escaped = |text: &str| -> String {
            text.chars().map(|letter| {
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                match (dice >> 60) % 4 {
                    0 => format!("\\u{:04x}", u32::from(letter)),
                    1 => format!("\\u{:04X}", u32::from(letter)),
                    _ => letter.to_string(),
                }
            }).collect()
        };
        // Keys stand between double quotes, values and what is in them do not.
        let plain = "{'id':`r`,'model':`m`,'service_tier':`flex`,'status':`incomplete`,'error':{'code':`c`,'message':`n`},\
            'incomplete_details':{'reason':`max_output_tokens`},'output':[{'id':`o`}],\
            'usage':{'input_tokens':5,'input_tokens_details':{'cached_tokens':2},'output_tokens':3}}";
        let body: String = plain.split('\'').enumerate().map(|(place, part)| match place % 2 {
            0 => part.replace('`', "\""),
            _ => format!("\"{}\"", escaped(part)),
        }).collect();
        let terminal = Terminal::parse_body(body.as_bytes()).unwrap();
        let usage = Usage { input_tokens: 5, cached_input_tokens: 2, output_tokens: 3, total_tokens: 8, ..Usage::default() };
        prop_assert_eq!(&terminal, &Terminal {
            response_id: Some("r".into()),
            model: Some("m".into()),
            service_tier: Some("flex".into()),
            usage: Some(usage),
            status: Status::Incomplete,
            error: Some(error("c", "n")),
            incomplete_reason: Some("max_output_tokens".into()),
        });
        let kind = escaped("type");
        let response = escaped("response");
        let event = format!(r#"{{"{response}":{body},"{kind}":"response.incomplete"}}"#);
        prop_assert_eq!(Kind::from_data(event.as_bytes()), Kind::Incomplete);
        prop_assert_eq!(Terminal::parse(Kind::Incomplete, event.as_bytes()).unwrap(), terminal);
    }
}

#[test]
fn items_have_a_view_and_keep_their_bytes() {
    let check = |json: &str, expected: Item| {
        let data = format!(r#"{{"type":"response.output_item.done","output_index":2,"item":{json}}}"#);
        let event = OutputItemEvent::parse(data.as_bytes()).unwrap();
        assert_eq!((event.output_index, event.item.view(), event.item.raw().get()), (2, &expected, json));
        assert_eq!(OutputItem::parse(json.as_bytes()).unwrap().view(), &expected);
        assert_eq!(event.item.into_raw().get(), json);
    };
    let id = || Some("i".to_owned());
    check(
        r#"{"id":"i","type":"message","role":"assistant","phase":"final_answer", "content":[{"type":"output_text","text":"a","annotations":[]},{"type":"refusal","refusal":"no"}],"new":1}"#,
        Item::Message {
            id: id(),
            role: "assistant".into(),
            text: vec!["a".into(), "no".into()],
            phase: Some("final_answer".into()),
        },
    );
    check(
        r#"{"type":"reasoning","id":"i","summary":[{"type":"summary_text","text":"s"}],"content":null,"encrypted_content":"gA=="}"#,
        Item::Reasoning {
            id: id(),
            summary: vec!["s".into()],
            content: vec![],
            encrypted_content: Some("gA==".into()),
        },
    );
    check(
        r#"{"type":"function_call","id":"i","call_id":"c","name":"f","namespace":"n","arguments":"{\"a\":1"}"#,
        Item::FunctionCall {
            id: id(),
            call_id: "c".into(),
            name: "f".into(),
            namespace: Some("n".into()),
            arguments: "{\"a\":1".into(),
        },
    );
    check(
        r#"{"type":"custom_tool_call","call_id":"c","name":"apply_patch","input":"*** Begin"}"#,
        Item::CustomToolCall {
            id: None,
            call_id: "c".into(),
            name: "apply_patch".into(),
            namespace: None,
            input: "*** Begin".into(),
        },
    );
    check(r#"{"type":"compaction","encrypted_content":"x"}"#, Item::Other { kind: "compaction".into() });
    check(r#"{"type":"function_call","name":"f"}"#, Item::Other { kind: "function_call".into() });
    check(r#"{"type":5}"#, Item::Other { kind: String::new() });
    check("[]", Item::Other { kind: String::new() });
    assert!(OutputItem::parse(b"{").is_err());
    assert!(OutputItemEvent::parse(b"{\"output_index\":0}").is_err());
}

#[test]
fn deltas_are_read() {
    let text = OutputTextDelta::parse(
        br#"{"type":"t","item_id":"m","output_index":1,"content_index":2,"delta":"hi","logprobs":[]}"#,
    )
    .unwrap();
    assert_eq!((&*text.item_id, text.output_index, text.content_index, &*text.delta), ("m", 1, 2, "hi"));
    assert!(matches!(text.delta, std::borrow::Cow::Borrowed(_)));
    let summary =
        ReasoningSummaryTextDelta::parse(br#"{"item_id":"r","summary_index":3,"delta":"a\nb"}"#).unwrap();
    assert_eq!((summary.summary_index, &*summary.delta), (3, "a\nb"));
    let reasoning = ReasoningTextDelta::parse(br#"{"content_index":4,"delta":""}"#).unwrap();
    assert_eq!((reasoning.content_index, &*reasoning.item_id), (4, ""));
    assert!(OutputTextDelta::parse(br#"{"item_id":"m"}"#).is_err());
}

#[test]
fn usage_adds_up_without_overflow() {
    let one = Usage {
        input_tokens: 1,
        cached_input_tokens: 2,
        cache_write_input_tokens: 3,
        output_tokens: 4,
        reasoning_output_tokens: 5,
        total_tokens: u64::MAX,
    };
    let mut sum = one + one;
    sum += Usage::default();
    let expected = Usage {
        input_tokens: 2,
        cached_input_tokens: 4,
        cache_write_input_tokens: 6,
        output_tokens: 8,
        reasoning_output_tokens: 10,
        total_tokens: u64::MAX,
    };
    assert_eq!(sum, expected);
}

#[test]
fn a_response_s_id_is_read_no_further_than_it_stands() {
    let id = |data: &str| super::created_id(data.as_bytes());
    for data in [
        r#"{"type":"response.created","sequence_number":0,"response":{"id":"resp_1","instructions":"and the rest is cut"#,
        r#" { "response" : { "object" : {"id":"no"}, "id" : "resp_1" }, "type":"response.created"}"#,
    ] {
        assert_eq!(id(data).as_deref(), Some("resp_1"), "{data}");
    }
    // It is kept for as long as its stream lives.
    let as_long_as = |bytes| id(&format!(r#"{{"response":{{"id":"{}"}}}}"#, "x".repeat(bytes)));
    assert_eq!(as_long_as(256).map(|id| id.len()), Some(256));
    assert_eq!(as_long_as(257), None);
    for data in [
        "",
        "[]",
        "{}",
        r#"{"response":7}"#,
        r#"{"response":{"id":7}}"#,
        r#"{"id":"a"}"#,
        r#"{"response":{}"#,
    ] {
        assert_eq!(id(data), None, "{data}");
    }
}
