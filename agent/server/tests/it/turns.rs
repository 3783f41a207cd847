//! Stopping and steering turns.

use serde_json::json;

use crate::gateway::Reply;
use crate::house::House;

#[tokio::test]
async fn a_turn_is_interrupted() {
    let house = House::new();
    let mut client = house.client().await;
    let thread = client.thread().await;
    house.gateway.reply(Reply::Hold);
    let turn = client.turn(&thread, "hold").await;
    client.until("item/agentMessage/delta").await;
    let other = client.refused("turn/interrupt", json!({"threadId": thread, "turnId": "bad"})).await;
    assert_eq!(other, format!("expected active turn id `bad` but found `{turn}`"));
    let id = client.request("turn/interrupt", json!({"threadId": thread, "turnId": turn})).await;
    let told = client.until("turn/completed").await;
    let answered = told.iter().position(|message| message["id"] == id).unwrap();
    let idle = told.iter().position(|message| message["params"]["status"]["type"] == "idle").unwrap();
    assert!(answered < idle, "{told:?}");
    assert_eq!(told.last().unwrap()["params"]["turn"]["status"], "interrupted");
    let text = client.refused("turn/interrupt", json!({"threadId": thread, "turnId": turn})).await;
    assert_eq!(text, "no active turn to interrupt");
}

#[tokio::test]
async fn a_message_steers_the_running_turn() {
    let house = House::new();
    let mut client = house.client().await;
    let thread = client.thread().await;
    let steer = |turn: &str| {
        let input = json!([{"type": "text", "text": "steer"}]);
        json!({"threadId": thread, "input": input, "expectedTurnId": turn})
    };
    let text = client.refused("turn/steer", steer("01a1f863-0000-7f93-9710-f7d10b25b017")).await;
    assert_eq!(text, "no active turn to steer");
    // A message that joins a turn cuts the model short and has it called again.
    for _ in 0..3 {
        house.gateway.reply(Reply::Hold);
    }
    let turn = client.turn(&thread, "hold").await;
    client.until("item/agentMessage/delta").await;
    assert_eq!(client.turn(&thread, "joins").await, turn);
    for other in ["bad", "01a1f863-0000-7f93-9710-f7d10b25b017"] {
        let text = client.refused("turn/steer", steer(other)).await;
        assert_eq!(text, format!("expected active turn id `{other}` but found `{turn}`"));
    }
    assert_eq!(client.ask("turn/steer", steer(&turn)).await["turnId"], turn.as_str());
    client.ask("turn/interrupt", json!({"threadId": thread, "turnId": turn})).await;
}

#[tokio::test]
async fn settings_are_told_after_the_answer() {
    let house = House::new();
    let mut client = house.client().await;
    let thread = client.thread().await;
    let mode = json!({"mode": "default", "settings": {"model": "model-b", "reasoning_effort": "high"}});
    client.ask("thread/settings/update", json!({"threadId": thread, "collaborationMode": mode})).await;
    let told = client.until("thread/settings/updated").await;
    let settings = &told[0]["params"]["threadSettings"];
    assert_eq!((&settings["model"], &settings["effort"]), (&json!("model-b"), &json!("high")));
    assert_eq!(settings["collaborationMode"]["settings"]["model"], "model-b");
}
