//! What programs rely on over gRPC: nothing of another tenant's, each field they send, and each thing they are told.

use std::time::Duration;

use agent_session::{Failure, FailureFault};
use serde_json::json;
use tidegate_proto::agent::v1::item::Kind;
use tidegate_proto::agent::v1::subscribe_response::Event;
use tidegate_proto::agent::v1::trace_record::Record;
use tidegate_proto::agent::v1::{
    CallPurpose, CreateThreadRequest, ForkThreadRequest, GetThreadRequest, InterruptTurnRequest,
    ListThreadsRequest, ReadTraceRequest, ResumeThreadRequest, Settings, StartTurnRequest, SteerTurnRequest,
    SubscribeRequest, SubscribeResponse, ThreadOrder, ThreadStatus, TraceOutcome,
};
use tidegate_proto::gateway::v1::Fault;
use tidegate_proto::{end_of, failure_of};
use tonic::Code;

use crate::client::Client;
use crate::doors::{Keys, Sessions};
use crate::gateway::Reply;
use crate::grpc::{client, follow, reason, run, say, thread, until_ended};
use crate::house::House;

const NOBODY_S: &str = "01a1f863-0000-7f93-9710-f7d10b25b017";

fn failure(reason: &str, fault: FailureFault, retryable: bool) -> Failure {
    Failure {
        reason: reason.to_owned(),
        fault,
        message: format!("{reason} happened"),
        retryable,
        retry_delay: None,
        http_status: None,
        code: None,
    }
}

/// What every method that takes an id answers to the ids of a thread and a turn.
async fn walk(sessions: &mut Sessions, thread: &str, turn: &str) -> Vec<(Code, String)> {
    let (thread_id, turn_id) = (thread.to_owned(), turn.to_owned());
    let mut answers = Vec::new();
    macro_rules! ask {
        ($method:ident, $message:expr) => {
            let request = sessions.request($message);
            answers.push(reason(sessions.client.$method(request).await));
        };
    }
    ask!(get_thread, GetThreadRequest { thread_id: thread_id.clone() });
    ask!(resume_thread, ResumeThreadRequest { thread_id: thread_id.clone(), ..Default::default() });
    ask!(fork_thread, ForkThreadRequest { thread_id: thread_id.clone(), ..Default::default() });
    ask!(read_trace, ReadTraceRequest { thread_id: thread_id.clone(), ..Default::default() });
    ask!(subscribe, SubscribeRequest { thread_id: thread_id.clone(), after_sequence: 0 });
    let text = "mine".to_owned();
    ask!(
        start_turn,
        StartTurnRequest { thread_id: thread_id.clone(), text: text.clone(), ..Default::default() }
    );
    let steer = SteerTurnRequest {
        thread_id: thread_id.clone(),
        expected_turn_id: turn_id.clone(),
        text,
        ..Default::default()
    };
    ask!(steer_turn, steer);
    ask!(interrupt_turn, InterruptTurnRequest { thread_id, turn_id });
    answers
}

#[tokio::test]
async fn a_foreign_thread_is_answered_like_one_that_nobody_has() {
    let house = House::new();
    let keys = Keys::new();
    let (ours, theirs) = (keys.create("acme"), keys.create("other"));
    let at = house.listen_for(keys.callers(), false).await;
    let (mut ours, mut theirs) = (Sessions::with(at, &ours).await, Sessions::with(at, &theirs).await);
    let created = ours.client.create_thread(ours.request(CreateThreadRequest::default())).await.unwrap();
    let thread_id = created.into_inner().thread.unwrap().id;
    house.gateway.reply(Reply::Hold);
    let start = StartTurnRequest {
        thread_id: thread_id.clone(),
        text: "secret".to_owned(),
        ..StartTurnRequest::default()
    };
    let turn_id = ours.client.start_turn(ours.request(start)).await.unwrap().into_inner().turn_id;
    let foreign = walk(&mut theirs, &thread_id, &turn_id).await;
    assert_eq!(foreign, vec![(Code::NotFound, "thread_not_found".to_owned()); 8]);
    assert_eq!(foreign, walk(&mut theirs, NOBODY_S, NOBODY_S).await);
    let listed = theirs.client.list_threads(theirs.request(ListThreadsRequest::default())).await.unwrap();
    assert!(listed.into_inner().threads.is_empty());
    // It runs on, and nobody has said anything in it.
    let get = GetThreadRequest { thread_id };
    let found = ours.client.get_thread(ours.request(get)).await.unwrap().into_inner().thread.unwrap();
    assert_eq!((found.status(), found.active_turn_id), (ThreadStatus::Active, turn_id));
    assert_eq!(house.gateway.bodies().len(), 1);
}

#[tokio::test]
async fn only_the_turn_that_is_named_is_steered_or_stopped() {
    let house = House::new();
    let mut client = client(&house).await;
    let thread = thread(&mut client).await;
    house.gateway.reply(Reply::Hold);
    let turn = client.start_turn(say(&thread, "hi")).await.unwrap().into_inner().turn_id;
    let steer = |turn: &str| SteerTurnRequest {
        thread_id: thread.id.clone(),
        expected_turn_id: turn.to_owned(),
        text: "more".to_owned(),
        client_message_id: "once".to_owned(),
        ..Default::default()
    };
    let stop = |turn: &str| InterruptTurnRequest { thread_id: thread.id.clone(), turn_id: turn.to_owned() };
    let (invalid, other) = ("invalid_request".to_owned(), "other_turn_active".to_owned());
    for (id, expected) in [("", &invalid), ("bad", &invalid), (NOBODY_S, &other)] {
        assert_eq!(reason(client.steer_turn(steer(id)).await), (Code::InvalidArgument, expected.clone()));
        assert_eq!(reason(client.interrupt_turn(stop(id)).await), (Code::InvalidArgument, expected.clone()));
    }
    let get = GetThreadRequest { thread_id: thread.id.clone() };
    let found = client.get_thread(get).await.unwrap().into_inner().thread.unwrap();
    assert_eq!(found.active_turn_id, turn, "it was not stopped");
    // A repeat is the same message.
    house.gateway.reply(Reply::Hold);
    client.steer_turn(steer(&turn)).await.unwrap();
    client.steer_turn(steer(&turn)).await.unwrap();
    client.interrupt_turn(stop(&turn)).await.unwrap();
    let all = until_ended(&mut follow(&mut client, &thread, 0).await).await;
    let said: Vec<(String, String)> = all
        .iter()
        .filter_map(|event| match &event.event {
            Some(Event::ItemCompleted(done)) => match done.item.as_ref()?.kind.as_ref()? {
                Kind::UserMessage(message) => Some((message.text.clone(), message.client_message_id.clone())),
                _ => None,
            },
            _ => None,
        })
        .collect();
    let pair = |text: &str, id: &str| (text.to_owned(), id.to_owned());
    assert_eq!(said, [pair("hi", ""), pair("more", "once")]);
}

#[tokio::test]
async fn a_message_that_comes_again_is_one_and_a_tier_can_be_for_one_turn() {
    let house = House::new();
    let mut client = client(&house).await;
    let thread = thread(&mut client).await;
    let start = || StartTurnRequest {
        client_message_id: "once".to_owned(),
        service_tier_for_turn: Some("priority".to_owned()),
        ..say(&thread, "hi")
    };
    let turn = client.start_turn(start()).await.unwrap().into_inner().turn_id;
    until_ended(&mut follow(&mut client, &thread, 0).await).await;
    assert_eq!(client.start_turn(start()).await.unwrap().into_inner().turn_id, turn);
    run(&mut client, &thread, "on").await;
    let bodies: Vec<String> =
        house.gateway.bodies().iter().map(|body| String::from_utf8(body.to_vec()).unwrap()).collect();
    let tiers: Vec<bool> = bodies.iter().map(|body| body.contains(r#""service_tier":"priority""#)).collect();
    assert_eq!(tiers, [true, false]);
}

fn told(events: &[SubscribeResponse]) -> impl Iterator<Item = &Event> {
    events.iter().filter_map(|event| event.event.as_ref())
}

#[tokio::test]
async fn what_happens_in_a_turn_is_told_as_it_was() {
    let house = House::new();
    let mut client = client(&house).await;
    let thread = thread(&mut client).await;
    let mut events = follow(&mut client, &thread, 0).await;
    house.gateway.reply(Reply::Lose);
    house.gateway.reply(Reply::Think("hm".to_owned()));
    client.start_turn(say(&thread, "hi")).await.unwrap();
    let all = until_ended(&mut events).await;
    let retry = told(&all).find_map(|event| match event {
        Event::ModelRetry(retry) => Some(retry),
        _ => None,
    });
    assert!(retry.unwrap().message.starts_with("Reconnecting... 1/"), "{retry:?}");
    let tokens = told(&all).find_map(|event| match event {
        Event::TokenUsage(tokens) => Some(tokens),
        _ => None,
    });
    let tokens = tokens.unwrap();
    assert_eq!(
        [
            tokens.input_tokens,
            tokens.cached_input_tokens,
            tokens.output_tokens,
            tokens.reasoning_output_tokens
        ],
        [100, 20, 10, 3]
    );
    let pieces: Vec<(&str, bool)> = told(&all)
        .filter_map(|event| match event {
            Event::TextDelta(piece) => Some((piece.text.as_str(), piece.reasoning)),
            _ => None,
        })
        .collect();
    assert_eq!(pieces.last_chunk(), Some(&[("hm", true), ("ok", false)]), "{pieces:?}");

    let denied = failure("policy_denied", FailureFault::Policy, false);
    house.gateway.reply(Reply::Fail(denied));
    let turn = client.start_turn(say(&thread, "again")).await.unwrap().into_inner().turn_id;
    let all = until_ended(&mut events).await;
    let Some(Event::TurnEnded(ended)) = told(&all).last() else { panic!("{all:?}") };
    let failure = ended.failure.as_ref().unwrap();
    assert_eq!((failure.reason.as_str(), failure.fault()), ("policy_denied", Fault::Policy));

    // Another client takes the turn back.
    let mut rpc = house.client().await;
    rpc.ask("thread/resume", json!({"threadId": thread.id})).await;
    rpc.ask("thread/revert", json!({"threadId": thread.id, "beforeTurnId": turn})).await;
    let reverted = tokio::time::timeout(Duration::from_secs(10), events.message()).await.unwrap();
    let reverted = reverted.unwrap().unwrap();
    let Some(Event::ThreadReverted(what)) = reverted.event else { panic!("{reverted:?}") };
    assert_eq!(what.turn_id, turn);
    assert!(reverted.sequence > all.last().unwrap().sequence && what.keep_sequence < all[0].sequence);
}

#[tokio::test]
async fn a_trace_tells_calls_by_what_they_were_for_and_how_they_ended() {
    let house = House::new();
    let mut client = client(&house).await;
    let thread = thread(&mut client).await;
    let mut events = follow(&mut client, &thread, 0).await;
    run(&mut client, &thread, "one").await;
    let mut rpc = house.client().await;
    rpc.ask("thread/resume", json!({"threadId": thread.id})).await;
    rpc.ask("thread/compact/start", json!({"threadId": thread.id})).await;
    rpc.until("turn/completed").await;
    house.gateway.reply(Reply::Hold);
    let turn = client.start_turn(say(&thread, "two")).await.unwrap().into_inner().turn_id;
    while !matches!(events.message().await.unwrap().unwrap().event,
        Some(Event::TextDelta(delta)) if delta.turn_id == turn)
    {}
    let stop = InterruptTurnRequest { thread_id: thread.id.clone(), turn_id: turn };
    client.interrupt_turn(stop).await.unwrap();
    let trace = ReadTraceRequest { thread_id: thread.id, ..Default::default() };
    let records = client.read_trace(trace).await.unwrap().into_inner().records;
    let calls: Vec<_> = records
        .iter()
        .filter_map(|record| match &record.record {
            Some(Record::ModelCall(call)) => Some(call),
            _ => None,
        })
        .collect();
    let ways: Vec<_> = calls.iter().map(|call| (call.purpose(), call.outcome())).collect();
    assert_eq!(
        ways,
        [
            (CallPurpose::Turn, TraceOutcome::Completed),
            (CallPurpose::Compaction, TraceOutcome::Completed),
            (CallPurpose::Turn, TraceOutcome::Interrupted)
        ]
    );
    let tokens = calls[0].tokens.as_ref().unwrap();
    assert_eq!(
        [
            tokens.input_tokens,
            tokens.cached_input_tokens,
            tokens.output_tokens,
            tokens.reasoning_output_tokens
        ],
        [100, 20, 10, 3]
    );
    assert_eq!(calls[2].tokens, None);
}

#[tokio::test]
async fn forks_keep_the_settings_but_for_what_is_asked_for() {
    let house = House::new();
    let mut client = client(&house).await;
    let settings = Settings {
        effort: Some("high".to_owned()),
        service_tier: Some("flex".to_owned()),
        developer_instructions: Some("Be terse.".to_owned()),
        ..Default::default()
    };
    let create = CreateThreadRequest { settings: Some(settings), ..Default::default() };
    let thread = client.create_thread(create).await.unwrap().into_inner().thread.unwrap();
    run(&mut client, &thread, "one").await;
    let fork = || ForkThreadRequest { thread_id: thread.id.clone(), ..Default::default() };
    let same = client.fork_thread(fork()).await.unwrap().into_inner().thread.unwrap();
    assert_eq!((same.effort.as_str(), same.service_tier.as_str()), ("high", "flex"));
    run(&mut client, &same, "two").await;
    let body = String::from_utf8(house.gateway.bodies().last().unwrap().to_vec()).unwrap();
    assert!(body.contains("Be terse."), "{body}");
    let other = Settings { effort: Some("low".to_owned()), ..Default::default() };
    let request = ForkThreadRequest { settings: Some(other), ephemeral: true, ..fork() };
    let other = client.fork_thread(request).await.unwrap().into_inner().thread.unwrap();
    assert_eq!((other.effort.as_str(), other.service_tier.as_str(), other.ephemeral), ("low", "flex", true));
    let listed = client.list_threads(ListThreadsRequest::default()).await.unwrap().into_inner();
    assert!(listed.threads.iter().all(|listed| listed.id != other.id), "what is ephemeral is not stored");
    let elsewhere = ForkThreadRequest { provider: "elsewhere".to_owned(), ..fork() };
    assert_eq!(reason(client.fork_thread(elsewhere).await).0, Code::InvalidArgument);
}

#[tokio::test]
async fn a_list_is_by_provider_order_and_archive_and_its_pages_have_a_bound() {
    let house = House::new();
    let mut client = client(&house).await;
    let mut threads = Vec::new();
    for text in ["first", "second"] {
        let thread = thread(&mut client).await;
        run(&mut client, &thread, text).await;
        // Times are in whole milliseconds.
        tokio::time::sleep(Duration::from_millis(3)).await;
        threads.push(thread);
    }
    run(&mut client, &threads[0], "again").await;
    let mut list_client = client.clone();
    let mut list = async |request: ListThreadsRequest| {
        let listed = client.list_threads(request).await.unwrap().into_inner();
        listed.threads.into_iter().map(|thread| thread.preview).collect::<Vec<_>>()
    };
    let none = ListThreadsRequest::default;
    let by = |order: ThreadOrder| ListThreadsRequest { order: order.into(), ..none() };
    assert_eq!(list(by(ThreadOrder::Updated)).await, ["first", "second"]);
    assert_eq!(list(by(ThreadOrder::Created)).await, ["second", "first"]);
    let of = |provider: &str| ListThreadsRequest { providers: vec![provider.to_owned()], ..none() };
    assert_eq!(list(of("scripted")).await.len(), 2);
    assert_eq!(list(of("elsewhere")).await, [""; 0]);
    for much in [
        ListThreadsRequest { search: "x".repeat(1_025), ..none() },
        ListThreadsRequest { cwds: vec!["/a".to_owned(); 1_001], ..none() },
    ] {
        let refused = reason(list_client.list_threads(much).await);
        assert_eq!(refused, (Code::InvalidArgument, "invalid_request".to_owned()), "it is no fault of ours");
    }
    house.client().await.ask("thread/archive", json!({"threadId": threads[1].id})).await;
    assert_eq!(list(none()).await, ["first"]);
    assert_eq!(list(ListThreadsRequest { archived: true, ..none() }).await, ["second"]);
    for number in 0..101 {
        let thread = thread(&mut client).await;
        run(&mut client, &thread, &number.to_string()).await;
    }
    for (page_size, expected) in [(0, 25), (60, 60), (5_000, 100)] {
        let request = ListThreadsRequest { page_size, ..none() };
        let listed = client.list_threads(request).await.unwrap().into_inner();
        assert_eq!((listed.threads.len(), listed.next_page_token.is_empty()), (expected, false));
    }
}

#[tokio::test]
async fn a_tenant_s_subscriptions_count_among_its_connections() {
    let house = House::new();
    let keys = Keys::new();
    let (key, theirs) = (keys.create("acme"), keys.create("other"));
    let at = house.listen_for(keys.callers(), false).await;
    let (mut ours, mut theirs) = (Sessions::with(at, &key).await, Sessions::with(at, &theirs).await);
    let (mut connected, mut followed) = (Vec::new(), Vec::new());
    for _ in 0..40 {
        connected.push(Client::connect_with(at, &key).await);
    }
    let mut subscribe = SubscribeRequest::default();
    for sessions in [&mut theirs, &mut ours] {
        let created =
            sessions.client.create_thread(sessions.request(CreateThreadRequest::default())).await.unwrap();
        subscribe.thread_id = created.into_inner().thread.unwrap().id;
        for _ in 0..60 {
            let request = sessions.request(subscribe.clone());
            followed.push(sessions.client.subscribe(request).await.unwrap().into_inner());
        }
    }
    let status = ours.client.subscribe(ours.request(subscribe.clone())).await.unwrap_err();
    let failure = failure_of(&status);
    assert_eq!((failure.reason.as_str(), failure.retryable), ("too_many_connections", true));
    // A place comes back with the end of whoever had it.
    drop(connected.pop());
    let room = async {
        while ours.client.subscribe(ours.request(subscribe.clone())).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), room).await.unwrap();
}

#[tokio::test]
async fn what_happened_before_a_stop_is_told_before_the_stop_is() {
    let house = House::new();
    let mut client = client(&house).await;
    let thread = thread(&mut client).await;
    for _ in 0..6 {
        run(&mut client, &thread, &"x".repeat(800_000)).await;
    }
    // More than is on its way to somebody who does not read.
    let mut events = follow(&mut client, &thread, 0).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    house.stop.cancel();
    let (mut turns, mut last) = (0, 0);
    let status = loop {
        match events.message().await {
            Ok(Some(event)) => {
                turns += usize::from(matches!(event.event, Some(Event::TurnEnded(_))));
                last = last.max(event.sequence);
            }
            Ok(None) => panic!("it was told that nothing follows"),
            Err(status) => break status,
        }
    };
    assert_eq!((turns, failure_of(&status).reason.as_str()), (6, "stopping"));
    assert_eq!(end_of(&status).unwrap().after_sequence, last);
}
