//! A whole conversation with agentd: every message that it sends follows the schema of the pinned Codex.

use gateway_testkit::{Gate, Reply, Turn};
use serde_json::{Value, json};
use service_e2e::rpc::Rpc;
use service_e2e::stack::{self, MODEL};
use service_e2e::{provision, schema::Protocol};

use super::{Desk, input, start_thread, start_turn};

/// What the terminal client asks for before its first prompt.
fn start_up(work: &str) -> Vec<(&'static str, Value)> {
    vec![
        ("account/read", json!({})),
        ("model/list", json!({"modelProvider": null, "cursor": null, "limit": null, "includeHidden": true})),
        ("hooks/list", json!({"cwds": [work], "threadId": null})),
        ("account/bedrock/checkGovCloudRequirements", json!({})),
        ("config/read", json!({"includeLayers": true, "cwd": "."})),
        ("configRequirements/read", Value::Null),
        ("collaborationMode/list", json!({})),
        ("skills/list", json!({"cwds": [work], "forceReload": true})),
        ("thread/loaded/list", json!({"cursor": null, "limit": null})),
        ("thread/list", json!({"sourceKinds": ["cli", "vscode"], "limit": 25, "sortKey": "updated_at"})),
        ("plugin/installed", json!({"cwds": [work], "installSuggestionPluginNames": null})),
    ]
}

fn thinking(response_id: &str) -> Reply {
    let turn = Turn::new(response_id).model(MODEL).reasoning(&["The moon ", "pulls."], "sealed");
    Reply::sse(turn.text(&["At ", "noon."]).completed(stack::usage()))
        .header("x-codex-primary-used-percent", "12.5")
        .header("x-codex-primary-window-minutes", "300")
        .header("x-codex-primary-reset-at", "1795170000")
}

/// The methods and answers on a connection, from the answer to the last `turn/start` on.
fn order(rpc: &Rpc) -> Vec<String> {
    let told = |message: &Value| match message["method"].as_str() {
        Some("thread/status/changed") => {
            format!("status {}", message["params"]["status"]["type"].as_str().unwrap())
        }
        Some(method @ ("item/started" | "item/completed")) => {
            format!("{method} {}", message["params"]["item"]["type"].as_str().unwrap())
        }
        Some(method) => method.to_owned(),
        None => "answer".to_owned(),
    };
    let from = rpc.received().iter().rposition(|received| received.asked.as_deref() == Some("turn/start"));
    rpc.received()[from.unwrap()..].iter().map(|received| told(&received.message)).collect()
}

#[tokio::test]
async fn every_message_follows_the_schema() -> anyhow::Result<()> {
    let Some(codex) = provision::codex("every_message_follows_the_schema").await? else { return Ok(()) };
    let protocol = Protocol::generate(&codex).await?;
    let desk = Desk::start().await?;
    let mut rpc = Rpc::connect(&desk.agent.url).await?;
    rpc.refused("model/list", json!({})).await?;
    let hello = rpc.initialize().await?;
    assert!(hello["userAgent"].as_str().unwrap().contains('/'), "{hello}");
    rpc.refused("initialize", json!({"clientInfo": {"name": "again", "version": "1"}})).await?;
    for (method, params) in start_up(&desk.home.work().display().to_string()) {
        rpc.call(method, params).await?;
    }

    // The provider has told no limits yet.
    let limits = rpc.call("account/rateLimits/read", Value::Null).await?;
    assert_eq!(limits["rateLimits"]["primary"], Value::Null);

    let thread = completed_turn(&desk, &mut rpc).await?;
    let mut second = desk.client().await?;
    history(&mut second, &thread).await?;
    interrupted_turn(&desk, &mut rpc, &thread).await?;
    failed_turns(&desk, &mut rpc, &thread).await?;
    refusals(&mut rpc, &thread).await?;
    edits(&mut rpc, &thread).await?;
    lifecycle(&mut rpc, &thread).await?;

    let mut checked = 0;
    let mut wrong = Vec::new();
    for received in rpc.received().iter().chain(second.received()) {
        checked += 1;
        if let Err(error) = protocol.check(&received.message, received.asked.as_deref()) {
            wrong.push(format!("{error:#}\n{}", received.message));
        }
    }
    assert!(wrong.is_empty(), "{} of {checked} are wrong:\n{}", wrong.len(), wrong.join("\n\n"));
    assert!(checked > 100, "{checked}");
    Ok(())
}

async fn completed_turn(desk: &Desk, rpc: &mut Rpc) -> anyhow::Result<String> {
    let thread = start_thread(rpc).await?;
    rpc.notified("thread/started").await?;
    rpc.refused("thread/turns/list", json!({"threadId": thread})).await?;
    desk.upstream.push(thinking("resp_done"));
    start_turn(rpc, &thread, "When does the tide turn?").await?;
    let ended = rpc.notified("turn/completed").await?;
    assert_eq!(ended["turn"]["status"], "completed", "{ended}");
    let told = order(rpc);
    let told: Vec<&str> = told.iter().map(String::as_str).collect();
    let expected = [
        "answer",
        "status active",
        "turn/started",
        "item/started userMessage",
        "item/completed userMessage",
        "item/started reasoning",
        "item/started agentMessage",
        "item/agentMessage/delta",
        "item/completed agentMessage",
        "thread/tokenUsage/updated",
        "account/rateLimits/updated",
        "thread/readState/changed",
        "status idle",
        "turn/completed",
    ];
    let mut rest = told.iter();
    for step in expected {
        assert!(rest.any(|told| *told == step), "{step} is not in its place in {told:?}");
    }
    Ok(thread)
}

/// Everything that changes a thread in another way than by talking in it.
async fn edits(rpc: &mut Rpc, thread: &str) -> anyhow::Result<()> {
    let read = rpc.call("thread/read", json!({"threadId": thread})).await?;
    let seen = &read["readState"]["revision"];
    let mark = json!({"threadId": thread, "operation": {"type": "unread"}, "expectedRevision": seen});
    rpc.call("thread/readState/update", mark.clone()).await?;
    rpc.refused("thread/readState/update", mark).await?;
    rpc.call("thread/list", json!({"cwd": [], "excludedThreadIds": []})).await?;
    let metadata = json!({"threadId": thread, "gitInfo": {"sha": "abc"}, "daybreakEnabled": false});
    rpc.call("thread/metadata/update", metadata).await?;
    let item = json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x"}]});
    rpc.call("thread/inject_items", json!({"threadId": thread, "items": [item]})).await?;
    let turns = rpc.call("thread/turns/list", json!({"threadId": thread, "sortDirection": "asc"})).await?;
    let (first, last) = (&turns["data"][0]["id"], &turns["data"][1]["id"]);
    let fork = json!({"threadId": thread, "lastTurnId": first, "permissions": ":workspace"});
    let forked = rpc.call("thread/fork", fork).await?;
    rpc.notified("thread/started").await?;
    assert_eq!(forked["thread"]["turns"].as_array().unwrap().len(), 1, "{forked}");
    let anchor = json!({"type": "item", "itemId": turns["data"][0]["items"][0]["id"]});
    rpc.call("thread/items/list", json!({"threadId": thread, "turnId": first, "cursor": anchor})).await?;
    rpc.call("thread/revert", json!({"threadId": thread, "beforeTurnId": last})).await?;
    rpc.notified("thread/reverted").await?;
    rpc.call("thread/resume", json!({"threadId": thread, "model": stack::CATALOG_MODEL})).await?;
    rpc.notified("warning").await?;
    Ok(())
}

async fn history(rpc: &mut Rpc, thread: &str) -> anyhow::Result<()> {
    let read = rpc.call("thread/read", json!({"threadId": thread, "includeTurns": true})).await?;
    assert_eq!(read["thread"]["turns"].as_array().unwrap().len(), 1, "{read}");
    let listed = rpc.call("thread/list", json!({})).await?;
    assert_eq!(listed["data"][0]["id"], *thread, "{listed}");
    let resumed = rpc.call("thread/resume", json!({"threadId": thread, "excludeTurns": true})).await?;
    let page = |cursor: &str| json!({"threadId": thread, "cursor": resumed[cursor], "sortDirection": "desc"});
    let turns = rpc.call("thread/turns/list", page("turnsBackwardsCursor")).await?;
    assert_eq!(turns["data"].as_array().unwrap().len(), 1, "{turns}");
    let items = rpc.call("thread/items/list", page("itemsBackwardsCursor")).await?;
    assert!(items["data"].as_array().unwrap().len() >= 2, "{items}");
    rpc.call("thread/resume", json!({"threadId": thread})).await?;
    for method in ["thread/goal/get", "thread/backgroundTerminals/list"] {
        rpc.ask(method, json!({"threadId": thread})).await?;
    }
    Ok(())
}

async fn interrupted_turn(desk: &Desk, rpc: &mut Rpc, thread: &str) -> anyhow::Result<()> {
    let reply = stack::says("resp_held", &["One ", "two."]);
    let half = reply.body().len() / 2;
    let held = reply.stall_after(half, &Gate::closed());
    // The second is for the call that the message brings about.
    desk.upstream.push(held.clone());
    desk.upstream.push(held);
    let calls = desk.upstream.calls();
    let turn = start_turn(rpc, thread, "Wait.").await?;
    // Pieces of the turn before may not have been asked for yet.
    while rpc.notified("item/agentMessage/delta").await?["turnId"] != json!(turn) {}
    let steer = json!({"threadId": thread, "input": input("And hurry."), "expectedTurnId": turn});
    rpc.call("turn/steer", steer).await?;
    rpc.refused("turn/interrupt", json!({"threadId": thread, "turnId": "another"})).await?;
    desk.upstream.wait_for_request(calls + 2).await?;
    rpc.call("turn/interrupt", json!({"threadId": thread, "turnId": turn})).await?;
    let ended = rpc.notified("turn/completed").await?;
    assert_eq!(ended["turn"]["status"], "interrupted", "{ended}");
    desk.upstream.wait_cancelled(1).await?;
    rpc.refused("turn/interrupt", json!({"threadId": thread, "turnId": turn})).await?;
    Ok(())
}

async fn failed_turns(desk: &Desk, rpc: &mut Rpc, thread: &str) -> anyhow::Result<()> {
    let refusals = [
        (400, "context_length_exceeded", "contextWindowExceeded"),
        (429, "usage_limit_reached", "usageLimitExceeded"),
    ];
    for (status, code, info) in refusals {
        let body = json!({"error": {"message": "the sea is closed", "type": code, "code": code}});
        desk.upstream.push(Reply::json(status, &body));
        start_turn(rpc, thread, "Fail.").await?;
        let error = rpc.notified("error").await?;
        assert_eq!(
            (&error["willRetry"], &error["error"]["codexErrorInfo"]),
            (&json!(false), &json!(info)),
            "{error}"
        );
        let ended = rpc.notified("turn/completed").await?;
        assert_eq!(ended["turn"]["status"], "failed", "{ended}");
        assert!(ended["turn"]["error"]["message"].as_str().unwrap().contains("the sea is closed"), "{ended}");
    }
    // A model that nobody serves is found out by its first turn, as with Codex.
    let unknown = rpc.call("thread/start", json!({"model": "nobody-s", "ephemeral": true})).await?;
    start_turn(rpc, unknown["thread"]["id"].as_str().unwrap(), "Fail.").await?;
    let ended = rpc.notified("turn/completed").await?;
    assert_eq!(ended["turn"]["status"], "failed", "{ended}");
    assert!(ended["turn"]["error"]["message"].as_str().unwrap().contains("nobody-s"), "{ended}");
    assert_eq!(rpc.notified("error").await?["willRetry"], false);
    // A stream that breaks is told, and tried again.
    let whole = stack::says("resp_broken", &["One ", "two."]);
    let half = whole.body().len() / 2;
    desk.upstream.push(whole.end_after(half));
    desk.upstream.push(thinking("resp_again"));
    start_turn(rpc, thread, "Try.").await?;
    assert_eq!(rpc.notified("error").await?["willRetry"], true);
    assert_eq!(rpc.notified("turn/completed").await?["turn"]["status"], "completed");
    Ok(())
}

async fn refusals(rpc: &mut Rpc, thread: &str) -> anyhow::Result<()> {
    let foreign = "01a1f863-0000-7f93-9710-f7d10b25b017";
    let refused = [
        ("foo/bar", json!({})),
        ("thread/start", json!({"approvalPolicy": "sometimes"})),
        ("thread/read", json!({"threadId": foreign})),
        ("thread/read", json!({"threadId": "no id"})),
        ("thread/read", json!({"threadId": 7})),
        ("thread/read", Value::Null),
        ("thread/resume", json!({"threadId": foreign})),
        ("thread/items/list", json!({"threadId": foreign})),
        ("thread/turns/list", json!({"threadId": thread, "cursor": "nonsense"})),
        ("turn/start", json!({"threadId": foreign, "input": input("x")})),
        ("turn/start", json!({"threadId": thread})),
        ("turn/start", json!({"threadId": thread, "input": [{"type": "odd"}]})),
        ("turn/steer", json!({"threadId": thread, "input": input("x"), "expectedTurnId": foreign})),
        ("turn/interrupt", json!({"threadId": foreign, "turnId": foreign})),
    ];
    for (method, params) in refused {
        let error = rpc.refused(method, params.clone()).await?;
        assert!(error["message"].as_str().unwrap().len() > 10, "{method} {params}: {error}");
    }
    Ok(())
}

async fn lifecycle(rpc: &mut Rpc, thread: &str) -> anyhow::Result<()> {
    rpc.call("thread/name/set", json!({"threadId": thread, "name": "Tides"})).await?;
    rpc.notified("thread/name/updated").await?;
    let of = || json!({"threadId": thread});
    rpc.call("thread/settings/update", json!({"threadId": thread, "effort": "low"})).await?;
    for method in ["thread/archive", "thread/unarchive", "thread/unsubscribe", "thread/delete"] {
        rpc.call(method, of()).await?;
    }
    rpc.refused("thread/read", of()).await?;
    Ok(())
}
