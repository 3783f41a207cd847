//! The Codex Python SDK, given our agent as its binary.

use anyhow::Context as _;
use gateway_testkit::{Gate, Reply, Turn, Upstream};
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

/// Says something and nothing more, until it is cut off.
fn held() -> Reply {
    let frames = Turn::new("resp_held").model(MODEL).text(&["Well,", " then."]).completed(stack::usage());
    let said = frames.iter().take(5).map(bytes::Bytes::len).sum();
    Reply::sse(frames).stall_after(said, &Gate::closed())
}

#[tokio::test]
async fn a_program_s_day_with_the_sdk() -> anyhow::Result<()> {
    let Some(python) = provision::python("a_program_s_day_with_the_sdk").await? else { return Ok(()) };
    let upstream = Upstream::start().await?;
    let say = |text: &str| stack::says("resp_said", &[text]);
    for reply in [
        stack::says("resp_slow", &["Slow", "ly."]),
        held(),
        say("The moon pulls."),
        held(),
        say(r#"{"tide": "low"}"#),
        say("A chart."),
        say("In the fork."),
        say("What was."),
        say("After."),
    ] {
        upstream.push(reply);
    }
    upstream.set_default(say("One of ten."));
    let gateway = Gateway::before(&upstream).await?;
    let home = Home::new()?;
    let image = home.path("chart.png");
    std::fs::write(&image, b"\x89PNG\r\n\x1a\nchart")?;
    let agentd = binaries::program("agentd").await?.display().to_string();
    let arguments = [agentd.as_str(), image.to_str().unwrap()];
    let mut script = clients::python(&python, &home, "unused", "codex_day.py", &arguments);
    script.envs(stack::agent_environment(&home, &gateway.socket));
    let output = clients::run(script).await?.success()?;
    let told: Value = serde_json::from_str(&output.stdout).with_context(|| output.stdout.clone())?;

    assert_eq!(told["streamed"]["text"], "Slowly.");
    let methods: Vec<&str> = told["streamed"]["methods"]
        .as_array()
        .unwrap()
        .iter()
        .map(|method| method.as_str().unwrap())
        .collect();
    assert_eq!(
        (methods.first(), methods.last()),
        (Some(&"turn/started"), Some(&"turn/completed")),
        "{methods:?}"
    );
    assert_eq!(told["steered"]["text"], "Well,The moon pulls.");
    assert_eq!(told["stopped"]["text"], "Well,");
    assert_eq!(told["structured"], json!({"tide": "low"}));
    assert_eq!(told["seen"], "A chart.");
    assert_eq!(told["forked"], "In the fork.");
    assert_eq!(told["after"], "After.");
    assert_eq!(told["forked_turns"], 6);
    assert_eq!((&told["listed"], &told["archived"]), (&json!([told["thread"]]), &json!([told["fork"]])));
    assert_eq!(told["back"].as_array().unwrap().len(), 2);
    assert_eq!(told["at_once"]["ids"], 10);
    assert_eq!(told["at_once"]["statuses"], json!(vec!["completed"; 20]));

    let calls: Vec<Value> = upstream.requests().iter().map(|call| call.json()).collect();
    let structured = calls.iter().find(|body| body["text"]["format"].is_object()).unwrap();
    assert_eq!(structured["text"]["format"]["schema"]["required"], json!(["tide"]));
    let seen = calls.iter().find(|body| body.to_string().contains("data:image/png;base64,")).unwrap();
    assert!(!seen.to_string().contains("app://chart"), "a mention is for people");
    assert!(calls[7].to_string().contains("has to be condensed"), "{}", calls[7]);
    let after = calls[8].to_string();
    assert!(after.contains("What was.") && !after.contains("A chart."), "{after}");
    Ok(())
}
