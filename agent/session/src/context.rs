//! What the model is told: the input of the next call, grown entry by entry, and the request body around it.
//!
//! Items stand in the body exactly as they were accepted, so that each call begins with the bytes of the one before.
//! Follows the request of the Responses API. Reads no store and calls nobody.

use agent_threads::{Entry, ServiceTier, Settings, TurnEnd, TurnId, Usage, UserInput};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use crate::{machine::ToolCall, model::Model};

/// How a tool call is answered whose outcome nobody knows.
pub(crate) const OUTCOME_UNKNOWN: &str = "interrupted; the outcome is unknown";
/// What a body has beside its input and instructions, roughly.
const BODY_FRAME_BYTES: usize = 1024;

/// A thread's log as the model sees it.
#[derive(Debug, Default)]
pub(crate) struct Context {
    /// The items of the input, each followed by a comma.
    input: Vec<u8>,
    /// Tokens of the thread so far.
    pub(crate) total: Usage,
    /// The turn that has no end yet.
    pub(crate) open_turn: Option<TurnId>,
    /// Tool calls that have no output yet.
    pub(crate) open_calls: Vec<ToolCall>,
    /// The model of the last turn.
    model: Option<String>,
}

/// What a turn's first commit holds beside the turn's start and the user's message.
#[derive(Debug, Default)]
pub(crate) struct Opening {
    /// Closes what an earlier process left open.
    pub(crate) repairs: Vec<Entry>,
    /// What the model is told before the message.
    pub(crate) notices: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Head {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    call_id: Option<String>,
}

impl Context {
    /// Takes the log's next entry.
    pub(crate) fn add(&mut self, entry: &Entry) {
        match entry {
            Entry::TurnStarted(start) => {
                self.open_turn = Some(start.turn_id);
                self.model = Some(start.settings.model.clone());
            }
            Entry::Item { .. } | Entry::Reverted { .. } => {}
            Entry::ModelItem { json, .. } => {
                self.input.extend_from_slice(json.get().as_bytes());
                self.input.push(b',');
                self.note_call(json);
            }
            Entry::Usage { total, .. } => self.total = *total,
            Entry::TurnEnded { .. } => self.open_turn = None,
        }
    }

    fn note_call(&mut self, json: &RawValue) {
        // An item whose head cannot be read calls no tool of ours.
        let Ok(Head { kind, call_id: Some(call_id) }) = serde_json::from_str(json.get()) else { return };
        match kind.as_str() {
            "function_call" => self.open_calls.push(ToolCall::unnamed(call_id, false)),
            "custom_tool_call" => self.open_calls.push(ToolCall::unnamed(call_id, true)),
            "function_call_output" | "custom_tool_call_output" => {
                self.open_calls.retain(|call| call.call_id != call_id);
            }
            _ => {}
        }
    }

    /// What comes before the message of a turn with these settings.
    pub(crate) fn opening(&self, settings: &Settings) -> Opening {
        let before = self.model.as_ref().filter(|model| **model != settings.model);
        let text = before.map(|before| model_changed(before, &settings.model));
        let notices =
            text.iter().map(|text| raw(&message("developer", &[Part::InputText { text }]))).collect();
        Opening { repairs: self.repairs(), notices }
    }

    /// What closes a turn that its process left behind: it is interrupted, and its open tool calls have no known outcome.
    pub(crate) fn repairs(&self) -> Vec<Entry> {
        let Some(turn_id) = self.open_turn else { return Vec::new() };
        let outputs = self.open_calls.iter().map(|call| tool_output(call, OUTCOME_UNKNOWN));
        let mut entries: Vec<Entry> = outputs.map(|json| Entry::ModelItem { turn_id, json }).collect();
        entries.push(Entry::TurnEnded { turn_id, end: TurnEnd::Interrupted });
        entries
    }

    /// The body of the next call.
    pub(crate) fn body(&self, request: &Request<'_>) -> Bytes {
        let head = instructions(request);
        let instructions_bytes: usize = head.iter().map(|text| text.len() * 2).sum();
        let mut body = Vec::with_capacity(self.input.len() + instructions_bytes + BODY_FRAME_BYTES);
        body.extend_from_slice(b"{\"model\":");
        write_json(&mut body, &request.settings.model);
        body.extend_from_slice(b",\"stream\":true,\"input\":[");
        for text in head {
            write_json(&mut body, &message("developer", &[Part::InputText { text }]));
            body.push(b',');
        }
        body.extend_from_slice(&self.input);
        if body.last() == Some(&b',') {
            body.pop();
        }
        body.push(b']');
        let mut tail = Vec::with_capacity(BODY_FRAME_BYTES);
        write_json(&mut tail, &Tail::new(request));
        // The tail is an object of its own: its members go on in this one.
        if let Some(members) = tail.get_mut(0) {
            *members = b',';
        }
        body.extend_from_slice(&tail);
        Bytes::from(body)
    }
}

/// How a model learns that it did not hold the conversation so far.
fn model_changed(before: &str, now: &str) -> String {
    format!(
        "<model_change>\nThe conversation up to here was held with the model `{before}`. From here on it is continued \
         by `{now}`, under the instructions that `{now}` was given.\n</model_change>"
    )
}

/// What a body is made of, beside the input.
pub(crate) struct Request<'a> {
    /// What the turn runs with.
    pub(crate) settings: &'a Settings,
    /// The service tier that is in force, which can be that of this turn alone.
    pub(crate) service_tier: &'a ServiceTier,
    /// The model's entry in the catalogue, if it has one.
    pub(crate) model: Option<&'a Model>,
    /// The thread; providers keep their prompt caches by it.
    pub(crate) cache_key: String,
    /// What the answer has to look like.
    pub(crate) output_schema: Option<&'a serde_json::Value>,
}

fn instructions<'a>(request: &Request<'a>) -> Vec<&'a str> {
    let base = request.settings.base_instructions.as_deref();
    let base = base.or_else(|| request.model?.base_instructions.as_deref());
    let developer = request.settings.developer_instructions.as_deref();
    base.into_iter().chain(developer).chain(mode_instructions(request.settings)).collect()
}

/// What a collaboration mode tells the model. The built-in text, which a mode without a text of its own means, is empty:
/// the default mode adds nothing to the model's instructions.
fn mode_instructions(settings: &Settings) -> Option<&str> {
    let text = settings.collaboration_mode.as_ref()?.get("settings")?.get("developer_instructions")?;
    text.as_str().filter(|text| !text.is_empty())
}

#[derive(Serialize)]
struct Tail<'a> {
    tools: [(); 0],
    tool_choice: &'a str,
    parallel_tool_calls: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<Reasoning<'a>>,
    store: bool,
    include: [&'a str; 1],
    prompt_cache_key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<Text<'a>>,
    #[serde(skip_serializing_if = "ServiceTier::is_unset")]
    service_tier: &'a ServiceTier,
}

#[derive(Serialize)]
struct Reasoning<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    effort: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<&'a str>,
}

#[derive(Serialize)]
struct Text<'a> {
    format: Format<'a>,
}

#[derive(Serialize)]
struct Format<'a> {
    r#type: &'a str,
    name: &'a str,
    strict: bool,
    schema: &'a serde_json::Value,
}

impl<'a> Tail<'a> {
    fn new(request: &'a Request<'a>) -> Self {
        let Request { settings, model, .. } = request;
        let effort = settings.effort.as_deref();
        let effort = effort.or_else(|| model.as_ref()?.default_reasoning_effort.as_deref());
        let summaries = model.is_some_and(|model| model.supports_reasoning_summaries);
        let summary = settings.summary.as_deref().or_else(|| summaries.then_some("auto"));
        let summary = summary.filter(|summary| *summary != "none");
        Self {
            tools: [],
            tool_choice: "auto",
            parallel_tool_calls: model.is_some_and(|model| model.supports_parallel_tool_calls),
            reasoning: (effort.is_some() || summary.is_some()).then_some(Reasoning { effort, summary }),
            store: false,
            include: ["reasoning.encrypted_content"],
            prompt_cache_key: &request.cache_key,
            text: request.output_schema.map(|schema| Text {
                format: Format { r#type: "json_schema", name: "output_schema", strict: true, schema },
            }),
            service_tier: request.service_tier,
        }
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Part<'a> {
    InputText { text: &'a str },
    InputImage { image_url: &'a str },
    OutputText { text: &'a str },
}

#[derive(Serialize)]
struct Message<'a> {
    r#type: &'a str,
    role: &'a str,
    content: &'a [Part<'a>],
}

fn message<'a>(role: &'a str, content: &'a [Part<'a>]) -> Message<'a> {
    Message { r#type: "message", role, content }
}

/// The model's item of a user message.
pub(crate) fn user_message(input: &[UserInput]) -> Box<RawValue> {
    let parts: Vec<Part<'_>> = input
        .iter()
        .map(|part| match part {
            UserInput::Text { text, .. } => Part::InputText { text },
            UserInput::Image { url } => Part::InputImage { image_url: url },
        })
        .collect();
    raw(&message("user", &parts))
}

/// The model's item of what it had said before it was cut off.
pub(crate) fn partial_message(text: &str) -> Box<RawValue> {
    raw(&message("assistant", &[Part::OutputText { text }]))
}

/// The model's item that answers a tool call.
pub(crate) fn tool_output(call: &ToolCall, output: &str) -> Box<RawValue> {
    #[derive(Serialize)]
    struct Output<'a> {
        r#type: &'a str,
        call_id: &'a str,
        output: &'a str,
    }
    let kind = if call.custom { "custom_tool_call_output" } else { "function_call_output" };
    raw(&Output { r#type: kind, call_id: &call.call_id, output })
}

#[expect(
    clippy::expect_used,
    reason = "strings, fixed keys and values that are JSON already always serialize"
)]
fn raw(value: &impl Serialize) -> Box<RawValue> {
    to_raw_value(value).expect("plain data serializes")
}

#[expect(
    clippy::expect_used,
    reason = "strings, fixed keys and values that are JSON already always serialize"
)]
fn write_json(out: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(out, value).expect("plain data serializes");
}

#[cfg(test)]
mod tests {
    use agent_threads::TurnStart;

    use super::*;

    fn model_item(turn_id: TurnId, json: &str) -> Entry {
        Entry::ModelItem { turn_id, json: RawValue::from_string(json.to_owned()).unwrap() }
    }

    #[test]
    fn a_turn_left_behind_is_closed_with_its_open_tool_calls() {
        let turn_id = TurnId::generate();
        let mut context = Context::default();
        context.add(&Entry::TurnStarted(Box::new(TurnStart { turn_id, settings: Settings::default() })));
        context
            .add(&model_item(turn_id, r#"{"type":"function_call","call_id":"a","name":"x","arguments":""}"#));
        context
            .add(&model_item(turn_id, r#"{"type":"custom_tool_call","call_id":"b","name":"y","input":""}"#));
        context.add(&model_item(turn_id, r#"{"type":"function_call_output","call_id":"a","output":"done"}"#));
        let repairs = context.repairs();
        let [Entry::ModelItem { json, .. }, Entry::TurnEnded { end: TurnEnd::Interrupted, .. }] =
            &repairs[..]
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
        assert!(context.opening(&settings("a")).notices.is_empty(), "nobody came before");
        context.add(&Entry::TurnStarted(Box::new(start("a"))));
        assert!(context.opening(&settings("a")).notices.is_empty());
        let opening = context.opening(&settings("b"));
        let [notice] = &opening.notices[..] else { panic!("{opening:?}") };
        assert!(notice.get().starts_with(r#"{"type":"message","role":"developer""#), "{notice}");
        assert!(notice.get().contains("`a`") && notice.get().contains("`b`"), "{notice}");
        context.add(&Entry::TurnStarted(Box::new(start("b"))));
        assert!(context.opening(&settings("b")).notices.is_empty());
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
        let model = Model {
            supports_reasoning_summaries: true,
            supports_parallel_tool_calls: true,
            ..Model::default()
        };
        let request = Request {
            settings: &settings,
            service_tier: &settings.service_tier,
            model: Some(&model),
            cache_key: "k".to_owned(),
            output_schema: Some(&schema),
        };
        let body: serde_json::Value = serde_json::from_slice(&Context::default().body(&request)).unwrap();
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
                model: None,
                cache_key: "k".to_owned(),
                output_schema: None,
            };
            serde_json::from_slice(&Context::default().body(&request)).unwrap()
        };
        let unset = body(&ServiceTier::Unset);
        assert_eq!(unset["input"], serde_json::json!([]));
        assert_eq!(unset.get("service_tier"), None);
        assert_eq!(body(&ServiceTier::Cleared).get("service_tier"), Some(&serde_json::Value::Null));
        // The gateway writes it, from the envelope.
        assert_eq!(unset.get("client_metadata"), None);
    }
}
