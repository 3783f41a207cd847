//! A desk whose gateway asks who calls.

use std::fs;

use anyhow::Context as _;
use gateway_testkit::Upstream;
use service_e2e::home::Home;
use service_e2e::stack;

use super::{Up, tidegate};

/// The desk comes up whether or not its agent has a key, and says what is missing; with the key everything works.
#[tokio::test]
async fn up_tells_how_its_agent_gets_a_key() -> anyhow::Result<()> {
    let upstream = Upstream::start().await?;
    upstream.set_default(stack::says("resp_key", &["It lets ", "water out."]));
    let home = Home::new()?;
    let data = home.path("tidegate");
    let run = async |arguments: &[&str], key: &str| {
        let mut command = tidegate(&home, None).await?;
        command.current_dir(home.work()).env("TIDEGATE_KEY", key).args(arguments);
        stack::run(command).await
    };
    let keys = data.join("keys.toml").display().to_string();
    let create = ["keys", "create", "--file", &keys, "--tenant", "acme", "--subject", "agent"];
    let key = run(&create, "").await?.success()?.stdout;

    // `Up` writes the gateway's file; here it asks who calls.
    let text = format!("{}\n[authentication]\nkeys_file = \"keys.toml\"\n", stack::provider(&upstream));
    fs::write(data.join("gateway.toml"), &text)?;
    let up = Up::start(&home, None).await?;
    let banner = up.service.output();
    for expected in [
        "Model: not known: the gateway does not know the agent: no credential",
        "tidegate keys create --file KEYS_FILE",
        "[gateway_access]\n    token_file = \"agent.key\"",
    ] {
        assert!(banner.contains(expected), "{expected} in {banner}");
    }
    assert!(!banner.contains("code: '"), "{banner}");
    // The agent asks nobody for a key, and the gateway asks the agent.
    for (key, says) in
        [("", "the gateway does not know the agent: "), (key.trim(), "none for an agent that asks")]
    {
        let asked = run(&["ask", "What is a tide gate?"], key).await?;
        assert_eq!(asked.status.code(), Some(1), "{asked:?}");
        assert!(asked.stderr.contains(says), "{says} in {asked:?}");
        assert!(asked.stderr.contains("`token_file` under [gateway_access]"), "{asked:?}");
    }
    assert_eq!(up.service.stop(stack::STOP_TIME_MAX).await?.code(), Some(0));

    // As the banner says. The path starts where the file is.
    fs::write(data.join("agent.key"), &key)?;
    fs::write(data.join("agent.toml"), "[gateway_access]\ntoken_file = \"agent.key\"\n")?;
    let up = Up::start(&home, None).await?;
    let banner = up.service.output();
    let model = banner.lines().find(|line| line.contains("Model: ")).context("the model")?;
    assert!(model.contains(stack::MODEL), "{model}");
    let asked = run(&["ask", "What is a tide gate?"], "").await?;
    assert_eq!(asked.success()?.stdout, "It lets water out.\n");
    assert_eq!(up.service.stop(stack::STOP_TIME_MAX).await?.code(), Some(0));
    Ok(())
}
