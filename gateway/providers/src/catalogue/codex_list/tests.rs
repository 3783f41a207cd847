//! What becomes of entries on their way through.

use super::*;

fn entry() -> Value {
    json!({
        "slug": "m", "display_name": "M", "priority": 3, "visibility": "list", "shell_type": "odd_shell",
        "supported_in_api": true, "support_verbosity": true, "truncation_policy": {"mode": "tokens", "limit": 1},
        "experimental_supported_tools": ["clock"], "base_instructions": "Be brief.",
        "supported_reasoning_levels": [{"effort": "low", "description": ""}], "unknown": {"deep": [1]},
    })
}

/// The entry as it goes out.
fn through(entry: &Value, configured: ModelFacts) -> Option<Value> {
    let read = read(&entry.to_string()).unwrap();
    let model = Model::of(read, "up", configured, ModelFacts::default());
    let list: Value = serde_json::from_str(&write(&[model])).unwrap();
    list["models"].get(0).cloned()
}

#[test]
fn a_whole_entry_passes_as_it_came() {
    let spaced = serde_json::to_string_pretty(&entry()).unwrap();
    let read = read(&spaced).unwrap();
    let model = Model::of(read, "up", ModelFacts::default(), ModelFacts::default());
    assert_eq!(write(&[model]), format!("{{\"models\":[{spaced}]}}"));
}

#[test]
fn what_codex_cannot_do_without_is_made_up() {
    for (name, _) in REQUIRED {
        let mut broken = entry();
        broken.as_object_mut().unwrap().remove(name);
        let mended = through(&broken, ModelFacts::default()).unwrap();
        let (_, fits) = REQUIRED.iter().find(|(required, _)| *required == name).unwrap();
        assert!(fits(&mended[name]), "{name}: {mended}");
        let mut odd = entry();
        odd[name] = Value::Null;
        assert_eq!(through(&odd, ModelFacts::default()).unwrap(), mended, "{name}");
    }
    let mut untold = entry();
    untold["supported_reasoning_levels"] = json!([{"effort": "low"}]);
    let mended = through(&untold, ModelFacts::default()).unwrap();
    assert_eq!(mended["supported_reasoning_levels"], json!([{"effort": "low", "description": ""}]));
}

#[test]
fn an_entry_without_a_developer_message_is_left_out() {
    let mut mute = entry();
    mute.as_object_mut().unwrap().remove(INSTRUCTIONS);
    assert_eq!(through(&mute, ModelFacts::default()), None);
    let told = ModelFacts { base_instructions: Some("Told.".to_owned()), ..ModelFacts::default() };
    assert_eq!(through(&mute, told).unwrap()[INSTRUCTIONS], "Told.");
    mute["model_messages"] = json!({"instructions_template": "T {{ personality }}!",
        "instructions_variables": {"personality_default": "calm"}});
    assert_eq!(through(&mute, ModelFacts::default()).unwrap(), mute);
    assert_eq!(read(&mute.to_string()).unwrap().facts.base_instructions.unwrap(), "T calm!");
}

#[test]
fn the_administrators_facts_win() {
    let mut templated = entry();
    templated["model_messages"] = json!({"instructions_template": "T", "other": 1});
    let configured = ModelFacts {
        display_name: Some("Ours".to_owned()),
        reasoning_efforts: Some(vec![ReasoningEffort {
            effort: "max".to_owned(),
            description: "most".to_owned(),
        }]),
        default_reasoning_effort: Some("max".to_owned()),
        context_window: Some(7),
        supports_reasoning_summaries: Some(false),
        base_instructions: Some("Ours.".to_owned()),
        default_reasoning_summary: Some("a summary that codex does not know".to_owned()),
        prefer_websockets: Some(true),
        ..ModelFacts::default()
    };
    let mut expected = entry();
    expected["display_name"] = json!("Ours");
    expected["supported_reasoning_levels"] = json!([{"effort": "max", "description": "most"}]);
    expected["default_reasoning_level"] = json!("max");
    expected["context_window"] = json!(7);
    expected["supports_reasoning_summaries"] = json!(false);
    expected["supports_reasoning_summary_parameter"] = json!(false);
    expected["base_instructions"] = json!("Ours.");
    expected["prefer_websockets"] = json!(true);
    expected["model_messages"] = json!({"instructions_template": null, "other": 1});
    assert_eq!(through(&templated, configured).unwrap(), expected);
}

#[test]
fn an_alias_keeps_everything_but_the_name() {
    let mut hidden = entry();
    hidden["visibility"] = json!("hide");
    let model =
        Model::of(read(&hidden.to_string()).unwrap(), "up", ModelFacts::default(), ModelFacts::default());
    assert!(model.hidden);
    let alias = model.renamed("fast");
    assert!(!alias.hidden);
    let mut expected = entry();
    (expected["slug"], expected["display_name"]) = (json!("fast"), json!("fast"));
    let list: Value = serde_json::from_str(&write(&[alias])).unwrap();
    assert_eq!(list, json!({"models": [expected]}));
}
