//! Every key that can be wrong, and in which words it is refused. What has to do with certificates and proxies stands in
//! `network`.

use std::path::Path;

use gateway_providers::Providers;

use crate::harness::{SECRET, parse};

/// Environment variables and their values.
type Variables = &'static [(&'static str, &'static str)];

/// A directory with files of every kind.
fn files() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    write("list.json", r#"{"models": [{"slug": "a", "display_name": "A", "visibility": "list"}]}"#);
    write("no-json", "models = []");
    write("no-list.json", r#"{"data": []}"#);
    write("no-models.json", r#"{"models": []}"#);
    write("odd-models.json", r#"{"models": [{"slug": 7}, {}]}"#);
    directory
}

/// All problems of a configuration, one a line; `DIR` stands for the directory. No words hold the key.
fn problems(directory: &Path, text: &str, variables: &[(&str, &str)]) -> String {
    let at = directory.to_str().unwrap();
    let env = |name: &str| {
        let set = variables.iter().find(|(variable, _)| *variable == name);
        let path = (name == "PATH").then(|| "/usr/bin:/bin".to_owned());
        set.map(|(_, value)| (*value).to_owned()).or(path)
    };
    let lines = match Providers::build(&parse(&text.replace("DIR", at)), &env) {
        Ok(_) => "fine\n".to_owned(),
        Err(problems) => {
            problems.iter().map(|it| format!("{} | {} | {}\n", it.key, it.message, it.fix)).collect()
        }
    };
    assert!(!lines.contains(SECRET), "{lines}");
    lines.replace(at, "DIR")
}

/// The problems of each of these keys of a custom provider.
fn of_each(keys: &[&str]) -> String {
    let directory = files();
    let told = keys.iter().map(|keys| {
        let text = format!("[model_providers.up]\nbase_url = \"https://host/v1\"\n{keys}\n");
        let variables = [("TEST_KEY", SECRET), ("OPENAI_API_KEY", SECRET)];
        format!("{}\n{}", keys.trim(), problems(directory.path(), &text, &variables))
    });
    let told = told.collect::<Vec<_>>().join("\n");
    assert!(!told.contains("fine\n"), "{told}");
    told
}

#[test]
fn sources_of_a_credential_exclude_each_other() {
    let sources = [
        "env_key = \"TEST_KEY\"",
        "experimental_bearer_token = \"a\"",
        "requires_openai_auth = true",
        "auth = { command = \"echo\" }",
        "key_file = \"DIR/list.json\"",
        "pass_through = true",
    ];
    let mut told = Vec::new();
    for (index, first) in sources.iter().enumerate() {
        for second in &sources[index + 1..] {
            told.push(format!("{first}\n{second}"));
        }
    }
    told.push(sources.join("\n"));
    let told = of_each(&told.iter().map(String::as_str).collect::<Vec<_>>());
    insta::assert_snapshot!(told);
}

#[test]
fn commands_and_key_files() {
    let told = of_each(&[
        "auth = { command = \"\" }",
        "auth = { command = \"print token\" }",
        "auth = { command = \"echo\", cwd = \"\" }",
        "auth = { command = \"echo\", args = [\"a\\u0000\"] }",
        "auth = { command = \"echo\", env = { \"A=B\" = \"c\", \"\" = \"d\", E = \"f\\u0000\" } }",
        "auth = { command = \"echo\", timeout_ms = 0 }",
        "auth = { command = \"echo\", timeout_ms = 99 }",
        "auth = { command = \"echo\", timeout_ms = 600001 }",
        "auth = { command = \"echo\", refresh_interval_ms = 86400001 }",
        "key_file = \"\"",
    ]);
    insta::assert_snapshot!(told);
}

/// Programs and key files may be put there after the start, by whatever provisions the machine; a probe finds them.
#[test]
fn what_is_not_there_yet_is_no_mistake() {
    let directory = files();
    for keys in
        ["auth = { command = \"no-such-program\", cwd = \"DIR/absent\" }", "key_file = \"DIR/absent\""]
    {
        let text = format!("[model_providers.up]\nbase_url = \"https://host/v1\"\n{keys}\n");
        assert_eq!(problems(directory.path(), &text, &[]), "fine\n", "{keys}");
    }
}

#[test]
fn times_tiers_and_what_only_bedrock_has() {
    let told = of_each(&[
        "websocket_connect_timeout_ms = 0",
        "websocket_connect_timeout_ms = 120001",
        "stream_idle_timeout_ms = 86400001",
        "aws = { region = \"us-east-1\" }",
        "[model_providers.openai]\naws = {}",
        "request_max_retries = 101",
        "stream_max_retries = 101",
        "[service_tier]\ndefault = \"turbo\"\ntenants = { blue = \"auto\", red = \"flex\" }",
    ]);
    insta::assert_snapshot!(told);
}

#[test]
fn files_of_models_and_aliases() {
    let told = of_each(&[
        "models_file = \"DIR/absent.json\"",
        "models_file = \"DIR\"",
        "models_file = \"DIR/no-json\"",
        "models_file = \"DIR/no-list.json\"",
        "models_file = \"DIR/no-models.json\"",
        "models_file = \"DIR/odd-models.json\"",
        "models_file = \"DIR/list.json\"\nmodel_facts = { b = {} }",
        "models = [\"a\"]\n[model_aliases.fast]\nprovider = \"absent\"\nmodel = \"a\"",
        "models = [\"a\"]\n[model_aliases.fast]\nprovider = \"up\"\nmodel = \"b\"",
        "models = [\"a\"]\n[model_aliases.fast]\nprovider = \"up\"\nmodel = \"b\"\n\
         [model_aliases.b]\nprovider = \"up\"\nmodel = \"a\"",
        "models = [\"a\"]\n[model_aliases.rehearsal-long]\nprovider = \"up\"\nmodel = \"a\"",
    ]);
    insta::assert_snapshot!(told);
}

#[test]
fn amazon_bedrock() {
    let directory = files();
    let cases: [(&str, &str, Variables); 16] = [
        ("amazon-bedrock", "name = \"Ours\"\nenv_key = \"TEST_KEY\"\nquery_params = { a = \"b\" }", &[]),
        ("amazon-bedrock", "supports_websockets = true\nrequest_max_retries = 1\nmodels = [\"a\"]", &[]),
        (
            "amazon-bedrock-runtime",
            "pass_through = true\nkey_file = \"DIR/list.json\"\nwire_api = \"responses\"",
            &[],
        ),
        ("amazon-bedrock", "proxy = \"http://proxy\"\nca_file = \"DIR/list.json\"", &[]),
        ("amazon-bedrock", "http_headers = { x-amz-date = \"now\", Authorization = \"x\" }", &[]),
        ("amazon-bedrock", "aws = { region = \"mars-1\" }", &[]),
        ("amazon-bedrock", "", &[("AWS_REGION", "us-west-1")]),
        ("amazon-bedrock-runtime", "aws = { region = \"us-east-1.evil.example\" }", &[]),
        ("amazon-bedrock", "", &[("AWS_BEARER_TOKEN_BEDROCK", " ")]),
        ("amazon-bedrock-runtime", "", &[("AWS_BEARER_TOKEN_BEDROCK", "a\nb")]),
        ("amazon-bedrock", "auth = { command = \"echo\" }\naws = { profile = \"p\" }", &[]),
        ("amazon-bedrock", "aws = { profile = \" \" }", &[]),
        ("amazon-bedrock", "aws = { profile = \"p\", credential_export = { command = \"echo\" } }", &[]),
        ("amazon-bedrock", "aws = { credential_export = { command = \"\", timeout_ms = 1 } }", &[]),
        (
            "amazon-bedrock",
            "aws = { auth_refresh = { command = \"no-such-program\", timeout_ms = 600001 } }",
            &[],
        ),
        (
            "amazon-bedrock",
            "[bedrock_models.a]\nprovider = \"absent\"\npath = \"/v2\"\n[bedrock_models.b]\nprovider = \"amazon-bedrock\"\n\
             path = \"v1\"\nsigning_name = \"Bed Rock\"\nfacts = { context_window = 0 }",
            &[],
        ),
    ];
    let told = cases.into_iter().map(|(id, keys, variables)| {
        let text = format!("[model_providers.{id}]\n{keys}\n");
        format!("[{id}] {variables:?}\n{keys}\n{}", problems(directory.path(), &text, variables))
    });
    let told = told.collect::<Vec<_>>().join("\n");
    assert!(!told.contains("fine\n"), "{told}");
    insta::assert_snapshot!(told);
}
