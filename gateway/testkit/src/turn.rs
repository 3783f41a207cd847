//! Writes realistic Responses streams: every event of a turn, in the order in which the API sends them.
//!
//! Ids are derived from the response's id, so that the same script gives the same bytes.

use bytes::Bytes;
use serde_json::{Value, json};
use tidegate_responses::{Usage, sse};

/// A whole stream that says `pieces`, one delta each.
pub fn text_turn(pieces: &[&str], usage: Usage) -> Vec<Bytes> {
    Turn::new("resp_testkit_1").text(pieces).completed(usage)
}

/// One response, put together from items.
#[derive(Debug, Clone)]
pub struct Turn {
    id: String,
    model: String,
    service_tier: Option<String>,
    items: Vec<Item>,
}

#[derive(Debug, Clone)]
enum Item {
    Message { pieces: Vec<String> },
    Reasoning { pieces: Vec<String>, encrypted: String },
    FunctionCall { call_id: String, name: String, arguments: String },
    CustomToolCall { call_id: String, name: String, input: String },
    Raw(Value),
}

impl Turn {
    /// A response without items.
    pub fn new(response_id: &str) -> Turn {
        Turn {
            id: response_id.to_owned(),
            model: "gpt-6-sol".to_owned(),
            service_tier: None,
            items: Vec::new(),
        }
    }

    /// Names another model than `gpt-6-sol`.
    #[must_use]
    pub fn model(mut self, model: &str) -> Turn {
        self.model = model.to_owned();
        self
    }

    /// Names the tier that serves it.
    #[must_use]
    pub fn service_tier(mut self, tier: &str) -> Turn {
        self.service_tier = Some(tier.to_owned());
        self
    }

    /// Adds a message, a delta for each piece.
    #[must_use]
    pub fn text(mut self, pieces: &[&str]) -> Turn {
        self.items.push(Item::Message { pieces: owned(pieces) });
        self
    }

    /// Adds reasoning with a summary, a delta for each piece, and encrypted content.
    #[must_use]
    pub fn reasoning(mut self, summary: &[&str], encrypted_content: &str) -> Turn {
        self.items.push(Item::Reasoning { pieces: owned(summary), encrypted: encrypted_content.to_owned() });
        self
    }

    /// Adds a function call.
    #[must_use]
    pub fn function_call(mut self, call_id: &str, name: &str, arguments: &Value) -> Turn {
        let (call_id, name, arguments) = (call_id.to_owned(), name.to_owned(), arguments.to_string());
        self.items.push(Item::FunctionCall { call_id, name, arguments });
        self
    }

    /// Adds a call of a tool with free-form input.
    #[must_use]
    pub fn custom_tool_call(mut self, call_id: &str, name: &str, input: &str) -> Turn {
        let (call_id, name, input) = (call_id.to_owned(), name.to_owned(), input.to_owned());
        self.items.push(Item::CustomToolCall { call_id, name, input });
        self
    }

    /// Adds any item as it is, with no events but `added` and `done`.
    #[must_use]
    pub fn raw_item(mut self, item: Value) -> Turn {
        self.items.push(Item::Raw(item));
        self
    }

    /// The stream up to `response.completed`.
    pub fn completed(self, usage: Usage) -> Vec<Bytes> {
        let response = self.response("completed", &json!(null), &usage_json(usage));
        self.events("response.completed", response)
    }

    /// The same, but its last event says nothing about usage.
    pub fn completed_without_usage(self) -> Vec<Bytes> {
        let response = self.response("completed", &json!(null), &json!(null));
        self.events("response.completed", response)
    }

    /// The stream up to `response.incomplete`.
    pub fn incomplete(self, reason: &str, usage: Usage) -> Vec<Bytes> {
        let response = self.response("incomplete", &json!(null), &usage_json(usage));
        let response = with(&response, json!({"incomplete_details": {"reason": reason}}));
        self.events("response.incomplete", response)
    }

    /// The stream up to `response.failed`.
    pub fn failed(self, code: &str, message: &str) -> Vec<Bytes> {
        let response = self.response("failed", &json!({"code": code, "message": message}), &json!(null));
        self.events("response.failed", response)
    }

    /// What the API answers when no stream was asked for.
    pub fn json(self, usage: Usage) -> Value {
        self.response("completed", &json!(null), &usage_json(usage))
    }

    fn events(self, last: &str, response: Value) -> Vec<Bytes> {
        let mut events = Events::default();
        let begun =
            Turn { items: Vec::new(), ..self.clone() }.response("in_progress", &json!(null), &json!(null));
        events.add("response.created", json!({ "response": begun.clone() }));
        events.add("response.in_progress", json!({ "response": begun }));
        for (index, item) in self.items.iter().enumerate() {
            events.item(index, &self.item_id(index), item, &self.item_json(index, item));
        }
        events.add(last, json!({ "response": response }));
        events.frames
    }

    fn response(&self, status: &str, error: &Value, usage: &Value) -> Value {
        let output: Vec<_> =
            self.items.iter().enumerate().map(|(index, item)| self.item_json(index, item)).collect();
        json!({
            "id": self.id, "object": "response", "created_at": 1_795_168_000, "status": status, "error": error,
            "incomplete_details": null, "model": self.model, "output": output, "parallel_tool_calls": true,
            "service_tier": self.service_tier, "store": false, "usage": usage,
        })
    }

    fn item_id(&self, index: usize) -> String {
        format!("item_{}_{index}", self.id)
    }

    fn item_json(&self, index: usize, item: &Item) -> Value {
        let id = self.item_id(index);
        match item {
            Item::Message { pieces } => json!({
                "id": id, "type": "message", "status": "completed", "role": "assistant",
                "content": [{"type": "output_text", "text": pieces.concat(), "annotations": []}],
            }),
            Item::Reasoning { pieces, encrypted } => json!({
                "id": id, "type": "reasoning", "encrypted_content": encrypted,
                "summary": [{"type": "summary_text", "text": pieces.concat()}],
            }),
            Item::FunctionCall { call_id, name, arguments } => json!({
                "id": id, "type": "function_call", "status": "completed", "call_id": call_id, "name": name,
                "arguments": arguments,
            }),
            Item::CustomToolCall { call_id, name, input } => json!({
                "id": id, "type": "custom_tool_call", "status": "completed", "call_id": call_id, "name": name,
                "input": input,
            }),
            Item::Raw(item) => item.clone(),
        }
    }
}

fn owned(pieces: &[&str]) -> Vec<String> {
    pieces.iter().map(|piece| (*piece).to_owned()).collect()
}

fn usage_json(usage: Usage) -> Value {
    json!({
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_input_tokens, "cache_write_tokens": usage.cache_write_input_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_output_tokens},
        "total_tokens": usage.total_tokens,
    })
}

/// The frames so far; each event has the next sequence number.
#[derive(Default)]
struct Events {
    frames: Vec<Bytes>,
}

impl Events {
    /// Adds an event. `type` comes first in its JSON, as the API writes it.
    fn add(&mut self, name: &str, fields: Value) {
        let number = self.frames.len();
        let fields = fields.to_string();
        let rest = fields.strip_prefix('{').unwrap_or(&fields);
        let data = format!(r#"{{"type":"{name}","sequence_number":{number},{rest}"#);
        self.frames.push(sse::encode(name, data.as_bytes()));
    }

    fn item(&mut self, index: usize, id: &str, item: &Item, done: &Value) {
        let mut added = done.clone();
        if let Some(fields) = added.as_object_mut() {
            // An item starts empty and is filled by its events.
            for (name, empty) in [
                ("content", json!([])),
                ("summary", json!([])),
                ("arguments", json!("")),
                ("input", json!("")),
            ] {
                if let Some(field) = fields.get_mut(name) {
                    *field = empty;
                }
            }
            if let Some(status) = fields.get_mut("status") {
                *status = json!("in_progress");
            }
        }
        self.add("response.output_item.added", json!({"output_index": index, "item": added}));
        let at = json!({"item_id": id, "output_index": index});
        match item {
            Item::Message { pieces } => self.message(&at, pieces),
            Item::Reasoning { pieces, .. } => self.summary(&at, pieces),
            Item::FunctionCall { arguments, .. } => {
                let name = "response.function_call_arguments";
                self.add(&format!("{name}.delta"), with(&at, json!({"delta": arguments})));
                self.add(&format!("{name}.done"), with(&at, json!({"arguments": arguments})));
            }
            Item::CustomToolCall { input, .. } => {
                let name = "response.custom_tool_call_input";
                self.add(&format!("{name}.delta"), with(&at, json!({"delta": input})));
                self.add(&format!("{name}.done"), with(&at, json!({"input": input})));
            }
            Item::Raw(_) => {}
        }
        self.add("response.output_item.done", json!({"output_index": index, "item": done}));
    }

    fn message(&mut self, at: &Value, pieces: &[String]) {
        let at = with(at, json!({"content_index": 0}));
        let part = |text: &str| json!({"part": {"type": "output_text", "text": text, "annotations": []}});
        let text = pieces.concat();
        self.add("response.content_part.added", with(&at, part("")));
        for piece in pieces {
            self.add("response.output_text.delta", with(&at, json!({"delta": piece})));
        }
        self.add("response.output_text.done", with(&at, json!({"text": text})));
        self.add("response.content_part.done", with(&at, part(&text)));
    }

    fn summary(&mut self, at: &Value, pieces: &[String]) {
        let at = with(at, json!({"summary_index": 0}));
        let part = |text: &str| json!({"part": {"type": "summary_text", "text": text}});
        let text = pieces.concat();
        self.add("response.reasoning_summary_part.added", with(&at, part("")));
        for piece in pieces {
            self.add("response.reasoning_summary_text.delta", with(&at, json!({"delta": piece})));
        }
        self.add("response.reasoning_summary_text.done", with(&at, json!({"text": text})));
        self.add("response.reasoning_summary_part.done", with(&at, part(&text)));
    }
}

/// Both objects' fields.
fn with(fields: &Value, more: Value) -> Value {
    let mut all = fields.clone();
    if let (Some(all), Value::Object(more)) = (all.as_object_mut(), more) {
        all.extend(more);
    }
    all
}
