//! A gateway process of a scenario: before an upstream, quiet, with the keys that the scenario needs.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::Path;

use super::upstream::Upstream;
use super::vitals::Process;
use crate::home::Home;
use crate::service::Service;
use crate::stack;

/// What callers call the one model.
pub(super) const MODEL: &str = "tide";

/// A running gateway.
pub(super) struct Replica {
    pub(super) service: Service,
    pub(super) at: SocketAddr,
    _home: Home,
}

impl Replica {
    /// A gateway with the upstream as its one provider; `provider` are more keys of it, and `tables` further tables.
    pub(super) async fn before(upstream: &Upstream, provider: &str, tables: &str) -> anyhow::Result<Self> {
        let home = Home::new()?;
        let file = home.path("gateway.toml");
        std::fs::write(&file, format!("{}models = [\"{MODEL}\"]\n{provider}\n{tables}", config(upstream)))?;
        Self::with_file(home, &file).await
    }

    /// A gateway that reads this file.
    pub(super) async fn with_file(home: Home, file: &Path) -> anyhow::Result<Self> {
        let mut command = stack::gatewayd(&home, None).await?;
        command.args(["--config".as_ref(), file.as_os_str(), OsStr::new("--listen"), "127.0.0.1:0".as_ref()]);
        let (service, at) = Service::start("gatewayd", command, stack::listening).await?;
        Ok(Self { service, at, _home: home })
    }

    pub(super) fn process(&self) -> anyhow::Result<Process> {
        Process::new(self.service.id())
    }
}

/// The upstream as the one provider. More of its keys have to be appended, its models among them.
pub(super) fn config(upstream: &Upstream) -> String {
    // A line for each of thousands of calls would only measure the pipe.
    format!(
        "model_provider = \"sea\"\nlog = {{ level = \"info,tidegate::access=off\" }}\n\n\
         [model_providers.sea]\nbase_url = \"http://{}/v1\"\n",
        upstream.at()
    )
}
