//! Entries and settings as stores keep them: JSON text with the few columns that are looked up.
//!
//! The JSON of a model item stands inside the payload byte for byte.

use std::collections::HashMap;

use crate::{
    Entry, Error, Item, ItemRecord, Record, Settings, Thread, ThreadId, ThreadUpdate, TurnId, limits,
};

/// The kind of an entry that opens a turn.
pub(crate) const TURN_STARTED: &str = "turn_started";
/// The kind of an entry that a person sees.
pub(crate) const ITEM: &str = "item";
/// The kind of an entry that only the model sees.
pub(crate) const MODEL_ITEM: &str = "model_item";

/// An entry, ready to be written.
#[derive(Debug, Clone)]
pub(crate) struct Encoded {
    pub(crate) turn_id: TurnId,
    pub(crate) kind: &'static str,
    pub(crate) client_id: Option<String>,
    pub(crate) payload: String,
}

/// A written entry.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) sequence: u64,
    pub(crate) at_ms: i64,
    pub(crate) turn_id: TurnId,
    pub(crate) payload: String,
}

/// What a `create` brings, ready to be written.
pub(crate) struct NewThread {
    pub(crate) thread: Thread,
    pub(crate) settings: String,
    pub(crate) entries: Vec<Encoded>,
}

/// Encodes what a `create` brings.
pub(crate) fn new_thread(thread: Thread, entries: &[Entry]) -> Result<NewThread, Error> {
    let settings = settings(&thread.settings)?;
    let entries = encode(entries)?;
    let facts = settings.len() + thread.preview.len() + thread.name.as_ref().map_or(0, String::len);
    limits::check_write(facts + size(&entries))?;
    Ok(NewThread { thread, settings, entries })
}

/// A change of a thread's facts, ready to be written.
#[derive(Debug, Default)]
pub(crate) struct EncodedUpdate {
    pub(crate) name: Option<String>,
    pub(crate) archived: Option<bool>,
    pub(crate) settings: Option<EncodedSettings>,
}

/// Settings, ready to be written.
#[derive(Debug)]
pub(crate) struct EncodedSettings {
    pub(crate) settings: Settings,
    pub(crate) json: String,
}

impl EncodedUpdate {
    /// Whether it changes nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.name.is_none() && self.archived.is_none() && self.settings.is_none()
    }

    /// Changes the thread.
    pub(crate) fn apply(&self, thread: &mut Thread) {
        if let Some(name) = &self.name {
            thread.name = (!name.is_empty()).then(|| name.clone());
        }
        if let Some(archived) = self.archived {
            thread.archived = archived;
        }
        if let Some(encoded) = &self.settings {
            thread.settings = encoded.settings.clone();
        }
    }
}

/// Encodes what an `append` or `update` brings.
pub(crate) fn write(entries: &[Entry], update: ThreadUpdate) -> Result<(Vec<Encoded>, EncodedUpdate), Error> {
    let entries = encode(entries)?;
    let settings = match update.settings {
        Some(new) => Some(EncodedSettings { json: settings(&new)?, settings: new }),
        None => None,
    };
    let facts =
        settings.as_ref().map_or(0, |new| new.json.len()) + update.name.as_ref().map_or(0, String::len);
    limits::check_write(facts + size(&entries))?;
    Ok((entries, EncodedUpdate { name: update.name, archived: update.archived, settings }))
}

fn size(entries: &[Encoded]) -> usize {
    entries.iter().map(|entry| entry.payload.len()).sum()
}

fn settings(settings: &Settings) -> Result<String, Error> {
    serde_json::to_string(settings).map_err(|source| corrupt("the settings of a write".to_owned(), source))
}

fn encode(entries: &[Entry]) -> Result<Vec<Encoded>, Error> {
    let encode_one = |entry: &Entry| {
        let payload = serde_json::to_string(entry)
            .map_err(|source| corrupt("an entry of a write".to_owned(), source))?;
        let (kind, client_id) = match entry {
            Entry::TurnStarted(_) => (TURN_STARTED, None),
            Entry::Item { item: Item::UserMessage { client_id, .. }, .. } => (ITEM, client_id.clone()),
            Entry::Item { .. } => (ITEM, None),
            Entry::ModelItem { .. } => (MODEL_ITEM, None),
            Entry::Usage { .. } => ("usage", None),
            Entry::TurnEnded { .. } => ("turn_ended", None),
        };
        Ok(Encoded { turn_id: entry.turn_id(), kind, client_id, payload })
    };
    entries.iter().map(encode_one).collect()
}

/// The turn of a message that stands more than once in the entries.
pub(crate) fn repeated_message(entries: &[Encoded]) -> Option<TurnId> {
    let mut turns = HashMap::new();
    entries.iter().find_map(|entry| turns.insert(entry.client_id.as_ref()?, entry.turn_id))
}

impl Stored {
    /// The entry of a thread, read back.
    pub(crate) fn record(&self, thread_id: ThreadId) -> Result<Record, Error> {
        let entry =
            serde_json::from_str(&self.payload).map_err(|source| corrupt(self.place(thread_id), source))?;
        Ok(Record { sequence: self.sequence, at_ms: self.at_ms, entry })
    }

    /// The item of a thread, read back.
    pub(crate) fn item(&self, thread_id: ThreadId) -> Result<ItemRecord, Error> {
        match self.record(thread_id)? {
            Record { sequence, at_ms, entry: Entry::Item { turn_id, item } } => {
                Ok(ItemRecord { turn_id, sequence, at_ms, item })
            }
            Record { .. } => Err(corrupt(self.place(thread_id), "not an item")),
        }
    }

    fn place(&self, thread_id: ThreadId) -> String {
        format!("entry {} of thread {thread_id}", self.sequence)
    }
}

/// The settings of a thread, read back.
pub(crate) fn read_settings(json: &str, thread_id: ThreadId) -> Result<Settings, Error> {
    serde_json::from_str(json)
        .map_err(|source| corrupt(format!("the settings of thread {thread_id}"), source))
}

/// The error for something unreadable.
pub(crate) fn corrupt(place: String, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Corrupt { place, source: source.into() }
}
