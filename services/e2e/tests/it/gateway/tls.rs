//! The gateway behind TLS, with clients that were not written for it: `buf` over gRPC and the OpenAI SDK over HTTP, and a
//! certificate that is exchanged while it runs.

use std::path::PathBuf;

use anyhow::Context as _;
use gateway_testkit::Upstream;
use serde_json::{Value, json};
use service_e2e::certificate::{self, certify};
use service_e2e::http::Raw;
use service_e2e::process::Output;
use service_e2e::stack::{self, CALLER_KEY, Gateway, MODEL};
use service_e2e::{clients, home::Home, provision};

const MODELS: &str = "tidegate.gateway.v1.ModelGatewayService/ListModels";

struct Client {
    buf: PathBuf,
    python: PathBuf,
    home: Home,
    url: String,
}

impl Client {
    async fn rpc(&self, authority: &PathBuf) -> anyhow::Result<Output> {
        let mut command = clients::on(&self.home, &self.buf);
        command.args(["curl", "--protocol", "grpc", "-d", "{}", "--cacert"]).arg(authority);
        command.arg(format!("{}/{MODELS}", self.url));
        stack::run(command).await
    }

    async fn sdk(&self, authority: &PathBuf) -> anyhow::Result<Value> {
        let parameters = json!({"model": MODEL, "input": "When?"}).to_string();
        let base = format!("{}/v1", self.url);
        let arguments = [base.as_str(), "stream", &parameters];
        let mut script =
            clients::python(&self.python, &self.home, CALLER_KEY, "openai_responses.py", &arguments);
        script.env("SSL_CERT_FILE", authority);
        let output = clients::run(script).await?.success()?;
        serde_json::from_str(&output.stdout).with_context(|| output.stdout.clone())
    }
}

#[tokio::test]
async fn stock_clients_speak_tls_to_both_surfaces_and_follow_a_new_certificate() -> anyhow::Result<()> {
    let name = "stock_clients_speak_tls_to_both_surfaces_and_follow_a_new_certificate";
    let Some(buf) = provision::buf(name).await? else { return Ok(()) };
    let Some(python) = provision::python(name).await? else { return Ok(()) };
    let upstream = Upstream::start().await?;
    upstream.set_default(stack::says("resp_tls", &["Under ", "seal."]));
    let home = Home::new()?;
    let first = certify(&home, "first.crt")?;
    let config = format!("{}{}", stack::provider(&upstream), certificate::table(&home));
    let files = Home::new()?;
    let gateway = Gateway::start_with(home, &config, &[]).await?;
    let client = Client { buf, python, home: files, url: format!("https://{}", gateway.at) };

    assert!(client.rpc(&first).await?.success()?.stdout.contains(MODEL));
    let told = client.sdk(&first).await?;
    assert_eq!(told["text"], "Under seal.", "{told}");
    let mut plain = Raw::connect(gateway.at).await?;
    plain.send(b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n").await?;
    let answer = plain.finish().await?;
    assert_eq!(
        (answer.status, &answer.json()?["error"]["code"]),
        (400, &json!("tls_required")),
        "{answer:?}"
    );

    let second = certify(gateway.home(), "second.crt")?;
    let followed = async {
        loop {
            let told = client.rpc(&second).await?;
            if told.status.success() {
                return anyhow::Ok(told);
            }
        }
    };
    let told = tokio::time::timeout(stack::STOP_TIME_MAX, followed).await??;
    assert!(told.stdout.contains(MODEL));
    assert_eq!(client.sdk(&second).await?["text"], "Under seal.");
    assert!(
        !client.rpc(&first).await?.status.success(),
        "the first authority has signed nothing that is shown"
    );
    Ok(())
}
