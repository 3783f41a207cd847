//! Entries and settings as stores keep them: JSON text with the few columns that are looked up.
//!
//! The JSON of a model item stands inside the payload byte for byte.

use std::collections::HashMap;

use crate::{
    Entry, Error, Item, ItemRecord, Metadata, Record, Settings, Thread, ThreadId, ThreadUpdate, TraceKind,
    TurnId, limits, read_state,
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
    pub(crate) metadata: String,
    pub(crate) entries: Vec<Encoded>,
}

/// Encodes what a `create` or a `fork` brings.
pub(crate) fn new_thread(mut thread: Thread, entries: &[Entry]) -> Result<NewThread, Error> {
    thread.read_state = thread.read_state.after(read_state::ended(entries));
    let (settings, metadata) = (settings(&thread.settings)?, metadata(&thread.metadata)?);
    let entries = encode(entries)?;
    let facts =
        settings.len() + metadata.len() + thread.preview.len() + thread.name.as_ref().map_or(0, String::len);
    limits::check_write(facts + size(&entries))?;
    Ok(NewThread { thread, settings, metadata, entries })
}

/// A change of a thread's facts, ready to be written.
#[derive(Debug, Default)]
pub(crate) struct EncodedUpdate {
    pub(crate) name: Option<String>,
    pub(crate) archived: Option<bool>,
    pub(crate) preview: Option<String>,
    pub(crate) settings: Option<WithJson<Settings>>,
    pub(crate) metadata: Option<WithJson<Metadata>>,
}

/// A value, ready to be written.
#[derive(Debug)]
pub(crate) struct WithJson<T> {
    pub(crate) value: T,
    pub(crate) json: String,
}

/// What an `append` brings, ready to be written.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) entries: Vec<Encoded>,
    pub(crate) update: EncodedUpdate,
    /// The turn whose end leaves the thread unread.
    pub(crate) ended: Option<TurnId>,
}

impl EncodedUpdate {
    /// Whether it changes nothing.
    pub(crate) fn is_empty(&self) -> bool {
        let Self { name, archived, preview, settings, metadata } = self;
        name.is_none() && archived.is_none() && preview.is_none() && settings.is_none() && metadata.is_none()
    }

    /// Changes the thread.
    pub(crate) fn apply(&self, thread: &mut Thread) {
        if let Some(name) = &self.name {
            thread.name = (!name.is_empty()).then(|| name.clone());
        }
        if let Some(archived) = self.archived {
            thread.archived = archived;
        }
        if let Some(preview) = &self.preview {
            thread.preview.clone_from(preview);
        }
        if let Some(encoded) = &self.settings {
            thread.settings = encoded.value.clone();
        }
        if let Some(encoded) = &self.metadata {
            thread.metadata = encoded.value.clone();
        }
    }
}

/// Encodes what an `append` or `update` brings.
pub(crate) fn write(entries: &[Entry], update: ThreadUpdate) -> Result<Write, Error> {
    let ended = read_state::ended(entries);
    let entries = encode(entries)?;
    let settings =
        update.settings.map(|value| Ok(WithJson { json: settings(&value)?, value })).transpose()?;
    let metadata =
        update.metadata.map(|value| Ok(WithJson { json: metadata(&value)?, value })).transpose()?;
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let facts = settings.as_ref().map_or(0, |new| new.json.len())
        + metadata.as_ref().map_or(0, |new: &WithJson<_>| new.json.len())
        + text(&update.name)
        + text(&update.preview);
    limits::check_write(facts + size(&entries))?;
    let ThreadUpdate { name, archived, preview, .. } = update;
    Ok(Write { entries, update: EncodedUpdate { name, archived, preview, settings, metadata }, ended })
}

fn size(entries: &[Encoded]) -> usize {
    entries.iter().map(|entry| entry.payload.len()).sum()
}

fn settings(settings: &Settings) -> Result<String, Error> {
    serde_json::to_string(settings).map_err(|source| corrupt("the settings of a write".to_owned(), source))
}

fn metadata(metadata: &Metadata) -> Result<String, Error> {
    serde_json::to_string(metadata).map_err(|source| corrupt("the metadata of a write".to_owned(), source))
}

fn encode(entries: &[Entry]) -> Result<Vec<Encoded>, Error> {
    let encode_one = |entry: &Entry| {
        let payload = serde_json::to_string(entry)
            .map_err(|source| corrupt("an entry of a write".to_owned(), source))?;
        let (kind, client_id) = match entry {
            Entry::TurnStarted(_) => (TURN_STARTED, None),
            Entry::Item { item: Item::UserMessage { client_id, .. }, .. } => (ITEM, client_id.clone()),
            Entry::Item { .. } => (ITEM, None),
            Entry::ModelItem { .. } | Entry::ContextItem { .. } => (MODEL_ITEM, None),
            Entry::Compacted { .. } => ("compacted", None),
            Entry::Usage { .. } => ("usage", None),
            Entry::TurnEnded { .. } => ("turn_ended", None),
            Entry::Reverted { .. } => ("reverted", None),
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

/// The metadata of a thread, read back.
pub(crate) fn read_metadata(json: &str, thread_id: ThreadId) -> Result<Metadata, Error> {
    serde_json::from_str(json)
        .map_err(|source| corrupt(format!("the metadata of thread {thread_id}"), source))
}

/// Encodes what happened.
pub(crate) fn trace(kind: &TraceKind) -> Result<String, Error> {
    serde_json::to_string(kind).map_err(|source| corrupt("a trace of a write".to_owned(), source))
}

/// What happened, read back, if this version knows it.
pub(crate) fn read_trace(json: &str) -> Option<TraceKind> {
    serde_json::from_str(json).ok()
}

/// The error for something unreadable.
pub(crate) fn corrupt(place: String, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Corrupt { place, source: source.into() }
}
