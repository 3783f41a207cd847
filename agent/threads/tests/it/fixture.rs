//! Stores to test, and threads to put into them.

use std::{path::PathBuf, sync::Arc, time::Duration};

use agent_threads::{
    Entry, Item, ItemId, MemoryStore, Metadata, Origin, OwnerId, ReadState, Settings, SqliteStore, TenantId,
    Thread, ThreadId, ThreadStore, ThreadUpdate, TurnEnd, TurnId, TurnStart, Usage, UserInput,
};
use serde_json::value::RawValue;
use tempfile::TempDir;

/// How long a test may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// A place that holds threads; every `open` is another handle to the same threads.
pub(crate) enum Place {
    Memory(Arc<MemoryStore>),
    Sqlite(TempDir),
}

impl Place {
    pub(crate) fn memory() -> Self {
        Self::Memory(Arc::new(MemoryStore::new()))
    }

    pub(crate) fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    pub(crate) async fn open(&self) -> Arc<dyn ThreadStore> {
        match self {
            Self::Memory(store) => store.clone(),
            Self::Sqlite(directory) => Arc::new(SqliteStore::open(&file(directory)).await.unwrap()),
        }
    }
}

/// The store's file in the directory.
pub(crate) fn file(directory: &TempDir) -> PathBuf {
    directory.path().join("threads.db")
}

pub(crate) fn tenant() -> TenantId {
    TenantId::new("acme")
}

pub(crate) fn stranger() -> TenantId {
    TenantId::new("globex")
}

pub(crate) fn thread(tenant: &TenantId) -> Thread {
    let id = ThreadId::generate();
    Thread {
        tenant: tenant.clone(),
        id,
        session_id: id,
        parent_id: Some(ThreadId::generate()),
        forked_from_id: None,
        created_at_ms: 1_000,
        updated_at_ms: 1_000,
        name: None,
        preview: "hello there".to_owned(),
        archived: false,
        origin: Origin {
            originator: "codex-tui".to_owned(),
            client_version: "1.2.3".to_owned(),
            source: "cli".to_owned(),
            thread_source: Some("user".to_owned()),
            provider: "rehearsal".to_owned(),
        },
        settings: settings("/work"),
        metadata: Metadata::default(),
        read_state: ReadState::default(),
    }
}

pub(crate) fn settings(cwd: &str) -> Settings {
    Settings {
        model: "scripted".to_owned(),
        cwd: cwd.to_owned(),
        approval_policy: Some(serde_json::json!({"granular": {"rules": true}})),
        ..Settings::default()
    }
}

pub(crate) fn started(turn_id: TurnId) -> Entry {
    Entry::TurnStarted(Box::new(TurnStart { turn_id, settings: settings("/work") }))
}

pub(crate) fn message(turn_id: TurnId, client_id: Option<&str>, text: &str) -> Entry {
    let item = Item::UserMessage {
        id: ItemId::generate(),
        client_id: client_id.map(str::to_owned),
        content: vec![UserInput::Text { text: text.to_owned(), text_elements: vec![] }],
    };
    Entry::Item { turn_id, item }
}

pub(crate) fn answer(turn_id: TurnId, text: &str) -> Entry {
    let item = Item::AgentMessage { id: ItemId::generate(), text: text.to_owned(), phase: None };
    Entry::Item { turn_id, item }
}

pub(crate) fn model_item(turn_id: TurnId, json: &str) -> Entry {
    Entry::ModelItem { turn_id, json: RawValue::from_string(json.to_owned()).unwrap() }
}

pub(crate) fn usage(turn_id: TurnId) -> Entry {
    let last = Usage { input_tokens: 7, output_tokens: 3, total_tokens: 10, ..Usage::default() };
    Entry::Usage { turn_id, last, total: last }
}

pub(crate) fn ended(turn_id: TurnId) -> Entry {
    Entry::TurnEnded { turn_id, end: TurnEnd::Completed }
}

/// All entries of a small turn: seven, two of them items and two of them the model's.
pub(crate) fn turn(turn_id: TurnId) -> Vec<Entry> {
    vec![
        started(turn_id),
        message(turn_id, None, "question"),
        model_item(turn_id, r#"{"role":"user"}"#),
        answer(turn_id, "reply"),
        model_item(turn_id, r#"{"role":"assistant"}"#),
        usage(turn_id),
        ended(turn_id),
    ]
}

pub(crate) fn no_update() -> ThreadUpdate {
    ThreadUpdate::default()
}

pub(crate) fn owner() -> OwnerId {
    OwnerId::generate()
}

/// The entry as JSON, to compare it.
pub(crate) fn json(entry: &Entry) -> String {
    serde_json::to_string(entry).unwrap()
}
