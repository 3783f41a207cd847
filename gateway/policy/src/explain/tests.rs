//! Explanations as operators see them.

use bytes::Bytes;
use insta::assert_snapshot;

use super::*;
use crate::PolicyConfig;

const POLICY: &str = r#"
    [default]
    models.deny = ["*-pro*"]
    tools.allow = ["function", "namespace"]
    max_output_tokens = 4096
    [tenants.acme]
    models.allow = ["gpt-6*"]
    log_content = true
    [tenants.acme.subjects."ci@acme"]
    models.allow = ["gpt-6-luna"]
    max_concurrent_calls = 4
    [requirements]
    log_content = false
    max_concurrent_calls = 16
    scopes_required = ["models"]
    [tenants.acme.requirements]
    providers.allow = ["corp"]
"#;

fn policy() -> Policy {
    Policy::build(&toml::from_str::<PolicyConfig>(POLICY).unwrap()).unwrap()
}

fn scopes() -> Vec<Box<str>> {
    vec!["models".into()]
}

#[test]
fn an_allowed_call_shows_which_rules_let_it() {
    let asked = Asked {
        model: Some("gpt-6-luna".into()),
        provider: Some("corp".into()),
        model_at_provider: Some("gpt-6-luna".into()),
        tools: vec!["function:exec_command".into()],
        ..Asked::default()
    };
    assert_snapshot!(policy().explain("acme", "ci@acme", &scopes(), &asked));
}

#[test]
fn a_denied_request_shows_which_rules_are_against_it() {
    let request = Request::scan(Bytes::from_static(
        br#"{"model":"gpt-6-pro","tools":[{"type":"web_search"},{"type":"function","name":"a"},{"type":7}],
            "max_output_tokens":5000}"#,
    ));
    let request = request.unwrap();
    let asked = Asked::of(&request).unwrap();
    assert_snapshot!(policy().explain("other", "somebody", &[], &asked));
}

#[test]
fn a_program_gets_the_same_as_json() {
    let asked = Asked { provider: Some("openai".into()), ..Asked::default() };
    let explanation = policy().explain("acme", "x", &scopes(), &asked);
    assert!(!explanation.allowed);
    let providers = explanation.sections.iter().find(|section| section.about == "providers").unwrap();
    insta::assert_json_snapshot!(providers);
}
