//! Reads output items: the raw JSON, which goes back to the model unchanged, beside a typed view of it.
//!
//! The view is for acting on an item. An item that we do not know, or whose fields are not as expected, is
//! kept just the same, as [`Item::Other`].

use serde::Deserialize;
use serde_json::value::RawValue;

use super::Error;
use crate::lenient;

/// One item of a response.
#[derive(Debug, Clone)]
pub struct OutputItem {
    raw: Box<RawValue>,
    view: Item,
}

/// What an item is, as far as we act on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// The model speaks.
    Message {
        /// The item's id.
        id: Option<String>,
        /// Who speaks, `assistant`.
        role: String,
        /// The text parts in order; a refusal's words are a part too.
        text: Vec<String>,
        /// `commentary` or `final_answer`, where the model tells.
        phase: Option<String>,
    },
    /// The model thought.
    Reasoning {
        /// The item's id.
        id: Option<String>,
        /// Summary parts.
        summary: Vec<String>,
        /// The reasoning's own text parts, where a provider shows them.
        content: Vec<String>,
        /// The reasoning as only its provider can read it.
        encrypted_content: Option<String>,
    },
    /// The model calls a function tool.
    FunctionCall {
        /// The item's id.
        id: Option<String>,
        /// What the output must refer to.
        call_id: String,
        /// The function.
        name: String,
        /// The namespace that the function is in.
        namespace: Option<String>,
        /// The arguments, a JSON text that the model wrote: not checked.
        arguments: String,
    },
    /// The model calls a tool with free-form input.
    CustomToolCall {
        /// The item's id.
        id: Option<String>,
        /// What the output must refer to.
        call_id: String,
        /// The tool.
        name: String,
        /// The namespace that the tool is in.
        namespace: Option<String>,
        /// The input.
        input: String,
    },
    /// Anything else.
    Other {
        /// The item's type; empty when it has none.
        kind: String,
    },
}

#[derive(Deserialize)]
struct Tag {
    #[serde(default, rename = "type", deserialize_with = "lenient::or_default")]
    kind: String,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default, deserialize_with = "lenient::text")]
    id: Option<String>,
    role: String,
    #[serde(default, deserialize_with = "lenient::or_default")]
    content: Vec<Part>,
    #[serde(default, deserialize_with = "lenient::text")]
    phase: Option<String>,
}

#[derive(Deserialize)]
struct Reasoning {
    #[serde(default, deserialize_with = "lenient::text")]
    id: Option<String>,
    #[serde(default, deserialize_with = "lenient::or_default")]
    summary: Vec<Part>,
    #[serde(default, deserialize_with = "lenient::or_default")]
    content: Vec<Part>,
    #[serde(default, deserialize_with = "lenient::text")]
    encrypted_content: Option<String>,
}

#[derive(Deserialize)]
struct Call {
    #[serde(default, deserialize_with = "lenient::text")]
    id: Option<String>,
    call_id: String,
    name: String,
    #[serde(default, deserialize_with = "lenient::text")]
    namespace: Option<String>,
    /// Of a function call.
    #[serde(default)]
    arguments: Option<String>,
    /// Of a custom tool call.
    #[serde(default)]
    input: Option<String>,
}

#[derive(Deserialize)]
struct Part {
    #[serde(default, deserialize_with = "lenient::text")]
    text: Option<String>,
    #[serde(default, deserialize_with = "lenient::text")]
    refusal: Option<String>,
}

fn texts(parts: Vec<Part>) -> Vec<String> {
    parts.into_iter().filter_map(|part| part.text.or(part.refusal)).collect()
}

impl OutputItem {
    /// Takes an item's JSON. Never fails for an unknown or odd item, only for bytes that are not JSON.
    pub fn parse(json: &[u8]) -> Result<OutputItem, Error> {
        serde_json::from_slice(json).map(OutputItem::from_raw).map_err(Error::Payload)
    }

    /// Takes an item's JSON that is known to be JSON.
    pub fn from_raw(raw: Box<RawValue>) -> OutputItem {
        let json = raw.get();
        let kind = serde_json::from_str::<Tag>(json).map(|tag| tag.kind).unwrap_or_default();
        let view = view(&kind, json).unwrap_or(Item::Other { kind });
        OutputItem { raw, view }
    }

    /// The JSON as it came.
    pub fn raw(&self) -> &RawValue {
        &self.raw
    }

    /// The same, by value.
    pub fn into_raw(self) -> Box<RawValue> {
        self.raw
    }

    /// The typed view.
    pub fn view(&self) -> &Item {
        &self.view
    }
}

fn view(kind: &str, json: &str) -> Option<Item> {
    Some(match kind {
        "message" => {
            let Message { id, role, content, phase } = serde_json::from_str(json).ok()?;
            Item::Message { id, role, text: texts(content), phase }
        }
        "reasoning" => {
            let wire: Reasoning = serde_json::from_str(json).ok()?;
            let (summary, content) = (texts(wire.summary), texts(wire.content));
            Item::Reasoning { id: wire.id, summary, content, encrypted_content: wire.encrypted_content }
        }
        "function_call" => {
            let Call { id, call_id, name, namespace, arguments, .. } = serde_json::from_str(json).ok()?;
            Item::FunctionCall { id, call_id, name, namespace, arguments: arguments? }
        }
        "custom_tool_call" => {
            let Call { id, call_id, name, namespace, input, .. } = serde_json::from_str(json).ok()?;
            Item::CustomToolCall { id, call_id, name, namespace, input: input? }
        }
        _ => return None,
    })
}

/// `response.output_item.added` or `response.output_item.done`.
#[derive(Debug, Clone)]
pub struct OutputItemEvent {
    /// The item's place in the response.
    pub output_index: u64,
    /// The item; in `added` it is still without content.
    pub item: OutputItem,
}

impl OutputItemEvent {
    /// Reads the event's payload.
    pub fn parse(data: &[u8]) -> Result<OutputItemEvent, Error> {
        #[derive(Deserialize)]
        struct Wire {
            #[serde(default)]
            output_index: u64,
            item: Box<RawValue>,
        }
        let wire: Wire = serde_json::from_slice(data).map_err(Error::Payload)?;
        Ok(OutputItemEvent { output_index: wire.output_index, item: OutputItem::from_raw(wire.item) })
    }
}
