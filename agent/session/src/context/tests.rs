//! The model's input, and the requests around it.

use agent_threads::{ItemId, ServiceTier, TurnStart, UserInput};
use serde_json::{Value, json};

use super::{body::instructions, compact::tokens_of, *};
use crate::model::Model;

fn model_item(turn_id: TurnId, json: &str) -> Entry {
    Entry::ModelItem { turn_id, json: RawValue::from_string(json.to_owned()).unwrap() }
}

#[test]
fn a_turn_left_behind_is_closed_with_its_open_tool_calls() {
    let turn_id = TurnId::generate();
    let mut context = Context::default();
    context.add(&Entry::TurnStarted(Box::new(TurnStart { turn_id, settings: Settings::default() })));
    context.add(&model_item(turn_id, r#"{"type":"function_call","call_id":"a","name":"x","arguments":""}"#));
    context.add(&model_item(turn_id, r#"{"type":"custom_tool_call","call_id":"b","name":"y","input":""}"#));
    context.add(&model_item(turn_id, r#"{"type":"function_call_output","call_id":"a","output":"done"}"#));
    let repairs = context.repairs();
    let [Entry::ModelItem { json, .. }, Entry::TurnEnded { end: TurnEnd::Interrupted, .. }] = &repairs[..]
    else {
        panic!("{repairs:?}");
    };
    assert_eq!(
        json.get(),
        r#"{"type":"custom_tool_call_output","call_id":"b","output":"interrupted; the outcome is unknown"}"#
    );
    repairs.iter().for_each(|entry| context.add(entry));
    assert!(context.repairs().is_empty());
}

#[test]
fn a_collaboration_mode_speaks_last_and_without_a_text_of_its_own_not_at_all() {
    let told = |instructions: serde_json::Value| {
        let mode = serde_json::json!({
            "mode": "default", "settings": {"model": "m", "developer_instructions": instructions}
        });
        let settings = Settings {
            developer_instructions: Some("two".to_owned()),
            collaboration_mode: Some(mode),
            ..Settings::default()
        };
        let request = Request {
            settings: &settings,
            service_tier: &settings.service_tier,
            model: None,
            cache_key: String::new(),
            item_ids: false,
            output_schema: None,
        };
        instructions_of(&request)
    };
    assert_eq!(told("three".into()), ["two", "three"]);
    assert_eq!(told(serde_json::Value::Null), ["two"]);
    assert_eq!(told("".into()), ["two"]);
}

fn instructions_of(request: &Request<'_>) -> Vec<String> {
    instructions(request).into_iter().map(str::to_owned).collect()
}

#[test]
fn a_model_that_takes_over_is_told_once() {
    let settings = |model: &str| Settings { model: model.to_owned(), ..Settings::default() };
    let start = |model| TurnStart { turn_id: TurnId::generate(), settings: settings(model) };
    let mut context = Context::default();
    assert!(opening_of(&context, &settings("a")).notices.is_empty(), "nobody came before");
    context.add(&Entry::TurnStarted(Box::new(start("a"))));
    assert!(opening_of(&context, &settings("a")).notices.is_empty());
    let opening = opening_of(&context, &settings("b"));
    let [Entry::ModelItem { json: notice, .. }] = &opening.notices[..] else { panic!("{opening:?}") };
    assert!(notice.get().starts_with(r#"{"type":"message","role":"developer""#), "{notice}");
    assert!(notice.get().contains("`a`") && notice.get().contains("`b`"), "{notice}");
    context.add(&Entry::TurnStarted(Box::new(start("b"))));
    assert!(opening_of(&context, &settings("b")).notices.is_empty());
}

#[test]
fn settings_reach_the_body_and_an_empty_input_is_valid() {
    let settings = Settings {
        model: "m".to_owned(),
        effort: Some("low".to_owned()),
        service_tier: ServiceTier::Named("priority".to_owned()),
        developer_instructions: Some("two".to_owned()),
        base_instructions: Some("one".to_owned()),
        ..Settings::default()
    };
    let schema = serde_json::json!({"type": "object"});
    let model =
        Model { supports_reasoning_summaries: true, supports_parallel_tool_calls: true, ..Model::default() };
    let request = Request {
        settings: &settings,
        service_tier: &settings.service_tier,
        item_ids: false,
        model: Some(&model),
        cache_key: "k".to_owned(),
        output_schema: Some(&schema),
    };
    let body: serde_json::Value =
        serde_json::from_slice(&Context::default().body(&request, Wanted::Answer)).unwrap();
    assert_eq!(body["input"][0]["content"][0]["text"], "one");
    assert_eq!(body["input"][1]["content"][0]["text"], "two");
    assert_eq!(body["input"].as_array().unwrap().len(), 2);
    assert_eq!(body["reasoning"], serde_json::json!({"effort": "low", "summary": "auto"}));
    assert_eq!(body["service_tier"], "priority");
    assert_eq!(body["parallel_tool_calls"], true);
    assert_eq!(body["text"]["format"]["schema"], schema);
    let bare = Settings { base_instructions: None, developer_instructions: None, ..settings };
    let body = |service_tier: &ServiceTier| -> serde_json::Value {
        let request = Request {
            settings: &bare,
            service_tier,
            item_ids: false,
            model: None,
            cache_key: "k".to_owned(),
            output_schema: None,
        };
        serde_json::from_slice(&Context::default().body(&request, Wanted::Answer)).unwrap()
    };
    let unset = body(&ServiceTier::Unset);
    assert_eq!(unset["input"], serde_json::json!([]));
    assert_eq!(unset.get("service_tier"), None);
    assert_eq!(body(&ServiceTier::Cleared).get("service_tier"), Some(&serde_json::Value::Null));
    // The gateway writes it, from the envelope.
    assert_eq!(unset.get("client_metadata"), None);
}

fn opening_of(context: &Context, settings: &Settings) -> Opening {
    context.opening(TurnId::generate(), settings, &Surroundings::default())
}

/// A thread with these texts said in turn by the user and the model, and the model's input in words.
fn talk(texts: &[(&str, &str)]) -> Context {
    let turn_id = TurnId::generate();
    let mut context = Context::default();
    for (role, text) in texts {
        let kind = if *role == "assistant" { "output_text" } else { "input_text" };
        let item = json!({"type": "message", "role": role, "content": [{"type": kind, "text": text}]});
        context.add(&model_item(turn_id, &item.to_string()));
    }
    context
}

fn texts(input: &[u8]) -> Vec<String> {
    let input = input.strip_suffix(b",").unwrap_or(input);
    let items: Vec<Value> = serde_json::from_slice(&[b"[", input, b"]"].concat()).unwrap();
    let text = |item: &Value| match item["content"].as_array() {
        Some(parts) => {
            format!("{}:{}", item["role"].as_str().unwrap(), parts.last().unwrap()["text"].as_str().unwrap())
        }
        None => item["type"].as_str().unwrap().to_owned(),
    };
    items.iter().map(text).collect()
}

fn anew(context: &Context, outcome: Outcome, around: &Surroundings) -> Context {
    let mut anew = Context { model: Some("m".to_owned()), ..Context::default() };
    anew.add(&Entry::Usage {
        turn_id: TurnId::generate(),
        last: Usage::default(),
        total: Usage { total_tokens: 7, ..Usage::default() },
    });
    context.compacted(TurnId::generate(), outcome, around).iter().for_each(|entry| anew.add(entry));
    anew
}

#[test]
fn a_compaction_keeps_what_the_user_said_and_what_has_no_answer() {
    let context = talk(&[
        ("user", "one"),
        ("assistant", "1"),
        ("developer", "x"),
        ("user", "two"),
        ("assistant", "2"),
        ("user", "three"),
    ]);
    assert!(context.can_compact());
    assert_eq!(
        texts(context.condensable(Trim(0))),
        ["user:one", "assistant:1", "developer:x", "user:two", "assistant:2"]
    );
    let around = Surroundings::of(&[(ContextPart::Environment, "here")]);
    let after = anew(&context, Outcome::Summary("sum".to_owned()), &around);
    assert_eq!(texts(&after.input), ["user:here", "user:one", "user:two", "user:sum", "user:three"]);
    assert_eq!((after.window, after.total.total_tokens), (1, 7));
    assert!(
        opening_of(&after, &Settings { model: "m".to_owned(), ..Settings::default() }).repairs.is_empty()
    );
    // What holds was told anew: it is not told again until it changes.
    assert!(after.news(TurnId::generate(), &around).is_empty());
    // A summary is no message of the user's, and the next one takes its place.
    let again = anew(&after, Outcome::Summary("sum2".to_owned()), &around);
    assert_eq!(texts(&again.input), ["user:here", "user:one", "user:two", "user:sum2", "user:three"][..]);
    let item = RawValue::from_string(r#"{"type":"compaction","encrypted_content":"e"}"#.to_owned()).unwrap();
    let remote = anew(&context, Outcome::Item(item), &Surroundings::default());
    assert_eq!(texts(&remote.input), ["user:one", "user:two", "compaction", "user:three"]);
}

#[test]
fn older_messages_give_way_and_a_long_one_is_cut() {
    let long = "é".repeat(60_000);
    let context = talk(&[("user", "gone"), ("user", &long), ("user", "kept"), ("assistant", "1")]);
    let after = anew(&context, Outcome::Summary("sum".to_owned()), &Surroundings::default());
    let said = texts(&after.input);
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(said[0].contains("left out"), "{}", said[0]);
    assert_eq!(said[1..], ["user:kept", "user:sum"]);
    assert!(after.len() < 85_000, "{}", after.len());
}

#[test]
fn older_messages_have_so_much_room_together() {
    let long = "x".repeat(30_000);
    let context =
        talk(&[("user", &long), ("user", &long), ("user", &long), ("user", &long), ("assistant", "1")]);
    let after = anew(&context, Outcome::Summary("sum".to_owned()), &Surroundings::default());
    assert_eq!(texts(&after.input).len(), 4, "the newest two, a part of the third, the summary");
    assert!(after.len() < 85_000, "{}", after.len());
}

#[test]
fn an_input_that_is_halved_begins_with_a_whole_item_and_no_orphan() {
    let mut context = talk(&[("user", "a"), ("assistant", &"b".repeat(200))]);
    let turn_id = TurnId::generate();
    context.add(&model_item(
        turn_id,
        r#"{"type":"function_call","call_id":"a","name":"x","arguments":"yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy"}"#,
    ));
    context.add(&model_item(
        turn_id,
        r#"{"type":"function_call_output","call_id":"a","output":"long long long long long"}"#,
    ));
    context.add(&model_item(turn_id, r#"{"type":"reasoning","encrypted_content":"z"}"#));
    for (halvings, first) in [(0, "user:a"), (1, "function_call"), (2, "reasoning"), (9, "")] {
        let told = texts(context.condensable(Trim(halvings)));
        assert_eq!(told.first().map_or("", String::as_str), first, "{halvings}: {told:?}");
    }
}

#[test]
fn a_part_of_the_surroundings_is_told_when_it_changes_and_when_it_goes() {
    let turn_id = TurnId::generate();
    let mut context = Context::default();
    let mut tell = |texts: &[(ContextPart, &str)]| -> Vec<String> {
        let news = context.news(turn_id, &Surroundings::of(texts));
        let mut entries = news.clone();
        with_ids(&mut entries);
        entries.iter().for_each(|entry| context.add(entry));
        news.iter()
            .map(|entry| match entry {
                Entry::ContextItem { part, json, .. } => {
                    format!("{part:?} {}", json.get().matches("text\":").count())
                }
                other => panic!("{other:?}"),
            })
            .collect()
    };
    use ContextPart::{Environment, ProjectDocs};
    assert_eq!(tell(&[(Environment, "a"), (ProjectDocs, "d")]), ["ProjectDocs 1", "Environment 1"]);
    assert!(tell(&[(Environment, "a"), (ProjectDocs, "d")]).is_empty());
    // What replaces says so.
    assert_eq!(tell(&[(Environment, "b"), (ProjectDocs, "d")]), ["Environment 2"]);
    assert_eq!(tell(&[(Environment, "b")]), ["ProjectDocs 2"]);
    assert!(tell(&[(Environment, "b")]).is_empty());
    assert_eq!(tell(&[(Environment, "b"), (ProjectDocs, "d")]), ["ProjectDocs 2"]);
}

#[test]
fn ids_are_given_once_and_change_nothing_else() {
    let turn_id = TurnId::generate();
    let mut entries = vec![
        Entry::ModelItem {
            turn_id,
            json: user_message(&[UserInput::Text { text: "a".to_owned(), text_elements: Vec::new() }], &[]),
        },
        Entry::ModelItem { turn_id, json: tool_output(&ToolCall::unnamed("c".to_owned(), false), "o") },
        Entry::ModelItem { turn_id, json: tool_output(&ToolCall::unnamed("c".to_owned(), true), "o") },
        model_item(turn_id, r#"{"type":"message","id":"msg_own","role":"assistant","content":[]}"#),
        model_item(turn_id, r#"{"type":"reasoning"}"#),
    ];
    let before = format!("{entries:?}");
    with_ids(&mut entries);
    let id = |entry: &Entry| match entry {
        Entry::ModelItem { json, .. } => {
            serde_json::from_str::<Value>(json.get()).unwrap()["id"].as_str().map(str::to_owned)
        }
        _ => None,
    };
    let ids: Vec<Option<String>> = entries.iter().map(id).collect();
    for (id, prefix) in ids.iter().zip(["msg_", "fco_", "ctco_"]) {
        let rest = id.as_ref().unwrap().strip_prefix(prefix).unwrap();
        assert_eq!(ItemId::from_provider(rest).as_str().as_bytes()[14], b'7', "{rest}");
    }
    assert_eq!(ids[3..], [Some("msg_own".to_owned()), None]);
    let once = format!("{entries:?}");
    with_ids(&mut entries);
    assert_eq!(format!("{entries:?}"), once);
    assert_ne!(before, once);
}

#[test]
fn tokens_are_counted_by_the_provider_and_guessed_since() {
    let turn_id = TurnId::generate();
    let mut context = talk(&[("user", "one"), ("assistant", "1")]);
    assert_eq!(context.tokens(), u64::try_from(context.len() / 4).unwrap());
    let last = Usage { total_tokens: 1_000, ..Usage::default() };
    context.add(&Entry::Usage { turn_id, last, total: last });
    assert_eq!(context.tokens(), 1_000);
    context.add(&model_item(
        turn_id,
        &format!(r#"{{"type":"message","role":"user","content":"{}"}}"#, "x".repeat(400)),
    ));
    assert!((1_100..1_130).contains(&context.tokens()), "{}", context.tokens());
    let entries = context.compacted(turn_id, Outcome::Summary("s".repeat(4_000)), &Surroundings::default());
    assert!((1_000..1_400).contains(&tokens_of(&entries, 0)), "{}", tokens_of(&entries, 0));
    assert_eq!(tokens_of(&entries, 400), tokens_of(&entries, 0) + 100);
}

proptest::proptest! {
    /// However a thread went, what takes its input's place is valid JSON, keeps what has no answer, and is told whole after
    /// a restart.
    #[test]
    fn a_log_that_was_compacted_reads_as_it_was_written(said in proptest::collection::vec((0_u8..3, "[a-z\\\"é]{0,6}"), 0..30), at in 0_usize..30) {
        let turn_id = TurnId::generate();
        let mut log = Vec::new();
        let mut context = Context::default();
        for (index, (kind, text)) in said.iter().enumerate() {
            if index == at {
                for entry in context.compacted(turn_id, Outcome::Summary(text.clone()), &Surroundings::default()) {
                    context.add(&entry);
                    log.push(entry);
                }
            }
            let role = ["user", "assistant", "developer"][usize::from(*kind)];
            let item = json!({"type": "message", "role": role, "content": [{"type": "input_text", "text": text}]});
            let entry = model_item(turn_id, &item.to_string());
            context.add(&entry);
            log.push(entry);
        }
        let mut again = Context::default();
        log.iter().for_each(|entry| again.add(entry));
        proptest::prop_assert_eq!(&context.input, &again.input);
        proptest::prop_assert_eq!(context.answered, again.answered);
        texts(&context.input);
    }
}
