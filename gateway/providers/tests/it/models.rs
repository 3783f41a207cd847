//! The merged list of models, and how remote lists are asked for.

use std::time::Duration;

use gateway_providers::{Model, Providers};
use gateway_testkit::{Gate, Reply, Upstream};
use http::Method;
use serde_json::{Value, json};

use crate::harness::{SECRET, bare, env, in_time, parse};

fn slugs(models: &[Model]) -> Vec<(&str, &str)> {
    models.iter().map(|model| (model.provider.as_str(), model.slug.as_str())).collect()
}

async fn upstream(list: &Value) -> Upstream {
    let upstream = Upstream::start().await.unwrap();
    upstream.route(Method::GET, "/v1/models", Reply::json(200, list));
    upstream
}

fn data(slugs: &[&str]) -> Value {
    let entry = |slug: &&str| json!({"id": slug, "object": "model", "created": 1});
    json!({"object": "list", "data": slugs.iter().map(entry).collect::<Vec<_>>()})
}

fn one(base_url: &str, keys: &str) -> Providers {
    let text = format!("[model_providers.up]\nbase_url = {base_url:?}\nenv_key = \"TEST_KEY\"\n{keys}");
    Providers::build(&parse(&text), &|name| env(name).filter(|_| name != "OPENAI_API_KEY")).unwrap()
}

#[tokio::test]
async fn both_forms_of_a_list_are_read() {
    let codex = json!({"models": [
        {"slug": "b", "priority": 2, "visibility": "list"},
        {"slug": "hidden", "priority": 0, "visibility": "hide"},
        {"slug": 7},
        {"slug": "a", "display_name": "A", "description": "first", "priority": 1, "default_reasoning_level": "low",
         "supported_reasoning_levels": [{"effort": "low", "description": "quick", "more": 1}, {"effort": "xhigh"}],
         "base_instructions": "Be brief.", "context_window": 1000, "supports_reasoning_summaries": true,
         "supports_parallel_tool_calls": false, "unknown": {}},
    ]});
    let upstream = self::upstream(&codex).await;
    let models = in_time(one(&upstream.base_url(), "").models()).await;
    assert_eq!(slugs(&models), [("up", "a"), ("up", "b")]);
    let expected = Model {
        slug: "a".to_owned(),
        display_name: "A".to_owned(),
        description: "first".to_owned(),
        provider: "up".to_owned(),
        is_default: true,
        reasoning_efforts: vec![("low".to_owned(), "quick".to_owned()), ("xhigh".to_owned(), String::new())],
        default_reasoning_effort: Some("low".to_owned()),
        context_window: Some(1000),
        supports_parallel_tool_calls: false,
        supports_reasoning_summaries: true,
        base_instructions: Some("Be brief.".to_owned()),
        default_reasoning_summary: None,
        supports_image_detail_original: false,
        prefer_websockets: false,
    };
    assert_eq!(models[0], expected);
    let asked = &upstream.all_requests()[0];
    assert_eq!(asked.header("authorization"), Some(&*format!("Bearer {SECRET}")));
    assert_eq!(asked.header("accept"), Some("application/json"));

    let openai = json!({"data": [
        {"id": "old", "created": 5, "max_model_len": 4096, "context_length": null},
        {"id": "new", "created": 9},
        {"object": "odd"},
    ]});
    let upstream = self::upstream(&openai).await;
    let facts =
        "[model_providers.up.model_facts.new]\ncontext_window = 7\n[model_providers.up.model_facts.own]\n";
    let models = in_time(one(&upstream.base_url(), facts).models()).await;
    assert_eq!(slugs(&models), [("up", "new"), ("up", "old"), ("up", "own")]);
    assert_eq!((models[0].context_window, models[1].context_window), (Some(7), Some(4096)));
}

#[tokio::test(start_paused = true)]
async fn a_list_is_fresh_for_five_minutes_and_old_ones_survive_failures() {
    let upstream = upstream(&data(&["first"])).await;
    let providers = one(&upstream.base_url(), "");
    assert_eq!(slugs(&in_time(providers.models()).await), [("up", "first")]);
    upstream.route(Method::GET, "/v1/models", Reply::json(200, &data(&["second"])));
    tokio::time::advance(Duration::from_secs(299)).await;
    assert_eq!(slugs(&in_time(providers.models()).await), [("up", "first")]);
    assert_eq!(upstream.all_requests().len(), 1);
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(slugs(&in_time(providers.models()).await), [("up", "second")]);
    assert_eq!(upstream.all_requests().len(), 2);

    for broken in [
        Reply::json(404, &json!({})),
        Reply::json(200, &json!("no list")),
        Reply::reset(),
        Reply::json(200, &data(&["late"])).delay_headers(&Gate::closed()),
    ] {
        upstream.route(Method::GET, "/v1/models", broken);
        tokio::time::advance(Duration::from_secs(301)).await;
        let before = upstream.all_requests().len();
        for _ in 0..3 {
            assert_eq!(slugs(&in_time(providers.models()).await), [("up", "second")]);
        }
        let asked = upstream.all_requests().len() - before;
        assert!((1..=3).contains(&asked), "one question, with its repeats: {asked}");
    }
    upstream.route(Method::GET, "/v1/models", Reply::json(200, &data(&["third"])));
    tokio::time::advance(Duration::from_secs(31)).await;
    assert_eq!(slugs(&in_time(providers.models()).await), [("up", "third")]);
}

#[tokio::test]
async fn many_callers_ask_once() {
    let upstream = Upstream::start().await.unwrap();
    let gate = Gate::closed();
    upstream.route(Method::GET, "/v1/models", Reply::json(200, &data(&["m"])).delay_headers(&gate));
    let providers = one(&upstream.base_url(), "");
    // The first caller goes away while it asks; the others must not wait for it.
    tokio::select! {
        biased;
        _ = providers.models() => panic!("the list is held back"),
        faults = upstream.wait_faults(|faults| faults.header_delays == 1) => drop(faults.unwrap()),
    }
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let providers = providers.clone();
        callers.spawn(async move { in_time(providers.models()).await });
    }
    upstream.wait_faults(|faults| faults.header_delays == 2).await.unwrap();
    gate.open();
    for models in callers.join_all().await {
        assert_eq!(slugs(&models), [("up", "m")]);
    }
    assert_eq!(upstream.all_requests().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn one_provider_that_is_down_does_not_hide_the_others() {
    let up = upstream(&data(&["m", "shared"])).await;
    let down = Upstream::start().await.unwrap();
    let base_url = down.base_url();
    down.shutdown().await;
    let text = format!(
        "model_provider = \"down\"\nmodel = \"x\"\n[model_providers.rehearsal]\n
         [model_providers.down]\nbase_url = {base_url:?}\n
         [model_providers.fixed]\nbase_url = \"https://fixed.example/v1\"\nmodels = [\"f\", \"shared\"]\n
         [model_providers.up]\nbase_url = {:?}\n",
        up.base_url()
    );
    let providers = Providers::build(&parse(&text), &bare).unwrap();
    assert_eq!(providers.route("m", None).unwrap().upstream.id(), "down", "nothing is known of m yet");
    let models = in_time(providers.models()).await;
    let expected = [
        ("down", "x"),
        ("fixed", "f"),
        ("fixed", "shared"),
        ("rehearsal", "rehearsal"),
        ("rehearsal", "rehearsal-short"),
        ("rehearsal", "rehearsal-long"),
        ("rehearsal", "rehearsal-slow"),
        ("up", "m"),
    ];
    assert_eq!(slugs(&models), expected);
    let defaults: Vec<_> = models.iter().filter(|model| model.is_default).map(|model| &model.slug).collect();
    assert_eq!(defaults, ["x"]);
    for model in &models {
        assert_eq!(
            providers.route(&model.slug, None).unwrap().upstream.id(),
            model.provider,
            "listed is callable"
        );
    }
}
