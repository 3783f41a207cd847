//! Tools: where they are found, what is refused, and that spelling does not matter.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn scan(text: &str) -> Request {
    Request::scan(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

/// Each tool as `type` or `type:name`.
fn tools(text: &str) -> Result<Vec<String>, Unclear> {
    let request = scan(text);
    let mut found = Vec::new();
    read(&request, &mut |tool: Tool<'_>| -> Result<(), Unclear> {
        assert_eq!(json::kind(request.body(), tool.span), Some(ValueKind::Object));
        found.push(tool.name.map_or_else(|| tool.kind.to_string(), |name| format!("{}:{name}", tool.kind)));
        Ok(())
    })?;
    Ok(found)
}

fn check(text: &str, expected: &[&str]) {
    assert_eq!(tools(text).unwrap(), expected, "{text}");
}

#[test]
fn tools_are_found_wherever_they_stand() {
    check("{}", &[]);
    check(r#"{"tools":null,"input":"text","prompt":null}"#, &[]);
    check(
        r#"{"tools":[{"type":"web_search"},{"type":"function","name":"a"}]}"#,
        &["web_search", "function:a"],
    );
    check(
        r#"{"input":[{"type":"message"},{"type":"additional_tools","tools":[{"type":"custom","name":"a"}]},
            {"type":"tool_search_output","tools":[{"type":"function","name":"b"}]},
            {"type":"not_yet_known","tools":[{"type":"function","name":"c"}]},{"tools":[{"type":"d"}]}]}"#,
        &["custom:a", "function:b", "function:c", "d"],
    );
    check(
        r#"{"tools":[{"type":"namespace","name":"n","tools":[{"type":"function","name":"a"}]}]}"#,
        &["namespace:n", "function:a"],
    );
    check(r#"{"input":[{"type":"mcp_list_tools","tools":[{"name":"a"}]},"text",null]}"#, &[]);
    check(r#"{"t\u006fols":[{"typ\u0065":"w\u0065b"}]}"#, &["web"]);
}

#[test]
fn a_server_is_known_by_where_it_leads() {
    check(r#"{"tools":[{"type":"mcp","server_label":"a"}]}"#, &["mcp:a"]);
    check(r#"{"tools":[{"type":"mcp","server_label":"a","server_url":"https://b"}]}"#, &["mcp:https://b"]);
    check(r#"{"tools":[{"type":"mcp","server_label":"a","connector_id":"c","name":"n"}]}"#, &["mcp:c"]);
    let both = r#"{"tools":[{"type":"mcp","server_url":"b","connector_id":"c"}]}"#;
    assert_eq!(tools(both), Err(Unclear::Both { offset: 10 }));
}

#[test]
fn what_readers_could_take_differently_is_refused() {
    let refusals = [
        (r#"{"tools":[{"type":"a","type":"b"}]}"#, "`type` stands twice at byte 10"),
        (r#"{"tools":[{"type":"a","typ\u0065":"b"}]}"#, "`type` stands twice at byte 10"),
        (r#"{"tools":[{"type":"a","type":null}]}"#, "`type` stands twice at byte 10"),
        (r#"{"tools":[{"type":"function","name":"a","name":"b"}]}"#, "`name` stands twice at byte 10"),
        (r#"{"input":[{"type":"x","tools":[],"tools":[]}]}"#, "`tools` stands twice at byte 10"),
        (r#"{"input":[{"type":"mcp_list_tools","type":"y","tools":[]}]}"#, "`type` stands twice at byte 10"),
        (r#"{"Tools":[]}"#, "the key at byte 1 can be taken for `tools`"),
        (r#"{"toolſ":[]}"#, "the key at byte 1 can be taken for `tools`"),
        (r#"{"INPUT":[]}"#, "the key at byte 1 can be taken for `input`"),
        (r#"{"tools":[{"type":"a","Type":"b"}]}"#, "the key at byte 22 can be taken for `type`"),
        (r#"{"input":[{"Tools":[]}]}"#, "the key at byte 11 can be taken for `tools`"),
        (r#"{"tools":{}}"#, "`tools` at byte 9 is not an array"),
        (r#"{"tools":["a"]}"#, "`tools` at byte 10 is not an array of objects"),
        (r#"{"tools":[[{"type":"a"}]]}"#, "`tools` at byte 10 is not an array of objects"),
        (r#"{"tools":[{}]}"#, "the tool at byte 10 has no `type`"),
        (r#"{"tools":[{"type":null}]}"#, "the tool at byte 10 has no `type`"),
        (r#"{"tools":[{"type":7}]}"#, "`type` at byte 18 is not a text"),
        (r#"{"tools":[{"type":"\ud800"}]}"#, "`type` at byte 18 is not a text"),
        (r#"{"tools":[{"type":"function","function":{"name":"a"}}]}"#, "the tool at byte 10 has no `name`"),
        (r#"{"tools":[{"type":"mcp"}]}"#, "the tool at byte 10 has no `server_label`"),
        (r#"{"input":{"tools":[]}}"#, "`input` at byte 9 is not a text or an array"),
        (r#"{"input":[[]]}"#, "`input` at byte 10 is not an array of objects"),
        (r#"{"prompt":{"id":"p"}}"#, "`prompt` can bring tools that the request does not show"),
        (r#"{"response":{"tools":[]}}"#, "`response` can bring tools that the request does not show"),
    ];
    for (text, expected) in refusals {
        assert_eq!(tools(text).map_err(|unclear| unclear.to_string()), Err(expected.to_owned()), "{text}");
    }
}

#[test]
fn nesting_has_a_bound() {
    let nested = |depth: usize| {
        let open = r#"{"type":"namespace","name":"n","tools":["#.repeat(depth);
        format!(r#"{{"tools":[{open}{}]}}"#, "]}".repeat(depth))
    };
    assert_eq!(tools(&nested(4)).map(|found| found.len()), Ok(4));
    assert!(matches!(tools(&nested(5)), Err(Unclear::TooDeep { .. })));
}

/// A text as JSON with some letters escaped.
fn spelled(text: &str, escapes: u32) -> String {
    let letter = |(index, letter): (usize, char)| match escapes >> (index % 32) & 1 {
        1 => format!("\\u{:04x}", u32::from(letter)),
        _ => letter.to_string(),
    };
    let letters: String = text.chars().enumerate().map(letter).collect();
    format!("\"{letters}\"")
}

fn member(key: &str, value: &str, escapes: u32, blank: &str) -> String {
    format!("{blank}{}{blank}:{blank}{value}{blank}", spelled(key, escapes))
}

proptest! {
    #[test]
    fn spelling_does_not_matter(
        kinds in prop::collection::vec("[a-z_]{1,8}", 1..5),
        escapes in any::<u32>(),
        blank in "[ \n\r\t]{0,3}",
        inside in any::<bool>(),
        before in prop::collection::vec(("x[a-z]{0,6}", crate::json::tests::json_text()), 0..3),
    ) {
        let object = |key: &str, value: &str| {
            let others = before.iter().map(|(key, value)| member(key, value, 0, &blank));
            let members: Vec<_> = others.chain([member(key, value, escapes, &blank)]).collect();
            format!("{{{}}}", members.join(","))
        };
        let listed: Vec<_> = kinds.iter().map(|kind| object("type", &spelled(kind, !escapes))).collect();
        let list = format!("[{blank}{}{blank}]", listed.join(","));
        let item = object("tools", &list);
        let text = if inside { object("input", &format!("[{item}]")) } else { item };
        // Two members of the same name at the top are no request.
        prop_assume!(Request::scan(Bytes::from(text.clone())).is_ok());
        let found = tools(&text);
        if kinds.iter().any(|kind| NAMED.contains(&kind.as_str())) {
            prop_assert!(found.is_err());
        } else {
            prop_assert_eq!(found, Ok(kinds));
        }
    }

    #[test]
    fn a_second_type_never_goes_unseen(first in "[a-z]{1,6}", second in "[a-z]{1,6}", escapes in any::<u32>()) {
        let text = format!(
            r#"{{"input":[{{"tools":[{{{},"x":[{{}}],{}}}]}}]}}"#,
            member("type", &spelled(&first, escapes), escapes, " "),
            member("type", &spelled(&second, 0), !escapes, ""),
        );
        prop_assert_eq!(tools(&text), Err(Unclear::Twice { key: "type", offset: 20 }));
    }
}
