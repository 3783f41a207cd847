//! What happened in threads is kept beside their logs: in order, bounded, and never at a log's cost.

use agent_threads::{
    CallPurpose, Entry, Error, Lease, LifecycleEvent, SqliteStore, Thread, ThreadStore, TraceEvent,
    TraceKind, TraceOutcome, TraceRecord, TraceRow, TracedCall, TracedCompaction, TracedLifecycle,
    TracedTurn, TurnId, Usage,
};
use futures_util::future::join_all;

use crate::{
    file::aside,
    fixture::{Place, file, no_update, owner, stranger, tenant, thread, turn},
    suite::{created, log},
};

/// The most that is kept of one thread.
const ROWS_MAX: u64 = 4_000;

fn call(turn_id: TurnId, at_ms: i64) -> TraceEvent {
    let call = TracedCall {
        started_at_ms: at_ms - 5,
        first_event_ms: Some(2),
        purpose: CallPurpose::Turn,
        call: 1,
        attempt: 2,
        provider: "rehearsal".to_owned(),
        model: "m\"1".to_owned(),
        outcome: TraceOutcome::Failed,
        reason: Some("stream_closed".to_owned()),
        usage: Some(Usage { input_tokens: 7, ..Usage::default() }),
    };
    TraceEvent { at_ms, turn_id: Some(turn_id), kind: TraceKind::ModelCall(call) }
}

/// One of each kind.
fn all_kinds(turn_id: TurnId) -> Vec<TraceEvent> {
    let turn = TracedTurn {
        started_at_ms: 1,
        model: "m".to_owned(),
        outcome: TraceOutcome::Completed,
        reason: None,
        commits: 3,
        commits_us: 900,
    };
    let compaction = TracedCompaction {
        started_at_ms: 1,
        asked_for: true,
        remote: false,
        outcome: TraceOutcome::Interrupted,
        reason: None,
    };
    let forked = TracedLifecycle { event: LifecycleEvent::Forked, other: Some(thread(&tenant()).id) };
    let event = |at_ms, turn_id, kind| TraceEvent { at_ms, turn_id, kind };
    vec![
        event(1, None, TraceKind::Lifecycle(forked)),
        call(turn_id, 20),
        event(30, Some(turn_id), TraceKind::Compaction(compaction)),
        event(40, Some(turn_id), TraceKind::Turn(turn)),
    ]
}

fn rows(lease: &Lease, events: Vec<TraceEvent>) -> Vec<TraceRow> {
    let row = |event| TraceRow { tenant: lease.tenant.clone(), thread_id: lease.thread_id, event };
    events.into_iter().map(row).collect()
}

async fn traced(store: &dyn ThreadStore, lease: &Lease) -> Vec<TraceRecord> {
    store.traced(&lease.tenant, lease.thread_id, 0, 0).await.unwrap()
}

fn numbers(records: &[TraceRecord]) -> Vec<u64> {
    records.iter().map(|record| record.number).collect()
}

pub(crate) async fn what_happened_is_kept_in_order(place: Place) {
    let store = place.open().await;
    let (one, other) = (created(&*store, &owner()).await, created(&*store, &owner()).await);
    let events = all_kinds(TurnId::generate());
    let mut mixed = rows(&one, events.clone());
    mixed.splice(1..1, rows(&other, vec![call(TurnId::generate(), 9)]));
    assert_eq!(store.trace(mixed).await.unwrap(), 5);
    assert_eq!(store.trace(rows(&one, events.clone())).await.unwrap(), 4);
    let kept = traced(&*place.open().await, &one).await;
    assert_eq!(numbers(&kept), [1, 2, 3, 4, 5, 6, 7, 8]);
    let told: Vec<TraceEvent> = kept.into_iter().map(|record| record.event).collect();
    assert_eq!(told, [events.clone(), events].concat());
    assert_eq!(traced(&*store, &other).await.len(), 1);
    let page = store.traced(&one.tenant, one.thread_id, 2, 3).await.unwrap();
    assert_eq!(numbers(&page), [3, 4, 5]);
    assert!(store.traced(&one.tenant, one.thread_id, 8, 3).await.unwrap().is_empty());
    assert_eq!(log(&*store, &tenant(), one.thread_id).await.len(), 0, "a log is something else");
    assert_eq!(store.thread(&tenant(), one.thread_id).await.unwrap().updated_at_ms, 1_000);
}

pub(crate) async fn what_happened_goes_with_its_thread(place: Place) {
    let store = place.open().await;
    let lease = created(&*store, &owner()).await;
    let id = lease.thread_id;
    let gone = Lease { thread_id: thread(&tenant()).id, ..lease.clone() };
    let theirs = Lease { tenant: stranger(), ..lease.clone() };
    let event = || vec![call(TurnId::generate(), 10)];
    let mixed = [rows(&gone, event()), rows(&lease, event()), rows(&theirs, event())].concat();
    assert_eq!(store.trace(mixed).await.unwrap(), 1, "rows of no thread are passed over");
    for (tenant, id) in [(&theirs.tenant, id), (&gone.tenant, gone.thread_id)] {
        let found = store.traced(tenant, id, 0, 0).await;
        assert!(matches!(found, Err(Error::NotFound(_))), "{found:?}");
    }
    store.delete(&tenant(), id).await.unwrap();
    assert!(matches!(store.traced(&tenant(), id, 0, 0).await, Err(Error::NotFound(_))));
    assert_eq!(store.trace(rows(&lease, event())).await.unwrap(), 0);
    store.create(Thread { id, ..thread(&tenant()) }, &owner(), vec![]).await.unwrap();
    assert!(traced(&*store, &lease).await.is_empty());
}

pub(crate) async fn forks_take_along_what_happened_in_their_turns(place: Place) {
    let store = place.open().await;
    let lease = created(&*store, &owner()).await;
    let turns = [TurnId::generate(), TurnId::generate()];
    for id in turns {
        store.append(&lease, turn(id), no_update()).await.unwrap();
        store.trace(rows(&lease, all_kinds(id))).await.unwrap();
    }
    for (through, expected) in [(7, vec![2, 3, 4]), (14, vec![2, 3, 4, 6, 7, 8]), (0, vec![])] {
        let new = thread(&tenant());
        let (fork, _) = store.fork(lease.thread_id, through, new, &owner()).await.unwrap();
        assert_eq!(numbers(&traced(&*store, &fork).await), expected);
        store.trace(rows(&fork, vec![call(turns[0], 50)])).await.unwrap();
        assert_eq!(traced(&*store, &fork).await.last().unwrap().number, expected.last().unwrap_or(&0) + 1);
    }
    assert_eq!(traced(&*store, &lease).await.len(), 8);
    // What was done is done, and was paid for, although it is said no more.
    let reverted = Entry::Reverted { turn_id: turns[1], keep: 7 };
    store.revert(&lease, 7, reverted).await.unwrap();
    assert_eq!(traced(&*store, &lease).await.len(), 8);
}

pub(crate) async fn only_the_newest_is_kept(place: Place) {
    let store = place.open().await;
    let lease = created(&*store, &owner()).await;
    let turn_id = TurnId::generate();
    for _ in 0..5 {
        let many = (0..900).map(|at| call(turn_id, at)).collect();
        assert_eq!(store.trace(rows(&lease, many)).await.unwrap(), 900);
    }
    let mut kept = Vec::new();
    loop {
        let after = kept.last().map_or(0, |record: &TraceRecord| record.number);
        let page = store.traced(&lease.tenant, lease.thread_id, after, 0).await.unwrap();
        if page.is_empty() {
            break;
        }
        kept.extend(page);
    }
    assert_eq!(numbers(&kept), (4_500 - ROWS_MAX + 1..=4_500).collect::<Vec<_>>());
}

/// Traces that the database refuses take nothing with them, also when they wait beside other writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_traces_spare_everything_else() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory);
    let store = SqliteStore::open(&path).await.unwrap();
    let lease = created(&store, &owner()).await;
    let connection = aside(&path);
    let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON traces BEGIN SELECT RAISE(ABORT, 'no traces'); END";
    connection.execute_batch(refuse).unwrap();
    drop(connection);
    let events = || vec![call(TurnId::generate(), 10)];
    for round in 1..=20 {
        let traces = join_all((0..4).map(|_| store.trace(rows(&lease, events()))));
        let appends = join_all((0..4).map(|_| store.append(&lease, turn(TurnId::generate()), no_update())));
        let (traces, appends) = futures_util::future::join(traces, appends).await;
        assert!(traces.iter().all(Result::is_err), "{traces:?}");
        assert!(appends.iter().all(Result::is_ok), "{appends:?}");
        assert_eq!(log(&store, &tenant(), lease.thread_id).await.len(), round * 28);
    }
    assert!(traced(&store, &lease).await.is_empty());
}

#[tokio::test]
async fn a_kind_of_a_newer_version_is_passed_over() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory);
    let store = SqliteStore::open(&path).await.unwrap();
    let lease = created(&store, &owner()).await;
    store.trace(rows(&lease, all_kinds(TurnId::generate()))).await.unwrap();
    let connection = aside(&path);
    let newer = "UPDATE traces SET payload = '{\"telepathy\":{}}' WHERE number = 2";
    connection.execute_batch(newer).unwrap();
    assert_eq!(numbers(&traced(&store, &lease).await), [1, 3, 4]);
    // A page is no shorter for it: a short one is taken for the last.
    for (after, limit, expected) in [(0, 2, &[1, 3][..]), (1, 1, &[3]), (0, 3, &[1, 3, 4]), (1, 3, &[3, 4])] {
        let page = store.traced(&lease.tenant, lease.thread_id, after, limit).await.unwrap();
        assert_eq!(numbers(&page), expected, "{limit} after {after}");
    }
}
