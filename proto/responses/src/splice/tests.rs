//! Edits against a model of edits.

use proptest::prelude::*;

use super::*;
use crate::json::tests::json_text;

fn scan(text: &str) -> Request {
    Request::scan(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

fn check(text: &str, edit: impl FnOnce(&mut Splices, &Request), expected: &str) {
    let request = scan(text);
    let mut splices = Splices::new();
    edit(&mut splices, &request);
    let edited = splices.apply(request.body());
    assert_eq!(std::str::from_utf8(&edited).unwrap(), expected, "from {text}");
    Request::scan(edited).unwrap();
}

#[test]
fn no_edits_mean_the_same_memory() {
    let request = scan(r#"{"a":1}"#);
    let applied = Splices::new().apply(request.body());
    assert_eq!(applied.as_ptr(), request.body().as_ptr());
    let mut splices = Splices::new();
    splices.remove_member(&request, "missing");
    assert!(splices.is_empty());
}

#[test]
fn members_are_replaced_removed_and_inserted() {
    let text = r#"{ "a" : 1 , "b":[2],"c":3 }"#;
    check(text, |s, r| s.set_member(r, "b", "\"x\""), r#"{ "a" : 1 , "b":"x","c":3 }"#);
    check(text, |s, r| s.remove_member(r, "a"), r#"{ "b":[2],"c":3 }"#);
    check(text, |s, r| s.remove_member(r, "b"), r#"{ "a" : 1 ,"c":3 }"#);
    check(text, |s, r| s.remove_member(r, "c"), r#"{ "a" : 1 , "b":[2] }"#);
    check(text, |s, r| s.set_member(r, "d\"", "null"), r#"{ "a" : 1 , "b":[2],"c":3,"d\"":null }"#);
    check(text, |s, r| assert!(!s.insert_member(r, "a", "9")), text);
    check("{}", |s, r| assert!(s.insert_member(r, "a", "9")), r#"{"a":9}"#);
    check(" { }\n", |s, r| assert!(s.insert_member(r, "a", "9")), " {\"a\":9 }\n");
}

#[test]
fn commas_are_right_whatever_goes() {
    let text = r#"{"a":1,"b":2,"c":3}"#;
    let all = ["a", "b", "c"];
    let without = |gone: &'static [&str]| {
        move |s: &mut Splices, r: &Request| gone.iter().for_each(|key| s.remove_member(r, key))
    };
    check(text, without(&["a", "b"]), r#"{"c":3}"#);
    check(text, without(&["c", "b"]), r#"{"a":1}"#);
    check(text, without(&["c", "a"]), r#"{"b":2}"#);
    check(text, without(&["b", "c", "a"]), "{}");
    let emptied = |s: &mut Splices, r: &Request| {
        all.iter().for_each(|key| s.remove_member(r, key));
        s.set_member(r, "x", "8");
        s.set_member(r, "y", "9");
    };
    check(text, emptied, r#"{"x":8,"y":9}"#);
    check(
        "{ \"a\":1 }",
        |s, r| {
            s.remove_member(r, "a");
            s.insert_member(r, "a", "2");
        },
        "{ \"a\":2 }",
    );
}

#[test]
fn the_outer_edit_wins_and_the_later_of_equals() {
    let text = r#"{"a":{"b":1},"c":2}"#;
    let inner = |r: &Request| json::member(r.body(), r.member("a").unwrap(), "b").unwrap();
    check(
        text,
        |s, r| {
            s.replace(inner(r), "7");
            s.replace(r.member("a").unwrap(), "0");
        },
        r#"{"a":0,"c":2}"#,
    );
    check(
        text,
        |s, r| {
            s.replace(r.member("a").unwrap(), "0");
            s.replace(inner(r), "7");
        },
        r#"{"a":0,"c":2}"#,
    );
    check(
        text,
        |s, r| {
            s.replace(inner(r), "7");
            s.replace(inner(r), "8");
        },
        r#"{"a":{"b":8},"c":2}"#,
    );
    check(
        text,
        |s, r| {
            s.remove_member(r, "a");
            s.replace(inner(r), "7");
        },
        r#"{"c":2}"#,
    );
    check(
        text,
        |s, r| {
            s.remove_member(r, "c");
            s.set_member(r, "c", "5");
        },
        r#"{"a":{"b":1},"c":5}"#,
    );
    check(
        text,
        |s, r| {
            s.set_member(r, "x", "1");
            s.remove_member(r, "x");
        },
        text,
    );
    check(
        text,
        |s, r| {
            s.set_member(r, "x", "1");
            s.set_member(r, "x", "2");
        },
        r#"{"a":{"b":1},"c":2,"x":2}"#,
    );
}

#[test]
fn nested_objects_are_edited_in_place() {
    let text = r#"{"input":[{"id":"1","meta":{"x":[1]}}, {"meta":0},{"id":"3"}],"client_metadata":{}}"#;
    let strip = |s: &mut Splices, r: &Request| {
        for item in json::elements(r.body(), r.member("input").unwrap()) {
            let item = item.unwrap();
            for member in json::members(r.body(), item).map(Result::unwrap) {
                if member.is_named(r.body(), "meta") {
                    s.remove_entry(member.entry());
                }
            }
            s.insert_into(r.body(), item, "seen", "true");
        }
        s.insert_into(r.body(), r.client_metadata().unwrap(), "k", "\"v\"");
    };
    let expected = r#"{"input":[{"id":"1","seen":true}, {"seen":true},{"id":"3","seen":true}],"client_metadata":{"k":"v"}}"#;
    check(text, strip, expected);
}

#[derive(Debug, Clone)]
enum Op {
    Set(usize, String),
    Insert(usize, String),
    Remove(usize),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        (0..9_usize, json_text()).prop_map(|(key, raw)| Op::Set(key, raw)),
        (0..9_usize, json_text()).prop_map(|(key, raw)| Op::Insert(key, raw)),
        (0..9_usize).prop_map(Op::Remove),
    ];
    prop::collection::vec(op, 0..10)
}

/// What the edits mean, on lists: members keep their places, new ones come last.
fn model(original: &[String], ops: &[Op]) -> Vec<(String, String)> {
    let mut slots: Vec<Option<String>> = original.iter().map(|raw| Some(raw.trim().to_owned())).collect();
    let mut added: Vec<(usize, String)> = Vec::new();
    for op in ops {
        match op {
            Op::Set(key, raw) => {
                added.retain(|(other, _)| other != key);
                match slots.get_mut(*key) {
                    Some(slot) => *slot = Some(raw.trim().to_owned()),
                    None => added.push((*key, raw.trim().to_owned())),
                }
            }
            Op::Insert(key, raw) => {
                let kept = slots.get(*key).is_some_and(Option::is_some);
                if !kept && added.iter().all(|(other, _)| other != key) {
                    added.push((*key, raw.trim().to_owned()));
                }
            }
            Op::Remove(key) => {
                added.retain(|(other, _)| other != key);
                slots.get_mut(*key).map(Option::take);
            }
        }
    }
    let kept = slots.into_iter().enumerate().filter_map(|(key, raw)| Some((key, raw?)));
    kept.chain(added).map(|(key, raw)| (format!("k{key}"), raw)).collect()
}

proptest! {
    #[test]
    fn edits_mean_what_the_model_means_and_untouched_bytes_stay(
        values in prop::collection::vec(json_text(), 0..6),
        blank in prop::sample::select(vec!["", " ", "\n  "]),
        ops in ops(),
    ) {
        let entries: Vec<_> = values.iter().enumerate().map(|(key, raw)| format!("{blank}\"k{key}\":{raw}{blank}")).collect();
        let request = scan(&format!("{blank}{{{}{blank}}}", entries.join(",")));
        let mut splices = Splices::new();
        for op in &ops {
            match op {
                Op::Set(key, raw) => splices.set_member(&request, &format!("k{key}"), raw.clone()),
                Op::Insert(key, raw) => drop(splices.insert_member(&request, &format!("k{key}"), raw.clone())),
                Op::Remove(key) => splices.remove_member(&request, &format!("k{key}")),
            }
        }
        let edited = Request::scan(splices.apply(request.body())).unwrap();
        let found: Vec<_> = edited.members().iter().map(|member| {
            let text = |span: Span| String::from_utf8(span.of(edited.body()).to_vec()).unwrap();
            (text(member.key).trim_matches('"').to_owned(), text(member.value))
        }).collect();
        prop_assert_eq!(found, model(&values, &ops));
    }

    #[test]
    fn any_entries_of_any_containers_can_go(
        rows in prop::collection::vec(prop::collection::vec((json_text(), any::<bool>()), 0..5), 0..5),
        gone in prop::collection::vec(any::<bool>(), 5),
    ) {
        let row = |cells: &[(String, bool)]| cells.iter().enumerate().map(|(i, (raw, _))| format!(" \"c{i}\" : {raw} ")).collect::<Vec<_>>().join(",");
        let text = format!("{{\"input\": [{}]}}", rows.iter().map(|cells| format!(" {{{}}} ", row(cells))).collect::<Vec<_>>().join(","));
        let request = scan(&text);
        let body = request.body();
        let mut splices = Splices::new();
        let mut expected: Vec<Vec<(String, String)>> = Vec::new();
        for ((item, cells), gone) in json::elements(body, request.member("input").unwrap()).zip(&rows).zip(&gone) {
            let item = item.unwrap();
            let mut kept = Vec::new();
            for (i, (member, (raw, gone))) in json::members(body, item).zip(cells).enumerate() {
                if *gone { splices.remove_entry(member.unwrap().entry()) } else { kept.push((format!("c{i}"), raw.trim().to_owned())) }
            }
            if *gone { splices.remove_entry(item) } else { expected.push(kept) }
        }
        let edited = Request::scan(splices.apply(body)).unwrap();
        let body = edited.body();
        let found: Vec<Vec<(String, String)>> = json::elements(body, edited.member("input").unwrap()).map(|item| {
            json::members(body, item.unwrap()).map(|member| {
                let member = member.unwrap();
                let raw = String::from_utf8(member.value.of(body).to_vec()).unwrap();
                (json::string(body, member.key).unwrap().into_owned(), raw)
            }).collect()
        }).collect();
        prop_assert_eq!(found, expected);
    }
}
