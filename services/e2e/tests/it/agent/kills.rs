//! Either service is killed in the middle of a turn: the other side is told, nothing hangs, nothing accepted is lost.

use gateway_testkit::{Gate, Reply};
use serde_json::json;
use service_e2e::rpc::Rpc;
use service_e2e::stack::{self, Agent};

use super::{Desk, input, start_thread, start_turn, texts};

/// A reply that says something and then holds for ever.
fn held() -> Reply {
    let reply = stack::says("resp_held", &["Half ", "of it."]);
    let half = reply.body().len() / 2;
    reply.stall_after(half, &Gate::closed())
}

#[tokio::test]
async fn a_killed_gateway_fails_the_turn_with_a_typed_error() -> anyhow::Result<()> {
    let desk = Desk::start().await?;
    let mut rpc = desk.client().await?;
    let thread = start_thread(&mut rpc).await?;
    desk.upstream.push(held());
    start_turn(&mut rpc, &thread, "Tell me all.").await?;
    rpc.notified("item/agentMessage/delta").await?;

    desk.gateway.service.kill().await?;
    let error = rpc.notified("error").await?;
    assert!(
        error["error"]["codexErrorInfo"].is_object() || error["error"]["codexErrorInfo"].is_string(),
        "{error}"
    );
    let ended = rpc.notified("turn/completed").await?;
    assert_eq!(ended["turn"]["status"], "failed", "{ended}");
    assert!(!ended["turn"]["error"]["codexErrorInfo"].is_null(), "{ended}");
    desk.upstream.wait_cancelled(1).await?;

    // The agent serves on.
    let read = rpc.call("thread/read", json!({"threadId": thread, "includeTurns": true})).await?;
    assert_eq!(texts(&read["thread"]["turns"][0], "userMessage"), ["Tell me all."]);
    Ok(())
}

#[tokio::test]
async fn a_killed_agent_cancels_the_call_upstream() -> anyhow::Result<()> {
    let desk = Desk::start().await?;
    let mut rpc = desk.client().await?;
    let thread = start_thread(&mut rpc).await?;
    desk.upstream.push(held());
    start_turn(&mut rpc, &thread, "Tell me all.").await?;
    rpc.notified("item/agentMessage/delta").await?;
    desk.agent.service.kill().await?;
    desk.upstream.wait_cancelled(1).await?;
    assert_eq!(service_e2e::http::get(desk.gateway.at, "/readyz").await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn a_killed_agent_shows_the_thread_as_it_was_accepted() -> anyhow::Result<()> {
    let Desk { upstream, gateway, agent, home } = Desk::start().await?;
    let mut rpc = Rpc::connect(&agent.url).await?;
    rpc.initialize().await?;
    let thread = start_thread(&mut rpc).await?;
    upstream.push(stack::says("resp_first", &["First ", "answer."]));
    start_turn(&mut rpc, &thread, "First prompt.").await?;
    rpc.notified("turn/completed").await?;
    upstream.set_default(held());
    let message =
        json!({"threadId": thread, "input": input("Second prompt."), "clientUserMessageId": "mine"});
    let accepted = rpc.call("turn/start", message.clone()).await?["turn"]["id"].clone();
    // Whether the model was called already does not matter.
    agent.service.kill().await?;

    let agent = Agent::start(&home, &gateway).await?;
    let mut rpc = Rpc::connect(&agent.url).await?;
    rpc.initialize().await?;
    let listed = rpc.call("thread/list", json!({})).await?;
    let ids: Vec<_> = listed["data"].as_array().unwrap().iter().map(|thread| thread["id"].clone()).collect();
    assert_eq!(ids, [json!(thread)]);
    let read = rpc.call("thread/read", json!({"threadId": thread, "includeTurns": true})).await?;
    let turns = read["thread"]["turns"].as_array().unwrap();
    let seen: Vec<_> = turns.iter().map(|turn| turn["status"].as_str().unwrap()).collect();
    assert_eq!(seen, ["completed", "interrupted"], "{read}");
    assert_eq!(turns[1]["id"], accepted);
    assert_eq!(texts(&turns[0], "userMessage"), ["First prompt."]);
    assert_eq!(texts(&turns[0], "agentMessage"), ["First answer."]);
    assert_eq!(texts(&turns[1], "userMessage"), ["Second prompt."]);

    // A client that did not hear the answer sends its message again: it is the same message.
    rpc.call("thread/resume", json!({"threadId": thread})).await?;
    upstream.set_default(stack::says("resp_third", &["Third."]));
    rpc.call("turn/start", message).await?;
    start_turn(&mut rpc, &thread, "Third prompt.").await?;
    rpc.notified("turn/completed").await?;
    let read = rpc.call("thread/read", json!({"threadId": thread, "includeTurns": true})).await?;
    let turns = read["thread"]["turns"].as_array().unwrap();
    let said: Vec<_> = turns.iter().flat_map(|turn| texts(turn, "userMessage")).collect();
    assert_eq!(said.iter().filter(|text| *text == "Second prompt.").count(), 1, "{said:?}");
    assert!(said.contains(&"Third prompt.".to_owned()), "{said:?}");
    Ok(())
}

/// A gateway that comes back at the same place is used again without a restart of the agent.
#[tokio::test]
async fn a_gateway_that_comes_back_is_used_again() -> anyhow::Result<()> {
    let Desk { upstream, gateway, agent, home: _home } = Desk::start().await?;
    let mut rpc = Rpc::connect(&agent.url).await?;
    rpc.initialize().await?;
    let thread = start_thread(&mut rpc).await?;
    let again = gateway.again(&stack::provider(&upstream)).await?;
    upstream.push(stack::says("resp_back", &["Back ", "again."]));
    start_turn(&mut rpc, &thread, "Are you there?").await?;
    let ended = rpc.notified("turn/completed").await?;
    assert_eq!(ended["turn"]["status"], "completed", "{ended}");
    drop(again);
    Ok(())
}
