//! Paths that stay inside.

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::json::tests::json_text;

#[test]
fn workspaces_lose_their_paths_and_keep_the_rest() {
    let text = r#"{"agent_name":"/root","workspaces":{"/home/user/work":{"has_changes":true}, "C:\\w":{"root":"C:\\w"}},"turn_id":"t","cwd":"/home/user","deep":[{"/etc":"~/x"},"a/b"],"n":1}"#;
    let expected = r#"{"agent_name":"/root","workspaces":{"workspace-1":{"has_changes":true}, "workspace-2":{"root":"redacted"}},"turn_id":"t","cwd":"redacted","deep":[{"redacted-1":"redacted"},"a/b"],"n":1}"#;
    assert_eq!(workspaces(text).as_deref(), Some(expected));
    assert_eq!(workspaces(expected), None);
}

#[test]
fn what_is_a_path_and_what_is_not() {
    for path in ["/", "/a b", "~", "~/x", r"c:\x", "C:/x", r"\\host\share", "file:///home/u"] {
        assert!(is_path(path), "{path}");
    }
    for text in ["", "a/b", "./a", "C:", "1:/x", "~user", "https://example.test/x", "none"] {
        assert!(!is_path(text), "{text}");
    }
}

#[test]
fn odd_metadata_leaks_nothing() {
    assert_eq!(workspaces(r#"{"workspaces":{}}"#), None);
    assert_eq!(
        workspaces(r#"{"agent_name":{"p":"/x"}}"#).as_deref(),
        Some(r#"{"agent_name":{"p":"redacted"}}"#)
    );
    assert_eq!(workspaces(r#""\u002fhome""#).as_deref(), Some(r#""redacted""#));
    assert_eq!(workspaces("/home/user, not json").as_deref(), Some("{}"));
    let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(METADATA_BYTES_MAX));
    assert_eq!(workspaces(&long).as_deref(), Some("{}"));
    let twice = r#"{"workspaces":{"/a":1},"workspaces":{"/b":"/c"}}"#;
    assert_eq!(
        workspaces(twice).as_deref(),
        Some(r#"{"workspaces":{"workspace-1":1},"workspaces":{"workspace-1":"redacted"}}"#)
    );
}

#[test]
fn inside_a_request_only_the_metadata_changes() {
    let check = |text: &str, expected: &str| {
        let request = Request::scan(Bytes::copy_from_slice(text.as_bytes())).unwrap();
        let mut splices = Splices::new();
        redact_request(&request, &mut splices);
        assert_eq!(splices.apply(request.body()), expected.as_bytes());
    };
    check(
        r#"{"input":"/home","client_metadata":{"session_id":"/s","x-codex-turn-metadata":"{\"workspaces\":{\"/w\":1}}"}}"#,
        r#"{"input":"/home","client_metadata":{"session_id":"/s","x-codex-turn-metadata":"{\"workspaces\":{\"workspace-1\":1}}"}}"#,
    );
    check(
        r#"{"client_metadata":{"x-codex-turn-metadata":{"cwd":"/w"}}}"#,
        r#"{"client_metadata":{"x-codex-turn-metadata":"{}"}}"#,
    );
    let same = r#"{"client_metadata":{"x-codex-turn-metadata":"{\"a\":1}"}}"#;
    check(same, same);
    check(r#"{"client_metadata":null}"#, r#"{"client_metadata":null}"#);
}

fn assert_no_path(value: &Value, top: bool) {
    match value {
        Value::String(text) => assert!(!is_path(text), "{text}"),
        Value::Array(elements) => elements.iter().for_each(|element| assert_no_path(element, false)),
        Value::Object(members) => {
            for (key, value) in members {
                assert!(!is_path(key), "{key}");
                if !(top && key == AGENT_NAME && value.is_string()) {
                    assert_no_path(value, false);
                }
            }
        }
        _ => {}
    }
}

proptest! {
    #[test]
    fn no_path_is_left_in_any_json(text in json_text(), path in "(/|~/|C:\\\\\\\\)[a-z]{0,4}") {
        let text = format!(r#"{{"workspaces":{{"{path}":{text}}},"x":["{path}",{text}],"{path}":0}}"#);
        let redacted = workspaces(&text).unwrap();
        if let Ok(value) = serde_json::from_str::<Value>(&redacted) {
            assert_no_path(&value, true);
        }
        prop_assert!(json::document(redacted.as_bytes()).is_ok());
        prop_assert_eq!(workspaces(&redacted), None);
    }

    #[test]
    fn any_text_is_taken(text in ".{0,200}") {
        let _ = workspaces(&text);
    }
}
