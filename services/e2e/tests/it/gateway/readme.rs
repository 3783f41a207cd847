//! Every configuration that the README shows is a good one, and serves calls.
//!
//! What a block says of the world outside is replaced by what [`ROWS`] says, and nothing else: the rest runs as written.

use std::os::unix::fs::PermissionsExt as _;

use anyhow::Context as _;
use gateway_testkit::{Bedrock, ConnectProxy, Recorded, Reply, TlsOptions, Upstream};
use serde_json::json;
use service_e2e::home::Home;
use service_e2e::stack::{self, Gateway};
use service_e2e::{binaries, http, places};
use tokio::process::Command;

/// What a block begins with that is a whole file.
const WHOLE_FILE: &str = "```toml\n# gateway.toml\n";
/// Sections about those who call; `doors` and the agent's `access` run their blocks.
const DOORS: [&str; 2] = ["Let people in", "Run it behind TLS"];
/// Where the shown files are on a real machine, and where they are on a test's.
const FILES: (&str, &str) = ("/etc/tidegate", "{files}");
/// The endpoint that only the proxy can find, with certificates that only its own authority vouches for.
const INSIDE: &str = "vllm.corp.example";
/// What a caller shows to the gateway; it reaches a provider only where the block says so.
const CALLER: &str = "Bearer login-of-the-caller";
/// The same for the caller's ChatGPT account.
const CALLER_ACCOUNT: &str = "acc-of-the-caller";
/// The whole of a profile in AWS's file.
const PROFILE: &str = "[models]\naws_access_key_id = AKIDOFTHEPROFILE\naws_secret_access_key = secret-of-the-profile\n\
                       aws_session_token = session-of-the-profile\n";
/// Tells what it was started with, so that the token proves it.
const TOKEN_COMMAND: &str = "#!/bin/sh\necho \"token-for$1=$2-in-$CORP_REALM\"\n";

/// How one block of the README is run.
struct Row {
    /// What stands over the block.
    heading: &'static str,
    /// What is replaced in it by what. `{…}` is a stand-in of [`House`].
    replaced: &'static [(&'static str, &'static str)],
    /// What the text beside the block says of the environment.
    variables: &'static [(&'static str, &'static str)],
    /// The models that are asked for, each once; the path where the call shall arrive, and its model there.
    calls: &'static [(&'static str, &'static str, &'static str)],
    /// Headers that the provider shall see: the credential, and what else the block sets.
    shown: &'static [(&'static str, Option<&'static str>)],
}

const ROWS: [Row; 6] = [
    Row {
        heading: "Configuration",
        replaced: &[("https://llm.example.com", "{upstream}")],
        variables: &[("CORP_LLM_KEY", "sk-of-corp")],
        calls: &[("gpt-6-sol", "/v1/responses", "gpt-6-sol")],
        shown: &[("authorization", Some("Bearer sk-of-corp")), ("chatgpt-account-id", None)],
    },
    Row {
        heading: "OpenAI",
        replaced: &[("# openai_base_url = \"https://eu.api.openai.com", "openai_base_url = \"{upstream}")],
        variables: &[("OPENAI_API_KEY", "sk-of-openai")],
        calls: &[("gpt-6-sol", "/v1/responses", "gpt-6-sol")],
        shown: &[
            ("authorization", Some("Bearer sk-of-openai")),
            ("openai-project", Some("proj_123")),
            ("chatgpt-account-id", None),
        ],
    },
    Row {
        heading: "A laptop's ChatGPT login",
        replaced: &[("https://chatgpt.com", "{upstream}")],
        variables: &[],
        calls: &[("gpt-6-luna", "/backend-api/codex/responses", "gpt-6-luna")],
        shown: &[("authorization", Some(CALLER)), ("chatgpt-account-id", Some(CALLER_ACCOUNT))],
    },
    Row {
        heading: "Amazon Bedrock",
        // An address of its own, which a real machine takes from the region.
        replaced: &[(
            "[model_providers.amazon-bedrock.aws]",
            "[model_providers.amazon-bedrock]\nbase_url = \"{bedrock}\"\n[model_providers.amazon-bedrock.aws]",
        )],
        variables: &[("AWS_EC2_METADATA_DISABLED", "true")],
        calls: &[
            ("gpt-6-sol", "/openai/v1/responses", "openai.gpt-6-sol"),
            ("openai.gpt-7-preview", "/openai/v1/responses", "openai.gpt-7-preview"),
        ],
        // The signature is checked by the service itself.
        shown: &[("x-amz-security-token", Some("session-of-the-profile")), ("chatgpt-account-id", None)],
    },
    Row {
        heading: "A company's own endpoint with short-lived tokens",
        replaced: &[("https://llm.corp.example", "{upstream}"), ("/usr/local/bin", "{files}")],
        variables: &[],
        calls: &[("any-model", "/v1/responses", "any-model")],
        shown: &[
            ("authorization", Some("Bearer token-for--audience=llm-in-prod")),
            ("chatgpt-account-id", None),
        ],
    },
    Row {
        heading: "A key in a mounted file",
        replaced: &[FILES, ("http://proxy.corp.example:3128", "{proxy}")],
        variables: &[],
        calls: &[("qwen3-coder", "/v1/responses", "qwen3-coder")],
        shown: &[("authorization", Some("Bearer sk-of-vllm")), ("chatgpt-account-id", None)],
    },
];

/// What stands in for the world outside of a gateway's machine.
struct House {
    /// Where the machine has the files that blocks name.
    files: String,
    /// Any provider without TLS.
    upstream: Upstream,
    bedrock: Bedrock,
    /// The way to `inside`.
    proxy: ConnectProxy,
    /// A provider at [`INSIDE`] that lets nobody in without a certificate.
    inside: Upstream,
}

impl House {
    async fn new(home: &Home) -> anyhow::Result<Self> {
        let inside = TlsOptions::new().require_client_certificate().name(INSIDE);
        let house = Self {
            files: home.path("").to_string_lossy().trim_end_matches('/').to_owned(),
            upstream: Upstream::start().await?,
            bedrock: Bedrock::start("us-west-2").await?,
            proxy: ConnectProxy::start().await?,
            inside: Upstream::start_tls(&inside).await?,
        };
        house.proxy.route(&format!("{INSIDE}:443"), house.inside.address());
        house.bedrock.allow_key("AKIDOFTHEPROFILE", "secret-of-the-profile", Some("session-of-the-profile"));
        for model in ["openai.gpt-6-sol", "openai.gpt-7-preview"] {
            house.bedrock.serve(model, "/openai/v1", "bedrock-mantle");
        }
        for upstream in house.upstreams() {
            upstream.set_default(Reply::json(200, &json!({"id": "resp_1", "status": "completed"})));
        }
        house.write_files(home)?;
        Ok(house)
    }

    fn write_files(&self, home: &Home) -> anyhow::Result<()> {
        let tls = self.inside.tls().context("an upstream with TLS")?;
        let client = tls.client("gateway")?;
        std::fs::create_dir(home.path("home/.aws"))?;
        for (name, text) in [
            ("corp-ca.pem", tls.authority_pem()),
            ("client.pem", client.certificate_pem),
            ("client-key.pem", client.key_pem),
            ("vllm-key", "sk-of-vllm\n".to_owned()),
            ("corp-token", TOKEN_COMMAND.to_owned()),
            ("home/.aws/credentials", PROFILE.to_owned()),
        ] {
            std::fs::write(home.path(name), text)?;
        }
        let executable = std::fs::Permissions::from_mode(0o700);
        Ok(std::fs::set_permissions(home.path("corp-token"), executable)?)
    }

    fn upstreams(&self) -> [&Upstream; 3] {
        [&self.upstream, self.bedrock.upstream(), &self.inside]
    }

    /// Every model call that left the gateway.
    fn seen(&self) -> Vec<Recorded> {
        self.upstreams().into_iter().flat_map(Upstream::requests).collect()
    }

    /// Puts the stand-ins in their places.
    fn filled(&self, text: &str) -> String {
        text.replace("{files}", &self.files)
            .replace("{upstream}", &self.upstream.url(""))
            .replace("{bedrock}", &self.bedrock.url(""))
            .replace("{proxy}", &self.proxy.url())
    }
}

/// Has a configuration checked as it is shown.
async fn check(home: &Home, config: &str, row: &Row) -> anyhow::Result<()> {
    let file = home.path("checked.toml");
    std::fs::write(&file, config)?;
    let mut check = Command::new(binaries::program("gatewayd").await?);
    check.env_clear().envs(home.environment()).envs(row.variables.iter().copied());
    check.arg("check").arg(&file);
    let output = stack::run(check).await?;
    anyhow::ensure!(output.status.code() == Some(0), "{output:?}");
    Ok(())
}

/// The block of the README that begins with this comment and stands under this heading.
pub(crate) fn block(heading: &str, comment: &str) -> anyhow::Result<String> {
    let readme = std::fs::read_to_string(places::repository()?.join("README.md"))?;
    let section = readme.split_once(&format!("\n## {heading}\n")).context("the section")?.1;
    let section = section.split("\n## ").next().unwrap_or_default();
    let block = section.split_once(&format!("```toml\n{comment}\n")).context("the block")?.1;
    Ok(block.split_once("\n```").context("the end of the block")?.0.to_owned() + "\n")
}

/// The blocks with what stands over them: the last heading, or the beginning of the last paragraph that has one in bold.
fn blocks(text: &str) -> anyhow::Result<Vec<(&str, &str)>> {
    let (mut blocks, mut heading, mut rest) = (Vec::new(), "", text);
    while let Some((before, from)) = rest.split_once(WHOLE_FILE) {
        for line in before.lines() {
            let bold = || line.strip_prefix("**")?.split_once("**").map(|(bold, _)| bold);
            heading = line.strip_prefix("## ").or_else(bold).unwrap_or(heading);
        }
        let (block, after) = from.split_once("\n```").context("the end of a block")?;
        blocks.push((heading, block));
        rest = after;
    }
    Ok(blocks)
}

/// A block with the row's replacements, each of which has to have its place in it.
fn replaced(block: &str, row: &Row) -> anyhow::Result<String> {
    row.replaced.iter().try_fold(block.to_owned(), |text, (shown, ours)| {
        anyhow::ensure!(text.contains(shown), "the block has no {shown}");
        Ok(text.replace(shown, ours))
    })
}

/// Checks a block as it is shown, starts a gateway with it, and makes the row's calls.
async fn run(block: &str, row: &Row) -> anyhow::Result<()> {
    let home = Home::new()?;
    let house = House::new(&home).await?;
    check(&home, &house.filled(&block.replace(FILES.0, FILES.1)), row).await?;
    let config = house.filled(&replaced(block, row)?);
    let variables: Vec<_> = row.variables.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    let gateway = Gateway::start_with(home, &config, &variables).await?;
    let caller = format!("authorization: {CALLER}\r\nchatgpt-account-id: {CALLER_ACCOUNT}\r\n");
    for (index, (asked, path, model)) in row.calls.iter().enumerate() {
        let body = json!({"model": asked, "input": "hi"}).to_string();
        let call = http::post(gateway.at, "/v1/responses", &caller, body.as_bytes());
        let answer = http::send(gateway.at, &call).await?;
        anyhow::ensure!(answer.status == 200, "{answer:?}\n{}", gateway.service.output());
        let seen = house.seen();
        anyhow::ensure!(seen.len() == index + 1, "{} calls: {seen:?}", seen.len());
        let seen = seen.last().context("a call")?;
        anyhow::ensure!(seen.path == *path && seen.json()["model"] == *model, "{seen:?}");
        for (name, value) in row.shown {
            anyhow::ensure!(seen.header(name) == *value, "{name} is not {value:?}: {seen:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn every_configuration_of_the_readme_is_good_and_serves_calls() -> anyhow::Result<()> {
    let readme = std::fs::read_to_string(places::repository()?.join("README.md"))?;
    let mut blocks = blocks(&readme)?;
    blocks.retain(|(heading, _)| !DOORS.contains(heading));
    let headings: Vec<_> = blocks.iter().map(|(heading, _)| *heading).collect();
    assert_eq!(headings, ROWS.map(|row| row.heading), "each block has a row, and each row a block");
    for ((heading, block), row) in blocks.iter().zip(&ROWS) {
        run(block, row).await.with_context(|| format!("{heading}:\n{block}"))?;
    }
    Ok(())
}

/// A block or a replacement that has no counterpart is seen.
#[test]
fn a_block_without_a_row_and_a_row_without_its_place_are_seen() {
    let text = "## Two\n**Bold**, more\n```toml\n# gateway.toml\na = 1\n```\n\n```toml\n# gateway.toml\nb = 2\n```\n";
    assert_eq!(blocks(text).unwrap(), [("Bold", "a = 1"), ("Bold", "b = 2")]);
    assert_eq!(blocks(&text.replace("**", "")).unwrap(), [("Two", "a = 1"), ("Two", "b = 2")]);
    assert!(blocks("```toml\n# gateway.toml\na = 1\n").is_err());
    let [row, ..] = ROWS;
    assert!(replaced("base_url = \"https://llm.example.com/v1\"", &row).unwrap().contains("{upstream}/v1"));
    assert!(replaced("base_url = \"https://elsewhere.example/v1\"", &row).is_err());
}
