//! The items of a model's input that are made here. Those of the model itself stand as they came.

use agent_threads::{ContextPart, Entry, ImageDetail, ItemId, UserInput};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use crate::machine::ToolCall;

/// What stands in place of a part of the surroundings that is no more.
pub(super) const NOTHING: &str = "There is nothing of this kind here any more.";
/// What the summary of a compaction is introduced with.
const SUMMARY_HEAD: &str = "The conversation before this point was condensed to save room. This summary was written by \
                            the model that held it; go on from here, and do not repeat work that it reports as done.";
/// What a model is asked for when its conversation is condensed.
const SUMMARY_PROMPT: &str = "The conversation has to be condensed now. Write a handover for a model that will go on \
                              with it and will see nothing of it but the user's own messages and your text.\n\nTell:\n- \
                              what was asked, and what of it is done;\n- what was decided, and why;\n- constraints and \
                              preferences that the user stated;\n- names, paths, commands and values that are still \
                              needed;\n- what remains to be done, in order.\n\nBe brief and exact. Call no tools.";

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Part<'a> {
    InputText {
        text: &'a str,
    },
    InputImage {
        image_url: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        detail: Option<ImageDetail>,
    },
    OutputText {
        text: &'a str,
    },
}

#[derive(Serialize)]
pub(super) struct Message<'a> {
    r#type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    role: &'a str,
    content: &'a [Part<'a>],
}

pub(super) fn message<'a>(role: &'a str, content: &'a [Part<'a>]) -> Message<'a> {
    Message { r#type: "message", id: None, role, content }
}

impl Message<'_> {
    pub(super) fn with_id(self, id: Option<String>) -> Self {
        Self { id, ..self }
    }
}

/// The model's item of a user message. What is only mentioned is in the text; an image of a file is sent as `images`,
/// one for each in order, and a file that could not be read is told.
pub(crate) fn user_message(input: &[UserInput], images: &[Option<String>]) -> Box<RawValue> {
    let mut images = images.iter();
    let parts: Vec<Part<'_>> = input
        .iter()
        .filter_map(|part| match part {
            UserInput::Text { text, .. } => Some(Part::InputText { text }),
            UserInput::Image { url, detail } => Some(Part::InputImage { image_url: url, detail: *detail }),
            UserInput::LocalImage { detail, .. } => Some(match images.next() {
                Some(Some(url)) => Part::InputImage { image_url: url, detail: *detail },
                Some(None) | None => {
                    Part::InputText { text: "(An image stood here that could not be read.)" }
                }
            }),
            UserInput::Mention { .. } | UserInput::Skill { .. } => None,
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

/// How a model learns that it did not hold the conversation so far.
pub(super) fn model_changed(before: &str, now: &str) -> Box<RawValue> {
    let text = format!(
        "<model_change>\nThe conversation up to here was held with the model `{before}`. From here on it is continued \
         by `{now}`, under the instructions that `{now}` was given.\n</model_change>"
    );
    raw(&message("developer", &[Part::InputText { text: &text }]))
}

/// What holds, and whether it takes the place of what was said of it before.
pub(super) fn context(part: ContextPart, text: &str, replaces: bool) -> Box<RawValue> {
    let (role, replacing) = match part {
        ContextPart::Permissions => ("developer", "These permissions replace those given before."),
        ContextPart::ProjectDocs => {
            ("user", "These project instructions replace all project instructions given before.")
        }
        ContextPart::Environment => ("user", "This environment replaces the one given before."),
        ContextPart::Git => ("user", "This state of the repository replaces the one given before."),
        ContextPart::Summary => ("user", SUMMARY_HEAD),
    };
    let said = Part::InputText { text };
    if replaces || part == ContextPart::Summary {
        return raw(&message(role, &[Part::InputText { text: replacing }, said]));
    }
    raw(&message(role, &[said]))
}

/// What a model is asked for when its conversation is condensed.
pub(super) fn summary_prompt() -> Box<RawValue> {
    raw(&message("user", &[Part::InputText { text: SUMMARY_PROMPT }]))
}

/// Gives ids to those items of the model's input that have none, each with the prefix of its type.
pub(crate) fn with_ids(entries: &mut [Entry]) {
    #[derive(Deserialize)]
    struct Named {
        #[serde(default)]
        r#type: String,
        #[serde(default)]
        id: Option<serde::de::IgnoredAny>,
    }
    for entry in entries {
        let (Entry::ModelItem { json, .. } | Entry::ContextItem { json, .. }) = entry else { continue };
        let Ok(Named { r#type, id: None }) = serde_json::from_str(json.get()) else { continue };
        let prefix = match r#type.as_str() {
            "message" => "msg",
            "function_call_output" => "fco",
            "custom_tool_call_output" => "ctco",
            // What a provider made and gave no id keeps its bytes.
            _ => continue,
        };
        let members = json.get().strip_prefix('{').unwrap_or_default();
        let text = format!("{{\"id\":\"{prefix}_{}\",{members}", ItemId::generate());
        if let Ok(named) = RawValue::from_string(text) {
            *json = named;
        }
    }
}

#[expect(
    clippy::expect_used,
    reason = "strings, fixed keys and values that are JSON already always serialize"
)]
pub(super) fn raw(value: &impl Serialize) -> Box<RawValue> {
    to_raw_value(value).expect("plain data serializes")
}

#[expect(
    clippy::expect_used,
    reason = "strings, fixed keys and values that are JSON already always serialize"
)]
pub(super) fn write_json(out: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(out, value).expect("plain data serializes");
}
