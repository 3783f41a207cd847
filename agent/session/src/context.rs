//! What the model is told: the input of the next call, grown entry by entry.
//!
//! Items stand in the input exactly as they were accepted, so that each call begins with the bytes of the one before. A
//! compaction begins the input anew. The request around the input is in [`body`], what takes its place in a compaction in
//! [`compact`]. Reads no store and calls nobody.

mod body;
mod compact;
mod items;
#[cfg(test)]
mod tests;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use agent_threads::{ContextPart, Entry, Settings, TurnEnd, TurnId, Usage};
use serde::Deserialize;
use serde_json::value::RawValue;

pub(crate) use self::{
    body::{Request, Wanted},
    compact::{Outcome, Trim, tokens_of},
    items::{partial_message, tool_output, user_message, with_ids},
};
use crate::{machine::ToolCall, surroundings::Surroundings};

/// How a tool call is answered whose outcome nobody knows.
pub(crate) const OUTCOME_UNKNOWN: &str = "interrupted; the outcome is unknown";
/// Bytes of JSON that a token stands for, roughly, where no provider has counted.
const BYTES_PER_TOKEN: usize = 4;

/// A thread's log as the model sees it.
#[derive(Debug, Default)]
pub(crate) struct Context {
    /// The items of the input, each followed by a comma.
    input: Vec<u8>,
    /// Where its items begin, and what they are.
    places: Vec<Place>,
    /// Where what the model and its tools have said ends: what comes after it has no answer yet.
    answered: usize,
    /// What the model was last told of each part, as a hash.
    told: Vec<(ContextPart, u64)>,
    /// Tokens that a provider counted, and how much of the input it had seen then.
    counted: (u64, usize),
    /// The context window; grows with each compaction.
    pub(crate) window: u32,
    /// Tokens of the thread so far.
    pub(crate) total: Usage,
    /// The turn that has no end yet.
    pub(crate) open_turn: Option<TurnId>,
    /// Tool calls that have no output yet.
    pub(crate) open_calls: Vec<ToolCall>,
    /// The model of the last turn.
    model: Option<String>,
}

/// An item of the input.
#[derive(Debug, Clone, Copy)]
struct Place {
    start: usize,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A message of the user's.
    User,
    /// What holds.
    Context,
    /// What stands for what was said before.
    Summary,
    /// What else the model is told.
    Told,
    /// The output of a tool.
    Output,
    /// What the model said or did.
    Said,
}

/// What a turn's first commit holds beside the turn's start and the user's message.
#[derive(Debug, Default)]
pub(crate) struct Opening {
    /// Closes what an earlier process left open.
    pub(crate) repairs: Vec<Entry>,
    /// What the model is told before the message.
    pub(crate) notices: Vec<Entry>,
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(default, rename = "type", borrow)]
    kind: std::borrow::Cow<'a, str>,
    #[serde(default, borrow)]
    role: std::borrow::Cow<'a, str>,
    #[serde(default)]
    call_id: Option<String>,
    #[serde(default, borrow)]
    content: Option<&'a RawValue>,
}

impl<'a> Head<'a> {
    /// What can be read of an item; of one that cannot be read, nothing.
    fn of(json: &'a RawValue) -> Self {
        let nothing = Self { kind: "".into(), role: "".into(), call_id: None, content: None };
        serde_json::from_str(json.get()).unwrap_or(nothing)
    }
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
            Entry::ModelItem { json, .. } => self.add_item(json),
            Entry::ContextItem { part, json, .. } => {
                let summary = *part == ContextPart::Summary;
                self.push(json, if summary { Kind::Summary } else { Kind::Context });
                self.told.retain(|(told, _)| told != part);
                self.told.push((*part, hash_of(json)));
            }
            Entry::Compacted { window, .. } => {
                let (total, open_turn) = (self.total, self.open_turn);
                *self =
                    Self { window: *window, total, open_turn, model: self.model.take(), ..Self::default() };
            }
            Entry::Usage { last, total, .. } => {
                self.total = *total;
                self.counted = (last.total_tokens, self.input.len());
            }
            Entry::TurnEnded { .. } => self.open_turn = None,
        }
    }

    fn push(&mut self, json: &RawValue, kind: Kind) {
        self.places.push(Place { start: self.input.len(), kind });
        self.input.extend_from_slice(json.get().as_bytes());
        self.input.push(b',');
        if matches!(kind, Kind::Summary | Kind::Output | Kind::Said) {
            self.answered = self.input.len();
        }
    }

    fn add_item(&mut self, json: &RawValue) {
        let Head { kind, role, call_id, .. } = Head::of(json);
        let kind = match (kind.as_ref(), role.as_ref(), call_id) {
            ("message", "user", _) => Kind::User,
            ("message", "developer" | "system", _) => Kind::Told,
            ("function_call", _, Some(id)) => {
                self.open_calls.push(ToolCall::unnamed(id, false));
                Kind::Said
            }
            ("custom_tool_call", _, Some(id)) => {
                self.open_calls.push(ToolCall::unnamed(id, true));
                Kind::Said
            }
            ("function_call_output" | "custom_tool_call_output", _, Some(id)) => {
                self.open_calls.retain(|call| call.call_id != id);
                Kind::Output
            }
            _ => Kind::Said,
        };
        self.push(json, kind);
    }

    /// How much of the input there is.
    pub(crate) fn len(&self) -> usize {
        self.input.len()
    }

    /// How many tokens the input has, as far as can be known without asking.
    pub(crate) fn tokens(&self) -> u64 {
        let (tokens, seen) = self.counted;
        tokens.saturating_add(tokens_in(self.input.len().saturating_sub(seen)))
    }

    /// What comes before the message of a turn with these settings, in these surroundings.
    pub(crate) fn opening(&self, turn_id: TurnId, settings: &Settings, around: &Surroundings) -> Opening {
        let before = self.model.as_ref().filter(|model| **model != settings.model);
        let changed = before
            .map(|before| Entry::ModelItem { turn_id, json: items::model_changed(before, &settings.model) });
        let mut notices = self.news(turn_id, around);
        notices.extend(changed);
        Opening { repairs: self.repairs(), notices }
    }

    /// The parts of the surroundings that the model was not told yet, or was told differently.
    fn news(&self, turn_id: TurnId, around: &Surroundings) -> Vec<Entry> {
        let told = |part| self.told.iter().find(|(told, _)| *told == part).map(|(_, hash)| *hash);
        let mut news = Vec::new();
        for part in Surroundings::PARTS {
            let before = told(part);
            let json = match (around.text(part), before) {
                (Some(text), before) => items::context(part, text, before.is_some()),
                (None, Some(_)) => items::context(part, items::NOTHING, true),
                (None, None) => continue,
            };
            if before != Some(hash_of(&json)) {
                news.push(Entry::ContextItem { turn_id, part, json });
            }
        }
        news
    }

    /// What closes a turn that its process left behind: it is interrupted, and its open tool calls have no known outcome.
    pub(crate) fn repairs(&self) -> Vec<Entry> {
        let Some(turn_id) = self.open_turn else { return Vec::new() };
        let outputs = self.open_calls.iter().map(|call| tool_output(call, OUTCOME_UNKNOWN));
        let mut entries: Vec<Entry> = outputs.map(|json| Entry::ModelItem { turn_id, json }).collect();
        entries.push(Entry::TurnEnded { turn_id, end: TurnEnd::Interrupted });
        entries
    }
}

fn tokens_in(bytes: usize) -> u64 {
    u64::try_from(bytes / BYTES_PER_TOKEN).unwrap_or(u64::MAX)
}

/// What a context item says, without its id and without what it says of the item that it replaces.
fn hash_of(json: &RawValue) -> u64 {
    let mut hasher = DefaultHasher::new();
    let parts: Option<Vec<&RawValue>> =
        Head::of(json).content.and_then(|content| serde_json::from_str(content.get()).ok());
    let said = parts.as_ref().and_then(|parts| parts.last());
    said.map_or(json.get(), |said| said.get()).hash(&mut hasher);
    hasher.finish()
}
