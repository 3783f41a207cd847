//! Any sequence of calls gets the same answers from every store.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use agent_threads::{
    Clock, Direction, Entry, Item, ItemId, Lease, ListQuery, Mark, MemoryStore, Metadata, OwnerId, PageQuery,
    SortKey, SqliteStore, TenantId, Thread, ThreadId, ThreadStore, ThreadUpdate, TurnId,
};
use proptest::{
    collection::vec,
    option,
    prelude::{Just, Strategy, any},
    prop_oneof, proptest,
    sample::select,
};

use crate::fixture::{ended, file, message, model_item, settings, started, thread, usage};

#[derive(Debug, Clone)]
enum Call {
    Create { key: Key, owner: usize, at_ms: i64, entries: Vec<Entry> },
    Acquire { key: Key, owner: usize },
    Fork { source: Key, through: u64, key: Key, owner: usize, at_ms: i64 },
    Append { key: Key, epoch: u64, entries: Vec<Entry>, update: ThreadUpdate },
    Revert { key: Key, epoch: u64, keep: u64, turn: usize },
    Mark { key: Key, mark: Mark, seen: u64 },
    TurnPlace { key: Key, turn: usize },
    Update { key: Key, update: ThreadUpdate },
    Delete { key: Key },
    Thread { key: Key },
    Records { key: Key, after: u64, limit: u32 },
    Turns { key: Key, page: PageQuery },
    Items { key: Key, turn: Option<usize>, page: PageQuery },
    List { tenant: usize, query: ListQuery },
}

/// Which tenant's which thread.
type Key = (usize, usize);

fn tenant(n: usize) -> TenantId {
    TenantId::new(["a", "b"][n])
}

fn thread_id(n: usize) -> ThreadId {
    format!("00000000-0000-7000-8000-{n:012}").parse().unwrap()
}

fn turn_id(n: usize) -> TurnId {
    format!("00000000-0000-7000-9000-{n:012}").parse().unwrap()
}

fn key() -> impl Strategy<Value = Key> {
    (prop_oneof![5 => Just(0), 1 => Just(1)], 0..3_usize)
}

fn entry() -> impl Strategy<Value = Entry> {
    (0..4_usize, 0..6_u8, option::weighted(0.5, "[a-f]"), "\\PC{0,8}").prop_map(
        |(turn, kind, client_id, text)| {
            let turn = turn_id(turn);
            match kind {
                0 => started(turn),
                1 => match message(turn, client_id.as_deref(), &text) {
                    Entry::Item { turn_id, item: Item::UserMessage { client_id, content, .. } } => {
                        let id = ItemId::from_provider("msg");
                        Entry::Item { turn_id, item: Item::UserMessage { id, client_id, content } }
                    }
                    other => other,
                },
                2 => {
                    let item = Item::AgentMessage { id: ItemId::from_provider("msg"), text, phase: None };
                    Entry::Item { turn_id: turn, item }
                }
                3 => model_item(turn, &serde_json::json!({ "text": text }).to_string()),
                4 => usage(turn),
                _ => ended(turn),
            }
        },
    )
}

fn update() -> impl Strategy<Value = ThreadUpdate> {
    (option::of("\\PC{0,6}"), option::of(any::<bool>()), option::of(select(vec!["/a", "/b"]))).prop_map(
        |(name, archived, cwd)| ThreadUpdate {
            preview: name.clone().filter(|name| name.len() > 3),
            name,
            archived,
            settings: cwd.map(settings),
            metadata: cwd.map(|cwd| Metadata { daybreak_enabled: Some(cwd == "/a"), ..Metadata::default() }),
        },
    )
}

fn direction() -> impl Strategy<Value = Direction> {
    select(vec![Direction::Ascending, Direction::Descending])
}

fn page() -> impl Strategy<Value = PageQuery> {
    let cursor = prop_oneof![
        3 => Just(None),
        1 => "(items|turns)\\.[ix]\\.[0-9]".prop_map(Some),
        1 => "created\\.[ix]\\.[0-9]\\.00000000000070008000000000000002".prop_map(Some),
    ];
    (cursor, 0..4_u32, direction()).prop_map(|(cursor, limit, direction)| PageQuery {
        cursor,
        limit,
        direction,
    })
}

fn list() -> impl Strategy<Value = ListQuery> {
    let filters = (vec(select(vec!["/a", "/b"]), 0..2), option::weighted(0.3, "\\PC{0,2}"), any::<bool>());
    let except = vec((0..3_usize).prop_map(thread_id), 0..2);
    (page(), select(vec![SortKey::CreatedAt, SortKey::UpdatedAt]), filters, except).prop_map(
        |(page, sort, (cwds, search, archived), except)| {
            let cwds = cwds.into_iter().map(str::to_owned).collect();
            ListQuery { page, sort, archived, cwds, search, except, ..ListQuery::default() }
        },
    )
}

fn call() -> impl Strategy<Value = Call> {
    let turn = option::of(0..4_usize);
    prop_oneof![
        4 => (key(), 0..2_usize, 0..20_i64, vec(entry(), 0..6))
            .prop_map(|(key, owner, at_ms, entries)| Call::Create { key, owner, at_ms, entries }),
        2 => (key(), 0..2_usize).prop_map(|(key, owner)| Call::Acquire { key, owner }),
        8 => (key(), 1..3_u64, vec(entry(), 0..20), prop_oneof![Just(ThreadUpdate::default()), update()])
            .prop_map(|(key, epoch, entries, update)| Call::Append { key, epoch, entries, update }),
        2 => (key(), 0..30_u64, key(), 0..2_usize, 0..20_i64)
            .prop_map(|(source, through, key, owner, at_ms)| Call::Fork { source, through, key, owner, at_ms }),
        1 => (key(), 1..3_u64, 0..20_u64, 0..4_usize)
            .prop_map(|(key, epoch, keep, turn)| Call::Revert { key, epoch, keep, turn }),
        1 => (key(), select(vec![Mark::Read, Mark::Unread]), 0..4_u64)
            .prop_map(|(key, mark, seen)| Call::Mark { key, mark, seen }),
        1 => (key(), 0..4_usize).prop_map(|(key, turn)| Call::TurnPlace { key, turn }),
        2 => (key(), update()).prop_map(|(key, update)| Call::Update { key, update }),
        1 => key().prop_map(|key| Call::Delete { key }),
        1 => key().prop_map(|key| Call::Thread { key }),
        2 => (key(), 0..30_u64, 0..9_u32).prop_map(|(key, after, limit)| Call::Records { key, after, limit }),
        3 => (key(), page()).prop_map(|(key, page)| Call::Turns { key, page }),
        3 => (key(), turn, page()).prop_map(|(key, turn, page)| Call::Items { key, turn, page }),
        3 => (0..2_usize, list()).prop_map(|(tenant, query)| Call::List { tenant, query }),
    ]
}

/// The answer as text; two stores say the same if they say it in the same words, cursors included.
async fn answer(store: &dyn ThreadStore, owners: &[OwnerId; 2], call: Call) -> String {
    let t = |key: Key| tenant(key.0);
    let id = |key: Key| thread_id(key.1);
    match call {
        Call::Create { key, owner, at_ms, entries } => {
            let id = id(key);
            let facts = thread(&t(key));
            let new = Thread {
                id,
                session_id: id,
                parent_id: None,
                created_at_ms: at_ms,
                updated_at_ms: at_ms,
                ..facts
            };
            format!("{:?}", store.create(new, &owners[owner], entries).await)
        }
        Call::Acquire { key, owner } => {
            format!("{:?}", store.acquire(&t(key), id(key), &owners[owner]).await)
        }
        Call::Fork { source, through, key, owner, at_ms } => {
            let (id, facts) = (id(key), thread(&t(key)));
            let new = Thread { id, session_id: id, parent_id: None, updated_at_ms: at_ms, ..facts };
            format!("{:?}", store.fork(thread_id(source.1), through, new, &owners[owner]).await)
        }
        Call::Revert { key, epoch, keep, turn } => {
            let lease = Lease { tenant: t(key), thread_id: id(key), epoch };
            let entry = Entry::Reverted { turn_id: turn_id(turn), keep };
            format!("{:?}", store.revert(&lease, keep, entry).await)
        }
        Call::Mark { key, mark, seen } => format!("{:?}", store.mark(&t(key), id(key), mark, seen).await),
        Call::TurnPlace { key, turn } => {
            format!("{:?}", store.turn_place(&t(key), id(key), turn_id(turn)).await)
        }
        Call::Append { key, epoch, entries, update } => {
            let lease = Lease { tenant: t(key), thread_id: id(key), epoch };
            format!("{:?}", store.append(&lease, entries, update).await)
        }
        Call::Update { key, update } => format!("{:?}", store.update(&t(key), id(key), update).await),
        Call::Delete { key } => format!("{:?}", store.delete(&t(key), id(key)).await),
        Call::Thread { key } => format!("{:?}", store.thread(&t(key), id(key)).await),
        Call::Records { key, after, limit } => {
            format!("{:?}", store.records(&t(key), id(key), after, limit).await)
        }
        Call::Turns { key, page } => format!("{:?}", store.turns(&t(key), id(key), page).await),
        Call::Items { key, turn, page } => {
            format!("{:?}", store.items(&t(key), id(key), turn.map(turn_id), page).await)
        }
        Call::List { tenant: n, query } => format!("{:?}", store.list(&tenant(n), query).await),
    }
}

async fn compare(calls: Vec<Call>) {
    let time = Arc::new(AtomicI64::new(0));
    let clock = || -> Clock {
        let time = Arc::clone(&time);
        Arc::new(move || time.load(Ordering::Relaxed))
    };
    let directory = tempfile::tempdir().unwrap();
    let memory = MemoryStore::with_clock(clock());
    let sqlite = SqliteStore::open_with_clock(&file(&directory), clock()).await.unwrap();
    let owners = [OwnerId::generate(), OwnerId::generate()];
    for (n, call) in calls.into_iter().enumerate() {
        // Goes back now and then, as clocks do.
        time.store(i64::try_from(n * 7 % 30).unwrap(), Ordering::Relaxed);
        let expected = answer(&memory, &owners, call.clone()).await;
        assert_eq!(answer(&sqlite, &owners, call.clone()).await, expected, "call {n}: {call:?}");
    }
    for key in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)] {
        for call in [Call::Thread { key }, Call::Records { key, after: 0, limit: 0 }] {
            let expected = answer(&memory, &owners, call.clone()).await;
            assert_eq!(answer(&sqlite, &owners, call).await, expected);
        }
    }
}

proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 48, failure_persistence: None, ..Default::default() })]

    #[test]
    fn memory_and_sqlite_answer_alike(calls in vec(call(), 1..60)) {
        tokio::runtime::Runtime::new().unwrap().block_on(compare(calls));
    }
}
