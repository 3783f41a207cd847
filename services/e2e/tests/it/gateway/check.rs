//! `check`, as people read it: every mistake of a file at once, with its place, its key and what to do.

use service_e2e::home::Home;
use service_e2e::stack;

/// Values that have the right type and cannot be used.
const UNUSABLE: &str = r#"model_provider = "corp"
model = "nobody-s"

[model_providers.corp]
base_url = "https://user:hunter2@llm.corp.example/v1/responses"
auth = { command = "print-token --now", timeout_ms = 0 }
key_file = "key"
aws = { region = "us-east-1" }
models = ["a"]
models_file = "absent.json"
proxy = "socks5://user:hunter2@proxy"
ca_file = "absent.pem"
websocket_connect_timeout_ms = 0

[model_aliases.fast]
provider = "absent"
model = "a"

[service_tier]
default = "turbo"
"#;

/// Keys that nobody knows.
const UNKNOWN: &str = r#"[model_providers.corp]
base_url = "https://llm.corp.example/v1"
auth = { comand = "print-token" }
pass_trough = true

[model_providers.other]
base_url = "https://llm.corp.example/v1"
key_files = "key"
"#;

/// Keys that are missing, or of another type.
const INCOMPLETE: [&str; 5] = [
    "listen = 5\n[model_providers.corp]\nbase_ulr = \"x\"\nrequest_max_retries = \"hunter2\"\n[drain]\ngrace_ms = \"30s\"\n",
    "[model_providers.corp]\nauth = { args = [\"now\"] }\n",
    "[model_providers.corp]\nauth = \"print-token\"\n",
    "[model_providers.corp]\nproxy = [\"http://user:hunter2@proxy\"]\n",
    "[bedrock_models.a]\nprovider = \"amazon-bedrock\"\n",
];

/// What `check` says of a file.
async fn told(home: &Home, text: &str) -> anyhow::Result<String> {
    std::fs::write(home.work().join("gateway.toml"), text)?;
    let mut command = stack::gatewayd(home, None).await?;
    command.args(["check", "gateway.toml"]);
    let output = stack::run(command).await?;
    assert_eq!((output.status.code(), output.stdout.as_str()), (Some(78), ""), "{text}");
    assert!(!output.stderr.contains("hunter2"), "{}", output.stderr);
    Ok(output.stderr)
}

#[tokio::test]
async fn every_mistake_is_told_at_once() -> anyhow::Result<()> {
    let home = Home::new()?;
    insta::assert_snapshot!("unusable", told(&home, UNUSABLE).await?);
    insta::assert_snapshot!("unknown", told(&home, UNKNOWN).await?);
    let mut incomplete = String::new();
    for text in INCOMPLETE {
        incomplete.push_str(&told(&home, text).await?);
    }
    insta::assert_snapshot!("incomplete", incomplete);
    Ok(())
}
