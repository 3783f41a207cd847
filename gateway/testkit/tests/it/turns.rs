//! Scripted turns read back as what they say.

use bytes::Bytes;
use gateway_testkit::{Turn, text_turn};
use serde_json::{Value, json};
use tidegate_responses::event::{OutputItemEvent, OutputTextDelta};
use tidegate_responses::{Frame, Framer, Item, Kind, Status, Terminal, Usage};

const USAGE: Usage = Usage {
    input_tokens: 100,
    cached_input_tokens: 60,
    cache_write_input_tokens: 5,
    output_tokens: 7,
    reasoning_output_tokens: 3,
    total_tokens: 107,
};

fn read(frames: Vec<Bytes>) -> Vec<Frame> {
    let mut framer = Framer::new(1 << 20);
    let blocks = framer.push(Bytes::from(frames.concat())).unwrap();
    assert_eq!(framer.pending(), 0);
    let read: Vec<_> = blocks.iter().flat_map(|block| block.frames().collect::<Vec<_>>()).collect();
    for (number, frame) in read.iter().enumerate() {
        let data: Value = serde_json::from_slice(&frame.data()).unwrap();
        assert_eq!(data["sequence_number"], number);
        assert_eq!(data["type"].as_str().map(str::as_bytes), frame.event());
    }
    read
}

fn names(frames: &[Frame]) -> Vec<String> {
    frames.iter().map(|frame| frame.kind_str().unwrap().trim_start_matches("response.").to_owned()).collect()
}

#[test]
fn a_text_turn_has_every_event() {
    let frames = read(text_turn(&["Hel", "lo"], USAGE));
    let expected = [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ];
    assert_eq!(names(&frames), expected);
    let said: Vec<_> =
        frames.iter().filter(|frame| frame.kind() == Kind::OutputTextDelta).map(Frame::data).collect();
    let said: Vec<_> =
        said.iter().map(|data| OutputTextDelta::parse(data).unwrap().delta.into_owned()).collect();
    assert_eq!(said, ["Hel", "lo"]);
    let done = OutputItemEvent::parse(&frames[8].data()).unwrap();
    assert!(matches!(done.item.view(), Item::Message { text, .. } if text == &["Hello"]));
    let added = OutputItemEvent::parse(&frames[2].data()).unwrap();
    assert!(matches!(added.item.view(), Item::Message { text, .. } if text.is_empty()));
    let terminal = Terminal::parse(Kind::Completed, &frames[9].data()).unwrap();
    assert_eq!((terminal.usage, terminal.status, terminal.error), (Some(USAGE), Status::Completed, None));
    assert_eq!(
        (terminal.response_id.as_deref(), terminal.model.as_deref()),
        (Some("resp_testkit_1"), Some("gpt-6-sol"))
    );
}

#[test]
fn reasoning_and_calls_are_items_of_their_own() {
    let turn = Turn::new("resp_2").reasoning(&["think"], "gAAA").function_call(
        "call_1",
        "exec",
        &json!({"cmd": "ls"}),
    );
    let frames = read(
        turn.custom_tool_call("call_2", "apply_patch", "***")
            .raw_item(json!({"type": "new"}))
            .completed(USAGE),
    );
    let done: Vec<_> =
        frames.iter().filter(|frame| frame.kind() == Kind::OutputItemDone).map(Frame::data).collect();
    let items: Vec<_> =
        done.iter().map(|data| OutputItemEvent::parse(data).unwrap().item.view().clone()).collect();
    let id = |index: usize| Some(format!("item_resp_2_{index}"));
    let (namespace, text) = (None, str::to_owned);
    let expected = [
        Item::Reasoning {
            id: id(0),
            summary: vec![text("think")],
            content: vec![],
            encrypted_content: Some(text("gAAA")),
        },
        Item::FunctionCall {
            id: id(1),
            call_id: text("call_1"),
            name: text("exec"),
            namespace: namespace.clone(),
            arguments: text(r#"{"cmd":"ls"}"#),
        },
        Item::CustomToolCall {
            id: id(2),
            call_id: text("call_2"),
            name: text("apply_patch"),
            namespace,
            input: text("***"),
        },
        Item::Other { kind: text("new") },
    ];
    assert_eq!(items, expected);
    assert!(frames.iter().any(|frame| frame.kind() == Kind::ReasoningSummaryTextDelta));
}

#[test]
fn other_ends_and_whole_bodies_read_back() {
    let last = |frames: Vec<Bytes>| {
        let frame = read(frames).pop().unwrap();
        Terminal::parse(frame.kind(), &frame.data()).unwrap()
    };
    let turn = || Turn::new("resp_3").model("m").service_tier("priority").text(&["x"]);
    let failed = last(turn().failed("server_error", "broken"));
    assert_eq!((failed.status, failed.usage), (Status::Failed, None));
    assert_eq!(failed.error.unwrap().code.as_deref(), Some("server_error"));
    let incomplete = last(turn().incomplete("max_output_tokens", USAGE));
    assert_eq!(
        (incomplete.incomplete_reason.as_deref(), incomplete.usage),
        (Some("max_output_tokens"), Some(USAGE))
    );
    assert_eq!(last(turn().completed_without_usage()).usage, None);
    let whole = Terminal::parse_body(turn().json(USAGE).to_string().as_bytes()).unwrap();
    assert_eq!(whole, last(turn().completed(USAGE)));
    assert_eq!((whole.model.as_deref(), whole.service_tier.as_deref()), (Some("m"), Some("priority")));
}
