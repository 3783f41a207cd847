//! The gRPC surface with clients that others made: gRPC's own Python library, and `buf curl`, which knows nothing of the
//! contract but what reflection tells it.

use gateway_testkit::{Gate, Reply};
use serde_json::{Value, json};
use service_e2e::door::{DENYING_RULE, Door};
use service_e2e::stack::{self, CATALOG_MODEL, MODEL, UPSTREAM_KEY};
use service_e2e::tap::Tap;
use service_e2e::{clients, home::Home, places, provision};

/// A compressed body of more than a megabyte takes less than this, with all the other calls.
const BYTES_MAX: usize = 200_000;

async fn told(test: &str, door: &Door) -> anyhow::Result<Option<Value>> {
    let Some(python) = provision::grpcio(test).await? else { return Ok(None) };
    let tap = Tap::before(door.gateway.at).await?;
    let (home, protos) = (Home::new()?, places::repository()?.join("proto"));
    let target = tap.url().replace("http://", "");
    let protos = protos.display().to_string();
    let arguments = [target.as_str(), &protos, MODEL, CATALOG_MODEL];
    let script = clients::python(&python, &home, &door.key, "grpcio_calls.py", &arguments);
    let output = clients::run(script).await?.success()?;
    assert!(tap.bytes_asked() < BYTES_MAX, "{} bytes", tap.bytes_asked());
    Ok(Some(serde_json::from_str(&output.stdout)?))
}

#[tokio::test]
async fn grpc_s_own_library_understands_everything() -> anyhow::Result<()> {
    let name = "grpc_s_own_library_understands_everything";
    let door = Door::open("").await?;
    let upstream = &door.upstream;
    upstream.push(stack::says("resp_plain", &["High ", "water."]));
    upstream.push(stack::says("resp_gzip", &["Low ", "water."]));
    let limited = json!({"error": {"message": "slow down", "type": "t", "code": "rate_limit_exceeded"}});
    upstream.push(Reply::json(429, &limited).header("retry-after", "7"));
    let late = stack::says("resp_late", &["Slack ", "water."]);
    let half = late.body().len() / 2;
    upstream.push(late.stall_after(half, &Gate::closed()));
    let Some(told) = told(name, &door).await? else { return Ok(()) };

    assert_eq!(told["health"], "SERVING");
    let refused = [
        ("stranger", "UNAUTHENTICATED", "unauthenticated", "FAULT_CALLER"),
        ("unknown_key", "UNAUTHENTICATED", "unauthenticated", "FAULT_CALLER"),
        ("stranger_models", "UNAUTHENTICATED", "unauthenticated", "FAULT_CALLER"),
        ("unknown_model", "NOT_FOUND", "model_not_found", "FAULT_CALLER"),
        ("denied", "PERMISSION_DENIED", "policy_denied", "FAULT_POLICY"),
        ("limited", "RESOURCE_EXHAUSTED", "upstream_rate_limited", "FAULT_OVERLOAD"),
    ];
    for (call, code, reason, fault) in refused {
        let told = &told[call];
        let seen = (&told["code"], &told["reason"], &told["fault"]);
        assert_eq!(seen, (&json!(code), &json!(reason), &json!(fault)), "{call}: {told}");
    }
    assert!(told["denied"]["message"].as_str().unwrap().contains(DENYING_RULE), "{told}");
    assert_eq!((&told["limited"]["upstream"], &told["limited"]["delay"]), (&json!(429), &json!(7)));
    assert_eq!(told["models"], json!([MODEL]), "a list without what a rule denies");
    for (call, id, text) in
        [("plain", "resp_plain", "High water."), ("compressed", "resp_gzip", "Low water.")]
    {
        let told = &told[call];
        assert_eq!((&told["id"], &told["text"]), (&json!(id), &json!(text)), "{call}: {told}");
        assert_eq!((&told["status"], &told["output"]), (&json!(200), &json!(70)), "{call}: {told}");
    }
    // The deadline is the caller's; what ran for it at the provider ends with it.
    let late = &told["late"];
    assert_eq!(late["code"], "DEADLINE_EXCEEDED", "{late}");
    assert!(late["events"].as_u64().unwrap() > 0, "{late}");
    upstream.wait_cancelled(1).await?;
    let calls = upstream.requests();
    assert_eq!(calls.len(), 4);
    assert!(calls[1].json()["input"].as_str().unwrap().len() > 1_000_000);
    for call in calls {
        assert_eq!(call.header("authorization"), Some(format!("Bearer {UPSTREAM_KEY}").as_str()));
    }
    Ok(())
}

#[tokio::test]
async fn a_curl_with_a_key_lists_models() -> anyhow::Result<()> {
    let Some(buf) = provision::buf("a_curl_with_a_key_lists_models").await? else { return Ok(()) };
    let door = Door::open("").await?;
    super::grpc::explains_itself(&buf, &door.gateway.url(), "tidegate.gateway.v1.ModelGatewayService")
        .await?;
    let home = Home::new()?;
    let models = format!("{}/tidegate.gateway.v1.ModelGatewayService/ListModels", door.gateway.url());
    let curl = |header: String| {
        let mut command = clients::on(&home, &buf);
        command.args(["curl", "--http2-prior-knowledge", "--protocol", "grpc", "-d", "{}", "-H", &header]);
        command.arg(&models);
        stack::run(command)
    };
    let listed: Value =
        serde_json::from_str(&curl(format!("authorization: Bearer {}", door.key)).await?.success()?.stdout)?;
    let slugs: Vec<&Value> =
        listed["models"].as_array().unwrap().iter().map(|model| &model["slug"]).collect();
    assert_eq!(slugs, [MODEL]);
    let refused = curl("authorization: Bearer sk-of-somebody".to_owned()).await?;
    assert!(!refused.status.success());
    assert!(refused.stderr.contains("unauthenticated"), "{}", refused.stderr);
    Ok(())
}
