//! The same sessions over gRPC.

use tidegate_proto::agent::v1::session_service_client::SessionServiceClient;
use tidegate_proto::agent::v1::subscribe_response::Event;
use tidegate_proto::agent::v1::{
    CreateThreadRequest, InterruptTurnRequest, ListThreadsRequest, StartTurnRequest, SubscribeRequest,
    TurnOutcome,
};
use tidegate_proto::failure_of;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use crate::gateway::Reply;
use crate::house::House;

async fn channel(house: &House) -> Channel {
    let address = house.listen().await;
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

#[tokio::test]
async fn a_program_runs_a_turn() {
    let house = House::new();
    let mut client = SessionServiceClient::new(channel(&house).await);
    let thread =
        client.create_thread(CreateThreadRequest::default()).await.unwrap().into_inner().thread.unwrap();
    assert_eq!((thread.model.as_str(), thread.cwd.as_str()), ("model-a", "/work"));
    house.gateway.reply(Reply::Say("Hello there.".to_owned()));
    let start = StartTurnRequest {
        thread_id: thread.id.clone(),
        text: "hi".to_owned(),
        client_message_id: String::new(),
    };
    let turn = client.start_turn(start).await.unwrap().into_inner().turn_id;
    let subscribe = SubscribeRequest { thread_id: thread.id.clone(), after_sequence: 0 };
    let mut events = client.subscribe(subscribe).await.unwrap().into_inner();
    let (mut last, mut answer) = (0, String::new());
    let ended = loop {
        let event = events.message().await.unwrap().expect("an event");
        if event.sequence > 0 {
            assert!(event.sequence > last, "{event:?}");
            last = event.sequence;
        }
        match event.event.unwrap() {
            Event::TextDelta(delta) => answer.push_str(&delta.text),
            Event::TurnEnded(ended) => break ended,
            _ => {}
        }
    };
    assert_eq!((ended.turn_id.as_str(), ended.outcome()), (turn.as_str(), TurnOutcome::Completed));
    assert!("Hello there.".ends_with(&answer), "{answer}");
    let listed = client.list_threads(ListThreadsRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.threads[0].preview, "hi");
}

#[tokio::test]
async fn refusals_are_typed() {
    let house = House::new();
    let channel = channel(&house).await;
    let mut client = SessionServiceClient::new(channel.clone());
    let missing = "01a1f863-0000-7f93-9710-f7d10b25b017".to_owned();
    let start = StartTurnRequest { thread_id: missing.clone(), ..Default::default() };
    let status = client.start_turn(start).await.unwrap_err();
    assert_eq!((status.code(), failure_of(&status).reason.as_str()), (Code::NotFound, "thread_not_found"));
    let interrupt = InterruptTurnRequest { thread_id: "nope".to_owned(), turn_id: missing };
    let status = client.interrupt_turn(interrupt).await.unwrap_err();
    assert_eq!(
        (status.code(), failure_of(&status).reason.as_str()),
        (Code::InvalidArgument, "invalid_request")
    );
    let thread =
        client.create_thread(CreateThreadRequest::default()).await.unwrap().into_inner().thread.unwrap();
    let interrupt = InterruptTurnRequest { thread_id: thread.id.clone(), turn_id: thread.id };
    let status = client.interrupt_turn(interrupt).await.unwrap_err();
    assert_eq!(failure_of(&status).reason, "no_active_turn");
}
