//! Calls that continue a response which the provider remembers.

use std::sync::Arc;

use agent_session::{CallEvent, Failure, Options};
use serde_json::{Value, value::RawValue};
use tokio::sync::Notify;

use crate::{
    gateway::{Step, added, answer, delta, done, ended, failure, head, message},
    support::{Desk, over, steering, until, word},
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
    assert_eq!(desk.gateway.0.lock().unwrap().streams, 2, "what broke is not used again");
}

#[tokio::test(start_paused = true)]
async fn a_message_on_the_way_ends_the_stream_of_the_call_that_it_cancels() {
    let desk = Desk::new();
    desk.gateway.0.lock().unwrap().continues = true;
    let (id, mut events) = desk.watched().await;
    desk.gateway.answers(vec![head(), done(TOOL), ended("resp_1", 10)]);
    desk.gateway.answers(vec![head(), added("a"), delta("a", "so far"), Step::Hang]);
    let turn = desk.say(id, "go").await.id;
    until(&mut events, "delta").await;
    desk.sessions.steer(&desk.tenant, id, steering(turn, "more")).await.unwrap();
    over(&mut events).await;
    let last = &bodies(&desk)[2];
    assert_eq!(last.get("previous_response_id"), None);
    assert_eq!(kinds(last).len(), 6, "with what was said so far and the message: {last}");
    assert_eq!(desk.gateway.0.lock().unwrap().streams, 2);
}

fn failed(failure: Failure) -> Step {
    Step::Send(CallEvent::Failed { failure, usage: None })
}

#[tokio::test(start_paused = true)]
async fn a_call_after_one_that_failed_on_a_whole_stream_sends_everything_too() {
    let desk = Desk::new();
    desk.gateway.0.lock().unwrap().continues = true;
    let (id, mut events) = desk.watched().await;
    desk.gateway.answers(vec![head(), done(TOOL), ended("resp_1", 10)]);
    desk.gateway.answers(vec![head(), failed(failure("upstream_overloaded"))]);
    desk.say(id, "go").await;
    over(&mut events).await;
    let bodies = bodies(&desk);
    assert_eq!(bodies[1]["previous_response_id"], "resp_1");
    assert_eq!(bodies[2].get("previous_response_id"), None);
    assert_eq!(kinds(&bodies[2]), ["message", "message", "function_call", "function_call_output"]);
    assert_eq!(desk.gateway.0.lock().unwrap().streams, 1);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_does_not_offer_it_is_sent_everything_each_time() {
    let desk = Desk::new();
    let (id, mut events) = desk.watched().await;
    desk.gateway.answers(vec![head(), done(TOOL), ended("resp_1", 10)]);
    desk.say(id, "go").await;
    over(&mut events).await;
    let last = &bodies(&desk)[1];
    assert_eq!(last.get("previous_response_id"), None);
    assert_eq!(kinds(last), ["message", "message", "function_call", "function_call_output"]);
}

#[tokio::test(start_paused = true)]
async fn a_provider_says_in_its_own_word_that_it_has_forgotten() {
    let desk = Desk::new();
    desk.gateway.0.lock().unwrap().continues = true;
    let (id, mut events) = desk.watched().await;
    desk.gateway.answers(vec![head(), done(TOOL), ended("resp_1", 10)]);
    let code = Some("previous_response_not_found".to_owned());
    desk.gateway.answers(vec![failed(Failure { code, retryable: false, ..failure("upstream_refused") })]);
    desk.say(id, "go").await;
    let told = over(&mut events).await;
    assert_eq!(word(&told.last().unwrap().event), "turn-Completed");
    assert_eq!(bodies(&desk)[2].get("previous_response_id"), None);
    // Whoever continued nothing has nothing that could be left out: it is a failure like others.
    desk.gateway.answers(vec![failed(Failure { retryable: false, ..failure("continuation_lost") })]);
    desk.say(id, "again").await;
    let told = over(&mut events).await;
    assert_eq!(word(&told.last().unwrap().event), "turn-Failed");
    assert_eq!(bodies(&desk).len(), 4);
}

#[tokio::test(start_paused = true)]
async fn what_comes_from_elsewhere_while_a_response_is_under_way_is_not_left_out_after_it() {
    let desk = Desk::new();
    desk.gateway.0.lock().unwrap().continues = true;
    let (id, mut events) = desk.watched().await;
    let hold = Arc::new(Notify::new());
    desk.gateway.answers(vec![
        head(),
        added("a"),
        delta("a", "one"),
        Step::Wait(Arc::clone(&hold)),
        done(&message("a", "one moment")),
        done(TOOL),
        ended("resp_1", 10),
    ]);
    desk.gateway.answers(vec![head(), done(&TOOL.replace("c1", "c2")), ended("resp_2", 10)]);
    desk.say(id, "go").await;
    until(&mut events, "delta").await;
    let item =
        r#"{"type":"message","role":"developer","content":[{"type":"input_text","text":"by the way"}]}"#;
    let items = vec![RawValue::from_string(item.to_owned()).unwrap()];
    desk.sessions.inject(&desk.tenant, id, items).await.unwrap();
    hold.notify_one();
    over(&mut events).await;
    let bodies = bodies(&desk);
    assert_eq!(bodies[1].get("previous_response_id"), None, "it does not know what came meanwhile");
    assert!(bodies[1].to_string().contains("by the way"), "{}", bodies[1]);
    assert_eq!(bodies[2]["previous_response_id"], "resp_2", "the one after it knows all");
    assert_eq!(kinds(&bodies[2]), ["function_call_output"]);
}

#[tokio::test(start_paused = true)]
async fn the_answer_after_a_compaction_continues_nothing() {
    let desk = Desk::new();
    desk.gateway.0.lock().unwrap().continues = true;
    let (id, mut events) = desk.watched().await;
    // So long that its second call is condensed before.
    desk.gateway.answers(vec![head(), done(TOOL), ended("resp_1", 950)]);
    desk.gateway.answers(vec![head(), done(&message("s", "summary")), ended("resp_2", 10)]);
    desk.say(id, "go").await;
    over(&mut events).await;
    let bodies = bodies(&desk);
    assert_eq!(bodies.len(), 3);
    for body in &bodies[1..] {
        assert_eq!(body.get("previous_response_id"), None, "{body}");
    }
    assert_eq!(
        kinds(&bodies[2]),
        ["message", "message", "message"],
        "instructions, the message, the summary"
    );
}
