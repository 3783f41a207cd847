//! A person's own ChatGPT login through the gateway: it reaches OpenAI untouched, and nobody else.

use gateway_testkit::{Recorded, Reply, Upstream};
use http::Method;
use serde_json::json;
use service_e2e::login::{ACCOUNT, Login, REFRESH_URL};
use service_e2e::process::Output;
use service_e2e::stack::{self, CATALOG_MODEL, Gateway, UPSTREAM_KEY};
use service_e2e::{canary, clients, home::Home, provision};

const ANSWER: &str = "The tide turns at noon.";
/// A model name that the gateway serves with its own key.
const CORP_MODEL: &str = "gpt-6-luna";
/// Where this test's OpenAI refreshes logins.
const REFRESH_PATH: &str = "/oauth/token";

/// An upstream, and a gateway that passes logins through to it as `openai`, with a key of its own for `corp`.
async fn house() -> anyhow::Result<(Upstream, Gateway)> {
    let upstream = Upstream::start().await?;
    upstream.set_default(stack::says("resp_tide", &["The tide ", "turns at ", "noon."]));
    let config = format!(
        "model_provider = \"openai\"\nmodel = \"{CATALOG_MODEL}\"\n\
         [model_providers.openai]\nbase_url = \"{url}\"\npass_through = true\nsupports_websockets = false\n\
         [model_providers.corp]\nbase_url = \"{url}/corp\"\nenv_key = \"E2E_UPSTREAM_KEY\"\nmodels = [\"corp-1\"]\n\
         [model_aliases.{CORP_MODEL}]\nprovider = \"corp\"\nmodel = \"corp-1\"\n\
         [log]\nlevel = \"trace\"\n",
        url = upstream.base_url()
    );
    let gateway = Gateway::start(&config).await?;
    Ok((upstream, gateway))
}

/// Runs one prompt as the person who is logged in on `home`.
async fn prompt(
    codex: &std::path::Path,
    home: &Home,
    upstream: &Upstream,
) -> anyhow::Result<(Output, Vec<Recorded>)> {
    let before = upstream.requests().len();
    let refresh = upstream.url(REFRESH_PATH);
    let output =
        clients::codex_exec_with(codex, home, &[(REFRESH_URL, &refresh)], "When does the tide turn?").await?;
    let output = output.success()?;
    assert!(output.stdout.contains(ANSWER), "{output:?}");
    Ok((output, upstream.requests().split_off(before)))
}

#[tokio::test]
async fn a_login_reaches_openai_untouched_and_nobody_else() -> anyhow::Result<()> {
    let name = "a_login_reaches_openai_untouched_and_nobody_else";
    let Some(codex) = provision::codex(name).await? else { return Ok(()) };
    let (upstream, gateway) = house().await?;
    let (home, login) = (Home::new()?, Login::new(1));
    login.write(&home)?;

    clients::use_gateway_as_openai(&home, &format!("http://{}", upstream.address()), CATALOG_MODEL)?;
    let (_, direct) = prompt(&codex, &home, &upstream).await?;
    let [direct] = direct.as_slice() else { anyhow::bail!("one call, not {}", direct.len()) };
    assert_eq!(direct.header("content-encoding"), Some("zstd"), "what there is to inflate");

    let known = upstream.all_requests().len();
    clients::use_gateway_as_openai(&home, &gateway.url(), CATALOG_MODEL)?;
    let (_, through) = prompt(&codex, &home, &upstream).await?;
    let [through] = through.as_slice() else { anyhow::bail!("one call, not {}", through.len()) };
    for name in ["authorization", "chatgpt-account-id", "version", "originator", "x-codex-routing-hint"] {
        assert!(through.header(name).is_some(), "{name}");
        assert_eq!(through.header(name), direct.header(name), "{name}");
    }
    assert_eq!(through.header("authorization"), Some(login.authorization().as_str()));
    assert_eq!(through.header("chatgpt-account-id"), Some(ACCOUNT));
    assert_eq!(through.header("content-encoding"), None);
    assert!(through.body.len() > direct.body.len(), "{} bytes", through.body.len());
    let body = through.json();
    assert_eq!(body["model"], CATALOG_MODEL);
    assert_eq!(stack::items(&body).last(), Some(&("message".to_owned(), "user".to_owned())));
    // OpenAI's own fields stay with OpenAI.
    assert!(body.to_string().contains("internal_chat_message_metadata_passthrough"));

    clients::use_gateway_as_openai(&home, &gateway.url(), CORP_MODEL)?;
    let (_, corp) = prompt(&codex, &home, &upstream).await?;
    let [corp] = corp.as_slice() else { anyhow::bail!("one call, not {}", corp.len()) };
    assert_eq!(corp.path, "/v1/corp/responses");
    assert_eq!(corp.header("authorization"), Some(format!("Bearer {UPSTREAM_KEY}").as_str()));
    assert_eq!(corp.header("chatgpt-account-id"), None);
    assert!(!String::from_utf8_lossy(&corp.body).contains("internal_chat_message_metadata_passthrough"));

    // Neither the login strays, nor the gateway's key, whatever else Codex has asked for.
    let (token, account) = (login.authorization().replace("Bearer ", ""), ACCOUNT);
    for request in &upstream.all_requests()[known..] {
        let told = format!("{request:?}");
        match request.path.starts_with("/v1/corp") {
            true => canary::check(
                &[&token, account, login.refresh_token()],
                "the other provider",
                told.as_bytes(),
            )?,
            false => canary::check(&[UPSTREAM_KEY], "OpenAI", told.as_bytes())?,
        }
    }
    let log = gateway.service.output();
    assert!(log.lines().count() > 10, "{log}");
    canary::check(&[&token, account, UPSTREAM_KEY], "the log", log.as_bytes())
}

/// A login that has ended is refreshed by Codex itself: the refusal has to reach it as it is.
#[tokio::test]
async fn a_login_that_has_ended_is_refreshed_unseen() -> anyhow::Result<()> {
    let name = "a_login_that_has_ended_is_refreshed_unseen";
    let Some(codex) = provision::codex(name).await? else { return Ok(()) };
    let (upstream, gateway) = house().await?;
    let (home, ended, fresh) = (Home::new()?, Login::new(1), Login::new(2));
    ended.write(&home)?;
    upstream.route(Method::POST, REFRESH_PATH, Reply::json(200, &fresh.refreshed()));
    let refused = json!({"error": {"message": "the token has expired", "code": "token_expired"}});
    // After the first refusal Codex looks whether another process has refreshed the login.
    upstream.push(Reply::json(401, &refused));
    upstream.push(Reply::json(401, &refused));
    clients::use_gateway_as_openai(&home, &gateway.url(), CATALOG_MODEL)?;
    let (output, calls) = prompt(&codex, &home, &upstream).await?;
    assert!(!output.stderr.contains("Reconnecting"), "{output:?}");
    let shown: Vec<_> = calls.iter().filter_map(|call| call.header("authorization")).collect();
    assert_eq!(shown, [ended.authorization(), ended.authorization(), fresh.authorization()]);
    let all = upstream.all_requests();
    let refreshes: Vec<_> = all.iter().filter(|request| request.path == REFRESH_PATH).collect();
    let [refresh] = refreshes.as_slice() else { anyhow::bail!("one refresh, not {}", refreshes.len()) };
    assert_eq!(refresh.json()["refresh_token"], ended.refresh_token());
    Ok(())
}
