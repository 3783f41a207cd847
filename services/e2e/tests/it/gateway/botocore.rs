//! What gatewayd sends to Bedrock, signed once more by AWS's own Python library: every request has to have the same
//! signature, byte for byte.

use anyhow::Context as _;
use gateway_testkit::{Recorded, Reply, Upstream};
use serde_json::{Value, json};
use service_e2e::home::Home;
use service_e2e::stack::Gateway;
use service_e2e::{clients, http, provision};

const KEY: &str = "AKIDE2EEXAMPLE";
const SECRET: &str = "e2e/secret+key/of/nobody";

/// One gateway: who it is, where it thinks it is, and what it is configured with.
struct Setting {
    provider: &'static str,
    service: &'static str,
    model: &'static str,
    region: &'static str,
    /// The path of the configured address.
    path: &'static str,
    session: Option<&'static str>,
    headers: &'static str,
}

const SETTINGS: [Setting; 4] = [
    Setting {
        provider: "amazon-bedrock",
        service: "bedrock-mantle",
        model: "openai.gpt-oss-20b",
        region: "us-west-2",
        path: "",
        session: None,
        headers: "",
    },
    Setting {
        provider: "amazon-bedrock-runtime",
        service: "bedrock",
        model: "global.openai.gpt-6-sol",
        region: "eu-central-1",
        path: "/arn%3Aaws%3Abedrock/caf%C3%A9/%E6%BC%A2%E5%AD%97/v1",
        session: Some("IQoJb3JpZ2luX2VjEXAMPLE//with+slashes/and=signs=="),
        headers: "",
    },
    Setting {
        provider: "amazon-bedrock",
        service: "bedrock-mantle",
        model: "openai.gpt-6-sol",
        region: "us-gov-west-1",
        path: "/with%20space/a%2Fb/plus+tilde~/v1",
        session: Some("short"),
        headers: "x-amz-note = \"  several   spaces\\tand a tab \", OpenAI-Project = \"proj  1\", x-trace = \"t\"",
    },
    Setting {
        provider: "amazon-bedrock-runtime",
        service: "bedrock",
        model: "us.openai.gpt-6-luna",
        region: "ap-southeast-2",
        path: "/é/v1",
        session: None,
        headers: "x-amz-z = \"z\", x-amz-a = \"a\"",
    },
];

/// Bodies that a careless signer gets wrong.
fn bodies(model: &str) -> Vec<String> {
    let mut bodies = vec![
        format!("{{\"model\":\"{model}\"}}"),
        format!(" \r\n{{ \"model\" :\t\"{model}\" , \"input\":\"\"}}\n"),
        format!("{{\"model\":\"{model}\",\"input\":\"\\u00fc \\ud83d\\ude00 \\\" \\\\ \\/\"}}"),
        format!(
            "{{\"input\":[],\"model\":\"{model}\",\"temperature\":1.0e-3,\"seed\":12345678901234567890}}"
        ),
    ];
    let large = "x".repeat(1 << 20);
    let long_line = "строка ".repeat(20_000);
    for input in [
        "plain",
        "grüße, €, ß",
        "漢字かな交じり文",
        "😀👩\u{200d}👩\u{200d}👧",
        "a&b=c+d%2Fe?f#g",
        "line\nline\r\nline\ttab",
        "\u{7f}\u{80}\u{2028}\u{fffd}",
        &long_line,
        &large,
    ] {
        bodies.push(json!({"model": model, "stream": false, "input": input}).to_string());
    }
    bodies
}

/// The request as botocore takes it: with the headers that we say we have signed.
fn entry(setting: &Setting, upstream: &Upstream, request: &Recorded) -> anyhow::Result<(Value, String)> {
    let authorization = request.header("authorization").context("an Authorization")?;
    let signed = authorization.split("SignedHeaders=").nth(1).and_then(|rest| rest.split(',').next());
    let made = ["host", "x-amz-date", "x-amz-security-token"];
    let names = signed.context("SignedHeaders")?.split(';').filter(|name| !made.contains(name));
    let headers: Vec<_> = names.map(|name| (name, request.header(name))).collect();
    let entry = json!({
        "method": request.method.as_str(),
        "url": format!("http://{}{}", upstream.address(), request.path),
        "headers": headers,
        "body": String::from_utf8(request.body.to_vec())?,
        "access_key": KEY,
        "secret_key": SECRET,
        "session_token": setting.session,
        "region": setting.region,
        "service": setting.service,
        "date": request.header("x-amz-date"),
    });
    Ok((entry, authorization.to_owned()))
}

async fn record(setting: &Setting) -> anyhow::Result<Vec<(Value, String)>> {
    let upstream = Upstream::start().await?;
    upstream
        .set_default(Reply::json(200, &json!({"id": "resp_1", "object": "response", "status": "completed"})));
    let Setting { provider, model, region, path, session, headers, .. } = setting;
    let config = format!(
        "model_provider = \"{provider}\"\n[model_providers.{provider}]\nbase_url = \"http://{}{path}\"\n\
         http_headers = {{ {headers} }}\naws = {{ region = \"{region}\" }}\n",
        upstream.address()
    );
    let mut variables =
        vec![("AWS_ACCESS_KEY_ID", KEY.to_owned()), ("AWS_SECRET_ACCESS_KEY", SECRET.to_owned())];
    variables.extend(session.map(|token| ("AWS_SESSION_TOKEN", token.to_owned())));
    let gateway = Gateway::start_with(Home::new()?, &config, &variables).await?;
    let bodies = bodies(model);
    for body in &bodies {
        let extra = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nx-forwarded-for: 10.0.0.1\r\n";
        let answer =
            http::send(gateway.at, &http::post(gateway.at, "/v1/responses", extra, body.as_bytes())).await?;
        anyhow::ensure!(answer.status == 200, "{answer:?}");
    }
    let requests = upstream.requests();
    anyhow::ensure!(requests.len() == bodies.len(), "{} requests", requests.len());
    requests.iter().map(|request| entry(setting, &upstream, request)).collect()
}

#[tokio::test]
async fn every_signature_is_the_one_that_botocore_makes() -> anyhow::Result<()> {
    let Some(python) = provision::botocore("every_signature_is_the_one_that_botocore_makes").await? else {
        return Ok(());
    };
    let mut recorded = Vec::new();
    for setting in &SETTINGS {
        recorded.extend(record(setting).await?);
    }
    assert!(recorded.len() >= 50, "{}", recorded.len());
    let home = Home::new()?;
    let (entries, ours): (Vec<_>, Vec<_>) = recorded.into_iter().unzip();
    let file = home.path("requests.json");
    std::fs::write(&file, serde_json::to_string(&entries)?)?;
    let file = file.display().to_string();
    let output =
        clients::run(clients::python(&python, &home, "", "botocore_sign.py", &[&file])).await?.success()?;
    let theirs: Vec<String> = serde_json::from_str(&output.stdout)?;
    assert_eq!(theirs.len(), ours.len());
    for ((entry, ours), theirs) in entries.iter().zip(&ours).zip(&theirs) {
        assert_eq!(ours, theirs, "{}", entry["url"]);
    }
    Ok(())
}
