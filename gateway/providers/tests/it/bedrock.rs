//! Amazon Bedrock: routes and signatures against a service that checks them, and what happens when it refuses.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use gateway_providers::{AccountKind, Answer, BodyError, Call, Finding, Problem, Providers, RouteError};
use gateway_testkit::{Bedrock, ForwardingProxy, Refusal, Reply};
use serde_json::json;

use crate::harness::{BODY_MAX, call, in_time, parse};

const MANTLE: &str = "amazon-bedrock";
const RUNTIME: &str = "amazon-bedrock-runtime";
const SOL: &str = "openai.gpt-6-sol";
const OSS: &str = "openai.gpt-oss-20b";
const REGION: &str = "eu-west-2";

fn build(text: &str, variables: &[(&str, &str)]) -> Result<Providers, Vec<Problem>> {
    let env = |name: &str| match name {
        "PATH" => std::env::var("PATH").ok(),
        _ => variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()),
    };
    Providers::build(&parse(text), &env)
}

/// A service that serves two models under their own paths and gives good answers.
async fn service() -> Bedrock {
    let service = Bedrock::start(REGION).await.unwrap();
    service.serve(SOL, "/openai/v1", "bedrock-mantle");
    service.serve(OSS, "/v1", "bedrock-mantle");
    service.serve("us.openai.gpt-6-sol", "/openai/v1", "bedrock");
    service.upstream().set_default(Reply::json(200, &json!({"id": "resp_1"})));
    service
}

/// A command that prints the credentials of `file`, and counts its runs in `runs`.
fn export(place: &Path) -> String {
    let place = place.display();
    format!("{{ command = \"/bin/sh\", args = [\"-c\", \"echo >> {place}/runs; cat {place}/file\"] }}")
}

fn credentials(place: &Path, id: &str, secret: &str) {
    let text =
        json!({"Credentials": {"AccessKeyId": id, "SecretAccessKey": secret, "SessionToken": "session"}});
    fs::write(place.join("file"), text.to_string()).unwrap();
}

fn runs(place: &Path) -> usize {
    fs::read_to_string(place.join("runs")).unwrap_or_default().lines().count()
}

/// A provider of `service` that signs with what the command prints.
fn signing(id: &str, base_url: &str, place: &Path) -> Providers {
    let (export, request_region) = (export(place), REGION);
    let text = format!(
        "model_provider = {id:?}\n[model_providers.{id}]\nbase_url = {base_url:?}\n\
         aws = {{ region = {request_region:?}, credential_export = {export} }}"
    );
    build(&text, &[]).unwrap()
}

async fn send(providers: &Providers, model: &str, body: &str) -> Answer {
    let upstream = providers.route(model, None).unwrap().upstream;
    let call = Call { model: model.to_owned(), ..call(body) };
    in_time(upstream.send(call, None)).await.unwrap()
}

fn body(model: &str) -> String {
    json!({"model": model, "input": "grüße, €, 漢字"}).to_string()
}

#[tokio::test]
async fn each_model_is_signed_for_where_it_is_served() {
    let (service, place) = (service().await, tempfile::tempdir().unwrap());
    service.allow_key("AKID", "secret", Some("session"));
    credentials(place.path(), "AKID", "secret");
    let origin = service.url("");
    let origin = origin.trim_end_matches('/');
    for (id, model) in [(MANTLE, SOL), (MANTLE, OSS), (RUNTIME, "us.openai.gpt-6-sol")] {
        let answer = send(&signing(id, origin, place.path()), model, &body(model)).await;
        assert_eq!((answer.status.as_u16(), answer.attempts), (200, 1), "{model}: {:?}", service.refusals());
    }
    assert_eq!(service.accepted(), 3);
    let seen = &service.upstream().requests()[0];
    assert_eq!(seen.body, Bytes::from(body(SOL)));
    assert!(seen.header("authorization").unwrap().contains("/eu-west-2/bedrock-mantle/aws4_request"));
    assert_eq!(seen.header("x-amz-content-sha256"), None);
}

#[tokio::test]
async fn proxies_in_between_change_nothing_that_is_signed() {
    let (service, place) = (service().await, tempfile::tempdir().unwrap());
    service.allow_key("AKID", "secret", Some("session"));
    credentials(place.path(), "AKID", "secret");
    let proxy = ForwardingProxy::start(service.upstream().address()).await.unwrap();
    let providers = signing(MANTLE, &format!("http://{}", proxy.address()), place.path());
    let mut call = Call { model: SOL.to_owned(), ..call(&body(SOL)) };
    for name in ["traceparent", "x-codex-turn-metadata", "session_id", "session-id", "x-amz-date"] {
        call.headers.insert(name, http::HeaderValue::from_static("of the  caller"));
    }
    let upstream = providers.route(SOL, None).unwrap().upstream;
    let answer = in_time(upstream.send(call, None)).await.unwrap();
    assert_eq!(answer.status, 200, "{:?}", service.refusals());
    let seen = &service.upstream().requests()[0];
    assert!(seen.header("x-forwarded-for").is_some() && seen.header("via").is_some());
    assert_eq!(seen.header("traceparent"), Some("of the  caller"));
}

#[tokio::test]
async fn credentials_that_expired_are_dropped_once_for_all_calls() {
    let (service, place) = (service().await, tempfile::tempdir().unwrap());
    for id in ["AKID1", "AKID2"] {
        service.allow_key(id, "secret", Some("session"));
    }
    credentials(place.path(), "AKID1", "secret");
    let providers = signing(MANTLE, service.url("").trim_end_matches('/'), place.path());
    assert_eq!(send(&providers, SOL, &body(SOL)).await.attempts, 1);
    service.expire_key("AKID1");
    credentials(place.path(), "AKID2", "secret");
    let body = body(SOL);
    let answers = futures_util::future::join_all((0..40).map(|_| send(&providers, SOL, &body))).await;
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.attempts <= 2));
    assert_eq!(runs(place.path()), 2, "one for the first call, one for all that were refused");
    assert!((1..=40).contains(&service.refused(Refusal::Expired)));
}

#[tokio::test]
async fn what_another_credential_cannot_heal_is_handed_on_as_it_came() {
    let (service, place) = (service().await, tempfile::tempdir().unwrap());
    service.allow_key("AKID", "another secret", Some("session"));
    credentials(place.path(), "AKID", "secret");
    let providers = signing(MANTLE, service.url("").trim_end_matches('/'), place.path());
    let answer = send(&providers, SOL, &body(SOL)).await;
    assert_eq!((answer.status.as_u16(), answer.attempts), (403, 1));
    let text = answer.body.collect(BODY_MAX).await.unwrap();
    assert!(String::from_utf8_lossy(&text).contains("SignatureDoesNotMatch"), "{text:?}");
    assert_eq!((service.refused(Refusal::WrongSignature), runs(place.path())), (1, 1));

    service.allow_key("AKID", "secret", Some("session"));
    // Longer than what is read of it, and cut where no reader expects it.
    let long = json!({"__type": "AccessDeniedException", "Message": "no ".repeat(60_000)}).to_string();
    let denied = Reply::bytes(http::StatusCode::FORBIDDEN, "application/json", long.clone());
    service.upstream().push(denied.chunks(&[1, 70_000, 3]));
    let answer = send(&providers, SOL, &body(SOL)).await;
    assert_eq!((answer.status.as_u16(), answer.attempts), (403, 1));
    assert_eq!(answer.body.collect(BODY_MAX).await.unwrap(), long);
    assert_eq!(runs(place.path()), 1);
}

#[tokio::test]
async fn a_refusal_that_breaks_off_is_handed_on_as_far_as_it_came() {
    let (service, place) = (service().await, tempfile::tempdir().unwrap());
    service.allow_key("AKID", "secret", Some("session"));
    credentials(place.path(), "AKID", "secret");
    let providers = signing(MANTLE, service.url("").trim_end_matches('/'), place.path());
    service.upstream().push(Reply::json(403, &json!({"message": "no ".repeat(100)})).reset_after(50));
    let answer = send(&providers, SOL, &body(SOL)).await;
    assert_eq!((answer.status.as_u16(), answer.attempts), (403, 1));
    let error = answer.body.collect(BODY_MAX).await.unwrap_err();
    assert!(matches!(error, BodyError::Reset { .. }), "{error:?}");
}

#[tokio::test]
async fn a_connection_is_made_ahead_of_the_first_call() {
    let (service, place) = (service().await, tempfile::tempdir().unwrap());
    service.allow_key("AKID", "secret", Some("session"));
    credentials(place.path(), "AKID", "secret");
    let providers = signing(MANTLE, service.url("").trim_end_matches('/'), place.path());
    let prewarm = providers.prewarm();
    let connected = async {
        while service.upstream().connections() == 0 {
            tokio::task::yield_now().await;
        }
    };
    in_time(futures_util::future::select(std::pin::pin!(prewarm), std::pin::pin!(connected))).await;
    assert_eq!(send(&providers, SOL, &body(SOL)).await.status, 200);
    assert_eq!(service.upstream().connections(), 1);
}

#[tokio::test]
async fn a_wrong_clock_is_corrected_once() {
    for (seconds, name) in [(3600, None), (-3600, None), (900, Some("RequestTimeTooSkewed"))] {
        let (service, place) = (service().await, tempfile::tempdir().unwrap());
        service.allow_key("AKID", "secret", Some("session"));
        service.shift_clock(seconds);
        name.into_iter().for_each(|name| service.name_skew(name));
        credentials(place.path(), "AKID", "secret");
        let providers = signing(MANTLE, service.url("").trim_end_matches('/'), place.path());
        for attempts in [2, 1] {
            let answer = send(&providers, SOL, &body(SOL)).await;
            assert_eq!(
                (answer.status.as_u16(), answer.attempts),
                (200, attempts),
                "{:?}",
                service.refusals()
            );
        }
        assert_eq!((service.refused(Refusal::Skewed), runs(place.path())), (1, 1));
    }
}

#[tokio::test]
async fn somebody_signs_in_again_when_there_are_no_credentials() {
    let (service, place) = (service().await, tempfile::tempdir().unwrap());
    service.allow_key("AKID", "secret", Some("session"));
    credentials(place.path(), "AKID", "secret");
    fs::rename(place.path().join("file"), place.path().join("later")).unwrap();
    let (here, export) = (place.path().display(), export(place.path()));
    let text = format!(
        "[model_providers.{MANTLE}]\nbase_url = {:?}\n[model_providers.{MANTLE}.aws]\nregion = {REGION:?}\n\
         credential_export = {export}\nauth_refresh = {{ command = \"mv\", args = [\"{here}/later\", \"{here}/file\"] }}",
        service.url("").trim_end_matches('/')
    );
    let providers = build(&text, &[]).unwrap();
    let answer = send(&providers, SOL, &body(SOL)).await;
    assert_eq!(answer.status, 200, "{:?}", service.refusals());
    assert_eq!(runs(place.path()), 2);
}

#[tokio::test]
async fn a_bearer_key_wins_over_signatures() {
    let service = service().await;
    service.allow_bearer("bedrock-api-key-abc");
    let text = format!("[model_providers.{MANTLE}]\nbase_url = {:?}", service.url("").trim_end_matches('/'));
    let variables = [
        ("AWS_BEARER_TOKEN_BEDROCK", "bedrock-api-key-abc\n"),
        ("AWS_REGION", REGION),
        ("AWS_ACCESS_KEY_ID", "AKID"),
    ];
    let providers = build(&text, &variables).unwrap();
    let answer = send(&providers, OSS, &body(OSS)).await;
    assert_eq!(answer.status, 200, "{:?}", service.refusals());
    let seen = &service.upstream().requests()[0];
    assert_eq!(seen.header("authorization"), Some("Bearer bedrock-api-key-abc"));
    assert_eq!(seen.header("x-amz-date"), None);
    let facts = &providers.describe()[0];
    assert_eq!(facts.account, AccountKind::ApiKey);
    let note = "region eu-west-2 (AWS_REGION), bearer token of AWS_BEARER_TOKEN_BEDROCK";
    assert_eq!(facts.note.as_deref(), Some(note));
}

#[tokio::test]
async fn what_is_known_without_asking_anybody() {
    let text = "model_provider = \"amazon-bedrock\"\n[bedrock_models.\"openai.gpt-9\"]\nprovider = \"amazon-bedrock\"\n\
                path = \"/v1\"";
    let providers = build(text, &[]).unwrap();
    let facts = &providers.describe()[0];
    assert_eq!((facts.id.as_str(), facts.account), (MANTLE, AccountKind::Aws));
    assert_eq!(facts.note.as_deref(), Some("region us-east-1 (the default), signing with AWS credentials"));
    assert!(!facts.capabilities.websockets);
    let models = in_time(providers.models()).await;
    assert!(models.iter().all(|model| model.provider == MANTLE));
    assert_eq!(models.iter().find(|model| model.is_default).unwrap().slug, "openai.gpt-6.1-sol");
    assert!(models.iter().any(|model| model.slug == "openai.gpt-9"));
    for hint in [None, Some(MANTLE)] {
        let error = providers.route("openai.gpt-10", hint).unwrap_err();
        assert!(matches!(error, RouteError::NotDescribed { .. }), "{error:?}");
        assert!(error.to_string().contains("bedrock_models"), "{error}");
    }
}

#[test]
fn what_is_refused() {
    let problems = |text: &str, variables: &[(&str, &str)]| -> String {
        let problems = build(text, variables).map(|_| "fine").unwrap_err();
        problems.iter().map(|it| format!("{} | {} | {}\n", it.key, it.message, it.fix)).collect()
    };
    let mantle = |keys: &str| problems(&format!("[model_providers.amazon-bedrock]\n{keys}"), &[]);
    let bearer =
        |value| problems("model_provider = \"amazon-bedrock\"", &[("AWS_BEARER_TOKEN_BEDROCK", value)]);
    let all = [
        mantle("name = \"b\"\nenv_key = \"K\"\nsupports_websockets = true\nrequest_max_retries = 1"),
        mantle(
            "base_url = \"https://host/v1?a=b\"\nhttp_headers = { X-Amz-Date = \"x\", Authorization = \"x\" }",
        ),
        mantle("aws = { region = \"us-west-1\" }"),
        mantle("aws = { profile = \"p\", credential_export = { command = \"\", timeout_ms = 1 } }"),
        mantle(
            "auth = { command = \"print\" }\naws = { profile = \"p\", auth_refresh = { command = \"aws\" } }",
        ),
        problems("[model_providers.amazon-bedrock-runtime.aws]\nregion = \"us-east-1.evil.example\"", &[]),
        problems("[model_providers.own]\nbase_url = \"https://host\"\naws = { region = \"us-east-1\" }", &[]),
        problems("model_provider = \"amazon-bedrock\"", &[("AWS_REGION", "us-west-1")]),
        problems("model_provider = \"amazon-bedrock\"\nmodel = \"openai.gpt-10\"", &[]),
        problems("[bedrock_models.m]\nprovider = \"openai\"\npath = \"/\"", &[]),
        bearer(" "),
        bearer("a\u{1}b"),
    ];
    insta::assert_snapshot!(all.join("\n"));
}

#[tokio::test]
async fn a_probe_goes_each_way_once() {
    let (service, place) = (service().await, tempfile::tempdir().unwrap());
    service.serve("openai.gpt-6.1-sol", "/openai/v1", "bedrock-mantle");
    service.serve("openai.gpt-oss-120b", "/v1", "bedrock-mantle");
    service.upstream().set_default(Reply::json(400, &json!({"message": "input"})));
    service.allow_key("AKID", "secret", Some("session"));
    let probe = async || {
        let providers = signing(MANTLE, service.url("").trim_end_matches('/'), place.path());
        in_time(providers.probe(MANTLE, &|_| ())).await.unwrap()
    };
    credentials(place.path(), "AKID", "secret");
    let probes = probe().await;
    let found: Vec<_> = probes.iter().map(|it| (it.finding, it.model.as_deref(), it.status)).collect();
    let expected =
        ["openai.gpt-6.1-sol", "openai.gpt-oss-120b"].map(|model| (Finding::Reached, Some(model), Some(400)));
    assert_eq!(found, expected, "{:?}", service.refusals());
    assert_eq!(service.accepted(), 2);
    credentials(place.path(), "AKID", "wrong");
    let probes = probe().await;
    assert_eq!((probes.len(), probes[0].finding), (2, Finding::Forbidden), "{probes:?}");
    assert!(probes[0].fix.as_ref().unwrap().ends_with("model_providers.amazon-bedrock.aws"), "{probes:?}");
    fs::remove_file(place.path().join("file")).unwrap();
    let probes = probe().await;
    assert_eq!((probes.len(), probes[0].finding), (1, Finding::Credential), "{probes:?}");
}
