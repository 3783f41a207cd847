//! The two services of a desk, started in order and stopped in the other.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use service_runtime::listen::Address;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{
    child::{Environment, Log, Service},
    connect::wait_ready,
};

/// How long a service may take to get ready.
const READY_MAX: Duration = Duration::from_secs(20);

/// How a desk is to be started.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The socket between agent and gateway.
    pub(crate) gateway_socket: PathBuf,
    /// Where else the gateway listens.
    pub(crate) gateway_listen: Option<Address>,
    pub(crate) gateway_config: Option<PathBuf>,
    /// Where the agent listens.
    pub(crate) agent_listen: Address,
    pub(crate) agent_config: Option<PathBuf>,
    /// The data directory, where the agent keeps its threads.
    pub(crate) home: PathBuf,
}

/// A running desk.
#[derive(Debug)]
pub(crate) struct Desk {
    gateway: Service,
    agent: Service,
}

impl Desk {
    /// Starts the gateway, then the agent, and waits until both are ready.
    pub(crate) async fn start(plan: &Plan, log: Log<'_>) -> anyhow::Result<Self> {
        let mut gateway = Service::start("gatewayd", gateway_args(plan), Environment::Whole, log)?;
        let socket = Address::Unix(plan.gateway_socket.clone());
        ready(&mut gateway, &socket).await?;
        let known = Environment::WithoutSecrets(agent_environment(plan, &socket));
        let mut agent = Service::start("agentd", agent_args(plan), known, log)?;
        ready(&mut agent, &plan.agent_listen).await?;
        Ok(Self { gateway, agent })
    }

    /// Waits until one of the services ends by itself, which neither should.
    pub(crate) async fn broken(&mut self) -> anyhow::Error {
        tokio::select! {
            error = self.gateway.ended() => error,
            error = self.agent.ended() => error,
        }
    }

    /// Stops the agent, whose turns need the gateway, and then the gateway; neither may take its time any longer once
    /// `at_once` is cancelled.
    pub(crate) async fn stop(self, at_once: &CancellationToken) -> anyhow::Result<()> {
        let agent = self.agent.stop(at_once).await;
        let gateway = self.gateway.stop(at_once).await;
        agent.and(gateway)
    }
}

async fn ready(service: &mut Service, address: &Address) -> anyhow::Result<()> {
    let late = || format!("nobody listened on {address} within {} s", READY_MAX.as_secs());
    timeout(READY_MAX, service.listens()).await.with_context(late)??;
    tokio::select! {
        error = service.ended() => Err(error),
        ready = wait_ready(address, READY_MAX) => ready,
    }
}

fn gateway_args(plan: &Plan) -> Vec<OsString> {
    let mut args = Vec::new();
    if let Some(file) = &plan.gateway_config {
        option(&mut args, "--config", file);
    }
    if let Some(address) = &plan.gateway_listen {
        args.extend(["--listen".into(), address.to_string().into()]);
    }
    let socket = Address::Unix(plan.gateway_socket.clone());
    args.extend(["--listen".into(), socket.to_string().into()]);
    args
}

fn agent_args(plan: &Plan) -> Vec<OsString> {
    let listen = match &plan.agent_listen {
        Address::Tcp(at) => format!("ws://{at}"),
        Address::Unix(path) => format!("unix://{}", path.display()),
    };
    let mut args = vec!["app-server".into(), "--listen".into(), listen.into()];
    if let Some(file) = &plan.agent_config {
        option(&mut args, "--service-config", file);
    }
    args
}

/// Where the agent finds its gateway and its threads.
fn agent_environment(plan: &Plan, gateway: &Address) -> Vec<(&'static str, OsString)> {
    vec![
        ("TIDEGATE_GATEWAY", gateway.to_string().into()),
        ("TIDEGATE_HOME", plan.home.clone().into_os_string()),
    ]
}

fn option(args: &mut Vec<OsString>, name: &str, value: &Path) {
    args.extend([name.into(), value.as_os_str().to_owned()]);
}
