//! `codex exec` through the gateway: what people see, and what the provider gets.

use std::path::Path;

use gateway_testkit::{Recorded, Reply, Turn, Upstream};
use serde_json::{Value, json};
use service_e2e::stack::{self, CALLER_KEY, CATALOG_MODEL, Gateway, MODEL, UPSTREAM_KEY};
use service_e2e::{clients, home::Home, provision};

const PROMPT: &str = "When does the tide turn?";

/// Runs one prompt on `home` and returns what Codex printed and what the upstream was asked.
async fn exec(
    codex: &Path,
    home: &Home,
    upstream: &Upstream,
    base: &str,
    model: &str,
) -> anyhow::Result<(String, Vec<Recorded>)> {
    clients::use_gateway(home, base, model)?;
    let asked = upstream.requests().len();
    let output = clients::codex_exec(codex, home, CALLER_KEY, PROMPT).await?.success()?;
    Ok((output.stdout, upstream.requests().split_off(asked)))
}

/// Ids, times and digests differ from run to run, in these characters alone.
fn without_ids(text: &str) -> String {
    text.chars().map(|letter| if letter.is_ascii_hexdigit() { '0' } else { letter }).collect()
}

/// The names and values of the headers that describe the call.
fn described(request: &Recorded) -> Vec<String> {
    let own = ["host", "authorization", "accept", "accept-encoding", "content-length"];
    let told = request.headers.iter().filter(|(name, _)| !own.contains(&name.as_str()));
    let mut told: Vec<String> =
        told.map(|(name, value)| without_ids(&format!("{name}: {}", value.to_str().unwrap()))).collect();
    told.sort();
    told
}

/// The same value without what differs from run to run; Codex writes some objects in any order.
fn settled(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, settled(value))).collect(),
        Value::Array(values) => values.into_iter().map(settled).collect(),
        Value::String(text) => match serde_json::from_str(&text) {
            Ok(inner @ Value::Object(_)) => settled(inner),
            _ => without_ids(&text).into(),
        },
        Value::Number(number) => without_ids(&number.to_string()).into(),
        other => other,
    }
}

async fn the_same_as_without_a_gateway(test: &str, model: &str) -> anyhow::Result<Option<Recorded>> {
    let Some(codex) = provision::codex(test).await? else { return Ok(None) };
    let upstream = Upstream::start().await?;
    upstream.set_default(stack::says("resp_tide", &["The tide ", "turns at ", "noon."]));
    let gateway = Gateway::before(&upstream).await?;
    let home = Home::new()?;
    let direct = format!("http://{}", upstream.address());
    let (_, without) = exec(&codex, &home, &upstream, &direct, model).await?;
    let (printed, through) = exec(&codex, &home, &upstream, &gateway.url(), model).await?;

    assert!(printed.contains("The tide turns at noon."), "{printed}");
    let ([without], [through]) = (without.as_slice(), through.as_slice()) else {
        anyhow::bail!("one call each, not {} and {}", without.len(), through.len());
    };
    assert_eq!(described(through), described(without));
    // Not `assert_eq!`: the bodies are too long to be read.
    assert!(settled(through.json()) == settled(without.json()), "{}", through.json()["client_metadata"]);
    assert_eq!(through.body.len(), without.body.len());
    assert_eq!(through.header("authorization"), Some(format!("Bearer {UPSTREAM_KEY}").as_str()));
    assert!(!format!("{through:?}").contains(CALLER_KEY));
    Ok(Some(through.clone()))
}

#[tokio::test]
async fn codex_exec_reaches_the_provider_as_if_there_were_no_gateway() -> anyhow::Result<()> {
    let name = "codex_exec_reaches_the_provider_as_if_there_were_no_gateway";
    let Some(call) = the_same_as_without_a_gateway(name, MODEL).await? else { return Ok(()) };
    for header in ["session-id", "thread-id", "x-client-request-id", "x-codex-window-id", "user-agent"] {
        assert!(call.header(header).is_some(), "{header}");
    }
    assert_eq!(call.header("originator"), Some("codex_exec"));
    let metadata: Value = serde_json::from_str(call.header("x-codex-turn-metadata").unwrap())?;
    let body = call.json();
    assert_eq!(metadata["thread_id"], json!(call.header("thread-id")));
    assert_eq!(body["client_metadata"]["thread_id"], metadata["thread_id"]);
    assert_eq!((&body["model"], &body["stream"]), (&json!(MODEL), &json!(true)));
    assert!(body["tools"].as_array().is_some_and(|tools| !tools.is_empty()));
    assert_eq!(stack::items(&body).last().unwrap(), &("message".to_owned(), "user".to_owned()));
    Ok(())
}

/// Models of Codex's catalog carry their tools as an input item that no document lists.
#[tokio::test]
async fn a_catalog_model_is_called_in_its_own_way() -> anyhow::Result<()> {
    let name = "a_catalog_model_is_called_in_its_own_way";
    let Some(call) = the_same_as_without_a_gateway(name, CATALOG_MODEL).await? else { return Ok(()) };
    assert_eq!(call.header("x-openai-internal-codex-responses-lite"), Some("true"));
    let body = call.json();
    assert_eq!(stack::items(&body)[0], ("additional_tools".to_owned(), "developer".to_owned()));
    assert!(body["input"][0]["tools"].as_array().is_some_and(|tools| !tools.is_empty()));
    assert_eq!(body.get("tools"), None);
    Ok(())
}

#[tokio::test]
async fn a_turn_with_a_tool_keeps_its_state_and_its_history() -> anyhow::Result<()> {
    let name = "a_turn_with_a_tool_keeps_its_state_and_its_history";
    let Some(codex) = provision::codex(name).await? else { return Ok(()) };
    let upstream = Upstream::start().await?;
    let look = Turn::new("resp_look").model(MODEL).reasoning(&["I look."], "sealed-thought");
    let look = look.function_call("call_1", "exec_command", &json!({"cmd": "echo ebb"}));
    upstream.push(Reply::sse(look.completed(stack::usage())).header("x-codex-turn-state", "sticky-7"));
    upstream.push(stack::says("resp_told", &["It is ebb."]));
    let gateway = Gateway::before(&upstream).await?;
    let home = Home::new()?;
    let (printed, calls) = exec(&codex, &home, &upstream, &gateway.url(), MODEL).await?;
    assert!(printed.contains("It is ebb."), "{printed}");
    let [first, second] = calls.as_slice() else { panic!("two calls, not {}", calls.len()) };
    assert_eq!(first.header("x-codex-turn-state"), None);
    assert_eq!(second.header("x-codex-turn-state"), Some("sticky-7"));
    let items = stack::items(&second.json());
    let kinds: Vec<&str> = items.iter().map(|(kind, _)| kind.as_str()).collect();
    assert!(kinds.ends_with(&["reasoning", "function_call", "function_call_output"]), "{kinds:?}");
    assert!(std::str::from_utf8(&second.body)?.contains("sealed-thought"));
    Ok(())
}

/// The provider's refusal is what Codex shows, and it is not repeated.
#[tokio::test]
async fn a_refusal_of_the_provider_reaches_the_person() -> anyhow::Result<()> {
    let name = "a_refusal_of_the_provider_reaches_the_person";
    let Some(codex) = provision::codex(name).await? else { return Ok(()) };
    let upstream = Upstream::start().await?;
    let told = json!({"error": {"message": "the sea is closed", "type": "t", "code": "c", "param": null}});
    upstream.push(Reply::json(400, &told));
    let gateway = Gateway::before(&upstream).await?;
    let home = Home::new()?;
    clients::use_gateway(&home, &gateway.url(), MODEL)?;
    let output = clients::codex_exec(&codex, &home, CALLER_KEY, PROMPT).await?;
    assert!(!output.status.success());
    assert!(output.stderr.contains("the sea is closed"), "{}", output.stderr);
    assert_eq!(upstream.requests().len(), 1);
    Ok(())
}
