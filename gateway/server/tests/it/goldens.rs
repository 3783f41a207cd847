//! What each provider receives when the same call comes in: method, address, headers and body, byte for byte.
//!
//! The call is what Codex sends, with everything in it that only OpenAI is meant to get. What changes from run to run is
//! replaced by its name.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use gateway_server::ServerConfig;
use gateway_testkit::{Recorded, Reply, text_turn};
use tidegate_proto::gateway::v1::{
    Envelope, RequestKind, ResponseStart, respond_request::Message, respond_response::Message as Answer,
};

use crate::{
    harness::{Gate, bytes_of, usage},
    stream::Stream,
};

/// No member stands where it would be written anew, so that whatever is not edited is seen to be untouched.
const CALL: &str = r#"{
  "model": "gpt-6-sol", "stream": true,
  "input": [
    {"type": "message", "role": "developer", "id": "msg_1", "content": [{"type": "input_text", "text": "Be \u00e9xact."}],
     "metadata": {"turn": "1"}},
    {"type": "message", "role": "user", "id": "msg_2", "content": [{"type": "input_text", "text": "metadata"}],
     "internal_chat_message_metadata_passthrough": {"turn_id": "turn-1", "create_time": 1.50, "content_item_kinds": ["text"]}},
    {"type": "odd_item", "id": "odd_1", "deep": {"metadata": {"stays": true}}}
  ],
  "tools": [{"type": "function", "name": "wait", "strict": false, "parameters": {"type": "object"}}],
  "tool_choice": "auto", "store": false, "include": ["reasoning.encrypted_content"], "prompt_cache_key": "thread-1",
  "client_metadata": {
    "x-codex-installation-id": "installation-1", "thread_id": "thread-1", "mcp_attribution": "{\"status\":\"none\"}",
    "guardian_credits_requested": "1",
    "x-codex-turn-metadata": "{\"thread_id\":\"thread-1\",\"workspaces\":{\"/home/dev/tide\":{\"has_changes\":true}},\"agent_name\":\"/root\"}"
  },
  "unknown": {"kept": [1, 2.0, 1e3]}
}"#;

const TURN_METADATA: &str =
    r#"{"thread_id":"thread-1","workspaces":{"/home/dev/tide":{"has_changes":true}},"agent_name":"/root"}"#;

/// What Codex sends beside the body, and what a proxy or an attacker may add to it.
const HEADERS: [(&str, &str); 18] = [
    ("x-codex-turn-metadata", TURN_METADATA),
    ("x-codex-window-id", "thread-1:0"),
    ("x-codex-beta-features", "remote_compaction_v2"),
    ("x-codex-routing-hint", "model=gpt-6-sol"),
    ("x-openai-internal-codex-responses-lite", "true"),
    ("x-client-request-id", "thread-1"),
    ("session-id", "session-1"),
    ("thread-id", "thread-1"),
    ("originator", "codex_exec"),
    ("user-agent", "codex_exec/0.169.0 (Debian 12.0.0; x86_64) xterm"),
    ("version", "0.169.0"),
    ("chatgpt-account-id", "acc-of-the-caller"),
    ("x-oai-attestation", r#"{"v":1,"s":0,"t":"attested"}"#),
    ("cookie", "a=b"),
    ("x-forwarded-for", "10.0.0.1"),
    ("via", "1.1 front"),
    ("x-api-key", "sk-of-the-caller-too"),
    ("x-amz-date", "20200101T000000Z"),
];

/// A gateway whose provider for `gpt-6-sol` is this one.
async fn gate(id: &str, keys: &str) -> Gate {
    Gate::configured(ServerConfig::default(), |base_url| {
        format!(
            "model_provider = \"{id}\"\n[model_providers.{id}]\n{}",
            keys.replace("BASE", base_url).replace("ORIGIN", base_url.trim_end_matches("/v1"))
        )
    })
    .await
}

async fn over_http(gate: &Gate) -> String {
    posted(gate, "responses", Reply::sse(text_turn(&["fine"], usage()))).await
}

/// Asks how many tokens the call would have.
async fn counted(gate: &Gate) -> String {
    let count = serde_json::json!({"object": "response.input_tokens", "input_tokens": 11});
    posted(gate, "responses/input_tokens", Reply::json(200, &count)).await
}

async fn posted(gate: &Gate, path: &str, reply: Reply) -> String {
    gate.upstream.push(reply);
    let mut request = gate.request(CALL);
    *request.uri_mut() = format!("http://{}/v1/{path}", gate.at).parse().unwrap();
    for (name, value) in HEADERS {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let response = gate.send(request).await;
    assert_eq!(response.status(), 200);
    bytes_of(response).await;
    golden(gate)
}

async fn over_grpc(gate: &Gate) -> String {
    gate.upstream.push(Reply::sse(text_turn(&["fine"], usage())));
    let text = str::to_owned;
    let envelope = Envelope {
        installation_id: text("installation-1"),
        session_id: text("session-1"),
        thread_id: text("thread-1"),
        turn_id: text("turn-1"),
        root_turn_id: text("turn-1"),
        window_id: text("thread-1"),
        thread_source: text("user"),
        originator: text("codex-tui"),
        user_agent: text("codex-tui/0.169.0"),
        request_kind: RequestKind::Turn.into(),
        turn_started_at: Some(prost_types::Timestamp { seconds: 1_795_169_531, nanos: 714_000_000 }),
        sandbox: text("read-only"),
        extra: [(text("cwd"), text("/home/dev/tide"))].into(),
        ..Envelope::default()
    };
    let start =
        ResponseStart { envelope: Some(envelope), turn_state: text("state-1"), ..ResponseStart::default() };
    let mut stream = Stream::open(gate).await;
    stream.message(Message::Start(Box::new(start))).await;
    stream.body(CALL, 100).await;
    assert!(matches!(stream.response().await.last(), Some(Answer::Completed(_))));
    golden(gate)
}

/// The one request that came, with names for what is different each time.
fn golden(gate: &Gate) -> String {
    let requests = gate.upstream.requests();
    assert_eq!(requests.len(), 1);
    let Recorded { method, path, query, headers, body, .. } = requests.first().unwrap();
    let query = query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
    let mut lines: Vec<String> = headers
        .iter()
        .map(|(name, value)| {
            let value = value.to_str().unwrap();
            let value = match name.as_str() {
                "host" => "HOST".to_owned(),
                "x-amz-date" => value.chars().map(|it| if it.is_ascii_digit() { '0' } else { it }).collect(),
                "authorization" => signature(value),
                _ => value.to_owned(),
            };
            format!("{name}: {value}\n")
        })
        .collect();
    lines.sort();
    format!("{method} {path}{query}\n{}\n{}", lines.concat(), std::str::from_utf8(body).unwrap())
}

/// An AWS signature without its day and its digits.
fn signature(value: &str) -> String {
    let Some((scope, _)) = value.split_once("Signature=") else { return value.to_owned() };
    let parts: Vec<&str> = scope.split('/').collect();
    let day = |part: &&str| part.len() == 8 && part.bytes().all(|byte| byte.is_ascii_digit());
    let parts: Vec<&str> = parts.into_iter().map(|part| if day(&part) { "DAY" } else { part }).collect();
    format!("{}Signature=DIGITS", parts.join("/"))
}

const OPENAI: &str = "base_url = \"BASE\"\nenv_key = \"UPSTREAM_KEY\"\nsupports_websockets = false";
const CUSTOM: &str = "base_url = \"BASE\"\nenv_key = \"UPSTREAM_KEY\"\nhttp_headers = { x-team = \"tide\" }\n\
                      query_params = { api-version = \"2026-11\" }";

#[tokio::test]
async fn openai_with_a_key() {
    let gate = gate("openai", OPENAI).await;
    insta::assert_snapshot!(over_http(&gate).await);
}

#[tokio::test]
async fn a_count_of_tokens_for_openai() {
    let gate = gate("openai", OPENAI).await;
    insta::assert_snapshot!(counted(&gate).await);
}

#[tokio::test]
async fn a_count_of_tokens_for_a_custom_provider_by_an_alias() {
    let alias = "[model_aliases.gpt-6-sol]\nprovider = \"corp\"\nmodel = \"corp-large\"";
    let gate = gate("corp", &format!("{CUSTOM}\nmodels = [\"corp-large\"]\n{alias}")).await;
    insta::assert_snapshot!(counted(&gate).await);
}

#[tokio::test]
async fn openai_with_a_key_over_grpc() {
    let gate = gate("openai", OPENAI).await;
    insta::assert_snapshot!(over_grpc(&gate).await);
}

#[tokio::test]
async fn openai_with_the_callers_chatgpt_login() {
    let gate = gate("openai", "base_url = \"BASE\"\npass_through = true\nsupports_websockets = false").await;
    insta::assert_snapshot!(over_http(&gate).await);
}

#[tokio::test]
async fn a_custom_provider() {
    let gate = gate("corp", CUSTOM).await;
    insta::assert_snapshot!(over_http(&gate).await);
}

#[tokio::test]
async fn a_custom_provider_that_sees_no_paths() {
    let gate = gate("corp", &format!("redact_workspaces = true\n{CUSTOM}")).await;
    insta::assert_snapshot!(over_http(&gate).await);
}

#[tokio::test]
async fn a_custom_provider_that_sees_no_paths_over_grpc() {
    let gate = gate("corp", &format!("redact_workspaces = true\n{CUSTOM}")).await;
    insta::assert_snapshot!(over_grpc(&gate).await);
}

#[tokio::test]
async fn a_custom_provider_by_an_alias() {
    let alias = "[model_aliases.gpt-6-sol]\nprovider = \"corp\"\nmodel = \"corp-large\"";
    let gate = gate("corp", &format!("{CUSTOM}\nmodels = [\"corp-large\"]\n{alias}")).await;
    insta::assert_snapshot!(over_http(&gate).await);
}

/// Amazon Bedrock by an alias, with credentials that a command prints. Every model keeps its own path.
async fn bedrock(id: &str, model: &str) -> Gate {
    let keys =
        r#"{"AccessKeyId":"AKIDEXAMPLE","SecretAccessKey":"secret-canary","SessionToken":"session-canary"}"#;
    let keys = format!(
        "base_url = \"ORIGIN\"\naws.region = \"us-east-1\"\n\
         aws.credential_export = {{ command = \"echo\", args = ['{{\"Credentials\":{keys}}}'] }}\n\
         [model_aliases.gpt-6-sol]\nprovider = \"{id}\"\nmodel = \"{model}\""
    );
    gate(id, &keys).await
}

#[tokio::test]
async fn amazon_bedrock() {
    let gate = bedrock("amazon-bedrock", "openai.gpt-oss-20b").await;
    insta::assert_snapshot!(over_http(&gate).await);
}

#[tokio::test]
async fn amazon_bedrock_runtime() {
    let gate = bedrock("amazon-bedrock-runtime", "us.openai.gpt-6-luna").await;
    insta::assert_snapshot!(over_http(&gate).await);
}
