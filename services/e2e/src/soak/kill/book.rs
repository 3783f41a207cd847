//! What a client knows of its thread: what was accepted, what it was told; and whether a history agrees with that.

use std::collections::HashMap;

use serde_json::Value;

use super::super::row::Tally;

/// What a client knows of its thread.
#[derive(Debug, Default)]
pub(super) struct Book {
    /// Messages that were accepted, by the client's ids.
    pub(super) accepted: Vec<String>,
    /// A message that was sent and not answered.
    pub(super) pending: Option<String>,
    /// Items that were told as complete.
    told: Vec<String>,
    /// Turns that were told as complete.
    ended: Vec<String>,
    /// What was told since the last kill.
    fresh: Fresh,
}

/// What was told since the last kill.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Fresh {
    /// Whether a turn was running.
    pub(super) running: bool,
    /// Messages that were accepted.
    pub(super) accepted: u64,
    /// Items that were told.
    pub(super) told: u64,
}

impl Book {
    /// A message was accepted.
    pub(super) fn accept(&mut self, message: String) {
        self.pending = None;
        self.fresh.accepted += 1;
        self.accepted.push(message);
    }

    /// The server has said something.
    pub(super) fn hear(&mut self, message: &Value) {
        let text = |pointer: &str| message.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        match message.get("method").and_then(Value::as_str) {
            Some("turn/started") => self.fresh.running = true,
            Some("item/completed") => {
                self.told.extend(text("/params/item/id"));
                self.fresh.told += 1;
            }
            Some("turn/completed") => {
                self.ended.extend(text("/params/turn/id"));
                self.fresh.running = false;
            }
            _ => {}
        }
    }

    /// The process is gone; what it has told since the last one.
    pub(super) fn close(&mut self) -> Fresh {
        std::mem::take(&mut self.fresh)
    }

    /// Compares a history with what is known.
    pub(super) fn check(&self, name: &str, turns: &[Value], tally: &Tally) {
        let (mut messages, mut items) = (HashMap::new(), HashMap::new());
        let all = turns.iter().filter_map(|turn| turn.get("items")?.as_array()).flatten();
        for item in all {
            let text = |key: &str| item.get(key).and_then(Value::as_str);
            if let Some(message) = text("clientId") {
                *messages.entry(message).or_insert(0_u32) += 1;
            }
            *items.entry(text("id").unwrap_or_default()).or_insert(0_u32) += 1;
        }
        for (what, seen) in messages.iter().chain(&items) {
            tally.expect(*seen == 1, || format!("{name}: {what} is there {seen} times"));
        }
        for message in &self.accepted {
            tally.expect(messages.contains_key(message.as_str()), || format!("{name}: {message} is lost"));
        }
        for item in &self.told {
            tally.expect(items.contains_key(item.as_str()), || format!("{name}: item {item} is lost"));
        }
        for turn in turns {
            let text = |key: &str| turn.get(key).and_then(Value::as_str).unwrap_or_default();
            let (id, status) = (text("id"), text("status"));
            let ended = self.ended.iter().any(|ended| ended == id);
            let right = status == "completed" || (!ended && status == "interrupted");
            tally.expect(right, || format!("{name}: turn {id} shows as {status}, told as ended: {ended}"));
        }
    }
}
