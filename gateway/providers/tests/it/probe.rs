//! What `Providers::probe` finds: each answer, each obstacle, in which words, and that nothing secret is among them.

use std::sync::Mutex;
use std::time::Duration;

use gateway_providers::{Finding, Operation, Probe, Providers};
use gateway_testkit::{ConnectMode, ConnectProxy, Reply, TlsOptions, Upstream};
use http::{Method, StatusCode};
use serde_json::json;
use test_clock::paused;

use crate::harness::{SECRET, bare, env, in_time, parse};

const LISTED: &str = "models = [\"m\"]\nenv_key = \"TEST_KEY\"\n";

/// Probes the provider `up`; checks that each probe was told and that none holds the key.
async fn probe(base_url: &str, keys: &str) -> Vec<Probe> {
    let text = format!("[model_providers.up]\nbase_url = {base_url:?}\n{keys}");
    let providers = Providers::build(&parse(&text), &|name| env(name).filter(|_| name != "OPENAI_API_KEY"));
    let told = Mutex::new(Vec::new());
    let probes =
        in_time(providers.unwrap().probe("up", &|probe| told.lock().unwrap().push(probe.finding))).await;
    let probes = probes.unwrap();
    assert_eq!(probes.iter().map(|it| it.finding).collect::<Vec<_>>(), *told.lock().unwrap());
    let shown = format!("{probes:?}");
    assert!(!shown.contains(SECRET), "{shown}");
    probes
}

/// A probe as a line; what changes from run to run is left out.
fn line(probe: &Probe) -> String {
    let Probe { operation, model, finding, status, said, fix, .. } = probe;
    let (model, said) = (model.as_deref().unwrap_or("-"), said.as_deref().unwrap_or("-"));
    let (status, fix) = (status.map_or("-".to_owned(), |it| it.to_string()), fix.as_deref().unwrap_or("-"));
    format!("{operation:?} {model} | {} | {status} | {said} | {fix}\n", finding.name())
}

fn error(status: u16, message: &str) -> Reply {
    Reply::json(status, &json!({"error": {"message": message, "code": "told"}}))
}

#[tokio::test]
async fn each_status_of_a_call() {
    let upstream = Upstream::start().await.unwrap();
    let mut lines = String::new();
    for status in [200, 302, 400, 401, 402, 403, 404, 405, 422, 429, 500, 503] {
        upstream.push(error(status, "as it is"));
        let probes = probe(&upstream.base_url(), LISTED).await;
        assert_eq!(probes.len(), 1);
        assert_eq!(probes[0].address, Some(upstream.address().to_string()));
        lines.push_str(&line(&probes[0]));
    }
    insta::assert_snapshot!(lines);
    // Not even a 503 is asked again, and every call was one that cannot be taken.
    let seen = upstream.requests();
    assert_eq!(seen.len(), 12);
    for request in seen {
        assert_eq!(request.header("authorization"), Some(&*format!("Bearer {SECRET}")));
        let body =
            json!({"model": "m", "input": 0, "max_output_tokens": -1, "stream": false, "store": false});
        assert_eq!(request.json(), body);
    }
}

#[tokio::test]
async fn each_status_of_a_list_and_the_model_that_it_names() {
    let upstream = Upstream::start().await.unwrap();
    upstream.set_default(error(400, "input: not a text"));
    let list = |reply: Reply| upstream.route(Method::GET, "/v1/models", reply);
    let mut lines = String::new();
    for reply in [
        Reply::json(200, &json!({"data": [{"id": "listed"}]})),
        Reply::json(200, &json!({"models": []})),
        Reply::bytes(StatusCode::OK, "text/html", "<html>welcome</html>"),
        error(401, "no"),
        error(403, "no"),
        error(404, "no"),
        error(429, "no"),
        error(500, "no"),
    ] {
        list(reply);
        for probe in probe(&upstream.base_url(), "env_key = \"TEST_KEY\"").await {
            lines.push_str(&line(&probe));
        }
    }
    insta::assert_snapshot!(lines);
}

#[tokio::test]
async fn what_a_provider_quotes_is_not_shown() {
    let upstream = Upstream::start().await.unwrap();
    let keys = format!(
        "{LISTED}http_headers = {{ x-gate = \"gate-canary-77\" }}\nquery_params = {{ k = \"q canary/88\" }}"
    );
    upstream.push(error(401, &format!("{SECRET}, sk-canary****, gate-canary-77, canary/88\nand \u{7} more")));
    let said = probe(&upstream.base_url(), &keys).await[0].said.clone();
    assert_eq!(said.as_deref(), Some("[hidden], [hidden], [hidden], [hidden] and more"));
    upstream.push(error(400, &"long ".repeat(100)));
    assert_eq!(probe(&upstream.base_url(), LISTED).await[0].said.as_ref().unwrap().chars().count(), 200);
    upstream.push(Reply::bytes(StatusCode::BAD_GATEWAY, "text/html", "<html>nginx</html>"));
    assert_eq!(probe(&upstream.base_url(), LISTED).await[0].said, None);
}

#[tokio::test]
async fn each_source_of_a_credential_has_its_own_fix() {
    let upstream = Upstream::start().await.unwrap();
    upstream.set_default(error(401, "no"));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key");
    std::fs::write(&file, SECRET).unwrap();
    let mut lines = String::new();
    for keys in [
        "".to_owned(),
        "env_key = \"TEST_KEY\"".to_owned(),
        "experimental_bearer_token = \"t0k3n\"".to_owned(),
        format!("key_file = {file:?}"),
        "auth = { command = \"echo\", args = [\"t0k3n\"] }".to_owned(),
    ] {
        let probes = probe(&upstream.base_url(), &format!("models = [\"m\"]\n{keys}")).await;
        lines.push_str(&line(&probes[0]));
    }
    std::fs::remove_file(&file).unwrap();
    for keys in [
        format!("key_file = {file:?}"),
        "auth = { command = \"false\" }".to_owned(),
        "auth = { command = \"no-such-program\" }".to_owned(),
    ] {
        let before = upstream.requests().len();
        let probes = probe(&upstream.base_url(), &keys).await;
        assert_eq!((probes.len(), upstream.requests().len()), (1, before), "{probes:?}");
        lines.push_str(&line(&probes[0]).replace(file.to_str().unwrap(), "FILE"));
    }
    insta::assert_snapshot!(lines);
}

#[tokio::test]
async fn a_newer_credential_is_tried_once() {
    let upstream = Upstream::start().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let count = directory.path().join("count");
    let script = format!("echo x >> {0}; echo token-$(wc -l < {0})", count.display());
    let keys = format!("models = [\"m\"]\nauth = {{ command = \"sh\", args = [\"-c\", {script:?}] }}");
    upstream.push(error(401, "expired"));
    upstream.push(error(400, "input"));
    let probes = probe(&upstream.base_url(), &keys).await;
    assert_eq!(probes[0].finding, Finding::Reached);
    let seen: Vec<_> =
        upstream.requests().iter().map(|it| it.header("authorization").unwrap().to_owned()).collect();
    assert_eq!(seen, ["Bearer token-1", "Bearer token-2"]);
}

#[tokio::test]
async fn obstacles_of_the_network() {
    let plain = Upstream::start().await.unwrap();
    let secure = Upstream::start_tls(&TlsOptions::new()).await.unwrap();
    let guarded = Upstream::start_tls(&TlsOptions::new().require_client_certificate()).await.unwrap();
    let other = Upstream::start_tls(&TlsOptions::new()).await.unwrap();
    let proxy = ConnectProxy::start().await.unwrap();
    proxy.require_authorization("Basic eA==");
    let open = ConnectProxy::start().await.unwrap();
    open.route("other.example:443", secure.address());
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let ca = |name: &str, of: &Upstream| {
        let file = directory.path().join(name);
        std::fs::write(&file, of.tls().unwrap().authority_pem()).unwrap();
        format!("{LISTED}ca_file = {file:?}\n")
    };
    let through = format!("{LISTED}proxy = \"{}\"\n", proxy.url());
    let cases = [
        ("dns", "http://no-such-host.invalid/v1".to_owned(), LISTED.to_owned()),
        ("refused", format!("http://{closed}/v1"), LISTED.to_owned()),
        ("another authority", secure.base_url(), ca("other.pem", &other)),
        (
            "another name",
            "https://other.example/v1".to_owned(),
            format!("{}proxy = \"{}\"\n", ca("own.pem", &secure), open.url()),
        ),
        ("no certificate of ours", guarded.base_url(), ca("guarded.pem", &guarded)),
        ("no tls", format!("https://{}/v1", plain.address()), ca("own.pem", &secure)),
        ("407", plain.base_url(), through.clone()),
        ("no proxy", plain.base_url(), format!("{LISTED}proxy = \"http://{closed}\"\n")),
        (
            "no host of the proxy",
            plain.base_url(),
            format!("{LISTED}proxy = \"http://no-such-proxy.invalid:1\"\n"),
        ),
    ];
    let mut lines = String::new();
    for (name, base, keys) in cases {
        let probes = probe(&base, &keys).await;
        assert_eq!(probes.len(), 1, "{name}");
        lines.push_str(&format!("{name}: {}", line(&probes[0])));
    }
    proxy.set_mode(ConnectMode::Refuse(403));
    lines.push_str(&format!("403: {}", line(&probe(&plain.base_url(), &through).await[0])));
    assert!(plain.requests().is_empty() && secure.requests().is_empty());
    // The words of a resolver are its own.
    let lines = lines.replace(&closed.to_string(), "CLOSED").lines().fold(String::new(), |text, line| {
        let (before, after) = line.split_once("lookup address information: ").unwrap_or((line, ""));
        let rest = after.split_once(" | ").map_or("", |(_, rest)| rest);
        format!("{text}{before}{}{rest}\n", if rest.is_empty() { "" } else { "WORDS | " })
    });
    insta::assert_snapshot!(lines);
}

#[tokio::test]
async fn the_way_of_a_call_is_taken() {
    let secure = Upstream::start_tls(&TlsOptions::new().require_client_certificate()).await.unwrap();
    secure.push(error(400, "input"));
    let proxy = ConnectProxy::start().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        std::fs::write(directory.path().join(name), text).unwrap();
        format!("{:?}", directory.path().join(name))
    };
    let tls = secure.tls().unwrap();
    let identity = tls.client("gateway").unwrap();
    let keys = format!(
        "{LISTED}ca_file = {}\nclient_certificate_file = {}\nclient_key_file = {}\nproxy = \"{}\"",
        write("ca.pem", &tls.authority_pem()),
        write("certificate.pem", &identity.certificate_pem),
        write("key.pem", &identity.key_pem),
        proxy.url()
    );
    let probes = probe(&secure.base_url(), &keys).await;
    assert_eq!(probes[0].finding, Finding::Reached, "{probes:?}");
    assert_eq!(proxy.tunnels().len(), 1);
}

#[test]
fn a_silent_provider_is_given_up() {
    paused(async {
        let upstream = Upstream::start().await.unwrap();
        upstream.push(error(400, "late").delay_headers(&gateway_testkit::Gate::closed()));
        let probes = probe(&upstream.base_url(), LISTED).await;
        assert_eq!(probes[0].finding, Finding::Silent);
        assert!(probes[0].took <= Duration::from_secs(21), "{probes:?}");
    })
    .unwrap();
}

#[tokio::test]
async fn callers_credentials_are_not_tried_and_the_rehearsal_needs_no_network() {
    let upstream = Upstream::start().await.unwrap();
    let probes = probe(&upstream.base_url(), "pass_through = true").await;
    assert_eq!((probes.len(), probes[0].finding), (1, Finding::CallersCredential));
    assert!(upstream.all_requests().is_empty());
    let providers = Providers::build(&parse(""), &bare).unwrap();
    let probes = providers.probe("rehearsal", &|_| ()).await.unwrap();
    assert_eq!((probes[0].finding, probes[0].operation), (Finding::InProcess, Operation::Responses));
    assert!(probes[0].finding.is_fine());
    assert!(providers.probe("absent", &|_| ()).await.is_none());
}
