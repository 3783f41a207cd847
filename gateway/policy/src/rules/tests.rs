//! Verdicts: what each rule denies, and what a lower layer cannot weaken.

use bytes::Bytes;

use super::*;
use crate::{Policy, PolicyConfig};

fn policy(text: &str) -> Policy {
    Policy::build(&toml::from_str::<PolicyConfig>(text).unwrap()).unwrap()
}

fn rules(text: &str) -> Arc<Rules> {
    policy(text).rules("acme", "ci", &[]).unwrap()
}

fn request(text: &str) -> Request {
    Request::scan(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

fn told(verdict: Result<(), Denied>) -> String {
    verdict.map_or_else(|denied| denied.to_string(), |()| "allowed".to_owned())
}

#[test]
fn without_rules_everything_is_allowed() {
    let rules = Policy::default().rules("anybody", "at all", &[]).unwrap();
    let all = request(r#"{"tools":[{"type":"x"}],"max_output_tokens":"many","service_tier":7,"Tools":1}"#);
    assert_eq!(rules.check_request(&all), Ok(()));
    assert_eq!((rules.check_model("m"), rules.check_route("p", "m")), (Ok(()), Ok(())));
    assert_eq!((rules.check_tier(None), rules.check_body(u64::MAX)), (Ok(()), Ok(())));
    assert_eq!((rules.max_body_bytes(), rules.max_concurrent_calls()), (None, None));
    assert!(!rules.logs_content() && !rules.redacts_workspaces() && !rules.reads_tools());
    assert!(rules.too_many_calls().is_none() && rules.output_tokens_to_insert(&all).is_none());
}

#[test]
fn a_more_specific_layer_replaces_single_values() {
    let text = r#"
        [default]
        models = { allow = ["small"], deny = ["*-secret"] }
        max_body_bytes = 10
        log_content = true
        [tenants.acme]
        models.allow = ["big*"]
        max_body_bytes = 20
        [tenants.acme.subjects.ci]
        max_body_bytes = 30
        log_content = false
    "#;
    let policy = policy(text);
    let of = |tenant, subject| policy.rules(tenant, subject, &[]).unwrap();
    assert_eq!(of("other", "ci").max_body_bytes(), Some(10));
    assert_eq!(of("acme", "other").max_body_bytes(), Some(20));
    assert_eq!(of("acme", "ci").max_body_bytes(), Some(30));
    assert!(of("acme", "other").logs_content() && !of("acme", "ci").logs_content());
    let ci = of("acme", "ci");
    assert_eq!(ci.check_model("big-1"), Ok(()));
    // The tenant says who is allowed, and has not touched what is denied.
    assert_eq!(
        told(ci.check_model("big-secret")),
        r#"the model "big-secret" is not allowed (rule default.models.deny)"#
    );
    assert_eq!(
        told(ci.check_model("small")),
        r#"the model "small" is not allowed (rule tenants.acme.models.allow)"#
    );
    assert_eq!(of("x", "y").check_model("small"), Ok(()));
}

#[test]
fn requirements_cap_what_layers_say() {
    let rules = rules(
        r#"
        [requirements]
        models.allow = ["big*", "mid"]
        max_body_bytes = 25
        max_concurrent_calls = 4
        log_content = false
        [tenants.acme]
        models.allow = ["*"]
        [tenants.acme.requirements]
        models.deny = ["BIG-2"]
        redact_workspaces = true
        max_body_bytes = 35
        [tenants.acme.subjects.ci]
        max_body_bytes = 30
        max_concurrent_calls = 2
        log_content = true
        redact_workspaces = false
    "#,
    );
    assert_eq!((rules.max_body_bytes(), rules.max_concurrent_calls()), (Some(25), Some(2)));
    assert!(!rules.logs_content() && rules.redacts_workspaces());
    assert_eq!(
        told(rules.check_model("small")),
        r#"the model "small" is not allowed (rule requirements.models.allow)"#
    );
    assert_eq!(
        told(rules.check_model("big-2")),
        r#"the model "big-2" is not allowed (rule tenants.acme.requirements.models.deny)"#
    );
    assert_eq!(rules.check_model("big-3"), Ok(()));
    let denied = rules.too_many_calls().unwrap();
    assert_eq!(denied.rule, "tenants.acme.subjects.ci.max_concurrent_calls");
    assert_eq!(
        told(rules.check_body(26)),
        "the body is longer than is allowed (rule requirements.max_body_bytes)"
    );
    assert_eq!(rules.check_body(25), Ok(()));
}

#[test]
fn a_model_must_pass_under_both_names() {
    let rules = rules(
        r#"
        [default]
        models = { allow = ["*gpt-6*"], deny = ["*-pro"] }
        providers.deny = ["openai"]
    "#,
    );
    assert_eq!(rules.check_route("bedrock", "openai.gpt-6-sol"), Ok(()));
    assert!(rules.check_route("bedrock", "gpt-6-pro").is_err());
    assert_eq!(
        told(rules.check_route("openai", "gpt-6")),
        r#"the provider "openai" is not allowed (rule default.providers.deny)"#
    );
    assert!(rules.visible_model("gpt-6") && !rules.visible_model("gpt-5"));
}

#[test]
fn lists_of_models_are_shortened_by_rules_about_models_or_providers() {
    for (text, hides) in [
        ("", false),
        ("[default]\nmax_body_bytes = 1\ntools.deny = [\"x\"]", false),
        ("[default]\nmodels.deny = [\"x\"]", true),
        ("[default]\nproviders.deny = [\"x\"]", true),
        ("[requirements]\nproviders.allow = [\"x\"]", true),
    ] {
        assert_eq!(rules(text).hides_models(), hides, "{text}");
    }
}

#[test]
fn a_tier_is_known_by_both_of_its_names() {
    let rules = rules("[default]\ntiers.allow = [\"standard\", \"fast\"]");
    for tier in [None, Some("default"), Some("priority"), Some("fast")] {
        assert_eq!(rules.check_tier(tier), Ok(()), "{tier:?}");
    }
    assert_eq!(
        told(rules.check_tier(Some("flex"))),
        r#"the service tier "flex" is not allowed (rule default.tiers.allow)"#
    );
    assert!(rules.check_tier(Some("auto")).is_err());
    let fast = self::rules("[default]\ntiers.allow = [\"fast\"]");
    assert_eq!(
        told(fast.check_tier(None)),
        r#"the service tier "default" is not allowed (rule default.tiers.allow)"#
    );
    let check = |text: &str| told(rules.check_request(&request(text)));
    assert_eq!(check(r#"{"service_tier":"priority"}"#), "allowed");
    assert!(check(r#"{"service_tier":"flex"}"#).contains("flex"));
    assert_eq!(
        check(r#"{"service_tier":["flex"]}"#),
        "request field service_tier is not a string (rule default.tiers.allow)"
    );
    assert_eq!(
        check(r#"{"Service_Tier":"flex"}"#),
        "the request has a field that can be taken for `service_tier` (rule default.tiers.allow)"
    );
}

#[test]
fn tools_are_judged_wherever_they_stand() {
    let rules = rules(
        "[default]\ntools = { allow = [\"function\", \"namespace\", \"custom:apply_patch\"], deny = [\"function:rm*\"] }",
    );
    assert!(rules.reads_tools());
    let check = |text: &str| told(rules.check_request(&request(text)));
    assert_eq!(check("{}"), "allowed");
    assert_eq!(check(r#"{"tools":[{"type":"function","name":"ls"}],"input":"hi"}"#), "allowed");
    let deny = r#"the tool "function:rm_rf" is not allowed (rule default.tools.deny)"#;
    assert_eq!(check(r#"{"tools":[{"type":"function","name":"rm_rf"}]}"#), deny);
    assert_eq!(
        check(r#"{"input":[{"type":"additional_tools","tools":[{"type":"function","name":"rm_rf"}]}]}"#),
        deny
    );
    assert_eq!(
        check(r#"{"tools":[{"type":"namespace","name":"n","tools":[{"type":"function","name":"rm_rf"}]}]}"#),
        deny
    );
    assert_eq!(
        check(r#"{"tools":[{"type":"web_search"}]}"#),
        r#"the tool "web_search" is not allowed (rule default.tools.allow)"#
    );
    assert_eq!(
        check(r#"{"tools":[{"type":"function","name":"a","type":"web_search"}]}"#),
        "it cannot be told which tools the request brings: `type` stands twice at byte 10 (rule default.tools.deny)"
    );
    // A denied name is not that of a tool which has none.
    let named = self::rules("[default]\ntools.deny = [\"*:rm*\"]");
    assert_eq!(named.check_request(&request(r#"{"tools":[{"type":"web_search"}]}"#)), Ok(()));
    assert_eq!(
        told(named.check_request(&request(r#"{"tools":[{"type":"custom","name":"rm"}]}"#))),
        r#"the tool "custom:rm" is not allowed (rule default.tools.deny)"#
    );
}

#[test]
fn output_tokens_have_a_limit_that_is_inserted_only_if_wanted() {
    let capped = rules("[default]\nmax_output_tokens = 100");
    let check = |text: &str| told(capped.check_request(&request(text)));
    for text in ["{}", r#"{"max_output_tokens":null}"#, r#"{"max_output_tokens":100}"#] {
        assert_eq!(check(text), "allowed", "{text}");
    }
    assert_eq!(
        check(r#"{"max_output_tokens":101}"#),
        "max_output_tokens is more than is allowed (rule default.max_output_tokens)"
    );
    for value in ["1e1", "1.0", "-1", "\"5\"", "[]", "99999999999999999999999"] {
        let text = format!(r#"{{"max_output_tokens":{value}}}"#);
        assert!(capped.check_request(&request(&text)).is_err(), "{text}");
    }
    assert_eq!(capped.output_tokens_to_insert(&request("{}")), None);
    let inserting = rules(
        "[default]\nmax_output_tokens = 100\n[requirements]\nmax_output_tokens = 50\ninsert_max_output_tokens = true",
    );
    assert_eq!(inserting.output_tokens_to_insert(&request("{}")), Some(50));
    assert_eq!(inserting.output_tokens_to_insert(&request(r#"{"max_output_tokens":null}"#)), Some(50));
    assert_eq!(inserting.output_tokens_to_insert(&request(r#"{"max_output_tokens":7}"#)), None);
}

#[test]
fn a_caller_needs_every_scope_that_is_required() {
    let policy = policy(
        "[default]\nscopes_required = [\"models\"]\n[requirements]\nscopes_required = [\"corp\"]\n[tenants.acme]\nscopes_required = []",
    );
    let scopes = |names: &[&str]| names.iter().map(|name| Box::from(*name)).collect::<Vec<Box<str>>>();
    let denied = |tenant, names| {
        policy.rules(tenant, "s", &scopes(names)).map(drop).map_err(|denied| denied.to_string())
    };
    assert_eq!(denied("acme", &["corp"]), Ok(()));
    assert_eq!(
        denied("acme", &[]),
        Err("the caller lacks a scope (rule requirements.scopes_required)".to_owned())
    );
    assert_eq!(
        denied("other", &["corp"]),
        Err("the caller lacks a scope (rule default.scopes_required)".to_owned())
    );
    assert_eq!(denied("other", &["corp", "models", "more"]), Ok(()));
    let policy = self::policy("[default]\nscopes_required = [\"models\", \"corp\"]");
    for (some, verdict) in [(&["models", "corp"][..], true), (&["models"][..], false), (&["corp"][..], false)]
    {
        assert_eq!(policy.rules("acme", "s", &scopes(some)).is_ok(), verdict, "{some:?}");
    }
}

#[test]
fn long_and_strange_names_are_shown_safely() {
    let rules = rules("[default]\nmodels.allow = []");
    let long = "x\n".repeat(500);
    let message = rules.check_model(&long).unwrap_err().message;
    assert!(message.len() < 200 && !message.contains('\n'), "{message}");
}
