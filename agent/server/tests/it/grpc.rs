//! The same sessions over gRPC.

use tidegate_proto::agent::v1::fork_thread_request::Until;
use tidegate_proto::agent::v1::item::Kind;
use tidegate_proto::agent::v1::session_service_client::SessionServiceClient;
use tidegate_proto::agent::v1::subscribe_response::Event;
use tidegate_proto::agent::v1::trace_record::Record;
use tidegate_proto::agent::v1::{
    CreateThreadRequest, ForkThreadRequest, GetThreadRequest, InputPart, InterruptTurnRequest,
    LifecycleEvent, ListThreadsRequest, ReadTraceRequest, ResumeThreadRequest, Settings, StartTurnRequest,
    SteerTurnRequest, SubscribeRequest, SubscribeResponse, Thread, ThreadStatus, TurnOutcome, input_part,
};
use tidegate_proto::{end_of, failure_of};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};

use crate::gateway::Reply;
use crate::house::House;

const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

pub(crate) type Client = SessionServiceClient<Channel>;

pub(crate) async fn client(house: &House) -> Client {
    let address = house.listen().await;
    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    SessionServiceClient::new(channel)
}

pub(crate) async fn thread(client: &mut Client) -> Thread {
    client.create_thread(CreateThreadRequest::default()).await.unwrap().into_inner().thread.unwrap()
}

pub(crate) fn say(thread: &Thread, text: &str) -> StartTurnRequest {
    StartTurnRequest { thread_id: thread.id.clone(), text: text.to_owned(), ..Default::default() }
}

pub(crate) async fn follow(
    client: &mut Client,
    thread: &Thread,
    after_sequence: u64,
) -> Streaming<SubscribeResponse> {
    let subscribe = SubscribeRequest { thread_id: thread.id.clone(), after_sequence };
    client.subscribe(subscribe).await.unwrap().into_inner()
}

/// All events up to the end of a turn.
pub(crate) async fn until_ended(events: &mut Streaming<SubscribeResponse>) -> Vec<SubscribeResponse> {
    let mut all = Vec::new();
    loop {
        let event = events.message().await.unwrap().expect("an event");
        let ended = matches!(event.event, Some(Event::TurnEnded(_)));
        all.push(event);
        if ended {
            return all;
        }
    }
}

/// Runs a turn to its end and tells its id.
pub(crate) async fn run(client: &mut Client, thread: &Thread, text: &str) -> String {
    let turn = client.start_turn(say(thread, text)).await.unwrap().into_inner().turn_id;
    let mut events = follow(client, thread, 0).await;
    loop {
        match events.message().await.unwrap().unwrap().event {
            Some(Event::TurnEnded(ended)) if ended.turn_id == turn => return turn,
            _ => {}
        }
    }
}

pub(crate) fn reason<T: std::fmt::Debug>(answer: Result<tonic::Response<T>, Status>) -> (Code, String) {
    let status = answer.unwrap_err();
    (status.code(), failure_of(&status).reason)
}

#[tokio::test]
async fn a_program_runs_a_turn() {
    let house = House::new();
    let mut client = client(&house).await;
    let thread = thread(&mut client).await;
    assert_eq!((thread.model.as_str(), thread.cwd.as_str()), ("model-a", "/work"));
    house.gateway.reply(Reply::Say("Hello there.".to_owned()));
    let turn = client.start_turn(say(&thread, "hi")).await.unwrap().into_inner().turn_id;
    let mut events = follow(&mut client, &thread, 0).await;
    let all = until_ended(&mut events).await;
    let sequences: Vec<u64> = all.iter().map(|event| event.sequence).filter(|number| *number > 0).collect();
    assert!(sequences.is_sorted_by(|a, b| a < b), "{sequences:?}");
    let deltas = all.iter().filter_map(|event| match &event.event {
        Some(Event::TextDelta(delta)) => Some(delta.text.as_str()),
        _ => None,
    });
    assert!("Hello there.".ends_with(&deltas.collect::<String>()));
    let Some(Event::TurnEnded(ended)) = &all.last().unwrap().event else { panic!("{all:?}") };
    assert_eq!((ended.turn_id.as_str(), ended.outcome()), (turn.as_str(), TurnOutcome::Completed));
    assert!(all.iter().all(|event| event.at.is_some()));
    let listed = client.list_threads(ListThreadsRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.threads[0].preview, "hi");
}

#[tokio::test]
async fn refusals_are_typed() {
    let house = House::new();
    let mut client = client(&house).await;
    let missing = "01a1f863-0000-7f93-9710-f7d10b25b017".to_owned();
    let not_found = || (Code::NotFound, "thread_not_found".to_owned());
    let start = StartTurnRequest { thread_id: missing.clone(), ..Default::default() };
    assert_eq!(reason(client.start_turn(start).await), not_found());
    let resume = ResumeThreadRequest { thread_id: missing.clone(), ..Default::default() };
    assert_eq!(reason(client.resume_thread(resume).await), not_found());
    let fork = ForkThreadRequest { thread_id: missing.clone(), ..Default::default() };
    assert_eq!(reason(client.fork_thread(fork).await), not_found());
    let get = GetThreadRequest { thread_id: missing.clone() };
    assert_eq!(reason(client.get_thread(get).await), not_found());
    let trace = ReadTraceRequest { thread_id: missing.clone(), ..Default::default() };
    assert_eq!(reason(client.read_trace(trace).await), not_found());
    let steer = SteerTurnRequest {
        thread_id: missing.clone(),
        expected_turn_id: missing.clone(),
        ..Default::default()
    };
    assert_eq!(reason(client.steer_turn(steer).await), not_found());
    let interrupt = InterruptTurnRequest { thread_id: "nope".to_owned(), turn_id: missing };
    let invalid = (Code::InvalidArgument, "invalid_request".to_owned());
    assert_eq!(reason(client.interrupt_turn(interrupt).await), invalid);
    let thread = thread(&mut client).await;
    let interrupt = InterruptTurnRequest { thread_id: thread.id.clone(), turn_id: thread.id.clone() };
    let status = client.interrupt_turn(interrupt).await.unwrap_err();
    assert_eq!(failure_of(&status).reason, "no_active_turn");
    let beyond = SubscribeRequest { thread_id: thread.id, after_sequence: 1 };
    assert_eq!(reason(client.subscribe(beyond).await), (Code::OutOfRange, "sequence_unknown".to_owned()));
}

#[tokio::test]
async fn a_thread_is_taken_up_with_what_it_was_left_with() {
    let house = House::new();
    let mut client = client(&house).await;
    let settings = Settings {
        effort: Some("high".to_owned()),
        service_tier: Some("flex".to_owned()),
        developer_instructions: Some("Be terse.".to_owned()),
        ..Default::default()
    };
    let create = CreateThreadRequest {
        settings: Some(settings),
        thread_source: "nightly".to_owned(),
        ..Default::default()
    };
    let thread = client.create_thread(create).await.unwrap().into_inner().thread.unwrap();
    let chosen = (thread.effort.as_str(), thread.service_tier.as_str(), thread.thread_source.as_str());
    assert_eq!(chosen, ("high", "flex", "nightly"));
    let schema = r#"{"type": "object", "properties": {"a": {"type": "string"}}}"#;
    let start = StartTurnRequest { output_schema: schema.to_owned(), ..say(&thread, "hi") };
    let turn = client.start_turn(start).await.unwrap().into_inner().turn_id;
    until_ended(&mut follow(&mut client, &thread, 0).await).await;
    let body = String::from_utf8(house.gateway.bodies()[0].to_vec()).unwrap();
    for expected in ["Be terse.", r#""service_tier":"flex""#, r#""effort":"high""#, r#""properties""#] {
        assert!(body.contains(expected), "{expected} in {body}");
    }

    // Another service over the same store.
    let later = House::over(house.store.clone());
    let mut client = self::client(&later).await;
    let get = GetThreadRequest { thread_id: thread.id.clone() };
    let found = client.get_thread(get).await.unwrap().into_inner().thread.unwrap();
    assert_eq!((found.status(), found.effort.as_str()), (ThreadStatus::NotLoaded, "high"));
    let resume = |settings| ResumeThreadRequest {
        thread_id: thread.id.clone(),
        settings: Some(settings),
        ..Default::default()
    };
    let other = Settings { service_tier: Some(String::new()), ..Default::default() };
    let resumed = client.resume_thread(resume(other)).await.unwrap().into_inner();
    let taken = resumed.thread.unwrap();
    assert_eq!((taken.effort.as_str(), taken.service_tier.as_str()), ("high", ""));
    assert_eq!((taken.status(), resumed.model_before.as_str()), (ThreadStatus::Idle, ""));
    let other = Settings { model: Some("model-b".to_owned()), ..Default::default() };
    let resumed = client.resume_thread(resume(other)).await.unwrap().into_inner();
    assert_eq!(resumed.model_before, "model-a");
    let elsewhere = ResumeThreadRequest { provider: "elsewhere".to_owned(), ..resume(Settings::default()) };
    assert_eq!(reason(client.resume_thread(elsewhere).await).0, Code::InvalidArgument);
    let _ = turn;
}

#[tokio::test]
async fn what_cannot_be_is_refused_before_anything_of_it_holds() {
    let house = House::new();
    let mut client = client(&house).await;
    let thread = thread(&mut client).await;
    let settings = |summary: &str, model: &str| Settings {
        effort: Some("high".to_owned()),
        summary: Some(summary.to_owned()),
        model: Some(model.to_owned()),
        ..Default::default()
    };
    let image = |part| vec![InputPart { part }];
    for (start, what) in [
        (StartTurnRequest { settings: Some(settings("some", "m")), ..say(&thread, "x") }, "summary"),
        (StartTurnRequest { settings: Some(settings("auto", "a\nb")), ..say(&thread, "x") }, "model"),
        (StartTurnRequest { output_schema: "[1]".to_owned(), ..say(&thread, "x") }, "output_schema"),
        (StartTurnRequest { output_schema: "{".to_owned(), ..say(&thread, "x") }, "output_schema"),
        (StartTurnRequest { parts: image(None), ..say(&thread, "x") }, "part"),
        (
            StartTurnRequest {
                settings: Some(Settings { cwd: Some("a\0b".to_owned()), ..Default::default() }),
                ..say(&thread, "x")
            },
            "cwd",
        ),
    ] {
        let status = client.start_turn(start).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains(what), "{what}: {}", status.message());
    }
    assert!(house.gateway.bodies().is_empty());
    let get = GetThreadRequest { thread_id: thread.id.clone() };
    let found = client.get_thread(get).await.unwrap().into_inner().thread.unwrap();
    assert_eq!(found.effort, "", "nothing of it holds");
    let parts = image(Some(input_part::Part::ImageUrl("data:image/png;base64,AA==".to_owned())));
    client.start_turn(StartTurnRequest { parts, ..say(&thread, "look") }).await.unwrap();
    let all = until_ended(&mut follow(&mut client, &thread, 0).await).await;
    let said = all.iter().find_map(|event| match &event.event {
        Some(Event::ItemCompleted(completed)) => completed.item.as_ref()?.kind.as_ref(),
        _ => None,
    });
    let Some(Kind::UserMessage(message)) = said else { panic!("{all:?}") };
    assert_eq!((message.text.as_str(), message.parts.len()), ("look", 2));
}

#[tokio::test]
async fn forks_take_as_much_of_a_history_as_is_asked_for() {
    let house = House::new();
    let mut client = client(&house).await;
    let thread = thread(&mut client).await;
    let one = run(&mut client, &thread, "one").await;
    let two = run(&mut client, &thread, "two").await;
    for (until, turns) in [
        (None, 2),
        (Some(Until::ThroughTurnId(one.clone())), 1),
        (Some(Until::BeforeTurnId(two)), 1),
        (Some(Until::BeforeTurnId(one)), 0),
    ] {
        let request =
            ForkThreadRequest { thread_id: thread.id.clone(), until: until.clone(), ..Default::default() };
        let fork = client.fork_thread(request).await.unwrap().into_inner().thread.unwrap();
        assert_eq!(fork.forked_from_thread_id, thread.id);
        run(&mut client, &fork, "on").await;
        let mut events = follow(&mut client, &fork, 0).await;
        let mut ended = 0;
        while ended <= turns {
            until_ended(&mut events).await;
            ended += 1;
        }
        let trace = ReadTraceRequest { thread_id: fork.id, ..Default::default() };
        let records = client.read_trace(trace).await.unwrap().into_inner().records;
        let told = records.iter().filter(|record| matches!(record.record, Some(Record::Turn(_)))).count();
        assert_eq!(told, turns + 1, "{until:?}");
    }
    let absent = ForkThreadRequest {
        until: Some(Until::ThroughTurnId("01a1f863-0000-7f93-9710-f7d10b25b017".to_owned())),
        thread_id: thread.id,
        ..Default::default()
    };
    assert_eq!(reason(client.fork_thread(absent).await), (Code::NotFound, "turn_not_found".to_owned()));
}

#[tokio::test]
async fn a_running_turn_is_steered_by_who_means_it() {
    let house = House::new();
    let mut client = client(&house).await;
    let thread = thread(&mut client).await;
    house.gateway.reply(Reply::Hold);
    let turn = client.start_turn(say(&thread, "hi")).await.unwrap().into_inner().turn_id;
    let steer = |turn: &str| SteerTurnRequest {
        thread_id: thread.id.clone(),
        expected_turn_id: turn.to_owned(),
        text: "more".to_owned(),
        ..Default::default()
    };
    let other = reason(client.steer_turn(steer(&thread.id)).await);
    assert_eq!(other, (Code::InvalidArgument, "other_turn_active".to_owned()));
    let get = GetThreadRequest { thread_id: thread.id.clone() };
    let found = client.get_thread(get).await.unwrap().into_inner().thread.unwrap();
    assert_eq!((found.status(), &found.active_turn_id), (ThreadStatus::Active, &turn));
    assert_eq!(client.steer_turn(steer(&turn)).await.unwrap().into_inner().turn_id, turn);
    until_ended(&mut follow(&mut client, &thread, 0).await).await;
    assert!(String::from_utf8(house.gateway.bodies()[1].to_vec()).unwrap().contains("more"));
    assert_eq!(reason(client.steer_turn(steer(&turn)).await).1, "no_active_turn");
}

#[tokio::test]
async fn lists_are_filtered_and_paged() {
    let house = House::new();
    let mut client = client(&house).await;
    for (cwd, text) in [("/one", "the tide"), ("/two", "the moon"), ("/two", "a tide gate")] {
        let create = CreateThreadRequest { cwd: cwd.to_owned(), ..Default::default() };
        let thread = client.create_thread(create).await.unwrap().into_inner().thread.unwrap();
        run(&mut client, &thread, text).await;
    }
    let list = |request| {
        let mut client = client.clone();
        async move {
            let listed = client.list_threads(request).await.unwrap().into_inner();
            let previews = listed.threads.into_iter().map(|thread| thread.preview).collect::<Vec<_>>();
            (previews, listed.next_page_token)
        }
    };
    let none = ListThreadsRequest::default;
    assert_eq!(list(none()).await.0, ["a tide gate", "the moon", "the tide"]);
    assert_eq!(list(ListThreadsRequest { cwds: vec!["/one".into()], ..none() }).await.0, ["the tide"]);
    let found = list(ListThreadsRequest { search: "TIDE".into(), ..none() }).await.0;
    assert_eq!(found, ["a tide gate", "the tide"]);
    assert!(list(ListThreadsRequest { archived: true, ..none() }).await.0.is_empty());
    assert!(list(ListThreadsRequest { sources: vec!["cli".into()], ..none() }).await.0.is_empty());
    let (first, token) = list(ListThreadsRequest { page_size: 2, ..none() }).await;
    assert_eq!(first, ["a tide gate", "the moon"]);
    let rest = list(ListThreadsRequest { page_size: 2, page_token: token, ..none() }).await;
    assert_eq!(rest, (vec!["the tide".to_owned()], String::new()));
}

#[tokio::test]
async fn who_comes_back_goes_on_where_it_was() {
    let house = House::new();
    let mut client = client(&house).await;
    let thread = thread(&mut client).await;
    // Before there is any history.
    let mut early = follow(&mut client, &thread, 0).await;
    run(&mut client, &thread, "one").await;
    let first = until_ended(&mut early).await;
    drop(early);
    run(&mut client, &thread, "two").await;
    let last = first.iter().map(|event| event.sequence).max().unwrap();
    let second = until_ended(&mut follow(&mut client, &thread, last).await).await;
    let whole = {
        let mut events = follow(&mut client, &thread, 0).await;
        [until_ended(&mut events).await, until_ended(&mut events).await].concat()
    };
    let stored = |events: &[SubscribeResponse]| {
        events.iter().map(|event| event.sequence).filter(|number| *number > 0).collect::<Vec<_>>()
    };
    assert_eq!([stored(&first), stored(&second)].concat(), stored(&whole));
}

#[tokio::test]
async fn who_does_not_keep_up_is_told_where_to_go_on() {
    let house = House::with_queue(8);
    let mut client = client(&house).await;
    let thread = thread(&mut client).await;
    let mut slow = follow(&mut client, &thread, 0).await;
    // More than the queue and what is on its way hold; it is not read meanwhile.
    for _ in 0..40 {
        house.gateway.reply(Reply::Say("x".repeat(20_000)));
        run(&mut client, &thread, "more").await;
    }
    let mut last = 0;
    let status = loop {
        match slow.message().await {
            Ok(Some(event)) => last = last.max(event.sequence),
            Ok(None) => panic!("it was told that nothing follows"),
            Err(status) => break status,
        }
    };
    assert_eq!(
        (status.code(), failure_of(&status).reason),
        (Code::ResourceExhausted, "subscriber_too_slow".into())
    );
    let end = end_of(&status).expect("where to go on");
    assert!(end.after_sequence >= last && last > 0, "{end:?} after {last}");
    let next = follow(&mut client, &thread, end.after_sequence).await.message().await.unwrap().unwrap();
    assert!(next.sequence > last);
}

#[tokio::test]
async fn a_service_that_stops_says_where_to_go_on() {
    let house = House::new();
    let mut client = client(&house).await;
    let thread = thread(&mut client).await;
    run(&mut client, &thread, "one").await;
    let mut events = follow(&mut client, &thread, 0).await;
    let all = until_ended(&mut events).await;
    house.stop.cancel();
    let status = loop {
        match events.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it was told that nothing follows"),
            Err(status) => break status,
        }
    };
    let failure = failure_of(&status);
    assert_eq!((failure.reason.as_str(), failure.retryable), ("stopping", true));
    let end = end_of(&status).unwrap();
    assert_eq!(end.after_sequence, all.last().unwrap().sequence);
}

#[tokio::test]
async fn what_a_thread_did_can_be_read() {
    let house = House::new();
    let mut client = client(&house).await;
    let thread = thread(&mut client).await;
    let trace =
        |page_size, page_token| ReadTraceRequest { thread_id: thread.id.clone(), page_size, page_token };
    assert_eq!(reason(client.read_trace(trace(0, String::new())).await).1, "thread_not_materialized");
    let turn = run(&mut client, &thread, "hi").await;
    let whole = client.read_trace(trace(0, String::new())).await.unwrap().into_inner();
    assert_eq!((whole.records.len(), whole.next_page_token.as_str()), (3, ""));
    let Some(Record::Lifecycle(started)) = &whole.records[0].record else { panic!("{whole:?}") };
    assert_eq!(started.event(), LifecycleEvent::Started);
    let Some(Record::ModelCall(call)) = &whole.records[1].record else { panic!("{whole:?}") };
    assert_eq!((whole.records[1].turn_id.as_str(), call.model.as_str()), (turn.as_str(), "model-a"));
    assert_eq!(call.tokens.as_ref().unwrap().cached_input_tokens, 20);
    let (mut paged, mut token) = (Vec::new(), String::new());
    loop {
        let page = client.read_trace(trace(2, token)).await.unwrap().into_inner();
        paged.extend(page.records);
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(paged, whole.records);
    assert_eq!(reason(client.read_trace(trace(2, "x".to_owned())).await).0, Code::InvalidArgument);
}

#[tokio::test]
async fn a_client_s_trace_goes_on_to_the_gateway() {
    let house = House::new();
    let mut client = client(&house).await;
    let thread = thread(&mut client).await;
    let mut start = Request::new(say(&thread, "hi"));
    start.metadata_mut().insert("traceparent", TRACEPARENT.parse().unwrap());
    start.metadata_mut().insert("tracestate", "corp=x".parse().unwrap());
    client.start_turn(start).await.unwrap();
    until_ended(&mut follow(&mut client, &thread, 0).await).await;

    let mut rpc = house.client().await;
    let thread = rpc.thread().await;
    let params = serde_json::json!({"threadId": thread, "input": [{"type": "text", "text": "hi"}]});
    for trace in [
        serde_json::json!({"traceparent": TRACEPARENT, "tracestate": null}),
        serde_json::json!(null),
        // What cannot be read keeps nobody from a turn.
        serde_json::json!(["x"]),
    ] {
        rpc.request_in(trace, "turn/start", params.clone()).await;
        rpc.until("turn/completed").await;
    }
    let seen = house.gateway.traces();
    let parents: Vec<&str> = seen.iter().map(|trace| trace.traceparent.as_str()).collect();
    assert_eq!(parents, [TRACEPARENT, TRACEPARENT, "", ""]);
    assert_eq!((seen[0].tracestate.as_str(), seen[1].tracestate.as_str()), ("corp=x", ""));
}

#[tokio::test]
async fn reflection_names_what_is_served() {
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let house = House::new();
    let address = house.listen().await;
    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    let ask = MessageRequest::ListServices(String::new());
    let ask = ServerReflectionRequest { host: String::new(), message_request: Some(ask) };
    let asked = futures_util::stream::iter([ask]);
    let mut answers =
        ServerReflectionClient::new(channel).server_reflection_info(asked).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response;
    let Some(MessageResponse::ListServicesResponse(list)) = answer else { panic!("{answer:?}") };
    let mut names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    names.sort();
    assert_eq!(
        names,
        ["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "tidegate.agent.v1.SessionService"]
    );
}
