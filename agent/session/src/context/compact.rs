//! What takes the input's place when it has grown too long.
//!
//! The user's own messages stay, the newest first as far as there is room; what the model and its tools said becomes a
//! summary, or whatever the provider makes of it. What has no answer yet comes after it, as it was.

use std::ops::Range;

use agent_threads::{ContextPart, Entry, TurnId};
use serde_json::{Value, value::RawValue};

use super::{
    Context, Kind, items,
    items::{Part, message, raw},
    tokens_in,
};
use crate::surroundings::Surroundings;

/// How much of the user's older messages stays, in bytes of JSON; about 20,000 tokens.
const KEPT_BYTES_MAX: usize = 80_000;

/// How often the input that is to be condensed was halved, because all of it was too long even for that.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Trim(pub(crate) u32);

/// What was made of a conversation.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    /// A summary by the model.
    Summary(String),
    /// An item by its provider, exactly as it came.
    Item(Box<RawValue>),
}

impl Context {
    /// Whether there is anything to condense.
    pub(crate) fn can_compact(&self) -> bool {
        self.answered > 0
    }

    /// The part of the input that is condensed: what has an answer, without its oldest items where it was too long.
    pub(super) fn condensable(&self, Trim(halvings): Trim) -> &[u8] {
        let end = if self.answered > 0 { self.answered } else { self.input.len() };
        let from = end - end.checked_shr(halvings).unwrap_or(0);
        // The output of a tool says nothing without its call, and is refused without it.
        let first = self.places.iter().find(|place| place.start >= from && place.kind != Kind::Output);
        let start = if from == 0 { 0 } else { first.map_or(end, |place| place.start.min(end)) };
        self.input.get(start..end).unwrap_or_default()
    }

    /// The entries by which the input begins anew.
    pub(crate) fn compacted(&self, turn_id: TurnId, outcome: Outcome, around: &Surroundings) -> Vec<Entry> {
        let mut entries = vec![Entry::Compacted { turn_id, window: self.window.saturating_add(1) }];
        entries.extend(Self::default().news(turn_id, around));
        let item = |json| Entry::ModelItem { turn_id, json };
        entries.extend(self.kept().into_iter().map(item));
        entries.push(match outcome {
            Outcome::Summary(text) => {
                let part = ContextPart::Summary;
                Entry::ContextItem { turn_id, part, json: items::context(part, &text, true) }
            }
            Outcome::Item(json) => item(json),
        });
        let pending = self
            .items()
            .filter(|(place, kind)| place.start >= self.answered && matches!(kind, Kind::User | Kind::Told));
        entries.extend(pending.filter_map(|(place, _)| self.copy(place)).map(item));
        entries
    }

    fn items(&self) -> impl DoubleEndedIterator<Item = (Range<usize>, Kind)> {
        let ends = self.places.iter().skip(1).map(|next| next.start).chain([self.input.len()]);
        // Each item has a comma after it.
        let items = self.places.iter().zip(ends.collect::<Vec<_>>());
        items.map(|(place, end)| (place.start..end.saturating_sub(1), place.kind))
    }

    fn copy(&self, place: Range<usize>) -> Option<Box<RawValue>> {
        let text = std::str::from_utf8(self.input.get(place)?).ok()?;
        RawValue::from_string(text.to_owned()).ok()
    }

    /// The user's messages that have an answer, from the oldest that there is room for.
    fn kept(&self) -> Vec<Box<RawValue>> {
        let answered =
            self.items().rev().filter(|(place, kind)| place.start < self.answered && *kind == Kind::User);
        let mut room = KEPT_BYTES_MAX;
        let mut kept = Vec::new();
        for (place, _) in answered {
            let Some(left) = room.checked_sub(place.len()) else {
                kept.extend(self.copy(place).and_then(|json| cut(&json, room)));
                break;
            };
            room = left;
            kept.extend(self.copy(place));
        }
        kept.reverse();
        kept
    }
}

/// About how many tokens these entries are in the model's input, together with instructions of this length.
pub(crate) fn tokens_of(entries: &[Entry], instructions: usize) -> u64 {
    let sizes = entries.iter().map(|entry| match entry {
        Entry::ModelItem { json, .. } | Entry::ContextItem { json, .. } => json.get().len(),
        _ => 0,
    });
    tokens_in(sizes.sum::<usize>() + instructions)
}

/// The beginning of a message's text.
fn cut(json: &RawValue, bytes: usize) -> Option<Box<RawValue>> {
    let value: Value = serde_json::from_str(json.get()).ok()?;
    let content = value.get("content")?;
    let text = content
        .as_str()
        .or_else(|| content.as_array()?.iter().find_map(|part| part.get("text")?.as_str()))?;
    let text = text.get(..text.floor_char_boundary(bytes.min(text.len())))?;
    if text.is_empty() {
        return None;
    }
    let note = "(The rest of this message was left out to save room.)";
    Some(raw(&message("user", &[Part::InputText { text }, Part::InputText { text: note }])))
}
