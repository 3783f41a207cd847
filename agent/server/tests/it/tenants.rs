//! A tenant's threads are nobody else's: every method with a foreign id answers as if there were no such thread.

use serde_json::json;

use crate::house::House;

#[tokio::test]
async fn a_foreign_thread_is_not_found() {
    let house = House::new();
    let mut owner = house.client().await;
    let thread = owner.thread().await;
    let turn = owner.turn(&thread, "secret").await;
    owner.until("turn/completed").await;

    let mut other = house.client_of("other").await;
    let input = json!([{"type": "text", "text": "x"}]);
    let revision = json!({"threadId": thread, "operation": {"type": "read"}, "expectedRevision": "x"});
    let table = [
        ("thread/read", json!({"threadId": thread, "includeTurns": true})),
        ("thread/resume", json!({"threadId": thread})),
        ("thread/turns/list", json!({"threadId": thread})),
        ("thread/items/list", json!({"threadId": thread})),
        ("thread/name/set", json!({"threadId": thread, "name": "mine"})),
        ("thread/archive", json!({"threadId": thread})),
        ("thread/fork", json!({"threadId": thread})),
        ("thread/fork", json!({"threadId": thread, "beforeTurnId": turn})),
        ("thread/revert", json!({"threadId": thread, "beforeTurnId": turn})),
        ("thread/revert", json!({"threadId": thread, "beforeTurnId": "bad"})),
        ("thread/inject_items", json!({"threadId": thread, "items": [{"type": "message"}]})),
        ("thread/metadata/update", json!({"threadId": thread, "gitInfo": {"sha": "abc"}})),
        ("thread/metadata/update", json!({"threadId": thread, "projectId": "x"})),
        ("thread/items/list", json!({"threadId": thread, "turnId": "bad"})),
        (
            "thread/items/list",
            json!({"threadId": thread, "turnId": turn, "cursor": {"type": "item", "itemId": "x"}}),
        ),
        ("thread/unarchive", json!({"threadId": thread})),
        ("thread/delete", json!({"threadId": thread})),
        ("thread/settings/update", json!({"threadId": thread, "model": "model-b"})),
        ("thread/readState/update", revision),
        ("thread/goal/get", json!({"threadId": thread})),
        ("thread/backgroundTerminals/list", json!({"threadId": thread})),
        ("turn/start", json!({"threadId": thread, "input": input})),
        ("turn/steer", json!({"threadId": thread, "input": input, "expectedTurnId": turn})),
        ("turn/steer", json!({"threadId": thread, "input": input, "expectedTurnId": "bad"})),
        ("turn/interrupt", json!({"threadId": thread, "turnId": turn})),
        ("turn/interrupt", json!({"threadId": thread, "turnId": "bad"})),
    ];
    for (method, params) in table {
        assert_eq!(other.refused(method, params).await, format!("thread not found: {thread}"), "{method}");
    }
    assert_eq!(other.ask("thread/unsubscribe", json!({"threadId": thread})).await["status"], "notLoaded");
    assert_eq!(other.ask("thread/list", json!({})).await["data"], json!([]));
    assert_eq!(other.ask("thread/loaded/list", json!({})).await["data"], json!([]));

    owner.turn(&thread, "still mine").await;
    owner.until("turn/completed").await;
    other.request("thread/loaded/list", json!({})).await;
    let next = other.next().await.unwrap();
    assert!(next["method"].is_null(), "another tenant heard {next}");
}
