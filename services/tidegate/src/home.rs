//! The desk's data directory: where sockets and the thread store are.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

/// The data directory of one desk.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    path: PathBuf,
}

impl Home {
    /// `given`, or `TIDEGATE_HOME`, or `~/.tidegate`.
    pub(crate) fn find(given: Option<PathBuf>) -> anyhow::Result<Self> {
        let path = given
            .or_else(|| env::var_os("TIDEGATE_HOME").filter(|path| !path.is_empty()).map(PathBuf::from))
            .or_else(|| env::home_dir().map(|home| home.join(".tidegate")))
            .context("no home directory; set TIDEGATE_HOME or pass --data-dir")?;
        Ok(Self { path: std::path::absolute(path)? })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The gateway's socket.
    pub(crate) fn gateway_socket(&self) -> PathBuf {
        self.path.join("run/gateway.sock")
    }

    /// The gateway's configuration, if the user wrote one.
    pub(crate) fn gateway_config(&self) -> Option<PathBuf> {
        Some(self.path.join("gateway.toml")).filter(|file| file.exists())
    }

    /// The agent's configuration, if the user wrote one.
    pub(crate) fn agent_config(&self) -> Option<PathBuf> {
        Some(self.path.join("agent.toml")).filter(|file| file.exists())
    }

    /// Where a running desk says how its agent can be reached.
    pub(crate) fn agent_address_file(&self) -> PathBuf {
        self.path.join("run/agent.address")
    }
}
