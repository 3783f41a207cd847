//! Renders a rehearsal's events and objects as the JSON of the Responses API.

use std::ops::Range;

use bytes::Bytes;
use serde_json::{Value, json};
use tidegate_responses::sse;

use super::ask::Ask;
use super::plan::{Ending, Plan};
use super::words;

/// What makes one answer itself: its words come from the request's bytes, and its ids are its own, because an answer to the
/// same request is another answer to a client.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    seed: u64,
    own: u64,
}

impl Identity {
    pub(super) fn of(body: &[u8]) -> Identity {
        Identity { seed: fnv1a(body, 0), own: rand::random() }
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    /// The id of one thing of the answer, for example `msg_…`.
    pub(super) fn id(&self, kind: &str) -> String {
        let first = fnv1a(kind.as_bytes(), self.own);
        format!("{kind}_{first:016x}{:016x}", fnv1a(kind.as_bytes(), first))
    }
}

/// The 64-bit FNV-1a hash, from a start of one's own. Spreads ids; proves nothing.
fn fnv1a(bytes: &[u8], start: u64) -> u64 {
    bytes.iter().fold(start ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// One event of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Beat {
    Created,
    InProgress,
    ReasoningAdded,
    SummaryPartAdded,
    SummaryDelta(Range<usize>),
    SummaryTextDone,
    SummaryPartDone,
    ReasoningDone,
    MessageAdded,
    ContentPartAdded,
    TextDelta(Range<usize>),
    TextDone,
    ContentPartDone,
    MessageDone,
    Terminal,
}

/// Renders one answer.
pub(super) struct Renderer {
    plan: Plan,
    ask: Ask,
    identity: Identity,
    created_at: u64,
    response_id: String,
    reasoning_id: String,
    message_id: String,
    sequence: u64,
}

impl Renderer {
    pub(super) fn new(plan: Plan, ask: Ask, identity: Identity, created_at: u64) -> Renderer {
        Renderer {
            response_id: identity.id("resp"),
            reasoning_id: identity.id("rs"),
            message_id: identity.id("msg"),
            plan,
            ask,
            identity,
            created_at,
            sequence: 0,
        }
    }

    /// One event as a frame of a stream.
    pub(super) fn frame(&mut self, beat: &Beat) -> Bytes {
        let (kind, event) = self.event(beat);
        let event = event.to_string();
        // As providers do it: the type first. No event is an empty object.
        let rest = event.strip_prefix('{').unwrap_or_default();
        let event = format!(r#"{{"type":"{kind}","sequence_number":{},{rest}"#, self.sequence);
        self.sequence += 1;
        sse::encode(kind, event.as_bytes())
    }

    /// The whole response, as it is when everything has been said.
    pub(super) fn whole(&self) -> Bytes {
        Bytes::from(self.terminal().1.to_string())
    }

    fn event(&self, beat: &Beat) -> (&'static str, Value) {
        let of = |text: &str, range: &Range<usize>| text.get(range.clone()).unwrap_or_default().to_owned();
        let summary = self.plan.reasoning.as_deref().unwrap_or_default();
        let text = &self.plan.text;
        let (rs, msg) = (&self.reasoning_id, &self.message_id);
        let at = self.message_index();
        match beat {
            Beat::Created => ("response.created", json!({"response": self.response("in_progress")})),
            Beat::InProgress => ("response.in_progress", json!({"response": self.response("in_progress")})),
            Beat::ReasoningAdded => {
                let item = json!({"id": rs, "type": "reasoning", "summary": []});
                ("response.output_item.added", json!({"output_index": 0, "item": item}))
            }
            Beat::SummaryPartAdded => (
                "response.reasoning_summary_part.added",
                json!({"item_id": rs, "output_index": 0, "summary_index": 0, "part": summary_text("")}),
            ),
            Beat::SummaryDelta(range) => (
                "response.reasoning_summary_text.delta",
                json!({"item_id": rs, "output_index": 0, "summary_index": 0, "delta": of(summary, range)}),
            ),
            Beat::SummaryTextDone => (
                "response.reasoning_summary_text.done",
                json!({"item_id": rs, "output_index": 0, "summary_index": 0, "text": summary}),
            ),
            Beat::SummaryPartDone => (
                "response.reasoning_summary_part.done",
                json!({"item_id": rs, "output_index": 0, "summary_index": 0, "part": summary_text(summary)}),
            ),
            Beat::ReasoningDone => {
                ("response.output_item.done", json!({"output_index": 0, "item": self.reasoning_item()}))
            }
            Beat::MessageAdded => {
                let item = json!({
                    "id": msg, "type": "message", "role": "assistant", "status": "in_progress", "content": [],
                });
                ("response.output_item.added", json!({"output_index": at, "item": item}))
            }
            Beat::ContentPartAdded => (
                "response.content_part.added",
                json!({"item_id": msg, "output_index": at, "content_index": 0, "part": output_text("")}),
            ),
            Beat::TextDelta(range) => (
                "response.output_text.delta",
                json!({
                    "item_id": msg, "output_index": at, "content_index": 0, "delta": of(text, range),
                    "logprobs": [],
                }),
            ),
            Beat::TextDone => (
                "response.output_text.done",
                json!({"item_id": msg, "output_index": at, "content_index": 0, "text": text, "logprobs": []}),
            ),
            Beat::ContentPartDone => (
                "response.content_part.done",
                json!({"item_id": msg, "output_index": at, "content_index": 0, "part": output_text(text)}),
            ),
            Beat::MessageDone => {
                ("response.output_item.done", json!({"output_index": at, "item": self.message_item()}))
            }
            Beat::Terminal => {
                let (kind, response) = self.terminal();
                (kind, json!({"response": response}))
            }
        }
    }

    fn terminal(&self) -> (&'static str, Value) {
        let (kind, status) = match self.plan.ending {
            Ending::Incomplete => ("response.incomplete", "incomplete"),
            Ending::Failed { .. } => ("response.failed", "failed"),
            Ending::Completed | Ending::Cut | Ending::Stall => ("response.completed", "completed"),
        };
        let mut response = self.response(status);
        if let Some(response) = response.as_object_mut() {
            response.insert("output".to_owned(), self.output());
            response.insert("usage".to_owned(), self.usage());
            if let Ending::Failed { code, message } = self.plan.ending {
                response.insert("error".to_owned(), json!({"code": code, "message": message}));
            }
            if self.plan.ending == Ending::Incomplete {
                response.insert("incomplete_details".to_owned(), json!({"reason": "max_output_tokens"}));
            }
        }
        (kind, response)
    }

    /// The response as it is before anything has been said.
    fn response(&self, status: &str) -> Value {
        let format = self.ask.text.as_ref().and_then(|text| text.format.clone());
        json!({
            "id": self.response_id,
            "object": "response",
            "created_at": self.created_at,
            "status": status,
            "background": false,
            "error": null,
            "incomplete_details": null,
            "instructions": null,
            "max_output_tokens": self.ask.max_output_tokens,
            "metadata": {},
            "model": self.ask.model,
            "output": [],
            "parallel_tool_calls": true,
            "previous_response_id": null,
            "reasoning": self.ask.reasoning.clone().unwrap_or_else(|| json!({"effort": null, "summary": null})),
            "service_tier": "default",
            "store": false,
            "temperature": 1.0,
            "text": {"format": format.unwrap_or_else(|| json!({"type": "text"}))},
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
            "truncation": "disabled",
            "usage": null,
            "user": null,
        })
    }

    fn output(&self) -> Value {
        // A failed response keeps no half message, as with a real provider.
        if matches!(self.plan.ending, Ending::Failed { .. }) {
            return json!([]);
        }
        match self.plan.reasoning {
            Some(_) => json!([self.reasoning_item(), self.message_item()]),
            None => json!([self.message_item()]),
        }
    }

    fn reasoning_item(&self) -> Value {
        let summary = self.plan.reasoning.as_deref().unwrap_or_default();
        let mut item =
            json!({"id": self.reasoning_id, "type": "reasoning", "summary": [summary_text(summary)]});
        if self.ask.wants_encrypted_reasoning()
            && let Some(item) = item.as_object_mut()
        {
            item.insert("encrypted_content".to_owned(), self.identity.id("rehearsal").into());
        }
        item
    }

    fn message_item(&self) -> Value {
        let status = if self.plan.ending == Ending::Incomplete { "incomplete" } else { "completed" };
        json!({
            "id": self.message_id, "type": "message", "role": "assistant", "status": status,
            "content": [output_text(&self.plan.text)],
        })
    }

    /// The message stands behind the reasoning.
    fn message_index(&self) -> u64 {
        u64::from(self.plan.reasoning.is_some())
    }

    fn usage(&self) -> Value {
        let input = u64::try_from(self.ask.bytes.div_ceil(4)).unwrap_or(u64::MAX);
        let reasoning = self.plan.reasoning.as_deref().map_or(0, words::tokens);
        let output = reasoning + words::tokens(&self.plan.text);
        json!({
            "input_tokens": input,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": output,
            "output_tokens_details": {"reasoning_tokens": reasoning},
            "total_tokens": input.saturating_add(output),
        })
    }
}

fn summary_text(text: &str) -> Value {
    json!({"type": "summary_text", "text": text})
}

fn output_text(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}
