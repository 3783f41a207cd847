//! Stopping and steering turns.

use std::time::Duration;

use agent_session::{Failure, FailureFault};
use serde_json::{Value, json};

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

/// How a turn ends whose call fails like this: the error of its `error` notification and of the turn itself.
async fn failed_with(
    fault: FailureFault,
    reason: &str,
    http_status: Option<u16>,
    code: Option<&str>,
) -> Value {
    let house = House::new();
    let mut client = house.client().await;
    let thread = client.thread().await;
    house.gateway.reply(Reply::Fail(Failure {
        reason: reason.to_owned(),
        fault,
        message: "in words".to_owned(),
        retryable: false,
        retry_delay: None,
        http_status,
        code: code.map(str::to_owned),
    }));
    client.turn(&thread, "fail").await;
    let told = client.until("turn/completed").await;
    let error = told.iter().find(|message| message["method"] == "error").unwrap();
    let turn = &told.last().unwrap()["params"]["turn"];
    assert_eq!((&error["params"]["willRetry"], &turn["status"]), (&json!(false), &json!("failed")));
    assert_eq!(error["params"]["error"], turn["error"]);
    assert_eq!(turn["error"]["message"], "in words");
    turn["error"]["codexErrorInfo"].clone()
}

#[tokio::test]
async fn every_failure_is_told_as_clients_know_it() {
    use FailureFault::{Bug, Caller, Credential, Overload, Policy, Upstream};
    for (fault, reason, status, code, info) in [
        (
            Upstream,
            "upstream_refused",
            Some(400),
            Some("context_length_exceeded"),
            json!("contextWindowExceeded"),
        ),
        (Overload, "upstream_refused", Some(429), Some("usage_limit_reached"), json!("usageLimitExceeded")),
        (Overload, "usage_limit_exceeded", None, None, json!("usageLimitExceeded")),
        (Overload, "response_failed", None, Some("rate_limit_exceeded"), json!("rateLimitExceeded")),
        (Overload, "upstream_refused", Some(503), Some("server_is_overloaded"), json!("serverOverloaded")),
        (
            Overload,
            "upstream_refused",
            Some(429),
            None,
            json!({"responseTooManyFailedAttempts": {"httpStatusCode": 429}}),
        ),
        (Credential, "upstream_unauthorized", Some(401), None, json!("unauthorized")),
        (Policy, "model_denied", None, None, json!("inferenceHookDenied")),
        (Upstream, "response_failed", None, Some("cyber_policy"), json!("cyberPolicy")),
        (Caller, "model_not_found", Some(404), None, json!("modelNotFound")),
        (Caller, "invalid_request", Some(400), None, json!("badRequest")),
        (
            Upstream,
            "upstream_unreachable",
            None,
            None,
            json!({"httpConnectionFailed": {"httpStatusCode": null}}),
        ),
        (
            Upstream,
            "stream_broken",
            None,
            None,
            json!({"responseStreamDisconnected": {"httpStatusCode": null}}),
        ),
        (Upstream, "upstream_refused", Some(500), None, json!("internalServerError")),
        (Bug, "internal", None, None, json!("internalServerError")),
    ] {
        assert_eq!(failed_with(fault, reason, status, code).await, info, "{reason} {status:?} {code:?}");
    }
}

#[tokio::test]
async fn a_lost_connection_is_told_as_one_that_is_made_again() {
    let house = House::new();
    let mut client = house.client().await;
    let thread = client.thread().await;
    house.gateway.reply(Reply::Lose);
    house.gateway.reply(Reply::Say("whole".to_owned()));
    let turn = client.turn(&thread, "hello").await;
    let told = tokio::time::timeout(Duration::from_secs(10), client.until("turn/completed")).await.unwrap();
    let errors: Vec<_> = told.iter().filter(|message| message["method"] == "error").collect();
    assert_eq!(errors.len(), 1, "{told:?}");
    let params = &errors[0]["params"];
    assert_eq!((&params["willRetry"], &params["turnId"]), (&json!(true), &json!(turn)));
    assert_eq!(params["error"]["message"], "Reconnecting... 1/5");
    assert_eq!(
        params["error"]["codexErrorInfo"],
        json!({"responseStreamDisconnected": {"httpStatusCode": null}})
    );
    assert_eq!(params["error"]["additionalDetails"], "stream closed before the response was complete");
    let turn = &told.last().unwrap()["params"]["turn"];
    assert_eq!((&turn["status"], &turn["error"]), (&json!("completed"), &Value::Null));
}
