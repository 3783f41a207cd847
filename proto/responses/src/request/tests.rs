//! Requests: what is read, what is refused, where.

use super::*;

fn scan(text: &str) -> Request {
    Request::scan(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

fn refusal(text: &[u8]) -> Error {
    Request::scan(Bytes::copy_from_slice(text)).unwrap_err()
}

#[test]
fn reads_fields_and_keeps_the_bytes() {
    let text = r#" {"model":"gpt-6-sol", "stream" :true,"input":[{"type":"new_kind","x":"\ud800"}],
        "service_tier":null,"previous_response_id":"resp\u005f1","client_metadata":{"thread_id":"t"}} "#;
    let request = scan(text);
    assert_eq!(request.body(), text.as_bytes());
    assert_eq!(request.model().unwrap().as_deref(), Some("gpt-6-sol"));
    assert!(matches!(request.model(), Ok(Some(Cow::Borrowed(_)))));
    assert_eq!(request.stream(), Ok(true));
    assert_eq!(request.service_tier(), Ok(None));
    assert_eq!(request.previous_response_id().unwrap().as_deref(), Some("resp_1"));
    assert_eq!(request.client_metadata().unwrap().of(text.as_bytes()), br#"{"thread_id":"t"}"#);
    assert_eq!(request.raw("input"), Some(br#"[{"type":"new_kind","x":"\ud800"}]"#.as_slice()));
    assert_eq!(request.object(), Span::new(1, text.len() - 1));
    assert_eq!(request.members().len(), 6);
}

#[test]
fn missing_and_null_fields_have_defaults() {
    for text in ["{}", r#"{"model":null,"stream":null}"#, r#"{"stream":false}"#] {
        let request = scan(text);
        assert_eq!((request.model(), request.stream()), (Ok(None), Ok(false)), "{text}");
    }
}

#[test]
fn keys_are_compared_unescaped() {
    // A gate that misses this key would judge a request without a model, while the provider sees one.
    assert_eq!(scan(r#"{"mod\u0065l":"m"}"#).model().unwrap().as_deref(), Some("m"));
    assert_eq!(
        refusal(br#"{"model":"a","mod\u0065l":"b"}"#),
        Error::DuplicateField { field: "model".into() }
    );
    assert_eq!(
        refusal(br#"{"x\ud800":1,"x\ud800":2}"#),
        Error::DuplicateField { field: r#""x\ud800""#.into() }
    );
    assert!(scan(r#"{"x\ud800":1,"model":"m"}"#).model().is_ok());
}

#[test]
fn refusals_say_what_and_where() {
    assert_eq!(refusal(b"[]"), Error::NotAnObject);
    assert_eq!(refusal(b"\"{}\""), Error::NotAnObject);
    assert_eq!(refusal(b"[1"), Error::Syntax { offset: 2, expected: "a comma or a closing bracket" });
    assert_eq!(refusal(b""), Error::Syntax { offset: 0, expected: "a value" });
    assert_eq!(refusal(b"{\"a\":\"\xc3\x28\"}"), Error::NotUtf8 { offset: 6 });
    assert_eq!(refusal(b"{} {}"), Error::Syntax { offset: 3, expected: "the end of the text" });
    assert_eq!(refusal(b"{\"a\":1"), Error::Syntax { offset: 6, expected: "a comma or a closing bracket" });
    let deep = [b"{\"a\":".as_slice(), &b"[".repeat(200)].concat();
    assert_eq!(refusal(&deep), Error::TooDeep { offset: 132 });
    assert_eq!(
        refusal(b"{\"a\":1]").to_string(),
        "request is not valid json at byte 6, expected a comma or a closing bracket"
    );
}

#[test]
fn wrong_types_are_told_when_the_field_is_read() {
    let request = scan(r#"{"model":7,"stream":"yes","service_tier":"\udc00"}"#);
    assert_eq!(request.model(), Err(Error::WrongType { field: "model", expected: "a string" }));
    assert_eq!(request.stream(), Err(Error::WrongType { field: "stream", expected: "a boolean" }));
    assert!(matches!(request.service_tier(), Err(Error::Syntax { offset: 41, .. })));
}

#[test]
fn debug_shows_no_content() {
    assert_eq!(format!("{:?}", scan(r#"{"input":"secret"}"#)), "Request { bytes: 18, members: 1 }");
}

#[test]
fn items_are_checked_like_any_other_value() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    for (depth, fits) in [(125, true), (126, false)] {
        let text = format!(r#"{{"input":[1,{{"a":{}}}]}}"#, nested(depth));
        let (scanned, checked) = (Request::scan(text.clone().into()), json::document(text.as_bytes()));
        assert_eq!((scanned.is_ok(), checked.is_ok()), (fits, fits));
        if let (Err(scanned), Err(checked)) = (scanned, checked) {
            assert_eq!(scanned, checked.into());
        }
    }
    for text in [
        r#"{"input":[}"#,
        r#"{"input":[{]}"#,
        r#"{"input":[{"a":1,}]}"#,
        r#"{"input":[{"a":1}}"#,
        r#"{"input":[1,]}"#,
        r#"{"input":[{"a":"\x"}]}"#,
        r#"{"input":[{"a":1} {}]}"#,
        r#"{"\u0069nput":[[1,]]}"#,
    ] {
        let checked = json::document(text.as_bytes()).unwrap_err();
        assert_eq!(Request::scan(text.into()).unwrap_err(), checked.into(), "{text}");
    }
}
