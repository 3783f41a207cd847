//! Who is let in to an agent, with the client that people use: over TLS, by a token that it has been given.

use gateway_testkit::Upstream;
use serde_json::json;
use service_e2e::home::Home;
use service_e2e::rpc::Rpc;
use service_e2e::stack::{self, Agent, Gateway, MODEL};
use service_e2e::{clients, provision, service::Service};

use super::access::Papers;
use super::terminal::{SCREEN_TIME_MAX, quit};
use crate::gateway::readme;

const TOKEN: &str = "canary-of-the-agent-s-token-41aa";

#[tokio::test]
async fn a_person_with_the_token_talks_over_tls_and_one_without_does_not() -> anyhow::Result<()> {
    let name = "a_person_with_the_token_talks_over_tls_and_one_without_does_not";
    let Some(codex) = provision::codex(name).await? else { return Ok(()) };
    let upstream = Upstream::start().await?;
    upstream.set_default(stack::says("resp_door", &["The door ", "is open.\n"]));
    let (gateway, papers, home) = (Gateway::before(&upstream).await?, Papers::new()?, Home::new()?);
    std::fs::write(home.path("token"), format!("{TOKEN}\n"))?;
    std::fs::write(home.path("agent.toml"), papers.tls())?;
    let mut command = stack::agentd(&home, &gateway.socket).await?;
    command.args(["app-server", "--listen", "wss://127.0.0.1:0", "--ws-auth", "capability-token"]);
    command.arg("--ws-token-file").arg(home.path("token"));
    command.arg("--service-config").arg(home.path("agent.toml"));
    let listening = |line: &str| {
        let from = line.split_once("listening on wss://")?.1;
        Some(format!("wss://{}", from.split(['"', ' ']).next()?))
    };
    let (agent, url) = Service::start("agentd", command, listening).await?;

    let (user, authority) = (Home::new()?, papers.file("ca.pem"));
    let mut terminal = clients::codex_remote_as(&codex, &user, &url, (TOKEN, &authority))?;
    terminal.wait_for_text(MODEL, SCREEN_TIME_MAX).await?;
    terminal.enter("Is anybody there?", SCREEN_TIME_MAX).await?;
    terminal.wait_for_text("The door is open.", SCREEN_TIME_MAX).await?;
    quit(terminal).await?;

    let mut stranger = clients::codex_remote_as(&codex, &user, &url, ("another", &authority))?;
    assert!(!stranger.wait_exit(SCREEN_TIME_MAX).await?.success(), "{}", stranger.screen());
    assert!(agent.output().contains("a client was not let in"), "{}", agent.output());
    assert!(!agent.output().contains(TOKEN));
    Ok(())
}

/// The file of the README, with a key that the command of the README makes.
#[tokio::test]
async fn the_file_that_is_shown_lets_people_in_and_keeps_them_within() -> anyhow::Result<()> {
    let upstream = Upstream::start().await?;
    let (gateway, home) = (Gateway::before(&upstream).await?, Home::new()?);
    let key = super::key(&home, "acme").await?;
    let shown = readme::block("Let people in", "# agent.toml")?;
    let agent = Agent::configured(&home, &gateway, &shown).await?;
    let mut rpc = Rpc::connect_with(&agent.url, &key).await?;
    rpc.initialize().await?;
    let read = rpc.call("config/read", json!({"includeLayers": true})).await?;
    assert_eq!(
        (&read["config"]["model"], &read["config"]["service_tier"]),
        (&json!("gpt-6-sol"), &json!("flex"))
    );
    let required = rpc.call("configRequirements/read", json!(null)).await?;
    assert_eq!(required["requirements"]["allowedSandboxModes"], json!(["read-only", "workspace-write"]));
    let refused = rpc.refused("thread/start", json!({"approvalPolicy": "never"})).await?;
    assert!(refused["message"].as_str().unwrap().contains("operator allows"), "{refused}");
    rpc.call("thread/start", json!({})).await?;
    for method in ["modelProvider/list", "modelProvider/capabilities/read", "permissionProfile/list"] {
        rpc.call(method, json!({})).await?;
    }
    assert!(Rpc::connect(&agent.url).await.is_err());
    Ok(())
}
