//! The product as it is deployed: gatewayd in front of a scripted upstream, and agentd behind gatewayd, each a process
//! of its own on a machine of its own.
//!
//! Only gatewayd's environment holds the upstream's key.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use gateway_testkit::{Reply, Turn, Upstream};
use serde_json::Value;
use tidegate_responses::Usage;
use tokio::process::Command;

use crate::home::Home;
use crate::service::Service;
use crate::{binaries, clients, process};

/// The upstream's key. Nothing but the upstream itself may ever show it.
pub const UPSTREAM_KEY: &str = "sk-canary-of-the-upstream-8c41d7";
/// The environment variable that gives the key to gatewayd.
const UPSTREAM_KEY_VARIABLE: &str = "E2E_UPSTREAM_KEY";
/// What callers show to the gateway.
pub const CALLER_KEY: &str = "sk-of-the-caller-55e0";
/// A model that no catalog knows.
pub const MODEL: &str = "scripted-1";
/// A model of Codex's own catalog, which it calls in another way.
pub const CATALOG_MODEL: &str = "gpt-6-sol";
/// How long a service with nothing to finish may take to stop.
pub const STOP_TIME_MAX: Duration = Duration::from_secs(20);
/// How long a program that has nothing to serve may run.
const RUN_TIME_MAX: Duration = Duration::from_secs(20);

/// A gateway's configuration with the upstream as its one provider. More keys of that provider, and then more tables,
/// can be appended.
pub fn provider(upstream: &Upstream) -> String {
    format!("{}request_max_retries = 0\n", repeating_provider(upstream))
}

/// The same, but calls are repeated as they are where nobody says otherwise.
pub fn repeating_provider(upstream: &Upstream) -> String {
    format!("{}env_key = \"{UPSTREAM_KEY_VARIABLE}\"\n", keyless_provider(upstream))
}

/// The same without any credential.
pub fn keyless_provider(upstream: &Upstream) -> String {
    format!(
        "model_provider = \"scripted\"\nmodel = \"{MODEL}\"\n\n[model_providers.scripted]\n\
         base_url = \"{}\"\nmodels = [\"{MODEL}\", \"{CATALOG_MODEL}\"]\n",
        upstream.base_url()
    )
}

/// Usage with numbers that can be told apart.
pub fn usage() -> Usage {
    Usage {
        input_tokens: 1100,
        cached_input_tokens: 300,
        cache_write_input_tokens: 0,
        output_tokens: 70,
        reasoning_output_tokens: 20,
        total_tokens: 1170,
    }
}

/// A reply that streams `pieces`.
pub fn says(response_id: &str, pieces: &[&str]) -> Reply {
    Reply::sse(Turn::new(response_id).model(MODEL).text(pieces).completed(usage()))
}

/// A running gateway.
pub struct Gateway {
    /// Its process.
    pub service: Service,
    /// Where it listens for people's clients.
    pub at: SocketAddr,
    /// Where it listens for agents.
    pub socket: PathBuf,
    home: Home,
}

impl Gateway {
    /// Starts gatewayd with this configuration.
    pub async fn start(config: &str) -> anyhow::Result<Self> {
        Self::start_on(Home::new()?, config, &[]).await
    }

    /// The same on a machine that was prepared, with more environment variables.
    pub async fn start_with(home: Home, config: &str, variables: &[(&str, String)]) -> anyhow::Result<Self> {
        Self::start_on(home, config, variables).await
    }

    /// Starts gatewayd anew where this one was; kills this one if it still runs.
    pub async fn again(self, config: &str) -> anyhow::Result<Self> {
        let Self { service, home, .. } = self;
        service.kill().await?;
        Self::start_on(home, config, &[]).await
    }

    async fn start_on(home: Home, config: &str, variables: &[(&str, String)]) -> anyhow::Result<Self> {
        let socket = home.path("gateway.sock");
        let mut command = gatewayd(&home, Some(config)).await?;
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        // The socket comes first, so that it is there when the address is told.
        command.args(["--listen", &format!("unix:{}", socket.display()), "--listen", "127.0.0.1:0"]);
        let (service, at) = Service::start("gatewayd", command, listening).await?;
        Ok(Self { service, at, socket, home })
    }

    /// Starts gatewayd in front of `upstream`.
    pub async fn before(upstream: &Upstream) -> anyhow::Result<Self> {
        Self::start(&provider(upstream)).await
    }

    /// The machine that it runs on.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// The gateway's address as clients take it, without `/v1`.
    pub fn url(&self) -> String {
        format!("http://{}", self.at)
    }
}

/// A command that runs gatewayd on `home`; the caller adds where to listen.
pub async fn gatewayd(home: &Home, config: Option<&str>) -> anyhow::Result<Command> {
    let mut command = clients::on(home, &binaries::program("gatewayd").await?);
    command.env(UPSTREAM_KEY_VARIABLE, UPSTREAM_KEY);
    if let Some(config) = config {
        let file = home.path("gateway.toml");
        std::fs::write(&file, config)?;
        command.arg("--config").arg(file);
    }
    Ok(command)
}

/// A running agent on a WebSocket.
pub struct Agent {
    /// Its process.
    pub service: Service,
    /// Where clients connect, as in `ws://127.0.0.1:1234`.
    pub url: String,
}

impl Agent {
    /// Starts agentd; `home` keeps its threads and outlives it.
    pub async fn start(home: &Home, gateway: &Gateway) -> anyhow::Result<Self> {
        Self::configured(home, gateway, "").await
    }

    /// The same with a configuration.
    pub async fn configured(home: &Home, gateway: &Gateway, config: &str) -> anyhow::Result<Self> {
        Self::launch(agentd(home, &gateway.socket).await?, home, config).await
    }

    /// Starts agentd over a store that fails as the variable says.
    pub async fn frail(
        home: &Home,
        gateway: &Gateway,
        (name, value): (&str, String),
    ) -> anyhow::Result<Self> {
        let mut command = clients::on(home, &binaries::program("frail_agentd").await?);
        command.envs(agent_environment(home, &gateway.socket)).env(name, value);
        Self::launch(command, home, "").await
    }

    async fn launch(mut command: Command, home: &Home, config: &str) -> anyhow::Result<Self> {
        let file = home.path("agent.toml");
        std::fs::write(&file, config)?;
        command.args(["app-server", "--listen", "ws://127.0.0.1:0", "--service-config"]).arg(file);
        let (service, at) =
            Service::start("agentd", command, |line| told(line, "ws://127.0.0.1:").map(str::to_owned))
                .await?;
        Ok(Self { service, url: at })
    }

    /// The address without its scheme.
    pub fn at(&self) -> anyhow::Result<SocketAddr> {
        let at = self.url.strip_prefix("ws://").context("a WebSocket address")?;
        at.parse().context("an address")
    }
}

/// A command that runs agentd on `home`; the caller adds what it shall do.
pub async fn agentd(home: &Home, gateway: &Path) -> anyhow::Result<Command> {
    let mut command = clients::on(home, &binaries::program("agentd").await?);
    command.envs(agent_environment(home, gateway));
    Ok(command)
}

/// What agentd is told by its environment.
pub fn agent_environment(home: &Home, gateway: &Path) -> [(&'static str, String); 2] {
    [
        ("TIDEGATE_GATEWAY", format!("unix:{}", gateway.display())),
        ("TIDEGATE_HOME", home.path("tidegate").display().to_string()),
    ]
}

/// Runs a program that ends by itself.
pub async fn run(command: Command) -> anyhow::Result<process::Output> {
    process::run(command, RUN_TIME_MAX).await
}

/// The address that a line of a service's log tells, if it begins so.
fn told<'a>(line: &'a str, beginning: &str) -> Option<&'a str> {
    let from = line.split_once("listening on ")?.1;
    let end = from.find(['"', ' ']).unwrap_or(from.len());
    from.get(..end).filter(|address| address.starts_with(beginning))
}

/// The TCP address that a line of gatewayd's log tells.
pub fn listening(line: &str) -> Option<SocketAddr> {
    told(line, "127.0.0.1:")?.parse().ok()
}

/// The items of a request that the upstream got, as pairs of type and role.
pub fn items(body: &Value) -> Vec<(String, String)> {
    let text = |item: &Value, key: &str| item.get(key).and_then(Value::as_str).unwrap_or("").to_owned();
    let items = body.get("input").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    items.iter().map(|item| (text(item, "type"), text(item, "role"))).collect()
}
