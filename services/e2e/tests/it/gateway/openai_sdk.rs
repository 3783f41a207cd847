//! The OpenAI SDK through the gateway: calls, streams, lists, and errors that it knows by type.

use std::path::PathBuf;

use anyhow::Context as _;
use gateway_testkit::{Reply, Turn, Upstream};
use serde_json::{Value, json};
use service_e2e::stack::{self, CALLER_KEY, CATALOG_MODEL, Gateway, MODEL, UPSTREAM_KEY};
use service_e2e::{clients, home::Home, provision};

struct Sdk {
    python: PathBuf,
    home: Home,
    base: String,
}

impl Sdk {
    async fn of(test: &str, gateway: &Gateway) -> anyhow::Result<Option<Self>> {
        let Some(python) = provision::python(test).await? else { return Ok(None) };
        Ok(Some(Self { python, home: Home::new()?, base: format!("{}/v1", gateway.url()) }))
    }

    async fn told(&self, act: &str, parameters: Value) -> anyhow::Result<Value> {
        let parameters = parameters.to_string();
        let arguments = [self.base.as_str(), act, &parameters];
        let script = "openai_responses.py";
        let script = clients::python(&self.python, &self.home, CALLER_KEY, script, &arguments);
        let output = clients::run(script).await?.success()?;
        serde_json::from_str(&output.stdout).with_context(|| output.stdout.clone())
    }
}

#[tokio::test]
async fn calls_streams_and_lists_work() -> anyhow::Result<()> {
    let upstream = Upstream::start().await?;
    let gateway = Gateway::before(&upstream).await?;
    let Some(sdk) = Sdk::of("calls_streams_and_lists_work", &gateway).await? else { return Ok(()) };
    let usage = json!({"input": 1100, "output": 70});

    let document = Turn::new("resp_one").model(MODEL).text(&["High ", "water."]).json(stack::usage());
    upstream.push(Reply::json(200, &document));
    let told = sdk.told("create", json!({"model": MODEL, "input": "And now?"})).await?;
    let expected = json!({"id": "resp_one", "status": "completed", "text": "High water.", "usage": usage});
    assert_eq!(told, expected);

    upstream.push(stack::says("resp_two", &["Low ", "water."]));
    let told = sdk.told("stream", json!({"model": MODEL, "input": "And then?"})).await?;
    assert_eq!((&told["text"], &told["id"]), (&json!("Low water."), &json!("resp_two")), "{told}");
    assert_eq!(told["usage"], usage);
    assert_eq!(told["events"].as_array().unwrap().last(), Some(&json!("response.completed")));

    let told = sdk.told("models", json!({})).await?;
    assert_eq!(told, json!({"models": [MODEL, CATALOG_MODEL]}));
    for call in upstream.requests() {
        assert_eq!(call.header("authorization"), Some(format!("Bearer {UPSTREAM_KEY}").as_str()));
    }
    Ok(())
}

#[tokio::test]
async fn errors_arrive_as_the_types_that_programs_catch() -> anyhow::Result<()> {
    let upstream = Upstream::start().await?;
    let gateway = Gateway::before(&upstream).await?;
    let name = "errors_arrive_as_the_types_that_programs_catch";
    let Some(sdk) = Sdk::of(name, &gateway).await? else { return Ok(()) };

    let own = [
        ("create", json!({"model": "nobody-s", "input": "x"}), "BadRequestError", 400, "model_not_found"),
        ("create", json!({"model": 7, "input": "x"}), "BadRequestError", 400, "invalid_request"),
        ("raw", json!({"path": "/responses", "body": "{"}), "BadRequestError", 400, "invalid_request"),
        ("raw", json!({"path": "/nowhere", "body": "{}"}), "NotFoundError", 404, "not_found"),
    ];
    for (act, parameters, kind, status, code) in own {
        let told = sdk.told(act, parameters.clone()).await?;
        let seen = (&told["error"], &told["status"], &told["code"]);
        assert_eq!(seen, (&json!(kind), &json!(status), &json!(code)), "{parameters}: {told}");
    }
    assert_eq!(upstream.requests().len(), 0);

    let theirs = [(429, "RateLimitError"), (401, "AuthenticationError"), (500, "InternalServerError")];
    for (status, kind) in theirs {
        let body = json!({"error": {"message": "no", "type": "t", "code": "told", "param": null}});
        upstream.push(Reply::json(status, &body));
        let told = sdk.told("create", json!({"model": MODEL, "input": "x"})).await?;
        let seen = (&told["error"], &told["status"], &told["code"]);
        assert_eq!(seen, (&json!(kind), &json!(status), &json!("told")), "{told}");
    }

    // A stream that breaks is a failed response, not a hang and not a success.
    let frames = Turn::new("resp_cut").model(MODEL).text(&["One ", "two."]).completed(stack::usage());
    let at = frames.iter().take(5).map(bytes::Bytes::len).sum();
    upstream.push(Reply::sse(frames).reset_after(at));
    let told = sdk.told("stream", json!({"model": MODEL, "input": "x"})).await?;
    assert_eq!(told["events"].as_array().unwrap().last(), Some(&json!("response.failed")), "{told}");
    assert_eq!(upstream.faults().resets, 1);
    Ok(())
}

/// Without any account: the scripted model that a fresh machine starts with.
#[tokio::test]
async fn the_rehearsal_serves_the_sdk() -> anyhow::Result<()> {
    let gateway = Gateway::start("").await?;
    let Some(sdk) = Sdk::of("the_rehearsal_serves_the_sdk", &gateway).await? else { return Ok(()) };
    let told = sdk.told("models", json!({})).await?;
    assert!(told["models"].as_array().unwrap().contains(&json!("rehearsal-short")), "{told}");
    let call = json!({"model": "rehearsal-short", "input": "Say something."});
    let told = sdk.told("create", call.clone()).await?;
    assert_eq!(told["status"], "completed", "{told}");
    assert!(!told["text"].as_str().unwrap().is_empty() && told["usage"]["output"].as_u64().unwrap() > 0);
    let streamed = sdk.told("stream", call).await?;
    assert!(!streamed["text"].as_str().unwrap().is_empty(), "{streamed}");
    let events = streamed["events"].as_array().unwrap();
    assert_eq!(events.first(), Some(&json!("response.created")));
    assert_eq!(events.last(), Some(&json!("response.completed")));
    let limited = json!({"model": "rehearsal", "input": "rehearse: error rate_limit"});
    assert_eq!(sdk.told("create", limited).await?["error"], "RateLimitError");
    Ok(())
}
