//! What the requirements deny stays denied, whatever any layer says, and explanations agree with verdicts.

use std::collections::BTreeMap;

use bytes::Bytes;
use gateway_policy::{
    Asked, Denied, NamesConfig, Policy, PolicyConfig, RulesConfig, TenantConfig, TiersConfig,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use tidegate_responses::Request;

const TENANT: &str = "acme";
const SUBJECT: &str = "ci";

fn list(words: &'static [&'static str]) -> impl Strategy<Value = Option<Vec<String>>> {
    prop::option::of(prop::collection::vec(prop::sample::select(words).prop_map(str::to_owned), 0..3))
}

fn names(words: &'static [&'static str]) -> impl Strategy<Value = NamesConfig> {
    (list(words), list(words)).prop_map(|(allow, deny)| NamesConfig { allow, deny })
}

const NAMES: &[&str] = &["a", "b", "B", "a*", "*b", "*", "ab"];
const TOOLS: &[&str] = &["a", "function", "function:a", "f*:b", "namespace", "*", "*:a*", "mcp:a"];

fn rules() -> impl Strategy<Value = RulesConfig> {
    let switch = || prop::option::of(any::<bool>());
    let lists = (names(NAMES), names(NAMES), list(&["default", "fast", "flex", "*"]), names(TOOLS));
    let numbers = (prop::option::of(1..5u64), prop::option::of(1..5u64), prop::option::of(1..5usize));
    (lists, numbers, (switch(), switch(), switch()), list(&["s", "t"])).prop_map(
        |(lists, numbers, switches, scopes)| RulesConfig {
            providers: lists.0,
            models: lists.1,
            tiers: TiersConfig { allow: lists.2 },
            tools: lists.3,
            max_output_tokens: numbers.0,
            insert_max_output_tokens: switches.0,
            max_body_bytes: numbers.1,
            max_concurrent_calls: numbers.2,
            redact_workspaces: switches.1,
            log_content: switches.2,
            scopes_required: scopes,
        },
    )
}

/// Only what a requirement may say, and with a limit where one is to be inserted.
fn requirement() -> impl Strategy<Value = RulesConfig> {
    rules().prop_map(|rules| RulesConfig {
        max_output_tokens: rules.max_output_tokens.or(rules.insert_max_output_tokens.map(|_| 3)),
        insert_max_output_tokens: rules.insert_max_output_tokens.filter(|insert| *insert),
        redact_workspaces: rules.redact_workspaces.filter(|redact| *redact),
        log_content: rules.log_content.filter(|log| !*log),
        ..rules
    })
}

fn layer() -> impl Strategy<Value = RulesConfig> {
    rules().prop_map(|rules| RulesConfig {
        max_output_tokens: rules.max_output_tokens.or(rules.insert_max_output_tokens.map(|_| 3)),
        ..rules
    })
}

fn tenant(rules: RulesConfig, subject: RulesConfig, requirements: RulesConfig) -> TenantConfig {
    TenantConfig {
        providers: rules.providers,
        models: rules.models,
        tiers: rules.tiers,
        tools: rules.tools,
        max_output_tokens: rules.max_output_tokens,
        insert_max_output_tokens: rules.insert_max_output_tokens,
        max_body_bytes: rules.max_body_bytes,
        max_concurrent_calls: rules.max_concurrent_calls,
        redact_workspaces: rules.redact_workspaces,
        log_content: rules.log_content,
        scopes_required: rules.scopes_required,
        subjects: BTreeMap::from([(SUBJECT.to_owned(), subject)]),
        requirements,
    }
}

/// Default, tenant and subject layers.
type Layers = (RulesConfig, RulesConfig, RulesConfig);

/// The general and the tenant's requirements.
type Requirements = (RulesConfig, RulesConfig);

fn policy((default, own, subject): Layers, (general, narrow): Requirements) -> Policy {
    let tenants = BTreeMap::from([(TENANT.to_owned(), tenant(own, subject, narrow))]);
    Policy::build(&PolicyConfig { default, tenants, requirements: general }).unwrap()
}

#[derive(Debug, Clone)]
struct Call {
    model: String,
    at_provider: String,
    provider: String,
    scopes: Vec<Box<str>>,
    request: Request,
}

fn word() -> impl Strategy<Value = String> {
    prop::sample::select(&["a", "b", "ab", "aB", "c"][..]).prop_map(str::to_owned)
}

fn call() -> impl Strategy<Value = Call> {
    let tool = (prop::sample::select(&["function", "namespace", "mcp", "a"][..]), word());
    let tool = tool
        .prop_map(|(kind, name)| format!(r#"{{"type":"{kind}","name":"{name}","server_label":"{name}"}}"#));
    let tools = (prop::collection::vec(tool, 0..3), any::<bool>());
    let tier = prop::option::of(prop::sample::select(&["default", "priority", "flex", "x"][..]));
    let scopes = prop::collection::vec(prop::sample::select(&["s", "t"][..]), 0..3);
    let names = (word(), word(), word());
    (names, tools, tier, prop::option::of(0..6u64), scopes).prop_map(
        |(names, tools, tier, tokens, scopes)| {
            let list = format!("[{}]", tools.0.join(","));
            let mut body = match tools.1 {
                true => format!(
                    r#"{{"model":"{}","input":[{{"type":"additional_tools","tools":{list}}}]"#,
                    names.0
                ),
                false => format!(r#"{{"model":"{}","tools":{list}"#, names.0),
            };
            body.extend(tier.map(|tier| format!(r#","service_tier":"{tier}""#)));
            body.extend(tokens.map(|tokens| format!(r#","max_output_tokens":{tokens}"#)));
            body.push('}');
            let scopes = scopes.into_iter().map(Box::from).collect();
            let request = Request::scan(Bytes::from(body)).unwrap();
            Call { model: names.0, at_provider: names.1, provider: names.2, scopes, request }
        },
    )
}

/// What a call meets, in its order.
fn verdict(policy: &Policy, call: &Call) -> Result<(), Denied> {
    let rules = policy.rules(TENANT, SUBJECT, &call.scopes)?;
    rules.check_model(&call.model)?;
    rules.check_request(&call.request)?;
    rules.check_route(&call.provider, &call.at_provider)?;
    rules.check_tier(call.request.service_tier().unwrap().as_deref())
}

/// Whether a policy allows anything that its requirements deny.
fn weakened(policy: &Policy, required: &Policy, call: &Call) -> bool {
    if verdict(policy, call).is_ok() && verdict(required, call).is_err() {
        return true;
    }
    let everything = ["s".into(), "t".into()];
    let (own, cap) = (
        policy.rules(TENANT, SUBJECT, &everything).unwrap(),
        required.rules(TENANT, SUBJECT, &everything).unwrap(),
    );
    let above = |own: Option<u64>, cap: Option<u64>| cap.is_some_and(|cap| own.is_none_or(|own| own > cap));
    let wide = |calls: Option<usize>| calls.and_then(|calls| u64::try_from(calls).ok());
    above(own.max_body_bytes(), cap.max_body_bytes())
        || above(wide(own.max_concurrent_calls()), wide(cap.max_concurrent_calls()))
        || (cap.redacts_workspaces() && !own.redacts_workspaces())
        || (cap.output_tokens_to_insert(&call.request).is_some()
            && own.output_tokens_to_insert(&call.request).is_none())
        || (own.visible_model(&call.model) && !cap.visible_model(&call.model))
}

fn layers() -> impl Strategy<Value = Layers> {
    (layer(), layer(), layer())
}

fn requirements() -> impl Strategy<Value = Requirements> {
    (requirement(), requirement())
}

fn only(requirements: &Requirements) -> Policy {
    policy(Layers::default(), requirements.clone())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn no_layer_weakens_a_requirement(layers in layers(), required in requirements(), call in call()) {
        let forbids = [&required.0, &required.1].iter().any(|rules| rules.log_content == Some(false));
        let policy = policy(layers, required.clone());
        prop_assert!(!weakened(&policy, &only(&required), &call));
        let everything = ["s".into(), "t".into()];
        prop_assert!(!(forbids && policy.rules(TENANT, SUBJECT, &everything).unwrap().logs_content()));
    }

    #[test]
    fn an_explanation_agrees_with_the_verdict(layers in layers(), required in requirements(), call in call()) {
        let policy = policy(layers, required);
        let mut asked = Asked::of(&call.request).unwrap();
        asked.body_bytes = None;
        asked.provider = Some(call.provider.clone());
        asked.model_at_provider = Some(call.at_provider.clone());
        let explanation = policy.explain(TENANT, SUBJECT, &call.scopes, &asked);
        let verdict = verdict(&policy, &call);
        prop_assert_eq!(explanation.allowed, verdict.is_ok());
        if let Err(denied) = verdict {
            let checks = explanation.sections.iter().flat_map(|section| &section.checks);
            // Callers are told the whole denial, with its rule.
            let told: Vec<_> = checks.filter_map(|check| Some((check.rule.as_deref()?, check.message.as_deref()?))).collect();
            prop_assert!(told.contains(&(denied.rule.as_str(), denied.to_string().as_str())), "{told:?} {denied}");
        }
    }
}

/// The property can fail: a policy whose requirements are mere defaults is caught.
#[test]
fn requirements_that_can_be_replaced_are_caught() {
    let mut runner = TestRunner::deterministic();
    let strategy = (layers(), requirements(), call());
    let caught = (0..500).filter(|_| {
        let ((_, own, subject), required, call) = strategy.new_tree(&mut runner).unwrap().current();
        let broken = policy((required.0.clone(), own, subject), Requirements::default());
        weakened(&broken, &only(&required), &call)
    });
    assert!(caught.count() > 20);
}
