//! Choices, defaults and opt-outs.

use bytes::Bytes;

use super::*;

fn check(text: &str, default: Option<&str>, effective: Option<&str>, expected: &str) {
    let request = Request::scan(Bytes::copy_from_slice(text.as_bytes())).unwrap();
    let mut splices = Splices::new();
    assert_eq!(decide(&request, default, &mut splices).unwrap().as_deref(), effective, "{text}");
    assert_eq!(splices.apply(request.body()), expected.as_bytes());
    assert_eq!(splices.is_empty(), text == expected, "{text}");
}

#[test]
fn an_explicit_choice_wins() {
    for default in [None, Some("flex"), Some("standard")] {
        let tier = |name: &str| format!(r#"{{"service_tier":{name},"a":1}}"#);
        let priority = tier(r#""priority""#);
        check(&tier(r#""fast""#), default, Some("priority"), &priority);
        check(&priority, default, Some("priority"), &priority);
        check(&tier(r#""flex""#), default, Some("flex"), &tier(r#""flex""#));
        check(&tier(r#""standard""#), default, Some("default"), r#"{"a":1}"#);
        check(&tier(r#""default""#), default, Some("default"), r#"{"a":1}"#);
        check(&tier("null"), default, None, r#"{"a":1}"#);
        for other in ["auto", "scale", "", "Fast"] {
            let text = tier(&format!("\"{other}\""));
            check(&text, default, Some(other), &text);
        }
    }
}

#[test]
fn the_default_fills_a_gap() {
    check("{}", None, None, "{}");
    check("{}", Some("fast"), Some("priority"), r#"{"service_tier":"priority"}"#);
    check("{}", Some("flex"), Some("flex"), r#"{"service_tier":"flex"}"#);
    check("{}", Some("scale"), Some("scale"), r#"{"service_tier":"scale"}"#);
    check("{}", Some("standard"), Some("default"), "{}");
}

#[test]
fn a_tier_that_is_no_text_is_the_callers_mistake() {
    let request = Request::scan(Bytes::from_static(br#"{"service_tier":1}"#)).unwrap();
    let mut splices = Splices::new();
    let error = decide(&request, Some("flex"), &mut splices).unwrap_err();
    assert_eq!(error, Error::WrongType { field: FIELD, expected: "a string" });
    assert!(splices.is_empty());
}
