//! What threads keep of what they did: turns, model calls, how they came and went; and that keeping it costs no turn anything.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use agent_session::{
    CallEvent, Error, Failure, ForkThread, NewThread, Options, Overrides, Sessions, StartTurn, TraceContext,
};
use agent_threads::{
    CallPurpose, LifecycleEvent, TenantId, ThreadId, TraceKind, TraceRecord, TracedCall, Usage,
};
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    gateway::{FakeGateway, Step, added, answer, delta, failure, head},
    store::{CountingStore, Traces},
    support::{DEADLINE, Desk, steering, turn, until, words},
};

async fn traced(desk: &Desk, id: ThreadId) -> Vec<TraceRecord> {
    let read = desk.sessions.trace(&desk.tenant, id, 0, 0);
    tokio::time::timeout(DEADLINE, read).await.unwrap().unwrap()
}

/// The records in a word each.
fn told(records: &[TraceRecord]) -> Vec<String> {
    let word = |record: &TraceRecord| match &record.event.kind {
        TraceKind::Turn(turn) => format!("turn {:?}", turn.outcome),
        TraceKind::ModelCall(call) => format!("call {}.{} {:?}", call.call, call.attempt, call.outcome),
        TraceKind::Compaction(compaction) => format!("compaction {:?}", compaction.outcome),
        TraceKind::Lifecycle(lifecycle) => format!("{:?}", lifecycle.event),
    };
    records.iter().map(word).collect()
}

fn calls(records: &[TraceRecord]) -> Vec<TracedCall> {
    let call = |record: &TraceRecord| match &record.event.kind {
        TraceKind::ModelCall(call) => Some(call.clone()),
        _ => None,
    };
    records.iter().filter_map(call).collect()
}

#[tokio::test(start_paused = true)]
async fn a_turn_leaves_each_attempt_and_itself() {
    let desk = Desk::new();
    let (id, mut events) = desk.watched().await;
    desk.gateway.answers(vec![head(), Step::Break(failure("stream_cut"))]);
    desk.gateway.answers(answer("msg_1", "Hi"));
    let turn_id = desk.say(id, "hello").await.id;
    until(&mut events, "turn-Completed").await;
    let records = traced(&desk, id).await;
    assert_eq!(told(&records), ["Started", "call 1.1 Failed", "call 1.2 Completed", "turn Completed"]);
    assert!(records[1..].iter().all(|record| record.event.turn_id == Some(turn_id)));
    let calls = calls(&records);
    assert_eq!((calls[0].reason.as_deref(), calls[0].first_event_ms), (Some("stream_cut"), None));
    assert_eq!((calls[0].usage, calls[0].purpose), (None, CallPurpose::Turn));
    assert_eq!((calls[1].provider.as_str(), calls[1].model.as_str()), ("rehearsal", "m1"));
    assert_eq!(calls[1].usage.map(|usage| (usage.input_tokens, usage.output_tokens)), Some((10, 3)));
    assert!(calls[1].first_event_ms.is_some() && calls[1].reason.is_none());
    let TraceKind::Turn(turn) = &records[3].event.kind else { panic!("{records:?}") };
    assert_eq!((turn.model.as_str(), turn.reason.as_deref(), turn.commits), ("m1", None, 2));
    // A page goes on behind the last number.
    let page = desk.sessions.trace(&desk.tenant, id, 2, 1).await.unwrap();
    assert_eq!(told(&page), ["call 1.2 Completed"]);
}

#[tokio::test(start_paused = true)]
async fn what_stops_a_call_is_told() {
    let desk = Desk::new();
    let (id, mut events) = desk.watched().await;
    let held = || vec![head(), added("m"), delta("m", "so far"), Step::Hang];
    desk.gateway.answers(held());
    desk.gateway.answers(held());
    let turn_id = desk.say(id, "hello").await.id;
    until(&mut events, "delta").await;
    desk.sessions.steer(&desk.tenant, id, steering(turn_id, "more")).await.unwrap();
    until(&mut events, "delta").await;
    desk.sessions.interrupt(&desk.tenant, id, None).await.unwrap();
    let mut refused = failure("context_length_exceeded");
    refused.retryable = false;
    desk.gateway.answers(vec![Step::Break(refused)]);
    desk.say(id, "again").await;
    until(&mut events, "turn-Failed").await;
    let records = traced(&desk, id).await;
    assert_eq!(
        told(&records),
        [
            "Started",
            "call 1.1 Interrupted",
            "call 2.1 Interrupted",
            "turn Interrupted",
            "call 1.1 Failed",
            "turn Failed"
        ]
    );
    let TraceKind::Turn(turn) = &records[5].event.kind else { panic!("{records:?}") };
    assert_eq!(turn.reason.as_deref(), Some("context_length_exceeded"));
}

#[tokio::test(start_paused = true)]
async fn a_thread_s_comings_and_goings_are_kept() {
    let store = Arc::new(CountingStore::default());
    let desk = Desk::over(Arc::clone(&store), Options::default());
    let (id, mut events) = desk.watched().await;
    let first = desk.say(id, "one").await.id;
    until(&mut events, "turn-Completed").await;
    let fork = desk.sessions.fork(&desk.tenant, id, ForkThread::default()).await.unwrap().thread.id;
    assert_eq!(told(&traced(&desk, fork).await), ["call 1.1 Completed", "turn Completed", "Forked"]);
    drop(events);
    tokio::time::sleep(2 * Options::default().idle_unload_after).await;
    desk.sessions.resume(&desk.tenant, id, None, Overrides::default()).await.unwrap();
    desk.sessions.revert(&desk.tenant, id, first).await.unwrap();
    let expected =
        ["Started", "call 1.1 Completed", "turn Completed", "Unloaded", "Loaded", "Resumed", "Reverted"];
    assert_eq!(told(&traced(&desk, id).await), expected);

    // Another process dies in the middle of a turn.
    let other = Desk::over(Arc::clone(&store), Options::default());
    other.gateway.answers(vec![head(), Step::Wait(Arc::new(Notify::new()))]);
    other.say(id, "two").await;
    desk.say(id, "three").await;
    let mut events = desk.sessions.subscribe(&desk.tenant, id, Some(0)).await.unwrap();
    until(&mut events, "turn-Interrupted").await;
    until(&mut events, "turn-Completed").await;
    let all = told(&traced(&desk, id).await);
    assert!(all.contains(&"CrashFound".to_owned()), "{all:?}");
    // What a fork has copied of a running turn is no crash.
    let running = desk.thread().await;
    desk.gateway.answers(vec![head(), Step::Hang]);
    desk.say(running, "hold").await;
    let fork = desk.sessions.fork(&desk.tenant, running, ForkThread::default()).await.unwrap().thread.id;
    let mut events = desk.sessions.subscribe(&desk.tenant, fork, None).await.unwrap();
    desk.say(fork, "go on").await;
    until(&mut events, "turn-Completed").await;
    let all = traced(&desk, fork).await;
    assert!(!told(&all).contains(&"CrashFound".to_owned()), "{:?}", told(&all));
    assert!(matches!(&all[0].event.kind,
        TraceKind::Lifecycle(forked) if forked.event == LifecycleEvent::Forked && forked.other == Some(running)));
}

#[tokio::test(start_paused = true)]
async fn a_compaction_is_told_with_its_call() {
    let desk = Desk::new();
    let (id, mut events) = desk.watched().await;
    desk.say(id, "hello").await;
    until(&mut events, "turn-Completed").await;
    desk.sessions.compact(&desk.tenant, id).await.unwrap();
    until(&mut events, "turn-Completed").await;
    let records = traced(&desk, id).await;
    let expected = ["call 1.1 Completed", "compaction Completed", "turn Completed"];
    assert_eq!(told(&records)[3..], expected);
    assert_eq!(calls(&records)[1].purpose, CallPurpose::Compaction);
    assert!(matches!(&records[4].event.kind,
        TraceKind::Compaction(compaction) if compaction.asked_for && !compaction.remote));
}

/// Turns, messages on the way and an interrupt: what happens, what is stored, and how long it takes.
async fn lived(traces: Traces) -> (Vec<String>, usize, Duration) {
    let desk = Desk::over(Arc::new(CountingStore::taking(traces)), Options::default());
    let (id, mut events) = desk.watched().await;
    let began = tokio::time::Instant::now();
    let mut all = Vec::new();
    for round in 0..50 {
        match round % 5 {
            0 => desk.gateway.answers(vec![head(), Step::Hang]),
            _ => desk.gateway.answers(answer("msg_1", "Hi")),
        }
        let turn_id = desk.say(id, "hello").await.id;
        if round % 5 == 0 {
            desk.sessions.interrupt(&desk.tenant, id, Some(turn_id)).await.unwrap();
        }
        let end = if round % 5 == 0 { "turn-Interrupted" } else { "turn-Completed" };
        all.extend(words(&until(&mut events, end).await));
    }
    (all, desk.store.commits(), began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_store_that_takes_no_traces_changes_nothing_in_a_turn() {
    let kept = lived(Traces::Kept).await;
    assert!(kept.0.iter().filter(|word| *word == "turn-Completed").count() == 40);
    assert_eq!(lived(Traces::Refused).await, kept);
    assert_eq!(lived(Traces::Hung).await, kept);
}

#[tokio::test(start_paused = true)]
async fn a_trace_that_cannot_be_written_holds_no_reader_up() {
    let desk = Desk::over(Arc::new(CountingStore::taking(Traces::Hung)), Options::default());
    let (id, mut events) = desk.watched().await;
    desk.say(id, "hello").await;
    until(&mut events, "turn-Completed").await;
    let began = tokio::time::Instant::now();
    assert!(traced(&desk, id).await.is_empty());
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hung_for_a_while_costs_the_rows_of_that_time_and_no_later_ones() {
    let store = Arc::new(CountingStore::taking(Traces::HungOnce));
    let desk = Desk::over(store, Options::default());
    let (id, mut events) = desk.watched().await;
    desk.say(id, "lost").await;
    until(&mut events, "turn-Completed").await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let kept = desk.say(id, "kept").await.id;
    until(&mut events, "turn-Completed").await;
    let records = traced(&desk, id).await;
    assert_eq!(told(&records), ["call 1.1 Completed", "turn Completed"]);
    assert!(records.iter().all(|record| record.event.turn_id == Some(kept)));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_does_not_keep_the_process() {
    let store = CountingStore::taking(Traces::Hung);
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let gateway = Arc::new(FakeGateway::default());
    let sessions = Sessions::new(Arc::new(store), gateway, Options::default(), &tasks, stop.clone());
    let tenant = TenantId::new("acme");
    let id = sessions.start(&tenant, NewThread::default()).await.unwrap().thread.id;
    let mut events = sessions.subscribe(&tenant, id, None).await.unwrap();
    for _ in 0..100 {
        sessions.start_turn(&tenant, id, turn("hello", None)).await.unwrap();
        until(&mut events, "turn-Completed").await;
    }
    let began = tokio::time::Instant::now();
    sessions.drain(Duration::ZERO).await;
    stop.cancel();
    tasks.close();
    tokio::time::timeout(DEADLINE, tasks.wait()).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_happens_within_a_moment_is_written_at_once() {
    let desk = Desk::new();
    let (one, mut first) = desk.watched().await;
    let (other, mut second) = desk.watched().await;
    for _ in 0..10 {
        desk.say(one, "hello").await;
        until(&mut first, "turn-Completed").await;
        desk.say(other, "hello").await;
        until(&mut second, "turn-Completed").await;
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(desk.store.trace_writes.load(Ordering::SeqCst), 1);
    assert_eq!(traced(&desk, one).await.len(), 21);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_the_gateway_ends_as_failed_is_told_with_its_reason_and_what_it_used() {
    let desk = Desk::new();
    let (id, mut events) = desk.watched().await;
    let usage = Some(Usage { input_tokens: 7, total_tokens: 7, ..Usage::default() });
    let failure = Failure { retryable: false, ..failure("upstream_refused") };
    desk.gateway.answers(vec![head(), Step::Send(CallEvent::Failed { failure, usage })]);
    desk.say(id, "hello").await;
    until(&mut events, "turn-Failed").await;
    let records = traced(&desk, id).await;
    assert_eq!(told(&records), ["Started", "call 1.1 Failed", "turn Failed"]);
    let call = &calls(&records)[0];
    assert_eq!((call.reason.as_deref(), call.usage), (Some("upstream_refused"), usage));
}

#[tokio::test(start_paused = true)]
async fn a_compaction_that_comes_to_nothing_is_told_too() {
    let desk = Desk::new();
    let (id, mut events) = desk.watched().await;
    desk.say(id, "hello").await;
    until(&mut events, "turn-Completed").await;
    let refused = Failure { retryable: false, ..failure("upstream_refused") };
    desk.gateway.answers(vec![head(), Step::Break(refused)]);
    desk.sessions.compact(&desk.tenant, id).await.unwrap();
    until(&mut events, "turn-Failed").await;
    let records = traced(&desk, id).await;
    assert_eq!(told(&records)[3..], ["call 1.1 Failed", "compaction Failed", "turn Failed"]);
}

#[tokio::test(start_paused = true)]
async fn an_ephemeral_thread_leaves_no_trace() {
    let desk = Desk::new();
    let new = NewThread { ephemeral: true, ..NewThread::default() };
    let id = desk.sessions.start(&desk.tenant, new).await.unwrap().thread.id;
    let mut events = desk.sessions.subscribe(&desk.tenant, id, None).await.unwrap();
    desk.say(id, "hello").await;
    until(&mut events, "turn-Completed").await;
    assert!(matches!(desk.sessions.trace(&desk.tenant, id, 0, 0).await, Err(Error::Ephemeral(_))));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(desk.store.trace_writes.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_s_trace_goes_on_where_nobody_samples() {
    let desk = Desk::new();
    let (id, mut events) = desk.watched().await;
    let trace = TraceContext {
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
        tracestate: "corp=x".to_owned(),
    };
    let start = StartTurn { trace: trace.clone(), ..turn("hello", None) };
    desk.sessions.start_turn(&desk.tenant, id, start).await.unwrap();
    until(&mut events, "turn-Completed").await;
    desk.say(id, "again").await;
    until(&mut events, "turn-Completed").await;
    let seen: Vec<TraceContext> = desk.gateway.calls().into_iter().map(|call| call.trace).collect();
    assert_eq!(seen, [trace, TraceContext::default()]);
}
