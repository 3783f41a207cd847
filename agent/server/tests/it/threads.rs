//! What clients do with threads beside talking in them.

use serde_json::{Value, json};

use crate::client::Client;
use crate::gateway::Reply;
use crate::house::House;

/// A thread with so many turns, and their ids.
async fn grown(house: &House, client: &mut Client, turns: usize) -> (String, Vec<String>) {
    let thread = client.thread().await;
    let mut ids = Vec::new();
    for n in 0..turns {
        house.gateway.reply(Reply::Say(format!("answer {n}")));
        ids.push(client.turn(&thread, &format!("question {n}")).await);
        client.until("turn/completed").await;
    }
    (thread, ids)
}

fn texts(items: &Value) -> Vec<String> {
    let text = |entry: &Value| {
        let item = &entry["item"];
        item["text"].as_str().or(item["content"][0]["text"].as_str()).unwrap_or("thought").to_owned()
    };
    items["data"].as_array().unwrap().iter().map(text).collect()
}

fn ids(list: &Value) -> Vec<String> {
    list["data"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_thread_is_forked_and_reverted() {
    let house = House::new();
    let (mut client, mut other) = (house.client().await, house.client().await);
    let (thread, turns) = grown(&house, &mut client, 3).await;
    other.until("thread/started").await;

    let forked = client.ask("thread/fork", json!({"threadId": thread, "lastTurnId": turns[1]})).await;
    let fork = forked["thread"]["id"].as_str().unwrap().to_owned();
    assert_eq!(
        (&forked["thread"]["forkedFromId"], &forked["thread"]["sessionId"]),
        (&json!(thread), &json!(fork))
    );
    assert_eq!(forked["thread"]["turns"].as_array().unwrap().len(), 2);
    assert_eq!(forked["activePermissionProfile"], json!({"id": ":read-only", "extends": null}));
    let told = other.until("thread/started").await.pop().unwrap();
    assert_eq!(
        (&told["params"]["thread"]["id"], &told["params"]["thread"]["turns"]),
        (&json!(fork), &json!([]))
    );
    // Whoever forks a thread follows it.
    client.turn(&fork, "in the fork").await;
    client.until("turn/completed").await;
    let short =
        json!({"threadId": thread, "beforeTurnId": turns[2], "excludeTurns": true, "ephemeral": true});
    let side = client.ask("thread/fork", short).await;
    assert_eq!((&side["thread"]["ephemeral"], &side["thread"]["turns"]), (&json!(true), &json!([])));
    for (wrong, text) in [
        (
            json!({"lastTurnId": turns[0], "beforeTurnId": turns[0]}),
            "`beforeTurnId` cannot be combined with `lastTurnId`",
        ),
        (json!({"lastTurnId": "xyz"}), "turn not found: xyz"),
        (json!({"lastTurnId": fork}), &format!("turn not found: {fork}")),
        (
            json!({"modelProvider": "elsewhere"}),
            "Cannot change this thread's model provider from `scripted` to `elsewhere` on fork.",
        ),
    ] {
        let mut params = wrong;
        params["threadId"] = json!(thread);
        assert_eq!(client.refused("thread/fork", params).await, text);
    }

    client.request("thread/revert", json!({"threadId": thread, "beforeTurnId": turns[1]})).await;
    let told = client.until("thread/reverted").await;
    let answer = told.iter().find(|message| message["method"].is_null()).unwrap();
    assert_eq!(
        told.last().unwrap()["params"],
        json!({"threadId": thread}),
        "the answer comes first: {told:?}"
    );
    assert_eq!(answer["result"]["thread"]["turns"], json!([]));
    let cursor = &answer["result"]["turnsBackwardsCursor"];
    let page = json!({"threadId": thread, "cursor": cursor, "sortDirection": "desc"});
    assert_eq!(ids(&client.ask("thread/turns/list", page).await), turns[..1]);
    other.until("thread/reverted").await;
    for before in ["xyz", &turns[2]] {
        let refused =
            client.refused("thread/revert", json!({"threadId": thread, "beforeTurnId": before})).await;
        assert_eq!(refused, format!("turn not found: {before}"));
    }
    let items = client.ask("thread/items/list", json!({"threadId": fork})).await;
    assert!(texts(&items).contains(&"question 1".to_owned()), "the fork keeps what it has copied");
}

#[tokio::test]
async fn items_are_paged_from_the_oldest_and_from_any_of_them() {
    let house = House::new();
    let mut client = house.client().await;
    let (thread, turns) = grown(&house, &mut client, 2).await;
    let mut ask = async |extra: Value| {
        let mut params = extra;
        params["threadId"] = json!(thread);
        client.ask("thread/items/list", params).await
    };
    let all = ask(json!({})).await;
    assert_eq!((texts(&all)[0].as_str(), &all["nextCursor"]), ("question 0", &Value::Null));
    let first = ask(json!({"limit": 1})).await;
    let second = ask(json!({"limit": 1, "cursor": first["nextCursor"]})).await;
    assert_eq!(second["data"][0]["item"]["id"], all["data"][1]["item"]["id"]);
    let back = json!({"limit": 5, "cursor": second["backwardsCursor"], "sortDirection": "desc"});
    assert_eq!(texts(&ask(back).await), [texts(&second), texts(&first)].concat());
    let mut newest = texts(&ask(json!({"sortDirection": "desc"})).await);
    newest.reverse();
    assert_eq!(newest, texts(&all));

    let of_turn = texts(&ask(json!({"turnId": turns[1]})).await);
    let anchor = &all["data"].as_array().unwrap().iter().find(|entry| entry["turnId"] == turns[1]).unwrap()["item"]
        ["id"];
    let from = |direction: &str| json!({"turnId": turns[1], "cursor": {"type": "item", "itemId": anchor}, "sortDirection": direction});
    assert_eq!(texts(&ask(from("asc")).await), of_turn[1..]);
    assert_eq!(texts(&ask(from("desc")).await), Vec::<String>::new());
    assert_eq!(ask(json!({"turnId": "zzz"})).await["data"], json!([]));
    let wrong = json!({"threadId": thread, "turnId": turns[0], "cursor": {"type": "item", "itemId": anchor}});
    let refused = client.refused("thread/items/list", wrong).await;
    assert!(refused.starts_with("cursor.itemId does not identify"), "{refused}");
    let wrong = json!({"threadId": thread, "cursor": "bogus"});
    assert_eq!(client.refused("thread/items/list", wrong).await, "invalid cursor: bogus");
}

#[tokio::test]
async fn what_is_unread_is_told_and_marked() {
    let house = House::new();
    let mut client = house.client().await;
    let thread = client.thread().await;
    assert_eq!(client.ask("thread/read", json!({"threadId": thread})).await["readState"], Value::Null);
    let turn = client.turn(&thread, "hi").await;
    let told = client.until("turn/completed").await;
    let [.., state, status, _] = &told[..] else { panic!("{told:?}") };
    assert_eq!(
        (&state["method"], &status["method"]),
        (&json!("thread/readState/changed"), &json!("thread/status/changed"))
    );
    assert_eq!(state["params"]["readState"]["firstUnread"], json!({"type": "turn", "turnId": turn}));
    let unread = &state["params"]["readState"];
    assert_eq!(client.ask("thread/read", json!({"threadId": thread})).await["readState"], *unread);
    assert_eq!(client.ask("thread/list", json!({})).await["readStates"][&thread], *unread);

    let mark = |kind: &str, seen: &Value| json!({"threadId": thread, "operation": {"type": kind}, "expectedRevision": seen});
    let conflict = client.answer("thread/readState/update", mark("read", &json!("x"))).await;
    assert_eq!(conflict["error"]["message"], "read state changed");
    assert_eq!(conflict["error"]["data"], json!({"reason": "readStateConflict", "readState": unread}));
    let read = client.ask("thread/readState/update", mark("read", &unread["revision"])).await;
    assert_eq!(read["readState"]["firstUnread"], Value::Null);
    let told = client.until("thread/readState/changed").await.pop().unwrap();
    assert_eq!(told["params"], json!({"threadId": thread, "readState": read["readState"]}));
    let marked = client.ask("thread/readState/update", mark("unread", &read["readState"]["revision"])).await;
    assert_eq!(marked["readState"]["firstUnread"], json!({"type": "threadStart"}));
}

#[tokio::test]
async fn items_and_facts_are_added_from_outside() {
    let house = House::new();
    let mut client = house.client().await;
    let (thread, _) = grown(&house, &mut client, 1).await;
    let item =
        json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": "by the way"}]});
    client
        .ask(
            "thread/inject_items",
            json!({"threadId": thread, "items": [item, {"type": "unheard_of", "x": 1}]}),
        )
        .await;
    client.turn(&thread, "go on").await;
    client.until("turn/completed").await;
    let body = String::from_utf8(house.gateway.bodies().pop().unwrap().to_vec()).unwrap();
    assert!(body.find("by the way") < body.find("go on") && body.contains("unheard_of"), "{body}");
    for (items, text) in [
        (json!([]), "items must not be empty"),
        (json!([item, 5]), "items[1] is not a valid response item: an object with a `type` is expected"),
        (json!([["message"]]), "items[0] is not a valid response item: an object with a `type` is expected"),
        (
            json!([{"role": "user"}]),
            "items[0] is not a valid response item: an object with a `type` is expected",
        ),
    ] {
        let refused =
            client.refused("thread/inject_items", json!({"threadId": thread, "items": items})).await;
        assert_eq!(refused, text);
    }

    let mut update = async |extra: Value| {
        let mut params = extra;
        params["threadId"] = json!(thread);
        client.answer("thread/metadata/update", params).await
    };
    let git = json!({"sha": "abc", "branch": "main"});
    let updated = update(json!({"gitInfo": git, "daybreakEnabled": true})).await["result"]["thread"].clone();
    assert_eq!(updated["gitInfo"], json!({"sha": "abc", "branch": "main", "originUrl": null}));
    assert_eq!((&updated["daybreakEnabled"], &updated["turns"]), (&json!(true), &json!([])));
    let updated =
        update(json!({"gitInfo": {"sha": null}, "projectId": ""})).await["result"]["thread"].clone();
    assert_eq!(updated["gitInfo"], json!({"sha": null, "branch": "main", "originUrl": null}));
    for (params, text) in [
        (json!({}), "thread metadata update must include at least one field"),
        (json!({"gitInfo": {}}), "gitInfo must include at least one field"),
        (json!({"gitInfo": {"branch": " "}}), "gitInfo.branch must not be empty"),
        (json!({"projectId": "nope"}), "project not found: nope"),
    ] {
        assert_eq!(update(params).await["error"]["message"], text);
    }
}

#[tokio::test]
async fn lists_show_what_was_asked_for() {
    let house = House::new();
    let mut client = house.client().await;
    let mut threads = Vec::new();
    for cwd in ["/a", "/b", "/b"] {
        let started = client.ask("thread/start", json!({"cwd": cwd})).await;
        let thread = started["thread"]["id"].as_str().unwrap().to_owned();
        client.turn(&thread, &format!("in {cwd}")).await;
        client.until("turn/completed").await;
        threads.push(thread);
    }
    client.ask("thread/archive", json!({"threadId": threads[2]})).await;
    let [a, b, archived] = &threads[..] else { panic!() };
    for (params, expected) in [
        (json!({}), vec![b, a]),
        (json!({"sortDirection": "asc", "sortKey": "recency_at"}), vec![a, b]),
        (json!({"cwd": "/a"}), vec![a]),
        (json!({"cwd": ["/b", "/x"]}), vec![b]),
        (json!({"archived": true}), vec![archived]),
        (json!({"searchTerm": "IN /A"}), vec![a]),
        (json!({"sourceKinds": []}), vec![b, a]),
        (json!({"sourceKinds": ["exec", "appServer"]}), vec![]),
        (json!({"modelProviders": ["scripted"], "limit": 1}), vec![b]),
        (json!({"modelProviders": ["elsewhere"]}), vec![]),
        (json!({"excludedThreadIds": [b]}), vec![a]),
        (json!({"sectionId": "s", "sortKey": "section_position"}), vec![]),
        (json!({"sectionId": null, "projectId": null}), vec![b, a]),
    ] {
        assert_eq!(
            ids(&client.ask("thread/list", params.clone()).await),
            expected.into_iter().cloned().collect::<Vec<_>>(),
            "{params}"
        );
    }
    for (params, text) in [
        (json!({"sortKey": "section_position"}), "section-position sorting requires a section filter"),
        (json!({"originators": ["x"]}), "originator filtering is not supported"),
        (
            json!({"parentThreadId": a, "ancestorThreadId": a}),
            "parentThreadId and ancestorThreadId are mutually exclusive",
        ),
        (json!({"cursor": "zz"}), "invalid cursor: zz"),
    ] {
        assert_eq!(client.refused("thread/list", params).await, text);
    }
    assert!(
        client
            .refused("thread/list", json!({"excludedThreadIds": ["zz"]}))
            .await
            .starts_with("invalid excluded thread id")
    );

    let mut loaded = [a.clone(), b.clone()];
    loaded.sort();
    let first = client.ask("thread/loaded/list", json!({"limit": 1})).await;
    assert_eq!((&first["data"], &first["nextCursor"]), (&json!([loaded[0]]), &json!(loaded[0])));
    let second = client.ask("thread/loaded/list", json!({"cursor": first["nextCursor"]})).await;
    assert_eq!((&second["data"], &second["nextCursor"]), (&json!([loaded[1]]), &Value::Null));
    assert_eq!(client.refused("thread/loaded/list", json!({"cursor": "zz"})).await, "invalid cursor: zz");
}

#[tokio::test]
async fn others_hear_what_a_thread_does_and_its_followers_once() {
    let house = House::new();
    let (mut one, mut two) = (house.client().await, house.client().await);
    let (thread, _) = grown(&house, &mut one, 1).await;
    let statuses = |told: &[Value]| -> Vec<String> {
        let changed = told.iter().filter(|message| message["method"] == "thread/status/changed");
        changed.map(|message| message["params"]["status"]["type"].as_str().unwrap().to_owned()).collect()
    };
    two.request("thread/name/set", json!({"threadId": thread, "name": "marker"})).await;
    let told = two.until("thread/name/updated").await;
    assert_eq!(statuses(&told), ["active", "idle"]);
    assert!(!told.iter().any(|message| message["method"] == "turn/started"), "{told:?}");
    one.until("thread/name/updated").await;
    one.turn(&thread, "again").await;
    // Its own feed has no second copy of them.
    let mut told = Vec::new();
    while statuses(&told).len() < 2
        || told.last().is_some_and(|last: &Value| last["method"] != "turn/completed")
    {
        told.push(one.next().await.unwrap());
    }
    assert_eq!(statuses(&told), ["active", "idle"], "{told:?}");

    two.request("thread/archive", json!({"threadId": thread})).await;
    for client in [&mut one, &mut two] {
        let told = client.until("thread/archived").await;
        assert_eq!(statuses(&told).last().map(String::as_str), Some("notLoaded"));
    }
    let text = one.refused("thread/resume", json!({"threadId": thread})).await;
    assert_eq!(
        text,
        format!("session {thread} is archived. Run `codex unarchive {thread}` to unarchive it first.")
    );
    let text = one.refused("thread/archive", json!({"threadId": thread})).await;
    assert_eq!(text, format!("no rollout found for thread id {thread}"));
    two.ask("thread/unarchive", json!({"threadId": thread})).await;
    one.until("thread/unarchived").await;
    let text = one.refused("thread/unarchive", json!({"threadId": thread})).await;
    assert_eq!(text, format!("no archived rollout found for thread id {thread}"));

    // Nobody follows it any more, and whoever starts a turn waits for its end.
    for method in ["turn/start", "thread/compact/start"] {
        two.ask("thread/archive", json!({"threadId": thread})).await;
        two.ask("thread/unarchive", json!({"threadId": thread})).await;
        let input = json!([{"type": "text", "text": "back"}]);
        two.ask(method, json!({"threadId": thread, "input": input})).await;
        let told = two.until("turn/completed").await;
        assert!(told.iter().any(|message| message["method"] == "turn/started"), "{method}: {told:?}");
    }
}

#[tokio::test]
async fn resuming_restores_settings_and_warns_of_another_model() {
    let before = House::new();
    let mut client = before.client().await;
    let start = json!({"model": "model-a", "permissions": ":workspace", "threadSource": "user", "config": {"model_reasoning_effort": "high"}});
    let started = client.ask("thread/start", start).await;
    assert_eq!(started["activePermissionProfile"]["id"], ":workspace");
    assert_eq!(started["thread"]["cliVersion"], "1.2");
    let thread = started["thread"]["id"].as_str().unwrap().to_owned();
    let turn = client.turn(&thread, "hi").await;
    client.until("turn/completed").await;
    before.stop.cancel();

    let after = House::over(before.store);
    let mut client = after.client().await;
    let mut other = after.client().await;
    let resumed = client.ask("thread/resume", json!({"threadId": thread, "excludeTurns": true})).await;
    let used = client.until("thread/tokenUsage/updated").await.pop().unwrap();
    assert_eq!((&used["params"]["threadId"], &used["params"]["turnId"]), (&json!(thread), &json!(turn)));
    let loaded = other.until("thread/status/changed").await.pop().unwrap();
    assert_eq!(loaded["params"]["status"], json!({"type": "idle"}));
    for field in [
        "model",
        "modelProvider",
        "cwd",
        "sandbox",
        "approvalPolicy",
        "activePermissionProfile",
        "reasoningEffort",
    ] {
        assert_eq!(resumed[field], started[field], "{field}");
    }
    for field in ["cliVersion", "originator", "threadSource", "source", "createdAt", "sessionId", "path"] {
        assert_eq!(resumed["thread"][field], started["thread"][field], "{field}");
    }
    let other =
        client.refused("thread/resume", json!({"threadId": thread, "modelProvider": "elsewhere"})).await;
    assert!(other.starts_with("Cannot change this thread's model provider"), "{other}");
    client
        .request("thread/resume", json!({"threadId": thread, "model": "model-b", "sandbox": "read-only"}))
        .await;
    let told = client.until("warning").await;
    let [.., answer, warning] = &told[..] else { panic!("{told:?}") };
    assert_eq!(
        (&answer["result"]["model"], &answer["result"]["reasoningEffort"]),
        (&json!("model-b"), &Value::Null)
    );
    assert_eq!(answer["result"]["activePermissionProfile"], Value::Null, "a sandbox by itself has no name");
    assert!(warning["params"]["message"].as_str().unwrap().contains("`model-a`"), "{warning}");
}
