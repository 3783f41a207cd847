//! Every configuration that a README shows is a good one.

use anyhow::Context as _;
use gateway_testkit::{TlsOptions, Upstream};
use service_e2e::{binaries, home::Home, places, stack};
use tokio::process::Command;

/// What a block begins with that is a whole file.
const WHOLE_FILE: &str = "```toml\n# gateway.toml\n";
/// Where the shown files are on a real machine.
const SHOWN_DIRECTORY: &str = "/etc/tidegate";

fn blocks(text: &str) -> Vec<&str> {
    text.split(WHOLE_FILE).skip(1).filter_map(|rest| rest.split("\n```").next()).collect()
}

#[tokio::test]
async fn every_gateway_configuration_of_the_readme_is_good() -> anyhow::Result<()> {
    let home = Home::new()?;
    let upstream = Upstream::start_tls(&TlsOptions::new()).await?;
    let tls = upstream.tls().context("an upstream with TLS")?;
    let client = tls.client("gateway")?;
    std::fs::write(home.path("corp-ca.pem"), tls.authority_pem())?;
    std::fs::write(home.path("client.pem"), client.certificate_pem)?;
    std::fs::write(home.path("client-key.pem"), client.key_pem)?;
    std::fs::write(home.path("vllm-key"), "sk-of-vllm\n")?;
    let directory = home.path("");
    let directory = directory.to_str().context("a path")?.trim_end_matches('/');

    let readme = std::fs::read_to_string(places::repository()?.join("README.md"))?;
    let blocks = blocks(&readme);
    assert!(blocks.len() >= 6, "{} blocks", blocks.len());
    for block in blocks {
        let file = home.path("gateway.toml");
        std::fs::write(&file, block.replace(SHOWN_DIRECTORY, directory))?;
        let mut check = Command::new(binaries::program("gatewayd").await?);
        check.env_clear().envs(home.environment()).env("OPENAI_API_KEY", "sk-1").env("CORP_LLM_KEY", "sk-2");
        check.arg("check").arg(&file);
        let output = stack::run(check).await?;
        assert_eq!(output.status.code(), Some(0), "{block}\n{output:?}");
    }
    Ok(())
}
