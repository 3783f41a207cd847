//! One envelope in its three forms.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::json::tests::json_text;

fn envelope() -> TurnMetadata<'static> {
    TurnMetadata {
        installation_id: "i",
        session_id: "s",
        thread_id: "t",
        turn_id: "u",
        root_turn_id: "r",
        parent_thread_id: "p",
        window_id: "t",
        window_number: 2,
        originator: "codex-tui",
        request_kind: Some("turn"),
        turn_started_at_unix_ms: Some(1_795_168_784_349),
        sandbox: "read-only",
        extra: BTreeMap::from([("turn_trigger", "exec"), ("thread_id", "not mine")]),
        ..TurnMetadata::default()
    }
}

const METADATA: &str = r#"{"installation_id":"i","session_id":"s","thread_id":"t","turn_id":"u","window_id":"t:2","window_number":2,"request_kind":"turn","root_turn_id":"r","parent_thread_id":"p","sandbox":"read-only","turn_started_at_unix_ms":1795168784349,"turn_trigger":"exec"}"#;

fn edited(envelope: &TurnMetadata<'_>, text: &str, redact: bool) -> String {
    let request = Request::scan(Bytes::copy_from_slice(text.as_bytes())).unwrap();
    let mut splices = Splices::new();
    envelope.edit_client_metadata(&request, redact, &mut splices);
    let edited = splices.apply(request.body());
    Request::scan(edited.clone()).unwrap();
    String::from_utf8(edited.to_vec()).unwrap()
}

#[test]
fn metadata_is_compact_and_without_empty_fields() {
    assert_eq!(envelope().turn_metadata(None), METADATA);
    assert_eq!(TurnMetadata::default().turn_metadata(None), "{}");
    assert!(TurnMetadata { originator: "o", window_number: 3, ..TurnMetadata::default() }.is_empty());
    assert!(TurnMetadata { extra: BTreeMap::from([("sandbox", "x")]), ..TurnMetadata::default() }.is_empty());
}

#[test]
fn callers_enrich_and_the_envelope_wins() {
    let thread = TurnMetadata {
        thread_id: "t",
        extra: BTreeMap::from([("trigger", "exec")]),
        ..TurnMetadata::default()
    };
    let existing = r#" { "thread\u005fid":"forged", "sandbox":"none","workspaces":{ "/w":1 },
        "trigger":true,"thread_id":1 } "#;
    assert_eq!(
        thread.turn_metadata(Some(existing)),
        r#"{"thread_id":"t","trigger":"exec","sandbox":"none","workspaces":{ "/w":1 }}"#
    );
    for odd in ["", "[]", "{", "\"x\"", "{\"a\":1}x"] {
        assert_eq!(thread.turn_metadata(Some(odd)), r#"{"thread_id":"t","trigger":"exec"}"#);
    }
}

#[test]
fn client_metadata_is_inserted_or_completed() {
    let flat = r#""x-codex-installation-id":"i","session_id":"s","thread_id":"t","turn_id":"u","root_turn_id":"r","x-codex-window-id":"t:2""#;
    let metadata = format!(r#""x-codex-turn-metadata":{}"#, json::quoted(METADATA));
    let whole = format!(r#"{{"model":"m","client_metadata":{{{flat},{metadata}}}}}"#);
    assert_eq!(edited(&envelope(), r#"{"model":"m"}"#, false), whole);
    assert_eq!(edited(&envelope(), r#"{"model":"m","client_metadata":null}"#, false), whole);
    assert_eq!(edited(&envelope(), r#"{"model":"m","client_metadata":{}}"#, false), whole);
    assert_eq!(edited(&envelope(), &whole, true), whole);

    let text = r#"{"client_metadata":{"mine":"kept","thread_id":"forged","thread\u005fid":"again",
        "x-codex-turn-metadata":"{\"thread_id\":\"forged\",\"model\":\"gpt\"}" }}"#;
    let expected = r#"{"client_metadata":{"mine":"kept","thread_id":"t",
        "x-codex-turn-metadata":"{\"thread_id\":\"t\",\"model\":\"gpt\"}" }}"#;
    assert_eq!(edited(&TurnMetadata { thread_id: "t", ..TurnMetadata::default() }, text, false), expected);
}

#[test]
fn an_empty_envelope_changes_nothing_but_paths() {
    let text = r#"{"client_metadata":{"x-codex-turn-metadata":"{\"cwd\":\"/w\"}"}}"#;
    assert_eq!(edited(&TurnMetadata::default(), text, false), text);
    let redacted = r#"{"client_metadata":{"x-codex-turn-metadata":"{\"cwd\":\"redacted\"}"}}"#;
    assert_eq!(edited(&TurnMetadata::default(), text, true), redacted);
    assert_eq!(edited(&TurnMetadata::default(), "{}", true), "{}");
}

#[test]
fn paths_of_the_caller_are_redacted_with_the_rest() {
    let text = r#"{"client_metadata":{"x-codex-turn-metadata":"{\"workspaces\":{\"/w\":1}}"}}"#;
    let thread =
        TurnMetadata { thread_id: "t", extra: BTreeMap::from([("cwd", "/x")]), ..TurnMetadata::default() };
    let body: Value = serde_json::from_str(&edited(&thread, text, true)).unwrap();
    let metadata = body["client_metadata"]["x-codex-turn-metadata"].as_str().unwrap();
    assert_eq!(metadata, r#"{"thread_id":"t","cwd":"redacted","workspaces":{"workspace-1":1}}"#);
    assert_eq!(thread.headers(true)[0].1, r#"{"thread_id":"t","cwd":"redacted"}"#);
}

#[test]
fn edits_compose_with_those_of_other_rules() {
    let text = r#"{"input":[{"metadata":1,"id":"a"}],"client_metadata":{"mcp_attribution":"x"}}"#;
    let request = Request::scan(Bytes::copy_from_slice(text.as_bytes())).unwrap();
    let thread = TurnMetadata { session_id: "s", ..TurnMetadata::default() };
    let expected = r#"{"input":[{"id":"a"}],"client_metadata":{"session_id":"s","x-codex-turn-metadata":"{\"session_id\":\"s\"}"}}"#;
    let (mut one, mut other) = (Splices::new(), Splices::new());
    thread.edit_client_metadata(&request, false, &mut one);
    crate::first_party::strip(&request, &mut one);
    crate::first_party::strip(&request, &mut other);
    thread.edit_client_metadata(&request, false, &mut other);
    assert_eq!(one.apply(request.body()), expected);
    assert_eq!(other.apply(request.body()), expected);
}

#[test]
fn headers_are_visible_ascii() {
    assert_eq!(
        envelope().headers(false),
        [
            ("x-codex-turn-metadata", METADATA),
            ("x-codex-window-id", "t:2"),
            ("session-id", "s"),
            ("thread-id", "t"),
            ("x-client-request-id", "t"),
            ("originator", "codex-tui"),
            ("x-codex-parent-thread-id", "p"),
            ("x-codex-root-turn-id", "r"),
        ]
        .map(|(name, value)| (name, value.to_owned()))
    );
    let odd = TurnMetadata { sandbox: "zoë \u{1f600}\n", originator: "a\nb", ..TurnMetadata::default() };
    let text = r#"{"sandbox":"zo\u00eb \ud83d\ude00\n"}"#;
    assert_eq!(odd.headers(false), [("x-codex-turn-metadata", text.to_owned())]);
    let long = "x".repeat(METADATA_HEADER_BYTES_MAX);
    let long = TurnMetadata { session_id: "s", sandbox: &long, ..TurnMetadata::default() };
    assert_eq!(long.headers(false), [("session-id", "s".to_owned())]);
}

proptest! {
    #[test]
    fn a_header_means_the_same_json(text in json_text()) {
        let header = header_text(&text);
        prop_assert!(header.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        let value = serde_json::from_str::<Value>(&text).ok();
        prop_assert_eq!(serde_json::from_str::<Value>(&header).ok(), value);
    }

    #[test]
    fn the_envelope_wins_in_any_metadata(
        existing in json_text(), key in prop::sample::select(vec!["thread_id", r"\u0074urn_id", "mine"]),
        value in json_text(), client_metadata in json_text(),
    ) {
        let whole = format!(r#"{{"{key}":{value},"more":{existing}}}"#);
        for existing in [&existing, &whole] {
            let metadata = envelope().turn_metadata(Some(existing));
            prop_assert!(json::document(metadata.as_bytes()).is_ok());
            if let Ok(metadata) = serde_json::from_str::<Value>(&metadata) {
                prop_assert_eq!(&metadata["thread_id"], &json!("t"));
                prop_assert_eq!(&metadata["turn_id"], &json!("u"));
            }
        }
        let client_metadata = format!(r#"{{"x-codex-turn-metadata":{},"k":{client_metadata}}}"#, json::quoted(&whole));
        let text = format!(r#"{{"client_metadata":{client_metadata}}}"#);
        if let Ok(body) = serde_json::from_str::<Value>(&edited(&envelope(), &text, false)) {
            prop_assert_eq!(&body["client_metadata"]["thread_id"], &json!("t"));
            prop_assert!(body["client_metadata"].get("k").is_some());
        }
    }
}
