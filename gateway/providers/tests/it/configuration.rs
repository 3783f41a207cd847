//! What is refused, in which words.

use gateway_providers::ProvidersConfig;

use crate::harness::{build, parse};

/// All problems of a text, one a line.
fn problems(text: &str) -> String {
    let problems = build(text).map(|_| "fine").unwrap_err();
    problems.iter().map(|it| format!("{} | {} | {}\n", it.key, it.message, it.fix)).collect()
}

#[test]
fn every_problem_is_told_at_once() {
    insta::assert_snapshot!(problems(
        r#"
        model_provider = "absent"
        [model_providers.bad]
        base_url = "ftp://host/v1"
        wire_api = "chat"
        env_key = "TEST_UNSET"
        env_key_instructions = "ask the platform team"
        request_max_retries = 101
        stream_max_retries = 5
        stream_idle_timeout_ms = 0
        supports_websockets = true
        websocket_connect_timeout_ms = 1
        models = ["a", "a", ""]
        aws = { region = "us-east-1" }
        [model_providers.bad.http_headers]
        Authorization = "Bearer x"
        "bad name" = "x"
        Host = "x"
        "x-odd" = "a\nb"
        [model_providers.bad.model_facts.b]
        context_window = 0
        default_reasoning_effort = "low"
        "#
    ));
}

#[test]
fn each_of_these_is_refused() {
    let table = |id: &str, keys: &str| problems(&format!("[model_providers.{id}]\n{keys}"));
    let all = [
        table("own", ""),
        table("own", "base_url = \"https://user:pass@host/v1?a=b\""),
        table("own", "base_url = \"https://host/v1/responses\""),
        table("own", "base_url = \"https://host\"\nmodels = []"),
        table("own", "base_url = \"https://host\"\nenv_key = \"TEST_EMPTY\""),
        table("own", "base_url = \"https://host\"\nexperimental_bearer_token = \"\""),
        table("own", "base_url = \"https://host\"\nexperimental_bearer_token = \"a\\nb\""),
        table(
            "own",
            "base_url = \"https://host\"\nexperimental_bearer_token = \"a\"\nenv_key = \"TEST_KEY\"",
        ),
        table(
            "own",
            "base_url = \"https://host\"\nkey_file = \"\"\npass_through = true\nauth = { command = \"a b\" }",
        ),
        table("own", "base_url = \"https://host\"\nkey_file = \"\""),
        table(
            "own",
            "base_url = \"https://host\"\n[model_providers.own.auth]\ncommand = \" \"\ncwd = \"\"\ntimeout_ms = 99
             refresh_interval_ms = 86400001\nargs = [\"a\\u0000\"]\nenv = { \"A=B\" = \"c\" }",
        ),
        table("own", "base_url = \"https://host\"\nmodels = [\"rehearsal-long\"]"),
        table("\"a b\"", "base_url = \"https://host\""),
        table("own", "base_url = \"https://host\"\naws = { region = \"us-east-1\" }"),
        table("openai", "name = \"Ours\"\nrequires_openai_auth = false\nenv_key = \"TEST_UNSET\""),
        table("rehearsal", "base_url = \"https://host\"\nmodels = [\"a\"]"),
    ];
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn two_providers_need_a_default_and_a_default_model_needs_a_provider() {
    let two = "[model_providers.a]\nbase_url = \"http://h\"\n[model_providers.b]\nbase_url = \"http://h\"\n";
    let none = |_: &str| None;
    let problems = gateway_providers::Providers::build(&parse(two), &none).unwrap_err();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].to_string(), "model_provider: several providers and no default");
    let text = "model_provider = \"rehearsal\"\nmodel = \"gpt-6\"";
    let problems = gateway_providers::Providers::build(&parse(text), &none).unwrap_err();
    assert_eq!(problems[0].to_string(), "model: no provider serves gpt-6");
    let text = "model_provider = \"rehearsal\"\nmodel = \"rehearsal-long\"";
    assert!(gateway_providers::Providers::build(&parse(text), &none).is_ok());
}

#[test]
fn unknown_keys_and_protocols_are_refused() {
    for text in [
        "[model_providers.a]\nbase_uri = \"x\"",
        "[model_providers.a]\nwire_api = \"grpc\"",
        "provider = \"a\"",
    ] {
        assert!(toml::from_str::<ProvidersConfig>(text).is_err(), "{text}");
    }
}

#[test]
fn a_block_of_a_laptop_is_taken_as_it_is() {
    let text = r#"
        model_provider = "corp"
        model = "gpt-6-sol"
        [model_providers.corp]
        name = "Corp LLM"
        base_url = "https://llm.corp.example/v1/"
        wire_api = "responses"
        env_key = "TEST_KEY"
        env_key_instructions = "ask"
        http_headers = { "X-A" = "b" }
        env_http_headers = { "X-T" = "TEST_TENANT" }
        query_params = { v = "1" }
        request_max_retries = 4
        stream_idle_timeout_ms = 300000
        requires_openai_auth = false
        supports_websockets = false
    "#;
    let providers = build(text).unwrap();
    assert_eq!(providers.describe()[0].display_name, "Corp LLM");
}
