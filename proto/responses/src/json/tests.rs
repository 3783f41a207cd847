//! The scanner against the grammar, and against serde_json.

use std::collections::HashMap;

use proptest::prelude::*;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::*;

/// Any JSON text, with whitespace and escapes as odd as the grammar allows.
pub(crate) fn json_text() -> impl Strategy<Value = String> {
    let blank = || prop::sample::select(vec!["", "", "", " ", "\n\t", "\r\n  "]);
    let leaf = prop_oneof![
        prop::sample::select(vec![
            "null", "true", "false", "0", "-0", "12", "-3.25", "1e9", "2E-7", "6.02e+23"
        ])
        .prop_map(str::to_owned),
        string_text(),
        any::<i64>().prop_map(|number| number.to_string()),
    ];
    leaf.prop_recursive(5, 48, 6, move |inner| {
        let entry = (blank(), string_text(), blank(), blank(), inner.clone(), blank())
            .prop_map(|(a, key, b, c, value, d)| format!("{a}{key}{b}:{c}{value}{d}"));
        let element = (blank(), inner, blank()).prop_map(|(a, value, b)| format!("{a}{value}{b}"));
        prop_oneof![
            prop::collection::vec(entry, 0..6).prop_map(|entries| format!("{{{}}}", entries.join(","))),
            prop::collection::vec(element, 0..6).prop_map(|elements| format!("[{}]", elements.join(","))),
        ]
    })
}

/// Any JSON string with its quotes, plain and escaped characters mixed.
pub(crate) fn string_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[a-z]{1,4}",
        "[ -~&&[^\"\\\\]]{0,80}",
        "[^\\x00-\\x1f\"\\\\]{0,3}",
        prop::sample::select(vec![
            r#"\""#,
            r"\\",
            r"\/",
            r"\n",
            r"\u0041",
            r"\u00e9",
            r"\ud83d\ude00",
            r"\u0000"
        ])
        .prop_map(str::to_owned),
    ];
    prop::collection::vec(piece, 0..5).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

fn accepted_by_serde(bytes: &[u8]) -> bool {
    // Ignoring a value checks its grammar and nothing else, at any depth.
    std::str::from_utf8(bytes).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

#[test]
fn accepts_what_the_grammar_allows() {
    for text in [
        "[]",
        "{}",
        " [ ] ",
        "{ }",
        "[[]]",
        "[{}]",
        "0",
        "-0",
        "-0.0e-0",
        "1E+2",
        "\"\"",
        "\"\u{7f}\"",
        "null",
        "\"\\ud800\"",
        "\"\\uDC00\\uD800\"",
        "{\"\":0}",
        "{\"a\":1,\"a\":2}",
        "\t[1\r\n,2 ]\n",
        "\"\u{feff}\"",
        "123456789012345678901234567890",
        "1e400",
        "[\"\\u0022\\\\\"]",
        "{\"a\\u0062\":[true,false,null]}",
    ] {
        let value = document(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(value.of(text.as_bytes()), text.trim().as_bytes());
        assert!(accepted_by_serde(text.as_bytes()), "{text}");
    }
}

#[test]
fn refuses_what_the_grammar_does_not_allow() {
    for text in [
        "",
        " ",
        "[",
        "]",
        "{",
        "}",
        "[1,]",
        "[,1]",
        "[1 2]",
        "[1,,2]",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{,}",
        "{a:1}",
        "{'a':1}",
        "{1:1}",
        "[1}",
        "{\"a\":1]",
        "01",
        "-",
        "-a",
        "+1",
        ".5",
        "1.",
        "1.e1",
        "1e",
        "1e+",
        "0x1",
        "NaN",
        "Infinity",
        "nul",
        "nulll",
        "True",
        "\"",
        "\"\\\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"\n\"",
        "\"\t\"",
        "\"\u{0}\"",
        "1 2",
        "[] []",
        "{}x",
        "\u{feff}{}",
        "[1]//",
        "/**/1",
        "\u{a0}1",
        "\u{c}1",
        "[\"a\",\n4\n,1,",
        "{\"a\":\"b\":1}",
        "{\"a\" \"b\"}",
        "\"\\",
        "[\"\\u00\"]",
        "-01",
        "--1",
        "1-",
        "[-]",
        "{\"a\":tru}",
    ] {
        assert!(document(text.as_bytes()).is_err(), "{text:?}");
        assert!(!accepted_by_serde(text.as_bytes()), "{text:?}");
    }
}

#[test]
fn errors_name_the_place() {
    let check = |text: &[u8], expected: Error| assert_eq!(document(text), Err(expected), "{text:?}");
    check(b"{\"a\": nope}", Error::Syntax { offset: 6, expected: "true, false or null" });
    check(b"[1 2]", Error::Syntax { offset: 3, expected: "a comma or a closing bracket" });
    check(b"{\"a\" 1}", Error::Syntax { offset: 5, expected: "a colon" });
    check(b"[\"ab\x01\"]", Error::Syntax { offset: 4, expected: "no control character in a string" });
    check(b"[\"a\xff\"]", Error::NotUtf8 { offset: 3 });
    check(b"[] x", Error::Syntax { offset: 3, expected: "the end of the text" });
}

#[test]
fn nesting_is_bounded_exactly() {
    let nested = |depth: usize| [b"[".repeat(depth), b"]".repeat(depth)].concat();
    assert!(document(&nested(128)).is_ok());
    assert_eq!(document(&nested(129)), Err(Error::TooDeep { offset: 128 }));
    // Walking a container and skipping it agree about the bound.
    let inside = [b"{\"a\":".as_slice(), &nested(127), b"}"].concat();
    let too_deep = [b"{\"a\":".as_slice(), &nested(128), b"}"].concat();
    let walk =
        |text: &[u8]| members(text, Span::new(0, text.len())).collect::<Result<Vec<_>, _>>().map(|_| ());
    assert_eq!(walk(&inside), Ok(()));
    assert_eq!(walk(&too_deep), Err(Error::TooDeep { offset: 132 }));
    assert_eq!(document(&too_deep), Err(Error::TooDeep { offset: 132 }));
    // A million brackets cost no stack.
    assert!(document(&b"[".repeat(1_000_000)).is_err());
}

#[test]
fn strings_are_unescaped_or_refused() {
    let read = |text: &'static str| string(text.as_bytes(), Span::new(0, text.len()));
    assert!(matches!(read("\"plain\""), Ok(Cow::Borrowed("plain"))));
    assert_eq!(read(r#""a\u00e9\n\ud83d\ude00""#).unwrap(), "aé\n😀");
    assert_eq!(
        read(r#""\ud800""#),
        Err(Error::Syntax { offset: 0, expected: "a string whose escapes name characters" })
    );
    assert!(read("12").is_err());
    assert!(read("\"").is_err());
}

#[test]
fn walks_find_entries_and_stop_after_an_error() {
    let text = br#" {"a" : [1, {"b":2} ,"x"], "\u0062":null}"#;
    let object = document(text).unwrap();
    let array = member(text, object, "a").unwrap();
    let found: Vec<_> = elements(text, array).map(|span| span.unwrap().of(text)).collect();
    assert_eq!(found, [b"1".as_slice(), br#"{"b":2}"#, br#""x""#]);
    assert_eq!(kind(text, member(text, object, "b").unwrap()), Some(ValueKind::Null));
    assert_eq!(member(text, object, "c"), None);
    assert!(elements(text, object).next().unwrap().is_err());

    let broken = b"[1,2 x,3]";
    let mut walk = elements(broken, Span::new(0, broken.len()));
    assert!(walk.next().unwrap().is_ok() && walk.next().unwrap().is_ok());
    assert!(walk.next().unwrap().is_err() && walk.next().is_none());
    // A span that ends early is the end of the text for the walk.
    assert!(elements(b"[1,2]", Span::new(0, 3)).last().unwrap().is_err());
}

proptest! {
    #[test]
    fn valid_texts_are_accepted_whole(text in json_text()) {
        let span = document(text.as_bytes()).unwrap();
        prop_assert_eq!(span.of(text.as_bytes()), text.trim_ascii().as_bytes());
    }

    #[test]
    fn damaged_texts_are_judged_as_serde_judges_them(
        text in json_text(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..4),
    ) {
        let mut bytes = text.into_bytes();
        for (place, byte, how) in damage {
            let place = place.index(bytes.len() + 1);
            match how {
                0 => bytes.insert(place, byte),
                1 if place < bytes.len() => bytes[place] = b"{}[],:\"\\0-.eE tnu"[usize::from(byte) % 17],
                _ => bytes.truncate(place.max(1)),
            }
        }
        prop_assert_eq!(document(&bytes).is_ok(), accepted_by_serde(&bytes), "{:?}", String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn members_are_those_that_serde_reads(text in json_text()) {
        let Ok(expected) = serde_json::from_str::<HashMap<String, Box<RawValue>>>(&text) else { return Ok(()) };
        let bytes = text.as_bytes();
        let mut found = HashMap::new();
        for member in members(bytes, document(bytes).unwrap()) {
            let member = member.unwrap();
            found.insert(string(bytes, member.key).unwrap().into_owned(), member.value.of(bytes).to_vec());
        }
        let expected: HashMap<_, _> = expected.into_iter().map(|(key, raw)| (key, raw.get().as_bytes().to_vec())).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn strings_read_as_serde_reads_them(text in string_text()) {
        let expected: String = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(string(text.as_bytes(), Span::new(0, text.len())).unwrap(), expected);
    }
}
