//! Layers of configuration as a client reads, writes and overrides them, and what no client gets beyond.

use agent_server::{Configuration, Requirements, Tenant};
use agent_threads::TenantId;
use serde_json::{Value, json};
use tidegate_proto::agent::v1::CreateThreadRequest;

use crate::client::Client;
use crate::house::House;

fn values(value: Value) -> serde_json::Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn configured() -> House {
    let allowed = |list: Value| list.as_array().cloned();
    House::configured(Configuration {
        file: Some("/etc/agent.toml".into()),
        of_file: values(
            json!({"model": "model-b", "model_reasoning_effort": "low", "sandbox_mode": "danger-full-access"}),
        ),
        tenants: [(
            TenantId::new("acme"),
            Tenant { values: values(json!({"service_tier": "flex"})), ..Tenant::default() },
        )]
        .into(),
        of_environment: values(json!({"model_reasoning_summary": "concise"})),
        of_flags: values(json!({"developer_instructions": "Be brief."})),
        requirements: Requirements {
            approval_policies: allowed(json!(["on-request", "untrusted"])),
            sandbox_modes: allowed(json!(["read-only", "workspace-write"])),
        },
    })
}

async fn write(client: &mut Client, key: &str, value: Value) -> Value {
    let edit = json!({"keyPath": key, "value": value, "mergeStrategy": "replace"});
    client.ask("config/value/write", edit).await
}

#[tokio::test]
async fn values_are_read_with_their_origins_and_layers() {
    let house = configured();
    let mut client = house.client_of("acme").await;
    let read = client.ask("config/read", json!({"includeLayers": true})).await;
    let (config, origins) = (&read["config"], &read["origins"]);
    for (key, value, kind) in [
        ("model", json!("model-b"), Some("system")),
        ("model_provider", json!("scripted"), None),
        ("service_tier", json!("flex"), Some("enterpriseManaged")),
        ("model_reasoning_summary", json!("concise"), Some("enterpriseManaged")),
        ("developer_instructions", json!("Be brief."), Some("sessionFlags")),
        // What is required is nobody's layer.
        ("sandbox_mode", json!("read-only"), None),
        ("approval_policy", json!(null), None),
    ] {
        assert_eq!((&config[key], origins[key]["name"]["type"].as_str()), (&value, kind), "{key}: {read}");
    }
    assert_eq!(origins["model"]["name"]["file"], "/etc/agent.toml");
    let layers = read["layers"].as_array().unwrap();
    let kinds: Vec<_> = layers.iter().map(|layer| layer["name"]["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["sessionFlags", "user", "enterpriseManaged", "enterpriseManaged", "system"]);
    assert!(client.ask("config/read", json!({})).await["layers"].is_null());
    let mut other = house.client_of("other").await;
    assert!(other.ask("config/read", json!({})).await["config"]["service_tier"].is_null());
}

#[tokio::test]
async fn a_user_s_choices_hold_for_that_user_s_next_threads() {
    let house = configured();
    let mut client = house.client_of("acme").await;
    let written = write(&mut client, "model", json!("model-a")).await;
    assert_eq!((&written["status"], &written["overriddenMetadata"]), (&json!("ok"), &json!(null)));
    let read = client.ask("config/read", json!({})).await;
    assert_eq!(
        (&read["config"]["model"], &read["origins"]["model"]["name"]["type"]),
        (&json!("model-a"), &json!("user"))
    );
    assert_eq!(read["origins"]["model"]["version"], written["version"]);
    let opened = client.ask("thread/start", json!({})).await;
    assert_eq!((&opened["model"], &opened["serviceTier"]), (&json!("model-a"), &json!("flex")));
    // A request says it for one thread, and nobody else.
    let config =
        json!({"model": "model-b", "approval_policy": "untrusted", "sandbox_mode": "workspace-write"});
    let opened = client.ask("thread/start", json!({"config": config})).await;
    assert_eq!((&opened["model"], &opened["approvalPolicy"]), (&json!("model-b"), &json!("untrusted")));
    assert_eq!(opened["sandbox"]["type"], "workspaceWrite");
    let mut other = house.client_of("other").await;
    assert_eq!(other.ask("thread/start", json!({})).await["model"], "model-b");

    // The version keeps two writers apart.
    let stale = json!({"edits": [{"keyPath": "model", "value": "model-b", "mergeStrategy": "upsert"}], "expectedVersion": "revision:0"});
    let refused = client.refused("config/batchWrite", stale).await;
    assert!(refused.contains("modified since last read"), "{refused}");
    write(&mut client, "model", json!(null)).await;
    assert_eq!(client.ask("config/read", json!({})).await["config"]["model"], "model-b");
    for (key, value) in
        [("tui.theme", json!("dark")), ("developer_instructions", json!("x")), ("model", json!(7))]
    {
        let edit = json!({"keyPath": key, "value": value, "mergeStrategy": "replace"});
        client.refused("config/value/write", edit).await;
    }
}

#[tokio::test]
async fn a_choice_that_the_command_line_rules_over_is_told() {
    let flags = values(json!({"model": "model-b"}));
    let house = House::configured(Configuration { of_flags: flags, ..Configuration::default() });
    let mut client = house.client().await;
    let written = write(&mut client, "model", json!("model-a")).await;
    assert_eq!(written["status"], "okOverridden");
    let told = &written["overriddenMetadata"];
    assert_eq!(
        (&told["effectiveValue"], &told["overridingLayer"]["name"]["type"]),
        (&json!("model-b"), &json!("sessionFlags"))
    );
}

#[tokio::test]
async fn nobody_gets_beyond_what_is_required() {
    let house = configured();
    let mut client = house.client_of("acme").await;
    let required = client.ask("configRequirements/read", Value::Null).await["requirements"].clone();
    assert_eq!(required["allowedApprovalPolicies"], json!(["on-request", "untrusted"]));
    assert_eq!(required["allowedSandboxModes"], json!(["read-only", "workspace-write"]));
    let opened = client.ask("thread/start", json!({})).await;
    assert_eq!(
        (&opened["sandbox"]["type"], &opened["approvalPolicy"]),
        (&json!("readOnly"), &json!("on-request"))
    );
    let thread = opened["thread"]["id"].as_str().unwrap();
    let input = json!([{"type": "text", "text": "x"}]);
    let full = json!({"type": "dangerFullAccess"});
    let cases = [
        ("thread/start", json!({"approvalPolicy": "never"})),
        ("thread/start", json!({"sandbox": "danger-full-access"})),
        ("thread/start", json!({"permissions": ":danger-full-access"})),
        ("thread/start", json!({"config": {"approval_policy": "never"}})),
        ("thread/start", json!({"config": {"sandbox_mode": "danger-full-access"}})),
        ("thread/resume", json!({"threadId": thread, "approvalPolicy": "never"})),
        ("thread/settings/update", json!({"threadId": thread, "sandboxPolicy": full})),
        ("turn/start", json!({"threadId": thread, "input": input, "sandboxPolicy": full})),
        (
            "turn/start",
            json!({"threadId": thread, "input": input, "sandboxPolicy": {"type": "externalSandbox"}}),
        ),
        ("turn/start", json!({"threadId": thread, "input": input, "approvalPolicy": "never"})),
        (
            "config/value/write",
            json!({"keyPath": "approval_policy", "value": "never", "mergeStrategy": "replace"}),
        ),
    ];
    for (method, params) in cases {
        let told = client.refused(method, params.clone()).await;
        assert!(told.contains("the service's operator allows"), "{method} {params}: {told}");
    }
    let profiles = client.ask("permissionProfile/list", json!({})).await["data"].clone();
    let allowed: Vec<_> =
        profiles.as_array().unwrap().iter().map(|one| one["allowed"].as_bool().unwrap()).collect();
    assert_eq!(allowed, [true, true, false]);
    let free = House::new().client().await.ask("configRequirements/read", Value::Null).await;
    assert!(free["requirements"].is_null());
}

#[tokio::test]
async fn what_holds_for_users_holds_for_programs() {
    let house = House::configured(Configuration {
        of_file: values(
            json!({"model": "model-b", "model_provider": "corp", "model_reasoning_effort": "low"}),
        ),
        ..Configuration::default()
    });
    let mut client = crate::grpc::client(&house).await;
    let mut create = async |request: CreateThreadRequest| {
        let thread = client.create_thread(request).await.unwrap().into_inner().thread.unwrap();
        (thread.model, thread.provider, thread.effort)
    };
    let told = |model: &str, provider: &str, effort: &str| {
        (model.to_owned(), provider.to_owned(), effort.to_owned())
    };
    assert_eq!(create(CreateThreadRequest::default()).await, told("model-b", "corp", "low"));
    let own = CreateThreadRequest {
        model: "model-a".to_owned(),
        provider: "scripted".to_owned(),
        ..CreateThreadRequest::default()
    };
    // An effort belongs to the model that it was chosen for.
    assert_eq!(create(own).await, told("model-a", "scripted", ""));
}
