//! Every kind of secret that gatewayd can hold or pass on, and all the places where it must not be found.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gateway_testkit::{ConnectProxy, Reply, Upstream};
use serde_json::json;
use service_e2e::canary;
use service_e2e::collector::Collector;
use service_e2e::home::Home;
use service_e2e::http::{self, Answer};
use service_e2e::stack::{Gateway, STOP_TIME_MAX, UPSTREAM_KEY, says};

const MINTED: &str = "canary-of-the-command-5b0e71d2";
const FAILED: &str = "canary-of-the-failed-command-8e21";
const FILED: &str = "canary-of-the-key-file-c7704a19";
const TORN: &str = "canary-of-the-torn-file-b0d5";
const STATIC: &str = "canary-of-the-static-token-66f3";
const HEADER: &str = "canary-of-the-header-19c8e0";
const QUERY: &str = "canary-of-the-query-2d61f7";
const PROXY: &str = "canary-of-the-proxy-90ab3c";
const WRONG_PROXY: &str = "canary-of-the-wrong-proxy-47e2";
const CALLER: &str = "canary-of-the-caller-3f8d02";
const ACCOUNT: &str = "canary-of-the-account-a1b6";
const ATTESTATION: &str = "canary-of-the-attestation-d94e";
const ALL: [&str; 13] = [
    UPSTREAM_KEY,
    MINTED,
    FAILED,
    FILED,
    TORN,
    STATIC,
    HEADER,
    QUERY,
    PROXY,
    WRONG_PROXY,
    CALLER,
    ACCOUNT,
    ATTESTATION,
];

/// The configuration of a provider for each kind of secret; the model of each is named after it.
fn config(house: &Home, upstream: &Upstream, proxy: &ConnectProxy, collector: &Collector) -> String {
    let url = upstream.base_url();
    let provider = |id: &str, keys: &str| {
        format!(
            "[model_providers.{id}]\nbase_url = \"{url}\"\nmodels = [\"{id}-1\"]\nrequest_max_retries = 0\n{keys}\n"
        )
    };
    let command = |id: &str, script: &str, secret: &str| {
        format!(
            "[model_providers.{id}.auth]\ncommand = \"/bin/sh\"\nargs = [\"-c\", \"{script}\"]\n\
             env = {{ SECRET = \"{secret}\" }}\n"
        )
    };
    let through = |password: &str| {
        let address = proxy.address();
        format!("env_key = \"E2E_UPSTREAM_KEY\"\nproxy = \"http://user:{password}@{address}\"\n")
    };
    let dressed = format!(
        "experimental_bearer_token = \"{STATIC}\"\nhttp_headers = {{ x-canary = \"{HEADER}\" }}\n\
         query_params = {{ canary = \"{QUERY}\" }}\n"
    );
    [
        "model_provider = \"minted\"\n".to_owned(),
        provider("minted", &command("minted", "echo $SECRET", MINTED)),
        provider("failed", &command("failed", "echo $SECRET; echo $SECRET >&2; exit 3", FAILED)),
        provider("filed", &format!("key_file = {:?}\n", house.path("key"))),
        provider("torn", &format!("key_file = {:?}\n", house.path("torn"))),
        provider("dressed", &dressed),
        provider("walled", &through(PROXY)),
        provider("barred", &through(WRONG_PROXY)),
        provider("openai", "pass_through = true\nsupports_websockets = false\n"),
        format!(
            "[log]\nlevel = \"trace\"\n[telemetry]\nlog_level = \"trace\"\notlp_endpoint = \"{}\"\n",
            collector.endpoint()
        ),
    ]
    .concat()
}

async fn call(gateway: &Gateway, provider: &str) -> anyhow::Result<Answer> {
    let body = json!({"model": format!("{provider}-1"), "stream": true, "input": "hi"}).to_string();
    let headers = format!(
        "authorization: Bearer {CALLER}\r\nchatgpt-account-id: {ACCOUNT}\r\nx-oai-attestation: {ATTESTATION}\r\n"
    );
    http::send(gateway.at, &http::post(gateway.at, "/v1/responses", &headers, body.as_bytes())).await
}

#[tokio::test]
async fn no_secret_is_told_to_anybody_but_the_provider() -> anyhow::Result<()> {
    let upstream = Upstream::start().await?;
    let proxy = ConnectProxy::start().await?;
    proxy.require_authorization(&basic(PROXY));
    let collector = Collector::start().await?;
    let house = Home::new()?;
    std::fs::write(house.path("key"), FILED)?;
    std::fs::write(house.path("torn"), format!("{TORN}\nanother line"))?;
    let mut gateway = Gateway::start(&config(&house, &upstream, &proxy, &collector)).await?;

    let mut answers = Vec::new();
    for (provider, shown) in [
        ("minted", MINTED),
        ("filed", FILED),
        ("dressed", STATIC),
        ("walled", UPSTREAM_KEY),
        ("openai", CALLER),
    ] {
        upstream.push(says("resp_fine", &["Fine."]));
        let answer = call(&gateway, provider).await?;
        assert_eq!(answer.status, 200, "{provider}: {answer:?}");
        let seen = upstream.requests().pop().unwrap();
        assert_eq!(seen.header("authorization"), Some(format!("Bearer {shown}").as_str()), "{provider}");
        let mine = [("x-canary", HEADER, "dressed"), ("chatgpt-account-id", ACCOUNT, "openai")];
        for (name, value, of) in mine.into_iter().chain([("x-oai-attestation", ATTESTATION, "openai")]) {
            assert_eq!(seen.header(name), (provider == of).then_some(value), "{provider}");
        }
        assert_eq!(seen.query.is_some_and(|query| query.contains(QUERY)), provider == "dressed");
        answers.push(answer);
        // The same with a broken connection, a broken stream, and a refusal.
        let refusal = json!({"error": {"message": "no such key", "code": "invalid_api_key"}});
        let cut = says("resp_cut", &["Before ", "after."]).reset_after(300);
        for fault in [Reply::reset(), cut, Reply::json(401, &refusal)] {
            let asked = upstream.requests().len();
            upstream.set_default(fault);
            answers.push(call(&gateway, provider).await?);
            assert!(upstream.requests().len() > asked, "{provider}");
        }
    }
    for provider in ["failed", "torn", "barred"] {
        let asked = upstream.requests().len();
        let answer = call(&gateway, provider).await?;
        assert_eq!(answer.status, 502, "{provider}: {answer:?}");
        assert!(answer.text.contains("\"error\""), "{answer:?}");
        assert_eq!(upstream.requests().len(), asked, "{provider}");
        answers.push(answer);
    }
    assert!(proxy.tunnels().iter().any(|tunnel| tunnel.granted));
    assert!(proxy.tunnels().iter().any(|tunnel| !tunnel.granted));
    for path in ["/metrics", "/readyz", "/v1/models", "/v1/models?client_version=0.169.0"] {
        answers.push(http::get(gateway.at, path).await?);
    }
    for answer in &answers {
        canary::check(&ALL, "an answer", answer.text.as_bytes())?;
    }

    gateway.service.signal(rustix::process::Signal::TERM)?;
    gateway.service.ended(STOP_TIME_MAX).await?;
    let log = gateway.service.output();
    assert!(log.contains("TRACE") && log.contains("barred"), "{log}");
    canary::check(&ALL, "the log", log.as_bytes())?;
    for (service, word) in [("Trace", "minted"), ("Metrics", "tidegate.gateway.calls"), ("Logs", "barred")] {
        let received = collector.received(service)?;
        assert!(String::from_utf8_lossy(&received).contains(word), "{service} without {word}");
        canary::check(&ALL, service, &received)?;
    }
    Ok(())
}

/// What the proxy must be shown.
fn basic(password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("user:{password}")))
}
