//! What every store promises, asked of each of them.

use std::{collections::HashMap, sync::Arc};

use agent_threads::{
    Error, Lease, ListQuery, OwnerId, PageQuery, Record, TenantId, Thread, ThreadId, ThreadStore,
    ThreadUpdate, TurnId,
};
use futures_util::{FutureExt, future::join_all};
use tokio::{task::JoinSet, time::timeout};

use crate::{
    edits::{
        a_fork_is_a_thread_of_its_own, a_revert_takes_the_end_back, clients_keep_facts,
        ends_of_turns_are_unread, turns_have_places,
    },
    fixture::{
        DEADLINE, Place, answer, ended, json, message, model_item, no_update, owner, settings, started,
        stranger, tenant, thread, turn,
    },
    paging::{
        filters, foreign_cursors, pages_during_appends, pages_of_threads, pages_of_turns_and_items,
        pages_of_turns_end_early, search,
    },
    traces::{
        forks_take_along_what_happened_in_their_turns, only_the_newest_is_kept,
        what_happened_goes_with_its_thread, what_happened_is_kept_in_order,
    },
};

/// Makes a test for each store of each function that takes a place.
macro_rules! suite {
    ($($name:ident)*) => {
        mod memory {
            $(#[tokio::test]
            async fn $name() {
                super::timeout(super::DEADLINE, super::$name(super::Place::memory())).await.unwrap();
            })*
        }
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::timeout(super::DEADLINE, super::$name(super::Place::sqlite())).await.unwrap();
            })*
        }
    };
}

suite! {
    reads_back_what_was_written
    model_items_keep_their_bytes
    a_thread_is_created_once
    tenants_share_no_ids
    a_stale_owner_cannot_write
    messages_are_told_by_their_client_id
    a_refused_append_leaves_nothing
    a_refused_append_spares_its_neighbours
    strangers_find_nothing
    facts_change
    an_append_changes_facts_with_it
    deleted_is_gone
    large_entries_fit
    too_large_is_refused
    records_come_in_bounds
    order_holds_under_concurrency
    a_dropped_future_does_no_harm
    pages_of_turns_and_items
    pages_of_turns_end_early
    pages_during_appends
    pages_of_threads
    filters
    search
    foreign_cursors
    turns_have_places
    a_fork_is_a_thread_of_its_own
    a_revert_takes_the_end_back
    ends_of_turns_are_unread
    clients_keep_facts
    what_happened_is_kept_in_order
    what_happened_goes_with_its_thread
    forks_take_along_what_happened_in_their_turns
    only_the_newest_is_kept
}

/// All of a thread's records.
pub(crate) async fn log(store: &dyn ThreadStore, tenant: &TenantId, id: ThreadId) -> Vec<Record> {
    let mut log: Vec<Record> = Vec::new();
    loop {
        let after = log.last().map_or(0, |record| record.sequence);
        let more = store.records(tenant, id, after, 0).await.unwrap();
        if more.is_empty() {
            return log;
        }
        log.extend(more);
    }
}

/// A thread without entries.
pub(crate) async fn created(store: &dyn ThreadStore, owner: &OwnerId) -> Lease {
    store.create(thread(&tenant()), owner, vec![]).await.unwrap().0
}

async fn reads_back_what_was_written(place: Place) {
    let store = place.open().await;
    let (new, turn_id) = (thread(&tenant()), TurnId::generate());
    let entries = turn(turn_id);
    let (lease, appended) = store.create(new.clone(), &owner(), entries[..2].to_vec()).await.unwrap();
    assert_eq!((lease.thread_id, lease.epoch, appended.last_sequence), (new.id, 1, 2));
    let appended = store.append(&lease, entries[2..].to_vec(), no_update()).await.unwrap();
    assert_eq!(appended.last_sequence, 7);

    let other = place.open().await;
    let log = log(&*other, &tenant(), new.id).await;
    assert_eq!(log.iter().map(|record| record.sequence).collect::<Vec<_>>(), (1..=7).collect::<Vec<_>>());
    assert_eq!(
        log.iter().map(|record| json(&record.entry)).collect::<Vec<_>>(),
        entries.iter().map(json).collect::<Vec<_>>()
    );
    assert_eq!(log[6].at_ms, appended.at_ms);
    let found = other.thread(&tenant(), new.id).await.unwrap();
    let read_state = appended.read_state;
    assert_eq!(found, Thread { updated_at_ms: appended.at_ms, read_state, ..new });
}

async fn model_items_keep_their_bytes(place: Place) {
    let store = place.open().await;
    let raw =
        "{\"z\" :1.0e2,  \"a\":[1,\t2],\"a\":\"\\u00e9\\u0000 é 🐙\",\"n\":123456789012345678901234567890}";
    let lease = created(&*store, &owner()).await;
    store.append(&lease, vec![model_item(TurnId::generate(), raw)], no_update()).await.unwrap();
    let log = log(&*store, &tenant(), lease.thread_id).await;
    let agent_threads::Entry::ModelItem { json, .. } = &log[0].entry else { panic!("{:?}", log[0]) };
    assert_eq!(json.get(), raw);
}

async fn a_thread_is_created_once(place: Place) {
    let store = place.open().await;
    let new = thread(&tenant());
    let turn_id = TurnId::generate();
    store.create(new.clone(), &owner(), vec![started(turn_id)]).await.unwrap();
    let again = store.create(new.clone(), &owner(), vec![ended(turn_id)]).await;
    assert!(matches!(again, Err(Error::Exists(id)) if id == new.id), "{again:?}");
    assert_eq!(log(&*store, &tenant(), new.id).await.len(), 1);
    // Nor does a thread come to be when its entries are refused.
    let refused = thread(&tenant());
    let twice = vec![message(turn_id, Some("m"), "one"), message(turn_id, Some("m"), "two")];
    let result = store.create(refused.clone(), &owner(), twice).await;
    assert!(matches!(result, Err(Error::DuplicateMessage { .. })), "{result:?}");
    assert!(matches!(store.thread(&tenant(), refused.id).await, Err(Error::NotFound(_))));
}

async fn tenants_share_no_ids(place: Place) {
    let store = place.open().await;
    let ours = thread(&tenant());
    let theirs = Thread { tenant: stranger(), ..ours.clone() };
    let (turn_id, theirs_too) = (TurnId::generate(), TurnId::generate());
    let entries = |turn_id| vec![started(turn_id), message(turn_id, Some("m"), "x")];
    let (our_lease, _) = store.create(ours.clone(), &owner(), entries(turn_id)).await.unwrap();
    let before = store.thread(&tenant(), ours.id).await.unwrap();
    store.create(theirs.clone(), &owner(), entries(theirs_too)).await.unwrap();
    // Whatever they do to theirs, ours does not change.
    let (lease, _) = store.acquire(&stranger(), ours.id, &owner()).await.unwrap();
    let update = ThreadUpdate {
        name: Some("theirs".to_owned()),
        archived: Some(true),
        settings: Some(settings("/x")),
        ..no_update()
    };
    store.append(&lease, turn(theirs_too), update.clone()).await.unwrap();
    store.update(&stranger(), ours.id, update).await.unwrap();
    assert_eq!(store.thread(&tenant(), ours.id).await.unwrap(), before);
    assert_eq!(log(&*store, &tenant(), ours.id).await.len(), 2);
    let page = PageQuery::default;
    assert_eq!(store.turns(&tenant(), ours.id, page()).await.unwrap().elements.len(), 1);
    assert_eq!(store.items(&tenant(), ours.id, None, page()).await.unwrap().elements.len(), 1);
    assert!(store.items(&tenant(), ours.id, Some(theirs_too), page()).await.unwrap().elements.is_empty());
    assert_eq!(store.list(&tenant(), ListQuery::default()).await.unwrap().elements, [before]);
    store.delete(&stranger(), ours.id).await.unwrap();
    assert_eq!(store.append(&our_lease, vec![ended(turn_id)], no_update()).await.unwrap().last_sequence, 3);
    let refused = store.append(&our_lease, entries(turn_id), no_update()).await;
    assert!(
        matches!(refused, Err(Error::DuplicateMessage { turn_id: found }) if found == turn_id),
        "{refused:?}"
    );
}

async fn a_stale_owner_cannot_write(place: Place) {
    let (first, second) = (place.open().await, place.open().await);
    let (before, after) = (owner(), owner());
    let old = created(&*first, &before).await;
    let (same, _) = first.acquire(&tenant(), old.thread_id, &before).await.unwrap();
    assert_eq!(same, old, "the owner keeps its lease");
    let (new, found) = second.acquire(&tenant(), old.thread_id, &after).await.unwrap();
    assert_eq!((new.epoch, found.id), (old.epoch + 1, old.thread_id));
    for update in [no_update(), ThreadUpdate { name: Some("mine".to_owned()), ..no_update() }] {
        for entries in [vec![], vec![answer(TurnId::generate(), "late")]] {
            let refused = first.append(&old, entries, update.clone()).await;
            assert!(matches!(refused, Err(Error::StaleOwner(id)) if id == old.thread_id), "{refused:?}");
        }
    }
    assert_eq!(second.thread(&tenant(), old.thread_id).await.unwrap().name, None);
    second.append(&new, vec![answer(TurnId::generate(), "now")], no_update()).await.unwrap();
    let (back, _) = first.acquire(&tenant(), old.thread_id, &before).await.unwrap();
    assert_eq!(back.epoch, 3);
    let refused = second.append(&new, vec![], no_update()).await;
    assert!(matches!(refused, Err(Error::StaleOwner(_))), "{refused:?}");
    assert_eq!(log(&*first, &tenant(), old.thread_id).await.len(), 1);
}

async fn messages_are_told_by_their_client_id(place: Place) {
    let store = place.open().await;
    let lease = created(&*store, &owner()).await;
    let (one, two) = (TurnId::generate(), TurnId::generate());
    store
        .append(&lease, vec![message(one, Some("m1"), "a"), message(one, None, "b")], no_update())
        .await
        .unwrap();
    store
        .append(&lease, vec![message(two, Some("m2"), "a"), message(two, None, "b")], no_update())
        .await
        .unwrap();
    for (client_id, turn) in [("m1", one), ("m2", two)] {
        let again = vec![message(TurnId::generate(), Some(client_id), "c")];
        let refused = place.open().await.append(&lease, again, no_update()).await;
        assert!(
            matches!(refused, Err(Error::DuplicateMessage { turn_id }) if turn_id == turn),
            "{refused:?}"
        );
    }
    // Another thread does not know them.
    let other = created(&*store, &owner()).await;
    store.append(&other, vec![message(one, Some("m1"), "a")], no_update()).await.unwrap();
    // Of many that come at once, one is written.
    let repeats = (0..20).map(|_| store.append(&lease, vec![message(two, Some("m3"), "c")], no_update()));
    let results = join_all(repeats).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert_eq!(log(&*store, &tenant(), lease.thread_id).await.len(), 5);
}

async fn a_refused_append_leaves_nothing(place: Place) {
    let store = place.open().await;
    let lease = created(&*store, &owner()).await;
    let turn = TurnId::generate();
    store.append(&lease, vec![started(turn), message(turn, Some("m1"), "a")], no_update()).await.unwrap();
    let before = store.thread(&tenant(), lease.thread_id).await.unwrap();
    let update = ThreadUpdate {
        name: Some("new".to_owned()),
        archived: Some(true),
        settings: Some(settings("/x")),
        ..no_update()
    };
    for client_ids in [["new", "m1"], ["m2", "m2"]] {
        let [first, last] = client_ids.map(|client_id| message(turn, Some(client_id), "b"));
        let refused = store.append(&lease, vec![answer(turn, "x"), first, last], update.clone()).await;
        assert!(
            matches!(refused, Err(Error::DuplicateMessage { turn_id }) if turn_id == turn),
            "{refused:?}"
        );
    }
    assert_eq!(store.thread(&tenant(), lease.thread_id).await.unwrap(), before);
    assert_eq!(log(&*store, &tenant(), lease.thread_id).await.len(), 2);
    // The refused messages are not known either.
    let free = vec![message(turn, Some("new"), "c"), message(turn, Some("m2"), "c")];
    assert_eq!(store.append(&lease, free, no_update()).await.unwrap().last_sequence, 4);
}

async fn a_refused_append_spares_its_neighbours(place: Place) {
    let store = place.open().await;
    let stale = created(&*store, &owner()).await;
    store.acquire(&tenant(), stale.thread_id, &owner()).await.unwrap();
    let missing = Lease { thread_id: ThreadId::generate(), ..stale.clone() };
    let good = created(&*store, &owner()).await;
    let appends = (0..60).map(|n| {
        let lease = [&good, &stale, &missing][n % 3];
        store.append(lease, vec![answer(TurnId::generate(), "x")], no_update())
    });
    for (n, result) in join_all(appends).await.into_iter().enumerate() {
        match n % 3 {
            0 => drop(result.unwrap()),
            1 => assert!(matches!(result, Err(Error::StaleOwner(_))), "{result:?}"),
            _ => assert!(matches!(result, Err(Error::NotFound(_))), "{result:?}"),
        }
    }
    assert_eq!(log(&*store, &tenant(), good.thread_id).await.len(), 20);
    assert_eq!(log(&*store, &tenant(), stale.thread_id).await.len(), 0);
}

async fn strangers_find_nothing(place: Place) {
    let store = place.open().await;
    let new = thread(&tenant());
    let id = new.id;
    let turn_id = TurnId::generate();
    let (lease, _) = store.create(new, &owner(), turn(turn_id)).await.unwrap();
    let page = PageQuery::default;
    let own = store.items(&tenant(), id, None, page()).await.unwrap();
    let cursor = PageQuery { cursor: own.backwards, ..page() };
    let them = stranger();
    let theirs = Lease { tenant: them.clone(), ..lease.clone() };
    let rename = || ThreadUpdate { name: Some("theirs".to_owned()), ..no_update() };
    let results = [
        store.acquire(&them, id, &owner()).await.map(drop),
        store.append(&theirs, vec![ended(turn_id)], rename()).await.map(drop),
        store.append(&theirs, vec![message(turn_id, Some("m"), "x")], no_update()).await.map(drop),
        store.thread(&them, id).await.map(drop),
        store.records(&them, id, 0, 0).await.map(drop),
        store.records(&them, id, 1_000, 1).await.map(drop),
        store.turns(&them, id, page()).await.map(drop),
        store.turns(&them, id, PageQuery { cursor: Some("nonsense".to_owned()), ..page() }).await.map(drop),
        store.items(&them, id, None, cursor).await.map(drop),
        store.items(&them, id, Some(turn_id), page()).await.map(drop),
        store
            .items(&them, id, None, PageQuery { cursor: Some("nonsense".to_owned()), ..page() })
            .await
            .map(drop),
        store.update(&them, id, rename()).await.map(drop),
        store.delete(&them, id).await,
    ];
    for (n, result) in results.into_iter().enumerate() {
        assert!(matches!(result, Err(Error::NotFound(found)) if found == id), "call {n}: {result:?}");
    }
    assert!(store.list(&them, ListQuery::default()).await.unwrap().elements.is_empty());
    let found = store.thread(&tenant(), id).await.unwrap();
    assert_eq!(found.name, None);
    store.append(&lease, vec![], no_update()).await.unwrap();
    assert_eq!(log(&*store, &tenant(), id).await.len(), 7);
}

async fn facts_change(place: Place) {
    let (store, other) = (place.open().await, place.open().await);
    let lease = created(&*store, &owner()).await;
    let id = lease.thread_id;
    let before = store.thread(&tenant(), id).await.unwrap();
    let named = ThreadUpdate { name: Some("Nürburg 100%".to_owned()), ..no_update() };
    let expected = Thread { name: named.name.clone(), ..before.clone() };
    assert_eq!(other.update(&tenant(), id, named).await.unwrap(), expected);
    let moved = ThreadUpdate { settings: Some(settings("/elsewhere")), archived: Some(true), ..no_update() };
    let expected = Thread { settings: settings("/elsewhere"), archived: true, ..expected };
    assert_eq!(other.update(&tenant(), id, moved).await.unwrap(), expected);
    assert_eq!(store.thread(&tenant(), id).await.unwrap(), expected);
    let back = ThreadUpdate { name: Some(String::new()), archived: Some(false), ..no_update() };
    let expected = Thread { name: None, archived: false, ..expected };
    assert_eq!(store.update(&tenant(), id, back).await.unwrap(), expected);
    assert_eq!(other.update(&tenant(), id, no_update()).await.unwrap(), expected);
    // Only the log's growth counts as one.
    assert_eq!(expected.updated_at_ms, before.updated_at_ms);
    let appended = store.append(&lease, vec![answer(TurnId::generate(), "x")], no_update()).await.unwrap();
    assert!(appended.at_ms > before.updated_at_ms);
    assert_eq!(store.thread(&tenant(), id).await.unwrap().updated_at_ms, appended.at_ms);
}

async fn an_append_changes_facts_with_it(place: Place) {
    let store = place.open().await;
    let lease = created(&*store, &owner()).await;
    let update =
        ThreadUpdate { settings: Some(settings("/next")), name: Some("n".to_owned()), ..no_update() };
    store.append(&lease, vec![answer(TurnId::generate(), "x")], update).await.unwrap();
    let found = store.thread(&tenant(), lease.thread_id).await.unwrap();
    assert_eq!((found.settings, found.name.as_deref()), (settings("/next"), Some("n")));
    let query = ListQuery { cwds: vec!["/next".to_owned()], ..ListQuery::default() };
    assert_eq!(store.list(&tenant(), query).await.unwrap().elements.len(), 1);
}

async fn deleted_is_gone(place: Place) {
    let store = place.open().await;
    let (lease, kept) = (created(&*store, &owner()).await, created(&*store, &owner()).await);
    for lease in [&lease, &kept] {
        store.append(lease, turn(TurnId::generate()), no_update()).await.unwrap();
    }
    place.open().await.delete(&tenant(), lease.thread_id).await.unwrap();
    let id = lease.thread_id;
    assert!(matches!(store.thread(&tenant(), id).await, Err(Error::NotFound(_))));
    assert!(matches!(store.records(&tenant(), id, 0, 0).await, Err(Error::NotFound(_))));
    assert!(matches!(store.append(&lease, vec![], no_update()).await, Err(Error::NotFound(_))));
    assert!(matches!(store.delete(&tenant(), id).await, Err(Error::NotFound(_))));
    assert_eq!(store.list(&tenant(), ListQuery::default()).await.unwrap().elements.len(), 1);
    assert_eq!(log(&*store, &tenant(), kept.thread_id).await.len(), 7);
    // Nothing of the old log shows up under a new thread with its id.
    store.create(Thread { id, ..thread(&tenant()) }, &owner(), vec![]).await.unwrap();
    assert_eq!(log(&*store, &tenant(), id).await.len(), 0);
}

async fn large_entries_fit(place: Place) {
    let store = place.open().await;
    let lease = created(&*store, &owner()).await;
    let text = "ß\"\\\n".repeat(2_000_000);
    store.append(&lease, vec![answer(TurnId::generate(), &text)], no_update()).await.unwrap();
    let log = log(&*store, &tenant(), lease.thread_id).await;
    assert_eq!(json(&log[0].entry), json(&answer_like(&log[0], &text)));
}

fn answer_like(record: &Record, text: &str) -> agent_threads::Entry {
    match &record.entry {
        agent_threads::Entry::Item { turn_id, item } => {
            let item = agent_threads::Item::AgentMessage {
                id: item.id().clone(),
                text: text.to_owned(),
                phase: None,
            };
            agent_threads::Entry::Item { turn_id: *turn_id, item }
        }
        other => panic!("{other:?}"),
    }
}

async fn too_large_is_refused(place: Place) {
    let store = place.open().await;
    let lease = created(&*store, &owner()).await;
    let entry = answer(TurnId::generate(), &"x".repeat(65 << 20));
    let refused = store.append(&lease, vec![entry.clone(), entry], no_update()).await;
    assert!(matches!(&refused, Err(error @ Error::TooLarge { .. }) if !error.is_retryable()), "{refused:?}");
    let filters = ListQuery { cwds: vec![String::new(); 1_001], ..ListQuery::default() };
    let search = ListQuery { search: Some("x".repeat(1_025)), ..ListQuery::default() };
    for query in [filters, search] {
        let refused = store.list(&tenant(), query).await;
        assert!(matches!(refused, Err(Error::TooLarge { .. })), "{refused:?}");
    }
    let all = ListQuery {
        cwds: vec![String::new(); 1_000],
        search: Some("%".repeat(1_024)),
        ..ListQuery::default()
    };
    assert!(store.list(&tenant(), all).await.unwrap().elements.is_empty());
    assert_eq!(log(&*store, &tenant(), lease.thread_id).await.len(), 0);
}

async fn records_come_in_bounds(place: Place) {
    let store = place.open().await;
    let lease = created(&*store, &owner()).await;
    let id = lease.thread_id;
    assert!(store.records(&tenant(), id, 0, 10).await.unwrap().is_empty());
    let entries = (0..1_234).map(|n| answer(TurnId::generate(), &n.to_string())).collect();
    assert_eq!(store.append(&lease, entries, no_update()).await.unwrap().last_sequence, 1_234);
    for (after, limit, expected) in [
        (0, 0, 1..=1_000),
        (0, 5_000, 1..=1_000),
        (0, 3, 1..=3),
        (1_000, 1_000, 1_001..=1_234),
        (1_233, 5, 1_234..=1_234),
    ] {
        let found = store.records(&tenant(), id, after, limit).await.unwrap();
        let sequences: Vec<u64> = found.iter().map(|record| record.sequence).collect();
        assert_eq!(sequences, expected.collect::<Vec<u64>>(), "after {after}, limit {limit}");
    }
    assert!(store.records(&tenant(), id, 1_234, 5).await.unwrap().is_empty());
    assert!(store.records(&tenant(), id, u64::MAX, 5).await.unwrap().is_empty());
}

async fn order_holds_under_concurrency(place: Place) {
    let handles: [Arc<dyn ThreadStore>; 2] = [place.open().await, place.open().await];
    let (threads, tasks, appends) = (8, 32, 50);
    let leases = join_all((0..threads).map(|_| async { created(&*handles[0], &owner()).await })).await;
    let mut running = JoinSet::new();
    for task in 0..tasks {
        let (store, lease) = (Arc::clone(&handles[task % 2]), leases[task % threads].clone());
        running.spawn(async move {
            let mut last = 0;
            for n in 0..appends {
                let entries = [0, 1].map(|part| answer(TurnId::generate(), &format!("{task} {n} {part}")));
                let appended = store.append(&lease, entries.to_vec(), no_update()).await.unwrap();
                assert!(appended.last_sequence > last);
                last = appended.last_sequence;
            }
        });
    }
    running.join_all().await;
    for lease in &leases {
        let log = log(&*handles[1], &tenant(), lease.thread_id).await;
        assert_eq!(log.len(), 2 * appends * tasks / threads);
        assert!(log.iter().zip(1..).all(|(record, sequence)| record.sequence == sequence));
        assert!(log.is_sorted_by_key(|record| record.at_ms));
        let texts: Vec<Vec<usize>> = log.iter().map(words).collect();
        // An append's entries stand side by side, and each task's appends in its order.
        assert!(texts.chunks(2).all(|pair| pair[0][..2] == pair[1][..2] && pair[0][2] + 1 == pair[1][2]));
        let mut next: HashMap<usize, usize> = HashMap::new();
        for pair in texts.chunks(2) {
            let expected = next.entry(pair[0][0]).or_default();
            assert_eq!(pair[0][1], *expected);
            *expected += 1;
        }
    }
}

fn words(record: &Record) -> Vec<usize> {
    match &record.entry {
        agent_threads::Entry::Item { item: agent_threads::Item::AgentMessage { text, .. }, .. } => {
            text.split(' ').map(|word| word.parse().unwrap()).collect()
        }
        other => panic!("{other:?}"),
    }
}

async fn a_dropped_future_does_no_harm(place: Place) {
    let store = place.open().await;
    let lease = created(&*store, &owner()).await;
    let entry = || vec![answer(TurnId::generate(), "x")];
    // Never polled: never asked for.
    drop(store.append(&lease, entry(), no_update()));
    // Handed over and then dropped: written.
    for _ in 0..20 {
        let _ = store.append(&lease, entry(), no_update()).now_or_never();
    }
    let appended = store.append(&lease, entry(), no_update()).await.unwrap();
    assert_eq!(appended.last_sequence, 21);
    // Reads that are dropped give their connections back.
    for _ in 0..50 {
        let _ = store.records(&tenant(), lease.thread_id, 0, 0).now_or_never();
        let _ = store.turns(&tenant(), lease.thread_id, PageQuery::default()).now_or_never();
    }
    assert_eq!(log(&*store, &tenant(), lease.thread_id).await.len(), 21);
}
