//! Which provider a model goes to.

use gateway_providers::{AccountKind, Fault, Providers, RouteError};

use crate::harness::{bare, build, parse};

const TWO: &str = r#"
    model_provider = "open"
    [model_providers.open]
    base_url = "http://127.0.0.1:9/v1"
    [model_providers.closed]
    base_url = "http://127.0.0.1:9/v1"
    models = ["c1", "c2"]
    env_key = "TEST_KEY"
"#;

#[test]
fn a_listed_model_goes_to_its_provider_and_others_to_the_default() {
    let providers = build(TWO).unwrap();
    let id = |model, hint| providers.route(model, hint).map(|routed| routed.upstream.id().to_owned());
    assert_eq!(id("c1", None).as_deref(), Ok("closed"));
    assert_eq!(id("anything", None).as_deref(), Ok("open"));
    assert_eq!(id("anything", Some("")).as_deref(), Ok("open"));
    assert_eq!(id("c1", Some("open")).as_deref(), Ok("open"), "a conversation stays where it began");
    assert_eq!(id("rehearsal", None).as_deref(), Ok("rehearsal"));
    let error = id("anything", Some("closed")).unwrap_err();
    let expected = RouteError::ProviderDoesNotServe { provider: "closed".into(), model: "anything".into() };
    assert_eq!(error, expected);
    assert_eq!((error.fault(), error.is_retryable()), (Fault::Caller, false));
    // A key in the environment alone opens no way to OpenAI.
    let error = id("gpt-6", Some("openai")).unwrap_err();
    assert_eq!(error, RouteError::UnknownProvider { provider: "openai".into() });
}

#[test]
fn a_closed_default_knows_its_models_only() {
    let text = TWO.replace("model_provider = \"open\"", "model_provider = \"closed\"");
    let error = build(&text).unwrap().route("anything", None).unwrap_err();
    assert_eq!(error, RouteError::UnknownModel { model: "anything".into() });
}

#[test]
fn the_default_follows_from_what_there_is() {
    let default = |text: &str, env: &dyn Fn(&str) -> Option<String>| {
        let providers = Providers::build(&parse(text), env).unwrap();
        let facts = providers.describe();
        assert_eq!(facts.iter().filter(|facts| facts.is_default).count(), 1);
        assert!(facts[0].is_default);
        (facts[0].id.clone(), facts[0].account, facts.len())
    };
    let key = |name: &str| (name == "OPENAI_API_KEY").then(|| "k".to_owned());
    let custom = "[model_providers.own]\nbase_url = \"http://127.0.0.1:9/v1\"\n";
    assert_eq!(default("", &bare), ("rehearsal".to_owned(), AccountKind::None, 1));
    assert_eq!(default("", &key), ("openai".to_owned(), AccountKind::ApiKey, 1));
    assert_eq!(default(custom, &bare), ("own".to_owned(), AccountKind::None, 1));
    assert_eq!(default(custom, &key), ("openai".to_owned(), AccountKind::ApiKey, 2));
    let chosen = format!("model_provider = \"own\"\n{custom}");
    assert_eq!(default(&chosen, &key), ("own".to_owned(), AccountKind::None, 1));
}

#[test]
fn only_openai_is_first_party() {
    let text = r#"
        model_provider = "other"
        [model_providers.openai]
        [model_providers.other]
        base_url = "https://other.example/v1"
        requires_openai_auth = true
    "#;
    let providers = build(text).unwrap();
    let first_party = |id| providers.route("m", Some(id)).unwrap().upstream.capabilities().first_party;
    assert!(first_party("openai"));
    assert!(!first_party("other"));
}
