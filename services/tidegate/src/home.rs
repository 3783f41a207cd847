//! The desk's data directory: where sockets and the thread store are.

use std::{
    env,
    fs::{DirBuilder, File, TryLockError},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use service_runtime::{Exit, Fault};

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

    /// Takes the directory for one desk, for as long as the file is held.
    pub(crate) fn take(&self) -> anyhow::Result<File> {
        let run = self.path.join("run");
        let place = || format!("cannot write {}", run.display());
        DirBuilder::new().recursive(true).mode(0o700).create(&run).with_context(place)?;
        // It stays behind: to remove it would race with the next one who opens it.
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(run.join("desk.lock"))
            .with_context(place)?;
        match lock.try_lock() {
            Ok(()) => Ok(lock),
            Err(TryLockError::WouldBlock) => {
                let home = self.path.display();
                let message =
                    format!("a desk is up in {home} already; name another directory with --data-dir");
                Err(Fault { exit: Exit::Unavailable, message }.into())
            }
            Err(TryLockError::Error(error)) => Err(error).with_context(place),
        }
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
