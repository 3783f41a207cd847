//! Calls that continue a response which the provider remembers.

use agent_session::{CallEvent, Options};
use serde_json::Value;

use crate::{
    gateway::{Step, answer, done, ended, failure, head},
    support::{Desk, over, word},
};

const TOOL: &str = r#"{"type":"function_call","id":"fc_1","call_id":"c1","name":"x","arguments":"{}"}"#;

fn bodies(desk: &Desk) -> Vec<Value> {
    desk.gateway.bodies().iter().map(|body| serde_json::from_str(body).unwrap()).collect()
}

fn kinds(body: &Value) -> Vec<&str> {
    body["input"].as_array().unwrap().iter().map(|item| item["type"].as_str().unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn the_next_call_of_a_turn_sends_only_what_is_new() {
    let desk = Desk::with(Options { item_ids: true, ..Options::default() });
    desk.gateway.0.lock().unwrap().continues = true;
    let (id, mut events) = desk.watched().await;
    desk.gateway.answers(vec![head(), done(TOOL), ended("resp_1", 10)]);
    desk.gateway.answers(vec![head(), done(&TOOL.replace("c1", "c2")), ended("resp_2", 10)]);
    desk.say(id, "go").await;
    let told = over(&mut events).await;
    assert_eq!(word(&told.last().unwrap().event), "turn-Completed");
    let bodies = bodies(&desk);
    assert_eq!(bodies[0].get("previous_response_id"), None);
    assert_eq!(kinds(&bodies[0]), ["message", "message"]);
    for (body, previous, call) in [(&bodies[1], "resp_1", "c1"), (&bodies[2], "resp_2", "c2")] {
        assert_eq!(body["previous_response_id"], previous);
        assert_eq!(kinds(body), ["function_call_output"]);
        assert_eq!(body["input"][0]["call_id"], call);
    }
    // A turn begins anew: its stream is another one.
    desk.say(id, "again").await;
    over(&mut events).await;
    let last = &self::bodies(&desk)[3];
    assert_eq!(last.get("previous_response_id"), None);
    assert_eq!(
        kinds(last)[1..],
        [
            "message",
            "function_call",
            "function_call_output",
            "function_call",
            "function_call_output",
            "message",
            "message"
        ]
    );
    let ids: Vec<&str> =
        last["input"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap()).collect();
    let first: Vec<&str> =
        bodies[0]["input"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap()).collect();
    assert_eq!(ids[..2], first[..], "an id stays");
}

#[tokio::test(start_paused = true)]
async fn a_response_that_the_provider_has_forgotten_is_not_continued_and_nobody_is_told() {
    for broken in [false, true] {
        let desk = Desk::new();
        desk.gateway.0.lock().unwrap().continues = true;
        let (id, mut events) = desk.watched().await;
        desk.gateway.answers(vec![head(), done(TOOL), ended("resp_1", 10)]);
        let lost = failure("continuation_lost");
        desk.gateway.answers(vec![match broken {
            true => Step::Break(lost),
            false => Step::Send(CallEvent::Failed { failure: lost, usage: None }),
        }]);
        desk.gateway.answers(answer("a", "done"));
        desk.say(id, "go").await;
        let told = over(&mut events).await;
        assert!(!told.iter().any(|event| word(&event.event).starts_with("Reconnecting")), "{broken}");
        let bodies = bodies(&desk);
        assert_eq!(bodies.len(), 3);
        assert_eq!(bodies[1]["previous_response_id"], "resp_1");
        assert_eq!(bodies[2].get("previous_response_id"), None);
        assert_eq!(kinds(&bodies[2]), ["message", "message", "function_call", "function_call_output"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_after_one_that_broke_sends_everything() {
    let desk = Desk::new();
    desk.gateway.0.lock().unwrap().continues = true;
    let (id, mut events) = desk.watched().await;
    desk.gateway.answers(vec![head(), done(TOOL), ended("resp_1", 10)]);
    desk.gateway.answers(vec![head(), Step::Break(failure("stream_broken"))]);
    desk.say(id, "go").await;
    let told = over(&mut events).await;
    assert_eq!(told.iter().filter(|event| word(&event.event).starts_with("Reconnecting")).count(), 1);
    let bodies = bodies(&desk);
    assert_eq!(bodies[1]["previous_response_id"], "resp_1");
    assert_eq!(bodies[2].get("previous_response_id"), None);
    assert_eq!(kinds(&bodies[2]).len(), 4);
}
