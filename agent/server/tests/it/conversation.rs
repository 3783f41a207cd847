//! A whole conversation, message by message.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::client::Client;
use crate::gateway::Reply;
use crate::house::House;

/// A transcript with ids numbered in the order in which they appear, and times left out.
fn transcript(messages: &[Value]) -> String {
    let mut ids = HashMap::new();
    let lines: Vec<String> =
        messages.iter().map(|message| clean(message.clone(), &mut ids).to_string()).collect();
    lines.join("\n")
}

fn clean(value: Value, ids: &mut HashMap<String, usize>) -> Value {
    match value {
        Value::Object(fields) => {
            // Sorted, because the order of a map's keys depends on how serde_json was built.
            let mut fields: Vec<_> = fields.into_iter().collect();
            fields.sort_by(|one, other| one.0.cmp(&other.0));
            let cleaned = fields.into_iter().map(|(key, value)| {
                let is_time = key.ends_with("At") || key.ends_with("Ms");
                let value = if is_time && value.is_number() { json!("time") } else { clean(value, ids) };
                (key, value)
            });
            Value::Object(cleaned.collect())
        }
        Value::Array(values) => Value::Array(values.into_iter().map(|value| clean(value, ids)).collect()),
        Value::String(text) if text.len() == 36 && text.matches('-').count() == 4 => {
            let next = ids.len() + 1;
            json!(format!("id {}", ids.entry(text).or_insert(next)))
        }
        other => other,
    }
}

#[tokio::test]
async fn a_turn_is_told_in_the_order_that_clients_know() {
    let house = House::new();
    let mut client = Client::connect(house.listen().await).await;
    let mut seen = Vec::new();
    let hello =
        json!({"clientInfo": {"name": "probe", "version": "1.2"}, "capabilities": {"experimentalApi": true}});
    seen.push(client.answer("initialize", hello).await);
    seen[0]["result"]["userAgent"] = json!("checked elsewhere");
    seen.push(client.answer("thread/start", json!({"model": "model-b", "sandbox": "read-only"})).await);
    seen.extend(client.until("thread/started").await);
    let thread = seen[1]["result"]["thread"]["id"].as_str().unwrap().to_owned();
    house.gateway.reply(Reply::Say("Hello there.".to_owned()));
    let input = json!([{"type": "text", "text": "hi", "text_elements": []}]);
    let params = json!({"threadId": thread, "clientUserMessageId": "mine", "input": input, "effort": "high"});
    client.request("turn/start", params).await;
    seen.extend(client.until("turn/completed").await);
    insta::assert_snapshot!(transcript(&seen));
}

#[tokio::test]
async fn a_client_learns_who_it_talks_to() {
    let house = House::new();
    let mut client = Client::connect(house.listen().await).await;
    let hello = json!({"clientInfo": {"name": "codex_python_sdk", "version": "0.163.0"}});
    let answer = client.ask("initialize", hello.clone()).await;
    let agent = answer["userAgent"].as_str().unwrap();
    assert!(agent.starts_with("codex_python_sdk/0.169.0 ("), "{agent}");
    assert!(agent.ends_with("(codex_python_sdk; 0.163.0)"), "{agent}");
    assert_eq!(client.refused("initialize", hello).await, "Already initialized");
    let text = client.refused("collaborationMode/list", json!({})).await;
    assert_eq!(text, "collaborationMode/list requires experimentalApi capability");
}

#[tokio::test]
async fn a_thread_is_there_after_a_restart() {
    let before = House::new();
    let mut client = before.client().await;
    let thread = client.thread().await;
    let turn = client.turn(&thread, "remember this").await;
    client.until("turn/completed").await;
    before.stop.cancel();

    let after = House::over(before.store);
    let mut client = after.client().await;
    let listed =
        client.ask("thread/list", json!({"sourceKinds": ["cli", "vscode"], "sortKey": "updated_at"})).await;
    assert_eq!(listed["data"][0]["id"], thread.as_str());
    let resumed = client.ask("thread/resume", json!({"threadId": thread, "excludeTurns": true})).await;
    assert_eq!(resumed["thread"]["turns"], json!([]));
    let page =
        json!({"threadId": thread, "cursor": resumed["turnsBackwardsCursor"], "sortDirection": "desc"});
    let turns = client.ask("thread/turns/list", page).await;
    assert_eq!(turns["data"][0]["id"], turn.as_str());
    assert_eq!(turns["data"][0]["items"][0]["content"][0]["text"], "remember this");
    let page =
        json!({"threadId": thread, "cursor": resumed["itemsBackwardsCursor"], "sortDirection": "desc"});
    let items = client.ask("thread/items/list", page).await;
    assert_eq!(items["data"][0]["item"]["text"], "ok");
    client.turn(&thread, "go on").await;
    client.until("turn/completed").await;
}

#[tokio::test]
async fn other_connections_hear_of_threads_but_not_what_happens_in_them() {
    let house = House::new();
    let (mut one, mut two) = (house.client().await, house.client().await);
    let thread = one.thread().await;
    let told = two.until("thread/started").await;
    assert_eq!(told[0]["params"]["thread"]["id"], thread.as_str());
    assert_eq!(told[0]["params"]["thread"]["turns"], json!([]));
    one.turn(&thread, "hi").await;
    one.until("turn/completed").await;
    one.ask("thread/name/set", json!({"threadId": thread, "name": "named"})).await;
    let mut told = two.until("thread/name/updated").await;
    told.retain(|message| message["method"] != "thread/status/changed");
    assert_eq!(told.len(), 1, "{told:?}");
    two.ask("thread/resume", json!({"threadId": thread})).await;
    one.turn(&thread, "again").await;
    let told = two.until("turn/completed").await;
    assert_eq!(told[0]["method"], "thread/tokenUsage/updated");
    assert_eq!(told[1]["method"], "thread/status/changed");
    assert_eq!(two.ask("thread/unsubscribe", json!({"threadId": thread})).await["status"], "unsubscribed");
    assert_eq!(two.ask("thread/unsubscribe", json!({"threadId": thread})).await["status"], "notSubscribed");
}

#[tokio::test]
async fn what_a_client_does_not_want_to_hear_is_not_said() {
    let house = House::new();
    let mut client = Client::connect(house.listen().await).await;
    let silenced = ["item/agentMessage/delta", "thread/started", "turn/startedX"];
    client.initialize_with(json!({"experimentalApi": true, "optOutNotificationMethods": silenced})).await;
    let thread = client.ask("thread/start", json!({})).await["thread"]["id"].as_str().unwrap().to_owned();
    client.turn(&thread, "hi").await;
    let told = client.until("turn/completed").await;
    let methods: Vec<&str> = told.iter().map(|message| message["method"].as_str().unwrap()).collect();
    assert!(
        !methods.contains(&"item/agentMessage/delta") && !methods.contains(&"thread/started"),
        "{methods:?}"
    );
    assert!(methods.contains(&"turn/started") && methods.contains(&"item/completed"), "{methods:?}");
}

#[tokio::test]
async fn a_choice_of_model_holds_for_new_threads() {
    let house = House::new();
    let mut client = house.client().await;
    let edits = json!([{"keyPath": "model", "value": "model-b", "mergeStrategy": "replace"}]);
    client.ask("config/batchWrite", json!({"edits": edits})).await;
    assert_eq!(client.ask("config/read", json!({})).await["config"]["model"], "model-b");
    let models = client.ask("model/list", json!({})).await;
    assert_eq!(models["data"][1]["isDefault"], true);
    assert_eq!(client.ask("thread/start", json!({})).await["model"], "model-b");
    let page = client.ask("model/list", json!({"limit": 1})).await;
    assert_eq!((page["data"].as_array().unwrap().len(), &page["nextCursor"]), (1, &json!("1")));
    let edits = json!([{"keyPath": "sandbox_mode", "value": "x", "mergeStrategy": "replace"}]);
    client.refused("config/batchWrite", json!({"edits": edits})).await;
}
