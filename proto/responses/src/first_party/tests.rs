//! What other providers do not get to see.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::json::tests::json_text;

fn stripped(text: &str) -> String {
    let request = Request::scan(Bytes::copy_from_slice(text.as_bytes())).unwrap();
    let mut splices = Splices::new();
    strip(&request, &mut splices);
    let edited = splices.apply(request.body());
    Request::scan(edited.clone()).unwrap();
    String::from_utf8(edited.to_vec()).unwrap()
}

#[test]
fn members_of_items_go_and_all_else_stays() {
    let text = r#"{"input":[ {"type":"message","id":"msg_1","metadata":{"a":1},"content":[{"text":"x","metadata":1}],
        "internal_chat_message_metadata_passthrough":{"turn_id":"t"}},"metadata",
        {"metadata":null,"type":"never_heard_of","id":"x_1"},{"internal_chat_message_metadata_passthrough":{}}],
        "metadata":{"kept":"1"},
        "client_metadata":{"mcp_attribution":"{}","session_id":"s","guardian_credits_requested":"true"}}"#;
    let expected = r#"{"input":[ {"type":"message","id":"msg_1","content":[{"text":"x","metadata":1}]},"metadata",
        {"type":"never_heard_of","id":"x_1"},{}],
        "metadata":{"kept":"1"},
        "client_metadata":{"session_id":"s"}}"#;
    assert_eq!(stripped(text), expected);
}

#[test]
fn escapes_and_duplicates_hide_nothing() {
    assert_eq!(
        stripped(r#"{"input":[{"\u006deta\u0064ata":1,"id":"a","metadata":2,"metadata":3}]}"#),
        r#"{"input":[{"id":"a"}]}"#
    );
    assert_eq!(
        stripped(r#"{"client\u005fmetadata":{"mcp\u005fattribution":"","k":"","mcp_attribution":""}}"#),
        r#"{"client\u005fmetadata":{"k":""}}"#
    );
    assert_eq!(stripped(r#"{"\u0069nput":[{"metadata":1}]}"#), r#"{"\u0069nput":[{}]}"#);
}

#[test]
fn a_body_without_them_keeps_its_memory() {
    for text in [
        r#"{"input":"metadata","client_metadata":null}"#,
        r#"{"input":[{"type":"message","content":"plain"}],"client_metadata":{"session_id":"s"}}"#,
        r#"{"input":{"metadata":1}}"#,
        r#"{"input":[[{"metadata":1}]]}"#,
        r#"{}"#,
    ] {
        let request = Request::scan(Bytes::copy_from_slice(text.as_bytes())).unwrap();
        let mut splices = Splices::new();
        strip(&request, &mut splices);
        assert!(splices.is_empty(), "{text}");
    }
}

#[test]
fn very_many_items_take_no_very_long_time() {
    let count = 200_000;
    let items = vec![r#"{"metadata":1,"id":"a"}"#; count].join(",");
    let edited = stripped(&format!(r#"{{"input":[{items}],"client_metadata":{{"mcp_attribution":""}}}}"#));
    let expected = vec![r#"{"id":"a"}"#; count].join(",");
    assert!(edited == format!(r#"{{"input":[{expected}],"client_metadata":{{}}}}"#));
}

proptest! {
    #[test]
    fn the_same_as_on_a_parsed_request(
        items in prop::collection::vec(
            prop::collection::vec(
                (prop::sample::select(vec!["metadata", r"\u006detadata", "id",
                    "internal_chat_message_metadata_passthrough", "metadatas"]), json_text()),
                0..5,
            ),
            0..6,
        ),
    ) {
        let object = |members: &Vec<(&str, String)>| {
            let members: Vec<_> = members.iter().map(|(key, value)| format!("\"{key}\" : {value}")).collect();
            format!("{{{}}}", members.join(" , "))
        };
        let items: Vec<_> = items.iter().map(object).collect();
        let text = format!(r#"{{"input":[{}]}}"#, items.join(" ,"));
        let Ok(mut expected) = serde_json::from_str::<Value>(&text) else {
            // An unpaired surrogate, which a value cannot hold.
            return Ok(());
        };
        for item in expected["input"].as_array_mut().unwrap() {
            let item = item.as_object_mut().unwrap();
            ITEM_MEMBERS.iter().for_each(|name| drop(item.remove(*name)));
        }
        let edited: Value = serde_json::from_str(&stripped(&text)).unwrap();
        prop_assert_eq!(edited, json!(expected));
    }
}
