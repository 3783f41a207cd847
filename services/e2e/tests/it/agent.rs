//! The agent as a process behind a real gateway, with the clients that people use.

mod access;
mod attestation;
mod bad_input;
mod continuation;
mod conversation;
mod crash_points;
mod door;
mod footprint;
mod frames;
mod grpc_example;
mod kills;
mod process;
mod protocol;
mod python_sdk;
mod secrets;
mod tenants;
pub(crate) mod terminal;
mod terminal_day;
mod traces;

use gateway_testkit::Upstream;
use serde_json::{Value, json};
use service_e2e::home::Home;
use service_e2e::rpc::Rpc;
use service_e2e::stack::{self, Agent, Gateway};
use service_e2e::{binaries, clients};

/// An upstream, a gateway and an agent.
struct Desk {
    upstream: Upstream,
    gateway: Gateway,
    agent: Agent,
    home: Home,
}

impl Desk {
    async fn start() -> anyhow::Result<Self> {
        Self::configured("").await
    }

    /// The same with a configuration of the agent.
    async fn configured(config: &str) -> anyhow::Result<Self> {
        let upstream = Upstream::start().await?;
        let gateway = Gateway::before(&upstream).await?;
        let home = Home::new()?;
        let agent = Agent::configured(&home, &gateway, config).await?;
        Ok(Self { upstream, gateway, agent, home })
    }

    async fn client(&self) -> anyhow::Result<Rpc> {
        let mut rpc = Rpc::connect(&self.agent.url).await?;
        rpc.initialize().await?;
        Ok(rpc)
    }
}

async fn start_thread(rpc: &mut Rpc) -> anyhow::Result<String> {
    let started = rpc.call("thread/start", json!({})).await?;
    Ok(started["thread"]["id"].as_str().unwrap().to_owned())
}

/// Starts a turn and returns its id.
async fn start_turn(rpc: &mut Rpc, thread: &str, text: &str) -> anyhow::Result<String> {
    let params = json!({"threadId": thread, "input": input(text)});
    let started = rpc.call("turn/start", params).await?;
    Ok(started["turn"]["id"].as_str().unwrap().to_owned())
}

fn input(text: &str) -> Value {
    json!([{"type": "text", "text": text, "text_elements": []}])
}

/// The texts of a turn's items of one kind, as `thread/read` tells them.
fn texts(turn: &Value, kind: &str) -> Vec<String> {
    let items = turn["items"].as_array().unwrap().iter().filter(|item| item["type"] == kind);
    let text =
        |item: &Value| item["text"].as_str().or(item["content"][0]["text"].as_str()).unwrap().to_owned();
    items.map(text).collect()
}

/// A key of this tenant, in a file beside the agent's configuration.
async fn key(home: &Home, tenant: &str) -> anyhow::Result<String> {
    let mut create = clients::on(home, &binaries::program("tidegate").await?);
    create.args(["keys", "create", "--tenant", tenant, "--subject", "somebody", "--file"]);
    create.arg(home.path("keys.toml"));
    let created = stack::run(create).await?.success()?.stdout;
    Ok(created.lines().next().unwrap().to_owned())
}
