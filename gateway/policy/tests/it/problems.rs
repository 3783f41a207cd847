//! Everything that is wrong with a policy is told at once.

use gateway_policy::{Known, Policy, PolicyConfig, Problem};

fn problems(text: &str) -> Vec<String> {
    let config: PolicyConfig = toml::from_str(text).unwrap();
    let told = |problem: &Problem| format!("{problem}; {}", problem.fix);
    Policy::build(&config).unwrap_err().iter().map(told).collect()
}

#[test]
fn every_problem_has_its_key_and_what_to_do() {
    let text = r#"
        [default]
        models.allow = ["gpt-*-mini", "ok", ""]
        max_body_bytes = 0
        [tenants.acme]
        tools.deny = ["function:", "a:b*c"]
        insert_max_output_tokens = true
        [tenants.acme.subjects."ci@acme"]
        providers.deny = ["**"]
        scopes_required = ["a", ""]
        [requirements]
        log_content = true
        redact_workspaces = false
        insert_max_output_tokens = false
    "#;
    insta::assert_snapshot!(problems(text).join("\n"));
}

#[test]
fn an_insertion_is_useful_where_anybody_has_a_limit() {
    let text = "[requirements]\ninsert_max_output_tokens = true\n[tenants.a]\nmax_output_tokens = 5";
    assert!(Policy::build(&toml::from_str(text).unwrap()).is_ok());
    let without = "[requirements]\ninsert_max_output_tokens = true";
    assert_eq!(problems(without).len(), 1);
}

#[test]
fn unknown_keys_are_refused_everywhere() {
    for text in [
        "x = 1",
        "[default]\nmodel.allow = []",
        "[default]\nmodels.only = []",
        "[tenants.a]\nsubject = 1",
        "[tenants.a.requirements.subjects.b]\nlog_content = false",
        "[tenants.a.subjects.b.requirements]\nlog_content = false",
        "[requirements]\ntiers.deny = []",
    ] {
        let error = toml::from_str::<PolicyConfig>(text).unwrap_err().to_string();
        assert!(error.contains("unknown field"), "{text}: {error}");
    }
}

const NAMING: &str = r#"
    [default]
    providers.allow = ["corp", "Corp", "corpp", "co*", "*"]
    models.deny = ["GPT-6-SOL", "gpt-6-sol-", "*-pro"]
    [tenants.acme]
    providers.deny = ["CORP", "rehersal"]
    [tenants.acme.requirements]
    models.allow = ["gpt-6-sol", "GPT-6-SOL"]
    [tenants.acme.subjects."ci@acme"]
    models.allow = ["openai.gpt-6-sol", "gpt-7"]
    [requirements]
    providers.deny = ["nobody"]
    tools.deny = ["corpp"]
    tiers.allow = ["corpp"]
"#;

fn unknown(models: Option<&[&str]>) -> Vec<String> {
    let texts = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let known = Known { providers: texts(&["rehearsal", "corp"]), models: models.map(texts) };
    let policy = Policy::build(&toml::from_str(NAMING).unwrap()).unwrap();
    policy.unknown_names(&known).iter().map(|problem| format!("{problem}; {}", problem.fix)).collect()
}

#[test]
fn a_name_that_nothing_has_is_told_with_what_there_is() {
    let models = ["gpt-6-sol", "openai.gpt-6-sol", "m1", "m2", "m3", "m4", "m5", "m6", "m7"];
    insta::assert_snapshot!(unknown(Some(&models)).join("\n"));
}

#[test]
fn where_any_name_can_be_a_model_none_is_unknown() {
    let told = unknown(None);
    assert!(told.len() == 4 && told.iter().all(|problem| problem.contains("names the provider")), "{told:?}");
}
