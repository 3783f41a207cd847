//! A turn of several calls over the provider's WebSocket: after the first, each sends only what is new.

use gateway_testkit::{SocketScript, Turn, Upstream, messages};
use serde_json::{Value, json};
use service_e2e::home::Home;
use service_e2e::rpc::Rpc;
use service_e2e::stack::{self, Agent, Gateway, MODEL};

use super::{start_thread, start_turn, texts};

fn calls(response_id: &str, call_id: &str) -> Vec<String> {
    let turn = Turn::new(response_id).model(MODEL);
    messages(turn.function_call(call_id, "look", &json!({"at": "tide"})).completed(stack::usage()))
}

fn says(response_id: &str, text: &str) -> Vec<String> {
    messages(Turn::new(response_id).model(MODEL).text(&[text]).completed(stack::usage()))
}

fn kinds(message: &Value) -> Vec<&str> {
    message["input"].as_array().unwrap().iter().map(|item| item["type"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_turn_continues_on_one_socket_and_goes_on_whole_when_that_is_gone() -> anyhow::Result<()> {
    let upstream = Upstream::start().await?;
    let config = format!("{}supports_websockets = true\n", stack::provider(&upstream));
    let gateway = Gateway::start(&config).await?;
    let home = Home::new()?;
    let agent = Agent::start(&home, &gateway).await?;
    let script = SocketScript::new().answer(calls("resp_1", "one")).answer(calls("resp_2", "two"));
    upstream.push_socket(script.answer(says("resp_3", "High.")));
    let mut rpc = Rpc::connect(&agent.url).await?;
    rpc.initialize().await?;
    let thread = start_thread(&mut rpc).await?;
    start_turn(&mut rpc, &thread, "How high is it?").await?;
    let ended = rpc.notified("turn/completed").await?;
    assert_eq!(texts(&ended["turn"], "agentMessage"), ["High."], "{ended}");

    let sent: Vec<Value> = upstream.messages().iter().map(|message| message.json()).collect();
    assert_eq!(sent.len(), 3, "{sent:?}");
    assert_eq!(sent[0].get("previous_response_id"), None);
    for (message, previous, call) in [(&sent[1], "resp_1", "one"), (&sent[2], "resp_2", "two")] {
        assert_eq!(message["previous_response_id"], previous);
        assert_eq!(kinds(message), ["function_call_output"]);
        assert_eq!(message["input"][0]["call_id"], call);
    }
    assert_eq!(upstream.sockets().len(), 1);

    // The provider hangs up between two calls of a turn: the next one brings everything, on a socket of its own.
    upstream.push_socket(SocketScript::new().answer(calls("resp_4", "three")).close(1001, "going away"));
    upstream.push_socket(SocketScript::new().answer(says("resp_5", "Low.")));
    start_turn(&mut rpc, &thread, "And now?").await?;
    let ended = rpc.notified("turn/completed").await?;
    assert_eq!(texts(&ended["turn"], "agentMessage"), ["Low."], "{ended}");
    let sent: Vec<Value> = upstream.messages().iter().map(|message| message.json()).collect();
    let last = sent.last().unwrap();
    assert_eq!(last.get("previous_response_id"), None);
    assert_eq!(kinds(last).last(), Some(&"function_call_output"));
    assert!(last.to_string().contains("How high is it?"), "{last}");
    Ok(())
}
