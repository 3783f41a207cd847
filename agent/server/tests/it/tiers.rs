//! The service tier on its way from a client's words into the body: a name, none at all, or nothing said.

use serde_json::{Value, json};

use crate::client::Client;
use crate::house::House;

/// The tier member of the body of a turn that is started with these parameters; `"absent"` if it has none.
async fn sent(house: &House, client: &mut Client, thread: &str, params: Value) -> Value {
    let mut params = params;
    params["threadId"] = json!(thread);
    params["input"] = json!([{"type": "text", "text": "x"}]);
    client.ask("turn/start", params).await;
    client.until("turn/completed").await;
    let body: Value = serde_json::from_slice(&house.gateway.bodies().pop().unwrap()).unwrap();
    assert_eq!(body.get("client_metadata"), None);
    body.get("service_tier").cloned().unwrap_or(json!("absent"))
}

async fn thread(client: &mut Client, params: Value) -> (String, Value) {
    let opened = client.ask("thread/start", params).await;
    client.until("thread/started").await;
    (opened["thread"]["id"].as_str().unwrap().to_owned(), opened["serviceTier"].clone())
}

#[tokio::test]
async fn null_and_nothing_are_two_things() {
    let house = House::new();
    let mut client = house.client().await;
    let (plain, shown) = thread(&mut client, json!({})).await;
    assert_eq!(shown, Value::Null);
    for (params, expected) in [
        (json!({}), json!("absent")),
        // For this turn alone.
        (json!({"serviceTierForTurn": "flex"}), json!("flex")),
        (json!({"serviceTierForTurn": null}), json!("absent")),
        // From this turn on.
        (json!({"serviceTier": "priority"}), json!("priority")),
        (json!({}), json!("priority")),
        (json!({"serviceTierForTurn": "default"}), json!("default")),
        (json!({"serviceTier": null}), Value::Null),
        (json!({}), Value::Null),
    ] {
        assert_eq!(sent(&house, &mut client, &plain, params.clone()).await, expected, "{params}");
    }
    client.ask("thread/settings/update", json!({"threadId": plain, "serviceTier": "flex"})).await;
    assert_eq!(sent(&house, &mut client, &plain, json!({})).await, "flex");
    client.ask("thread/settings/update", json!({"threadId": plain, "effort": "low"})).await;
    assert_eq!(sent(&house, &mut client, &plain, json!({})).await, "flex");
    client.ask("thread/settings/update", json!({"threadId": plain, "serviceTier": null})).await;
    assert_eq!(sent(&house, &mut client, &plain, json!({})).await, Value::Null);
}

#[tokio::test]
async fn a_users_choice_is_for_threads_that_say_nothing() {
    let house = House::new();
    let mut client = house.client().await;
    let edit = json!({"keyPath": "service_tier", "value": "flex", "mergeStrategy": "replace"});
    client.ask("config/batchWrite", json!({"edits": [edit]})).await;
    for (params, shown, expected) in [
        (json!({}), json!("flex"), json!("flex")),
        (json!({"serviceTier": null}), Value::Null, Value::Null),
        (json!({"serviceTier": "priority"}), json!("priority"), json!("priority")),
        (json!({"config": {"service_tier": "priority"}}), json!("priority"), json!("priority")),
    ] {
        let (thread, told) = thread(&mut client, params.clone()).await;
        assert_eq!(told, shown, "{params}");
        assert_eq!(sent(&house, &mut client, &thread, json!({})).await, expected, "{params}");
    }
}
