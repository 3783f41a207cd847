//! The merged list of models, and how remote lists are asked for.

use std::time::Duration;

use gateway_providers::{CallerCredential, ListForm, Model, ModelList, Providers, Viewer};
use gateway_testkit::{Gate, Reply, Upstream};
use http::{HeaderValue, Method, StatusCode};
use serde_json::{Value, json};
use test_clock::paused;

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
    let a = &models[0];
    assert_eq!((a.display_name.as_str(), a.description.as_str(), a.is_default), ("A", "first", true));
    assert_eq!(
        a.reasoning_efforts,
        [("low".to_owned(), "quick".to_owned()), ("xhigh".to_owned(), String::new())]
    );
    assert_eq!(a.default_reasoning_effort.as_deref(), Some("low"));
    assert_eq!(a.context_window, Some(1000));
    assert!(!a.supports_parallel_tool_calls && a.supports_reasoning_summaries);
    assert_eq!(a.base_instructions.as_deref(), Some("Be brief."));
    assert_eq!(a.default_reasoning_summary, None);
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

#[test]
fn a_list_is_fresh_for_five_minutes_and_old_ones_survive_failures() {
    paused(async {
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
            assert!((1..=5).contains(&asked), "one question, with its repeats: {asked}");
        }
        upstream.route(Method::GET, "/v1/models", Reply::json(200, &data(&["third"])));
        tokio::time::advance(Duration::from_secs(31)).await;
        assert_eq!(slugs(&in_time(providers.models()).await), [("up", "third")]);
    })
    .unwrap();
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

#[test]
fn one_provider_that_is_down_does_not_hide_the_others() {
    paused(async {
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
        let defaults: Vec<_> =
            models.iter().filter(|model| model.is_default).map(|model| &model.slug).collect();
        assert_eq!(defaults, ["x"]);
        for model in &models {
            assert_eq!(
                providers.route(&model.slug, None).unwrap().upstream.id(),
                model.provider,
                "listed is callable"
            );
        }
    })
    .unwrap();
}

fn codex(slug: &str, instructions: &str) -> Value {
    json!({
        "slug": slug, "display_name": slug, "description": null, "priority": 1, "visibility": "list",
        "supported_reasoning_levels": [{"effort": "low", "description": "quick"}], "default_reasoning_level": "low",
        "shell_type": "shell_command", "supported_in_api": true, "support_verbosity": false,
        "truncation_policy": {"mode": "tokens", "limit": 10000}, "experimental_supported_tools": [],
        "base_instructions": instructions, "default_reasoning_summary": "detailed",
        "supports_image_detail_original": true, "prefer_websockets": true, "of_the_future": [1, {"x": null}],
    })
}

fn pretty(list: &ModelList) -> String {
    serde_json::to_string_pretty(&serde_json::from_slice::<Value>(&list.body).unwrap()).unwrap()
}

fn viewer(caller: Option<&CallerCredential>) -> Viewer<'_> {
    caller.map_or(Viewer::EVERYBODY, Viewer::from)
}

async fn listed(providers: &Providers, form: ListForm, caller: Option<&CallerCredential>) -> ModelList {
    in_time(providers.model_list(form, viewer(caller), &|_| true)).await
}

#[tokio::test]
async fn the_list_is_written_in_both_forms() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("models.json");
    let mut hidden = codex("reviewer", "Review.");
    hidden["visibility"] = json!("hide");
    std::fs::write(&file, json!({"models": [codex("deep", "Dive."), hidden]}).to_string()).unwrap();
    let text = format!(
        "model_provider = \"up\"\nmodel = \"told\"\n[model_aliases.fast]\nprovider = \"file\"\nmodel = \"deep\"\n\
         [model_providers.file]\nbase_url = \"https://file.example/v1\"\nmodels_file = {:?}\n\
         [model_providers.up]\nbase_url = \"https://up.example/v1\"\nmodels = [\"told\", \"mute\"]\n\
         [model_providers.up.model_facts.told]\nbase_instructions = \"Be told.\"\ncontext_window = 1000\n\
         supports_reasoning_summaries = true\ndefault_reasoning_summary = \"auto\"\ndescription = \"Known by facts\"\n\
         reasoning_efforts = [{{effort = \"none\"}}, {{effort = \"ultra\", description = \"most\"}}]\n\
         default_reasoning_effort = \"ultra\"\n",
        file.display().to_string()
    );
    let providers = Providers::build(&parse(&text), &bare).unwrap();
    assert_eq!(providers.models_etag(Viewer::EVERYBODY), None);
    let openai = listed(&providers, ListForm::OpenAi, None).await;
    insta::assert_snapshot!("openai_form", pretty(&openai));
    assert_eq!(providers.models_etag(Viewer::EVERYBODY), None, "nobody has a list in Codex's form yet");
    let codex_form = listed(&providers, ListForm::Codex, None).await;
    insta::assert_snapshot!("codex_form", pretty(&codex_form));
    let raw = codex("deep", "Dive.").to_string();
    assert!(std::str::from_utf8(&codex_form.body).unwrap().contains(&raw), "passes as it stands in the file");

    assert_eq!(providers.models_etag(Viewer::EVERYBODY), Some(codex_form.etag.clone()));
    assert_ne!(codex_form.etag, openai.etag);
    assert_eq!(listed(&providers, ListForm::Codex, None).await.etag, codex_form.etag);
    let fewer = Viewer { credential: None, name: "acme" };
    let less = in_time(providers.model_list(ListForm::Codex, fewer, &|model| model.slug != "deep")).await;
    assert_eq!(providers.models_etag(fewer), Some(less.etag.clone()), "who sees less has a tag of its own");
    assert_eq!(providers.models_etag(Viewer::EVERYBODY), Some(codex_form.etag.clone()));
    assert_ne!(less.etag, codex_form.etag);
    assert!(!pretty(&less).contains("\"slug\": \"deep\""));

    let models = in_time(providers.models()).await;
    assert_eq!(slugs(&models), [("up", "told"), ("up", "mute"), ("file", "deep"), ("file", "fast")]);
    let deep = &models[2];
    assert_eq!(deep.default_reasoning_summary.as_deref(), Some("detailed"));
    assert!(deep.supports_image_detail_original && deep.prefer_websockets);
    for model in &models {
        assert_eq!(
            providers.route(&model.slug, None).unwrap().upstream.id(),
            model.provider,
            "listed is callable"
        );
    }
    assert_eq!(providers.route("reviewer", None).unwrap().upstream.id(), "file");
}

#[test]
fn a_models_file_that_cannot_be_read_is_a_problem_of_the_configuration() {
    let text =
        "[model_providers.up]\nbase_url = \"https://up.example/v1\"\nmodels_file = \"/nonexistent/m.json\"\n";
    let problems = Providers::build(&parse(text), &bare).unwrap_err();
    assert_eq!(problems[0].key, "model_providers.up.models_file");
    assert!(problems[0].message.starts_with("cannot read /nonexistent/m.json: "), "{problems:?}");
}

#[test]
fn a_list_with_a_tag_is_asked_for_by_it() {
    paused(async {
        let upstream = Upstream::start().await.unwrap();
        let reply = Reply::json(200, &data(&["first"])).header("etag", "W/\"one\"");
        upstream.route(Method::GET, "/v1/models", reply);
        let providers = one(&upstream.base_url(), "");
        assert_eq!(slugs(&in_time(providers.models()).await), [("up", "first")]);
        let unchanged = Reply::bytes(StatusCode::NOT_MODIFIED, "application/json", "");
        upstream.route(Method::GET, "/v1/models", unchanged);
        for asked in 2..4 {
            tokio::time::advance(Duration::from_secs(301)).await;
            for _ in 0..2 {
                assert_eq!(slugs(&in_time(providers.models()).await), [("up", "first")]);
            }
            assert_eq!(upstream.all_requests().len(), asked, "the list is fresh again");
            assert_eq!(upstream.all_requests()[asked - 1].header("if-none-match"), Some("W/\"one\""));
        }
        upstream.route(Method::GET, "/v1/models", Reply::json(200, &data(&["second"])));
        tokio::time::advance(Duration::from_secs(301)).await;
        assert_eq!(slugs(&in_time(providers.models()).await), [("up", "second")]);
        tokio::time::advance(Duration::from_secs(301)).await;
        in_time(providers.models()).await;
        assert_eq!(
            upstream.all_requests().last().unwrap().header("if-none-match"),
            None,
            "that list had no tag"
        );
    })
    .unwrap();
}

#[test]
fn an_announced_change_is_asked_for_and_told_to_clients() {
    paused(async {
        let list = |slug: &str| json!({"models": [codex(slug, "Told.")]});
        let upstream = Upstream::start().await.unwrap();
        let reply = |slug: &str, etag: &str| Reply::json(200, &list(slug)).header("etag", etag);
        upstream.route(Method::GET, "/v1/models", reply("old", "\"1\""));
        let providers = one(&upstream.base_url(), "");
        let old = listed(&providers, ListForm::Codex, None).await;
        let announce = |etag: &'static str| {
            providers.upstream_models_changed("up", &HeaderValue::from_static(etag), None);
            providers.models_etag(Viewer::EVERYBODY).unwrap()
        };
        assert_eq!(announce("\"1\""), old.etag);
        assert_eq!(announce("\"2\""), old.etag, "it has just been asked");
        tokio::time::advance(Duration::from_secs(11)).await;
        upstream.route(Method::GET, "/v1/models", reply("new", "\"2\""));
        let due = announce("\"2\"");
        assert_ne!(due, old.etag, "clients shall ask");
        assert_eq!(announce("\"2\""), due);
        let new = listed(&providers, ListForm::Codex, None).await;
        assert!(pretty(&new).contains("\"new\""));
        assert_eq!(announce("\"2\""), new.etag);
        assert_eq!(upstream.all_requests().len(), 2);
        providers.upstream_models_changed("nobody", &HeaderValue::from_static("\"3\""), None);

        // A tag that the list never comes with is news once.
        tokio::time::advance(Duration::from_secs(11)).await;
        assert_ne!(announce("\"odd\""), new.etag);
        assert_eq!(listed(&providers, ListForm::Codex, None).await.etag, new.etag);
        tokio::time::advance(Duration::from_secs(11)).await;
        assert_eq!(announce("\"odd\""), new.etag);
        assert_eq!(upstream.all_requests().len(), 3);
    })
    .unwrap();
}

#[tokio::test]
async fn callers_that_bring_a_credential_see_their_own_list() {
    let upstream = Upstream::start().await.unwrap();
    let text = format!(
        "[model_providers.openai]\nbase_url = {:?}\npass_through = true\n[model_providers.openai.model_facts.known]\n",
        upstream.base_url()
    );
    let providers = Providers::build(&parse(&text), &bare).unwrap();
    let caller = |token: &'static str, account: Option<&'static str>| CallerCredential {
        authorization: HeaderValue::from_static(token),
        account: account.map(HeaderValue::from_static),
    };
    let (first, second) = (caller("Bearer first", Some("account-1")), caller("Bearer second", None));
    let names = |list: &ModelList| {
        let list: Value = serde_json::from_slice(&list.body).unwrap();
        let entries = list["data"].as_array().unwrap();
        entries.iter().map(|entry| entry["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    upstream.route(Method::GET, "/v1/models", Reply::json(200, &json!({"models": [codex("gpt-6-x", "X.")]})));
    assert_eq!(names(&listed(&providers, ListForm::OpenAi, Some(&first)).await), ["gpt-6-x", "known"]);
    let asked = upstream.all_requests().pop().unwrap();
    assert_eq!(asked.header("authorization"), Some("Bearer first"));
    assert_eq!(asked.header("chatgpt-account-id"), Some("account-1"));
    assert_eq!(asked.query.as_deref(), Some("client_version=0.169.0"));

    upstream.route(Method::GET, "/v1/models", Reply::json(200, &data(&["gpt-6-y"])));
    assert_eq!(names(&listed(&providers, ListForm::OpenAi, Some(&second)).await), ["gpt-6-y", "known"]);
    let asked = upstream.all_requests().pop().unwrap();
    assert_eq!(
        (asked.header("authorization"), asked.header("chatgpt-account-id")),
        (Some("Bearer second"), None)
    );
    assert_eq!(asked.query, None, "an account with a key has no list in Codex's form");

    assert_eq!(names(&listed(&providers, ListForm::OpenAi, Some(&first)).await), ["gpt-6-x", "known"]);
    assert_eq!(names(&listed(&providers, ListForm::OpenAi, None).await), ["known"]);
    assert_eq!(
        upstream.all_requests().len(),
        2,
        "each caller's list is remembered, and nobody asks for nobody"
    );

    let of_first = listed(&providers, ListForm::Codex, Some(&first)).await.etag;
    let of_second = listed(&providers, ListForm::Codex, Some(&second)).await.etag;
    assert_ne!(of_first, of_second);
    assert_eq!(providers.models_etag(Viewer::from(&first)), Some(of_first));
    assert_eq!(providers.models_etag(Viewer::from(&second)), Some(of_second));
    assert_eq!(providers.models_etag(Viewer::EVERYBODY), None);
}

#[tokio::test]
async fn a_provider_s_own_list_keeps_a_model_off_its_socket() {
    let upstream = Upstream::start().await.unwrap();
    let entry = |slug: &str, prefer: Value| {
        let mut entry = codex(slug, "Work.");
        entry["prefer_websockets"] = prefer;
        entry
    };
    let list = json!({"models": [
        entry("plain", json!(false)), entry("fast", json!(true)), entry("silent", Value::Null), entry("wanted", json!(false)),
    ]});
    upstream.route(Method::GET, "/v1/models", Reply::json(200, &list));
    let tables = |keys: &str| {
        format!(
            "[model_providers.up]\nbase_url = {:?}\n{keys}\n\
             [model_providers.up.model_facts.wanted]\nprefer_websockets = true\n\
             [model_providers.up.model_facts.unwanted]\nprefer_websockets = false\n",
            upstream.base_url()
        )
    };
    let providers = Providers::build(&parse(&tables("supports_websockets = true")), &bare).unwrap();
    let member = providers.route("fast", Some("up")).unwrap().upstream;
    let stays = |model: &str| providers.stays_on_http(&member, model, None);
    assert!(!stays("plain") && stays("unwanted"), "the provider has said nothing yet");
    in_time(providers.models()).await;
    let stay: Vec<_> = ["plain", "fast", "silent", "wanted", "unwanted", "unheard"]
        .into_iter()
        .filter(|it| stays(it))
        .collect();
    assert_eq!(stay, ["plain", "unwanted"], "what is configured wins, what nobody says is no refusal");

    let without = Providers::build(&parse(&tables("")), &bare).unwrap();
    let member = without.route("fast", Some("up")).unwrap().upstream;
    assert!(without.stays_on_http(&member, "fast", None), "there is no socket to go to");
}
