//! The request around a model's input. Follows the request of the Responses API.

use agent_threads::{ServiceTier, Settings};
use bytes::Bytes;
use serde::Serialize;

use super::{
    Context, Trim,
    items::{Part, message, summary_prompt, write_json},
};
use crate::model::Model;

/// What a body has beside its input and instructions, roughly.
const BODY_FRAME_BYTES: usize = 1024;
/// What asks a provider that can to condense the input before it.
const COMPACTION_TRIGGER: &[u8] = br#"{"type":"compaction_trigger"}"#;

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
    /// Whether the items that are made here have ids.
    pub(crate) item_ids: bool,
}

/// What is wanted of the model.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wanted<'a> {
    /// Its next answer.
    Answer,
    /// The same, of a provider that remembers this response and so the input up to this length.
    AnswerAfter(&'a str, usize),
    /// A summary of what has an answer.
    Summary(Trim),
    /// What its provider makes of what has an answer.
    Compaction(Trim),
}

impl Context {
    /// The body of a call.
    pub(crate) fn body(&self, request: &Request<'_>, wanted: Wanted<'_>) -> Bytes {
        let head = instructions(request);
        let mut body = Vec::with_capacity(self.input.len() + 2 * request.head_bytes() + BODY_FRAME_BYTES);
        body.extend_from_slice(b"{\"model\":");
        write_json(&mut body, &request.settings.model);
        body.extend_from_slice(b",\"stream\":true");
        if let Wanted::AnswerAfter(response_id, _) = wanted {
            body.extend_from_slice(b",\"previous_response_id\":");
            write_json(&mut body, &response_id);
        }
        body.extend_from_slice(b",\"input\":[");
        if !matches!(wanted, Wanted::AnswerAfter(..)) {
            for (index, text) in head.into_iter().enumerate() {
                let id = request.item_ids.then(|| request.instruction_id(index));
                write_json(&mut body, &message("developer", &[Part::InputText { text }]).with_id(id));
                body.push(b',');
            }
        }
        match wanted {
            Wanted::Answer => body.extend_from_slice(&self.input),
            Wanted::AnswerAfter(_, known) => {
                body.extend_from_slice(self.input.get(known..).unwrap_or_default())
            }
            Wanted::Summary(trim) => {
                body.extend_from_slice(self.condensable(trim));
                body.extend_from_slice(summary_prompt().get().as_bytes());
            }
            Wanted::Compaction(trim) => {
                body.extend_from_slice(self.condensable(trim));
                body.extend_from_slice(COMPACTION_TRIGGER);
            }
        }
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

impl Request<'_> {
    /// How long the instructions are.
    pub(crate) fn head_bytes(&self) -> usize {
        instructions(self).iter().map(|text| text.len()).sum()
    }

    /// The id of one of the instructions, which are in no log: the thread's own with another end, the same in each call.
    fn instruction_id(&self, index: usize) -> String {
        let thread = self.cache_key.get(..self.cache_key.len().saturating_sub(2)).unwrap_or_default();
        format!("msg_{thread}{:02x}", index & 0xff)
    }
}

pub(super) fn instructions<'a>(request: &Request<'a>) -> Vec<&'a str> {
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
