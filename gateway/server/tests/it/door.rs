//! Who may call, what they may call, and configurations that change while calls run.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use std::time::SystemTime;

use gateway_providers::{Providers, ProvidersConfig};
use gateway_server::{Configuration, ServerConfig};
use gateway_testkit::{Reply, SocketScript, Turn, messages, text_turn};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tidegate_callers::{KeysFile, NewKey};
use tidegate_proto::{
    failure_of,
    gateway::v1::{
        BodyChunk, DescribeProvidersRequest, ListModelsRequest, RespondRequest, WatchRateLimitsRequest,
        respond_request::Message, respond_response::Message as Answer,
    },
};
use tokio_stream::StreamExt as _;
use tokio_tungstenite::tungstenite::Error;
use tonic::{Code, Status, metadata::MetadataMap};

use crate::{
    harness::{Door, Gate, KEY, bytes_of, deadline, json_of, usage},
    stream::Stream,
    talker::Talker,
};

const CALL: &str = r#"{"model":"scripted-1","stream":true,"input":"hi"}"#;
const POLICY: &str = r#"
    [tenants.acme]
    models.deny = ["scripted-2"]
    tools.deny = ["web_search"]
    tiers.allow = ["default", "flex"]
    max_body_bytes = 4096
    [tenants.acme.subjects.ci]
    max_concurrent_calls = 1
    [tenants.barred]
    scopes_required = ["models"]
"#;

/// A policy against the calls of these tests.
const DENIES: &str = "default.models.deny = [\"scripted-1\"]";

/// A gateway with a keys file, and the keys of three callers.
struct Building {
    gate: Gate,
    _directory: tempfile::TempDir,
    acme: String,
    ci: String,
    barred: String,
}

fn providers(base_url: &str) -> String {
    format!(
        r#"
        model_provider = "scripted"
        [model_providers.scripted]
        base_url = "{base_url}"
        env_key = "UPSTREAM_KEY"
        models = ["scripted-1", "scripted-2"]
        [model_providers.own]
        base_url = "{base_url}/own"
        pass_through = true
        models = ["own-1"]
        "#
    )
}

/// What a gateway goes on with: the same under another policy.
fn other(gate: &Gate, policy: &str) -> Configuration {
    let config: ProvidersConfig = toml::from_str(&providers(&gate.upstream.base_url())).unwrap();
    let env = |name: &str| (name == "UPSTREAM_KEY").then(|| KEY.to_owned());
    let providers = Providers::build(&config, &env).unwrap();
    Door { policy, ..Door::default() }.configuration(ServerConfig::default(), providers)
}

async fn building() -> Building {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.toml");
    let file = KeysFile::at(&path);
    let create = |tenant: &str, subject: &str| {
        let key = NewKey { tenant: tenant.to_owned(), subject: subject.to_owned(), ..NewKey::default() };
        file.create(key, SystemTime::now()).unwrap().key.expose_secret().to_owned()
    };
    let (acme, ci, barred) = (create("acme", "ann"), create("acme", "ci"), create("barred", "bob"));
    let callers = format!("[authentication]\nkeys_file = {:?}\n", path.display().to_string());
    let door = Door { callers: &callers, policy: POLICY };
    let gate = Gate::guarded(ServerConfig::default(), providers, &door).await;
    Building { gate, _directory: directory, acme, ci, barred }
}

impl Building {
    async fn call(&self, key: &str, body: &str) -> Response<Incoming> {
        self.gate.upstream.push(Reply::sse(text_turn(&["fine"], usage())));
        self.post(Some(key), body).await
    }

    async fn post(&self, key: Option<&str>, body: &str) -> Response<Incoming> {
        let mut request = Request::post(format!("http://{}/v1/responses", self.gate.at));
        if let Some(key) = key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        self.gate.send(request.body(Full::new(body.to_owned().into())).unwrap()).await
    }

    async fn denied(&self, key: &str, body: &str, rule: &str) {
        let response = self.post(Some(key), body).await;
        assert_eq!(response.status(), 400, "{body}");
        let error = json_of(response).await;
        assert_eq!(error["error"]["code"], "policy_denied", "{error}");
        let message = error["error"]["message"].as_str().unwrap();
        assert!(message.contains(rule), "{message}");
    }
}

#[tokio::test]
async fn a_key_lets_in_and_stays_behind() {
    let building = building().await;
    let response = building.call(&building.acme, CALL).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["x-tidegate-generation"], "1");
    bytes_of(response).await;
    let seen = building.gate.upstream.all_requests().pop().unwrap();
    assert_eq!(seen.header("authorization"), Some(format!("Bearer {KEY}").as_str()));
    assert!(!format!("{seen:?}").contains(&building.acme));
}

#[tokio::test]
async fn strangers_are_told_what_to_bring() {
    let building = building().await;
    let wrong = format!("{}x", building.acme);
    for (key, reason) in [
        (None, "no credential"),
        (Some(wrong.as_str()), "unknown"),
        (Some("sk-of-somebody"), "no credential"),
    ] {
        let response = building.post(key, CALL).await;
        assert_eq!(response.status(), 401, "{key:?}");
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
        let error = json_of(response).await;
        assert_eq!(error["error"]["code"], "unauthenticated");
        let message = error["error"]["message"].as_str().unwrap();
        assert!(message.contains(reason) && !message.contains("sk-of"), "{message}");
    }
    let models = building.gate.get("/v1/models").await;
    assert_eq!(models.status(), 401);
    let mut client = building.gate.grpc().await;
    let status = deadline(client.list_models(ListModelsRequest {})).await.unwrap_err();
    assert_eq!(
        (status.code(), failure_of(&status).reason.as_str()),
        (Code::Unauthenticated, "unauthenticated")
    );
    let status = deadline(client.describe_providers(DescribeProvidersRequest {})).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    let status = deadline(client.respond(tokio_stream::pending())).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated, "before the first call is sent");
    assert!(building.gate.upstream.all_requests().is_empty());
}

#[tokio::test]
async fn a_caller_s_own_login_goes_through_when_another_header_lets_it_in() {
    let building = building().await;
    building.gate.upstream.push(Reply::sse(text_turn(&["fine"], usage())));
    let request = Request::post(format!("http://{}/v1/responses", building.gate.at))
        .header("authorization", "Bearer login-of-a-laptop")
        .header("chatgpt-account-id", "acc-9")
        .header("x-tidegate-authorization", format!("Bearer {}", building.acme))
        .body(Full::new(CALL.replace("scripted-1", "own-1").into()))
        .unwrap();
    let response = building.gate.send(request).await;
    assert_eq!(response.status(), 200);
    bytes_of(response).await;
    let seen = building.gate.upstream.all_requests().pop().unwrap();
    assert_eq!(seen.header("authorization"), Some("Bearer login-of-a-laptop"));
    assert_eq!(seen.header("chatgpt-account-id"), Some("acc-9"));
    assert_eq!(seen.header("x-tidegate-authorization"), None);

    // The key that lets in is never taken for a login.
    let response = building.post(Some(&building.acme), &CALL.replace("scripted-1", "own-1")).await;
    assert_eq!(response.status(), 401);
    assert_eq!(json_of(response).await["error"]["code"], "caller_credential_missing");
}

#[tokio::test]
async fn rules_deny_by_name_and_nothing_leaves() {
    let building = building().await;
    let key = &building.acme;
    building.denied(key, &CALL.replace("scripted-1", "scripted-2"), "tenants.acme.models.deny").await;
    let tools = r#"{"model":"scripted-1","tools":[{"type":"web_search"}],"input":"hi"}"#;
    building.denied(key, tools, "tenants.acme.tools.deny").await;
    let hidden =
        r#"{"model":"scripted-1","input":[{"type":"additional_tools","tools":[{"type":"web_search"}]}]}"#;
    building.denied(key, hidden, "tenants.acme.tools.deny").await;
    building
        .denied(key, r#"{"model":"scripted-1","service_tier":"priority","input":"hi"}"#, "tenants.acme.tiers")
        .await;
    let long = json!({"model": "scripted-1", "input": "x".repeat(5000)}).to_string();
    building.denied(key, &long, "tenants.acme.max_body_bytes").await;
    building.denied(&building.barred, CALL, "tenants.barred.scopes_required").await;
    assert!(building.gate.upstream.all_requests().is_empty());
    assert_eq!(building.call(key, CALL).await.status(), 200);
}

#[tokio::test]
async fn lists_show_what_may_be_called() {
    let building = building().await;
    let names = |list: &Value| {
        let data = list["data"].as_array().unwrap();
        data.iter().map(|model| model["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let request = Request::get(format!("http://{}/v1/models", building.gate.at))
        .header("authorization", format!("Bearer {}", building.acme))
        .body(Full::default())
        .unwrap();
    let list = json_of(building.gate.send(request).await).await;
    assert_eq!(names(&list), ["scripted-1", "own-1"]);

    let mut client = building.gate.grpc().await;
    let mut request = tonic::Request::new(ListModelsRequest {});
    request.metadata_mut().insert("authorization", format!("Bearer {}", building.acme).parse().unwrap());
    let models = deadline(client.list_models(request)).await.unwrap().into_inner().models;
    assert_eq!(models.iter().map(|model| model.slug.as_str()).collect::<Vec<_>>(), ["scripted-1", "own-1"]);
}

#[tokio::test]
async fn one_subject_s_calls_are_bounded_apart_from_others() {
    let building = building().await;
    let gate = gateway_testkit::Gate::closed();
    building.gate.upstream.push(Reply::sse(text_turn(&["slow"], usage())).delay_headers(&gate));
    let slow = building.post(Some(&building.ci), CALL);
    let others = async {
        building.gate.upstream.wait_for_request(1).await.unwrap();
        let refused = building.post(Some(&building.ci), CALL).await;
        assert_eq!(refused.status(), 429);
        assert_eq!(refused.headers()["retry-after"], "1");
        let error = json_of(refused).await;
        assert_eq!(error["error"]["code"], "too_many_calls");
        assert!(error["error"]["message"].as_str().unwrap().contains("tenants.acme.subjects.ci"), "{error}");
        assert_eq!(building.call(&building.acme, CALL).await.status(), 200);
        gate.open();
    };
    let (slow, ()) = tokio::join!(slow, others);
    assert_eq!(slow.status(), 200);
    bytes_of(slow).await;
    assert_eq!(building.call(&building.ci, CALL).await.status(), 200);
}

#[tokio::test]
async fn a_revoked_key_ends_an_open_stream_with_its_next_call() {
    let building = building().await;
    let file = KeysFile::at(building._directory.path().join("keys.toml"));
    let bearer = format!("Bearer {}", building.acme);
    let mut stream = Stream::open_as(&building.gate, &bearer).await;
    building.gate.upstream.push(Reply::sse(text_turn(&["fine"], usage())));
    stream.call(CALL, 1000).await;
    assert!(matches!(stream.response().await.pop(), Some(Answer::Completed(_))));
    let entry = file.list().unwrap().into_iter().find(|entry| entry.subject == "ann").unwrap();
    file.revoke(&entry.id, SystemTime::now()).unwrap();
    let refused = async {
        loop {
            // The file is looked at a few times a second.
            building.gate.upstream.push(Reply::sse(text_turn(&["fine"], usage())));
            stream.call(CALL, 1000).await;
            if let Some(Answer::Failed(failed)) = stream.response().await.pop() {
                return failed.failure.unwrap();
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let watch = building.gate.callers.watch();
    let failure = tokio::select! {
        failure = deadline(refused) => failure,
        () = watch => unreachable!(),
    };
    assert_eq!(failure.reason, "unauthenticated");
    assert!(failure.message.contains("revoked"), "{}", failure.message);
    assert!(deadline(stream.events.next()).await.is_none(), "what follows cannot be told apart any more");
}

#[tokio::test]
async fn a_call_keeps_the_configuration_that_it_began_with() {
    let gate = Gate::guarded(ServerConfig::default(), providers, &Door::default()).await;
    let held = gateway_testkit::Gate::closed();
    gate.upstream.push(Reply::sse(text_turn(&["slow"], usage())).delay_headers(&held));
    let begun = gate.post(CALL);
    let meanwhile = async {
        gate.upstream.wait_for_request(1).await.unwrap();
        assert_eq!(gate.gateway.replace(other(&gate, DENIES)), 2);
        let denied = gate.post(CALL).await;
        assert_eq!(
            (denied.status().as_u16(), &denied.headers()["x-tidegate-generation"]),
            (400, &"2".parse().unwrap())
        );
        held.open();
    };
    let (begun, ()) = tokio::join!(begun, meanwhile);
    assert_eq!(
        (begun.status().as_u16(), &begun.headers()["x-tidegate-generation"]),
        (200, &"1".parse().unwrap())
    );
    bytes_of(begun).await;
    assert_eq!(gate.gateway.replace(other(&gate, "")), 3);
    gate.assert_healthy().await;
}

#[tokio::test]
async fn answers_that_reach_no_call_name_the_configuration_too() {
    let gate = Gate::guarded(ServerConfig::default(), providers, &Door::default()).await;
    assert_eq!(gate.gateway.replace(other(&gate, "")), 2);
    for (path, status) in [("/nothing", 404), ("/v1/responses", 405)] {
        let answer = gate.get(path).await;
        assert_eq!(answer.status(), status, "{path}");
        assert_eq!(answer.headers()["x-tidegate-generation"], "2", "{path}");
    }
}

#[tokio::test]
async fn answers_over_grpc_name_the_configuration_that_they_were_given_under() {
    let gate = Gate::guarded(ServerConfig::default(), providers, &Door::default()).await;
    let named =
        |metadata: &MetadataMap| metadata.get("x-tidegate-generation").unwrap().to_str().unwrap() == "2";
    let held = gateway_testkit::Gate::closed();
    gate.upstream.push(Reply::sse(text_turn(&["slow"], usage())).delay_headers(&held));
    let mut stream = Stream::open(&gate).await;
    stream.call(CALL, 1000).await;
    gate.upstream.wait_for_request(1).await.unwrap();
    assert_eq!(gate.gateway.replace(other(&gate, DENIES)), 2);
    held.open();
    let answers = stream.response().await;
    assert!(matches!(answers.first(), Some(Answer::Head(head)) if head.generation == 1), "{answers:?}");
    stream.call(CALL, 1000).await;
    let answers = stream.response().await;
    assert!(matches!(answers.as_slice(), [Answer::Failed(failed)] if failed.generation == 2), "{answers:?}");

    let mut client = gate.grpc().await;
    let requests = || tokio_stream::iter(crate::stream::messages(CALL));
    let opened = client.respond(requests()).await.unwrap();
    assert!(named(opened.metadata()));
    let refused = deadline(opened.into_inner().next()).await.unwrap().unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(named(refused.metadata()));
    assert!(named(client.list_models(ListModelsRequest {}).await.unwrap().metadata()));
    assert!(named(client.describe_providers(DescribeProvidersRequest {}).await.unwrap().metadata()));
    let limits = WatchRateLimitsRequest::default();
    assert!(named(client.watch_rate_limits(limits).await.unwrap().metadata()));

    assert_eq!(gate.gateway.replace(other(&gate, "default.scopes_required = [\"models\"]")), 3);
    let stranger = client.list_models(ListModelsRequest {}).await.unwrap_err();
    assert_eq!(stranger.metadata().get("x-tidegate-generation").unwrap(), "3");
    assert_eq!(gate.gateway.replace(other(&gate, "")), 4);
    gate.upstream.push(Reply::sse(text_turn(&["fine"], usage())));
    stream.call(CALL, 1000).await;
    let answers = stream.response().await;
    assert!(matches!(answers.first(), Some(Answer::Head(head)) if head.generation == 4), "{answers:?}");
    gate.upstream.push(Reply::sse(Turn::new("resp_2").failed("context_length_exceeded", "too long")));
    stream.call(CALL, 1000).await;
    let answers = stream.response().await;
    assert!(matches!(answers.last(), Some(Answer::Failed(failed)) if failed.generation == 4), "{answers:?}");
}

#[tokio::test]
async fn a_thread_stays_where_it_began() {
    let tables = |base_url: &str, alias: &str| {
        format!(
            "model_provider = \"a\"\n[model_aliases.fast]\n{alias}\n\
             [model_providers.a]\nbase_url = \"{base_url}/a\"\nenv_key = \"UPSTREAM_KEY\"\nmodels = [\"small\"]\n\
             [model_providers.b]\nbase_url = \"{base_url}/b\"\nenv_key = \"UPSTREAM_KEY\"\nmodels = [\"large\"]\n"
        )
    };
    let (first, second) = ("provider = \"a\"\nmodel = \"small\"", "provider = \"b\"\nmodel = \"large\"");
    let gate = Gate::configured(ServerConfig::default(), |base_url| tables(base_url, first)).await;
    let call = async |thread: &str| {
        gate.upstream.push(Reply::sse(text_turn(&["fine"], usage())));
        let mut request = gate.request(r#"{"model":"fast","stream":true,"input":"hi"}"#);
        request.headers_mut().insert("thread-id", thread.parse().unwrap());
        let response = gate.send(request).await;
        assert_eq!(response.status(), 200);
        let served = response.headers()["x-tidegate-model"].to_str().unwrap().to_owned();
        bytes_of(response).await;
        served
    };
    assert_eq!(call("old").await, "small");
    let config: ProvidersConfig = toml::from_str(&tables(&gate.upstream.base_url(), second)).unwrap();
    let env = |name: &str| (name == "UPSTREAM_KEY").then(|| KEY.to_owned());
    let providers = Providers::build(&config, &env).unwrap();
    gate.gateway.replace(Door::default().configuration(ServerConfig::default(), providers));
    assert_eq!(call("old").await, "small");
    assert_eq!(call("new").await, "large");
    let paths: Vec<_> = gate.upstream.all_requests().into_iter().map(|request| request.path).collect();
    assert!(paths[1].ends_with("/a/responses") && paths[2].ends_with("/b/responses"), "{paths:?}");
}

#[tokio::test]
async fn a_gateway_that_holds_all_that_it_may_says_so_at_once() {
    let limits = ServerConfig { held_bytes_max: 1000, ..ServerConfig::default() };
    let gate = Gate::with(limits, "").await;
    let response = gate.post(json!({"model": "scripted-1", "input": "x".repeat(2000)}).to_string()).await;
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["retry-after"], "1");
    assert_eq!(json_of(response).await["error"]["code"], "gateway_full");
    gate.assert_healthy().await;
}

#[tokio::test]
async fn a_caller_s_deadline_ends_its_stream_and_the_call_upstream() {
    let gate = Gate::start().await;
    gate.upstream
        .push(Reply::sse(text_turn(&["never"], usage())).delay_headers(&gateway_testkit::Gate::closed()));
    let mut stream = Stream::open_within(&gate, std::time::Duration::from_millis(300)).await;
    stream.call(CALL, 1000).await;
    let status: Status = deadline(stream.events.next()).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    gate.upstream.wait_cancelled(1).await.unwrap();
}

#[tokio::test]
async fn compressed_calls_are_read_and_bombs_are_not() {
    let gate = Gate::start().await;
    let mut client = gate.grpc().await.send_compressed(tonic::codec::CompressionEncoding::Gzip);
    gate.upstream.push(Reply::sse(text_turn(&["fine"], usage())));
    let body = json!({"model": "scripted-1", "stream": true, "input": "x".repeat(900_000)}).to_string();
    let messages = crate::stream::messages(&body);
    let mut events = deadline(client.respond(tokio_stream::iter(messages))).await.unwrap().into_inner();
    let mut completed = false;
    while let Some(event) = deadline(events.next()).await {
        completed |= matches!(event.unwrap().message, Some(Answer::Completed(_)));
    }
    assert!(completed);
    assert_eq!(gate.upstream.all_requests()[0].body, body.as_bytes());

    // A message of a few KiB that would become one of 16 MiB.
    let mut bomb = crate::stream::messages("{}");
    bomb.truncate(1);
    let data = vec![b' '; 16 * 1024 * 1024].into();
    bomb.push(RespondRequest { message: Some(Message::BodyChunk(BodyChunk { data, last: true })) });
    let mut events = deadline(client.respond(tokio_stream::iter(bomb))).await.unwrap().into_inner();
    let status = deadline(events.next()).await.unwrap().unwrap_err();
    let failure = failure_of(&status);
    assert_eq!(failure.reason, "protocol");
    assert!(failure.message.contains("size limit"), "{}", failure.message);
    gate.assert_healthy().await;
}

/// Over a WebSocket who calls is asked at the handshake and for each response.
#[tokio::test]
async fn a_websocket_has_the_same_door() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.toml");
    let file = KeysFile::at(&path);
    let new = NewKey { tenant: "acme".to_owned(), subject: "ann".to_owned(), ..NewKey::default() };
    let created = file.create(new, SystemTime::now()).unwrap();
    let callers = format!("[authentication]\nkeys_file = {:?}\n", path.display().to_string());
    let wired = |base_url: &str| {
        providers(base_url).replacen(
            "models = [\"scripted-1\"",
            "supports_websockets = true\nmodels = [\"scripted-1\"",
            1,
        )
    };
    let door = Door { callers: &callers, policy: POLICY };
    let gate = Gate::guarded(ServerConfig::default(), wired, &door).await;
    for stranger in ["Bearer tg_nobody", "Basic x", ""] {
        let Err(Error::Http(answer)) = Talker::open_with(&gate, &[("authorization", stranger)]).await else {
            panic!("a stranger came in: {stranger}");
        };
        assert_eq!(answer.status(), 401, "{stranger}");
    }
    let shown = format!("Bearer {}", created.key.expose_secret());
    let mut talker = Talker::open_with(&gate, &[("authorization", &shown)]).await.unwrap();
    gate.upstream.push_socket(SocketScript::new().answer(messages(text_turn(&["fine"], usage()))).repeat());
    talker.say(&CALL.replacen('{', r#"{"type":"response.create","#, 1)).await;
    assert_eq!(talker.response().await, messages(text_turn(&["fine"], usage())));
    let socket = gate.upstream.sockets().remove(0);
    assert_eq!(socket.header("authorization"), Some(format!("Bearer {KEY}").as_str()));
    talker.say(r#"{"type":"response.create","model":"scripted-2","input":"hi"}"#).await;
    let denied = talker.json().await;
    assert_eq!((&denied["status"], &denied["error"]["code"]), (&json!(400), &json!("policy_denied")));
    let large =
        format!(r#"{{"type":"response.create","model":"scripted-1","input":"{}"}}"#, "x".repeat(5000));
    talker.say(&large).await;
    assert_eq!(talker.json().await["error"]["code"], "policy_denied");

    // A key that is taken back ends a socket that is older.
    let entry = file.list().unwrap().remove(0);
    file.revoke(&entry.id, SystemTime::now()).unwrap();
    let refused = async {
        loop {
            talker.say(&CALL.replacen('{', r#"{"type":"response.create","#, 1)).await;
            let last: Value = serde_json::from_str(&talker.response().await.pop().unwrap()).unwrap();
            if last["status"] == 401 {
                return last;
            }
            // The file is looked at a few times a second.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let watch = gate.callers.watch();
    let refused = tokio::select! {
        refused = deadline(refused) => refused,
        () = watch => unreachable!(),
    };
    assert_eq!(refused["error"]["code"], "unauthenticated");
}
