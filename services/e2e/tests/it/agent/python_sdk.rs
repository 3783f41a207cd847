//! The Codex Python SDK, given our agent as its binary.

use anyhow::Context as _;
use gateway_testkit::Upstream;
use serde_json::{Value, json};
use service_e2e::stack::{self, Gateway, MODEL, UPSTREAM_KEY};
use service_e2e::{binaries, clients, home::Home, provision};

#[tokio::test]
async fn a_thread_of_two_turns_over_stdio() -> anyhow::Result<()> {
    let Some(python) = provision::python("a_thread_of_two_turns_over_stdio").await? else { return Ok(()) };
    let upstream = Upstream::start().await?;
    upstream.push(stack::says("resp_one", &["High ", "water."]));
    upstream.push(stack::says("resp_two", &["Low ", "water."]));
    let gateway = Gateway::before(&upstream).await?;
    let home = Home::new()?;
    let agentd = binaries::program("agentd").await?.display().to_string();
    let arguments = [agentd.as_str(), "And now?", "And then?"];
    let mut script = clients::python(&python, &home, "unused", "codex_thread.py", &arguments);
    script.envs(stack::agent_environment(&home, &gateway.socket));
    let output = clients::run(script).await?.success()?;
    let told: Value = serde_json::from_str(&output.stdout).with_context(|| output.stdout.clone())?;

    let turns = told["turns"].as_array().unwrap();
    let said: Vec<_> = turns.iter().map(|turn| (turn["status"].clone(), turn["text"].clone())).collect();
    let completed = |text: &str| (json!("completed"), json!(text));
    assert_eq!(said, [completed("High water."), completed("Low water.")]);
    assert!(turns.iter().all(|turn| turn["output_tokens"] == 70), "{told}");
    let ids: Vec<_> = turns.iter().map(|turn| turn["turn"].clone()).collect();
    assert_eq!(told["history"], json!(ids));
    assert_eq!(told["listed"], json!([told["thread"]]));
    assert!(told["models"].as_array().unwrap().contains(&json!(MODEL)), "{told}");

    let calls = upstream.requests();
    assert_eq!(calls.len(), 2);
    for call in &calls {
        assert_eq!(call.header("authorization"), Some(format!("Bearer {UPSTREAM_KEY}").as_str()));
        assert_eq!(call.header("thread-id"), told["thread"].as_str());
        assert_eq!(call.json()["model"], MODEL);
    }
    // The second call continues the first: what was said before is said again, byte for byte, for the cache.
    let (first, second) = (calls[0].json(), calls[1].json());
    let [first, second] = [&first, &second].map(|body| body["input"].as_array().unwrap());
    assert!(second.len() > first.len() && second.starts_with(first));
    assert!(second.iter().any(|item| item["role"] == "assistant"));
    Ok(())
}
