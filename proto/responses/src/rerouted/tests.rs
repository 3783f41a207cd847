//! Headers inside events.

use proptest::prelude::*;

use super::*;
use crate::json::tests::json_text;

fn check(text: &str, expected: Option<&str>) {
    let data = Bytes::copy_from_slice(text.as_bytes());
    let rewritten = rewrite_model(&data, "ours");
    assert_eq!(rewritten.as_deref(), expected.map(str::as_bytes), "{text}");
}

#[test]
fn the_model_of_the_headers_is_ours() {
    check(
        r#"{"type":"response.metadata","headers":{"OpenAI-Model":"theirs","x-models-etag":"e"},"sequence_number":1}"#,
        Some(
            r#"{"type":"response.metadata","headers":{"OpenAI-Model":"ours","x-models-etag":"e"},"sequence_number":1}"#,
        ),
    );
    check(r#"{"headers":{"openai-model":["theirs","x"]}}"#, Some(r#"{"headers":{"openai-model":["ours"]}}"#));
    check(
        r#"{"type":"response.created","response":{"model":"theirs","headers":{"x-openai-model":"theirs"}}}"#,
        Some(
            r#"{"type":"response.created","response":{"model":"theirs","headers":{"x-openai-model":"ours"}}}"#,
        ),
    );
    check(
        r#"{"h\u0065aders":{"openai\u002dmodel":"theirs","openai-model":"ours","OPENAI-MODEL":"x"}}"#,
        Some(r#"{"h\u0065aders":{"openai\u002dmodel":"ours","openai-model":"ours","OPENAI-MODEL":"ours"}}"#),
    );
}

#[test]
fn nothing_else_is_touched() {
    for text in [
        r#"{"headers":{"openai-model":"ours"}}"#,
        r#"{"headers":{"openai-model":["ours"]}}"#,
        r#"{"headers":{"openai-model":[]}}"#,
        r#"{"headers":{"openai-model":null}}"#,
        r#"{"headers":{"openai-model":{"a":"theirs"}}}"#,
        r#"{"headers":["openai-model","theirs"]}"#,
        r#"{"item":{"headers":{"openai-model":"theirs"}}}"#,
        r#"{"openai-model":"theirs"}"#,
        r#"{"headers":{"openai-model":"theirs"}"#,
        r#"[{"headers":{"openai-model":"theirs"}}]"#,
        "[DONE]",
        "",
    ] {
        check(text, None);
    }
}

#[test]
fn a_slug_is_escaped() {
    let data = Bytes::from_static(br#"{"headers":{"openai-model":"x"}}"#);
    assert_eq!(rewrite_model(&data, "a\"b").unwrap(), r#"{"headers":{"openai-model":"a\"b"}}"#);
}

proptest! {
    #[test]
    fn what_comes_out_is_json_and_stays(value in json_text(), other in json_text()) {
        let text = format!(r#"{{"a":{other},"headers":{{"b":{other},"OpenAI-Model":{value}}},"response":{value}}}"#);
        let data = Bytes::from(text);
        if let Some(rewritten) = rewrite_model(&data, "ours") {
            prop_assert!(json::document(&rewritten).is_ok());
            prop_assert_eq!(rewrite_model(&rewritten, "ours"), None);
        }
    }

    #[test]
    fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = rewrite_model(&Bytes::from(bytes), "ours");
    }
}
