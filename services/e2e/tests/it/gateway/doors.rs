//! The files of the README's "Let people in", with its commands: who comes in, and what they may call.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use gateway_testkit::Upstream;
use serde_json::{Value, json};
use service_e2e::home::Home;
use service_e2e::http;
use service_e2e::stack::{self, Gateway};
use service_e2e::{binaries, clients, process};

use super::readme;

const SECRET: &str = "a-secret-of-at-least-thirty-two-bytes";
/// How long a key that was taken back may work on a busy machine.
const REVOKED_WITHIN: Duration = Duration::from_secs(20);

async fn tidegate(home: &Home, arguments: &[&str]) -> anyhow::Result<process::Output> {
    let mut command = clients::on(home, &binaries::program("tidegate").await?);
    command.args(arguments).current_dir(home.path(""));
    stack::run(command).await
}

/// A token of the company's issuer.
fn token(claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&json!({"alg": "HS256", "typ": "JWT"})), part(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let tag = hmac::sign(&key, signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag.as_ref()))
}

fn claims(group: &str) -> Value {
    let soon = SystemTime::now() + Duration::from_secs(600);
    json!({
        "iss": "https://sso.corp.example",
        "aud": "tidegate",
        "exp": soon.duration_since(UNIX_EPOCH).unwrap().as_secs(),
        "sub": "u-1",
        "email": "ann@corp.example",
        "groups": [group],
    })
}

async fn ask(gateway: &Gateway, key: &str, model: &str) -> anyhow::Result<(u16, String)> {
    let body = json!({"model": model, "input": "hi"}).to_string();
    let headers = format!("authorization: Bearer {key}\r\n");
    let call = http::post(gateway.at, "/v1/responses", &headers, body.as_bytes());
    let answer = http::send(gateway.at, &call).await?;
    Ok((answer.status, answer.text))
}

#[tokio::test]
async fn the_readme_s_doors_let_the_right_people_in() -> anyhow::Result<()> {
    let upstream = Upstream::start().await?;
    upstream.set_default(stack::says("resp_1", &["At noon."]));
    let home = Home::new()?;
    std::fs::write(home.path("secret"), SECRET)?;
    std::fs::write(home.path("policy.toml"), readme::block("Let people in", "# policy.toml")?)?;
    let create = "keys create --file keys.toml --tenant acme --subject ci --expires-in 90d";
    let created = tidegate(&home, &create.split(' ').collect::<Vec<_>>()).await?;
    assert!(created.status.success(), "{}", created.stderr);
    let key = created.stdout.trim().to_owned();
    let listed = tidegate(&home, &["keys", "list", "--file", "keys.toml"]).await?;
    assert!(listed.stdout.contains("acme") && !listed.stdout.contains(&key), "{}", listed.stdout);

    // The company's issuer is a secret that this test shares with the gateway.
    let shown = readme::block("Let people in", "# gateway.toml")?;
    assert!(shown.contains("discovery = true"));
    let shown = shown.replace("discovery = true", "secret_file = \"secret\"");
    let (first, tables) = shown.split_once("\n\n").unwrap();
    let provider = stack::provider(&upstream);
    let provider = provider.replace(stack::CATALOG_MODEL, "elsewhere").replace(stack::MODEL, "gpt-6-sol");
    let mut gateway = Gateway::start_with(home, &format!("{first}\n{provider}{tables}"), &[]).await?;

    assert_eq!(ask(&gateway, &key, "gpt-6-sol").await?.0, 200);
    let (status, text) = ask(&gateway, &key, "elsewhere").await?;
    assert!(status == 400 && text.contains("tenants.acme.models.allow"), "{status} {text}");
    let engineer = token(&claims("engineering"));
    assert_eq!(ask(&gateway, &engineer, "gpt-6-sol").await?.0, 200);
    let its_call =
        |line: &str| (line.contains("call ended") && line.contains("ann@corp.example")).then_some(());
    gateway.service.wait_for_line("the call of the engineer", its_call).await?;
    let (status, text) = ask(&gateway, &token(&claims("sales")), "gpt-6-sol").await?;
    assert!(status == 401 && text.contains("stands for nobody here"), "{status} {text}");
    let (status, text) = ask(&gateway, "sk-of-somebody", "gpt-6-sol").await?;
    assert!(status == 401 && text.contains("unauthenticated"), "{status} {text}");

    let id = key.split('_').nth(1).unwrap();
    let revoked = tidegate(gateway.home(), &["keys", "revoke", "--file", "keys.toml", id]).await?;
    assert!(revoked.status.success(), "{}", revoked.stderr);
    let refused = async {
        while ask(&gateway, &key, "gpt-6-sol").await?.0 != 401 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(REVOKED_WITHIN, refused).await??;
    assert_eq!(ask(&gateway, &engineer, "gpt-6-sol").await?.0, 200, "others are not concerned");

    let explain = async |model: &str| {
        let arguments = "policy explain --policy policy.toml --tenant acme --subject ci --model";
        let arguments = arguments.split(' ').chain([model]).collect::<Vec<_>>();
        tidegate(gateway.home(), &arguments).await
    };
    let allowed = explain("gpt-6-sol").await?;
    assert!(allowed.status.success(), "{}{}", allowed.stdout, allowed.stderr);
    let denied = explain("elsewhere").await?;
    assert_eq!(denied.status.code(), Some(1), "{}{}", denied.stdout, denied.stderr);
    assert!(denied.stdout.contains("tenants.acme.models.allow"), "{}", denied.stdout);
    Ok(())
}
