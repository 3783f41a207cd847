//! The data directory: where threads, sockets and the installation's id are, unless the configuration says otherwise.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use uuid::Uuid;

/// The data directory of one installation.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    path: PathBuf,
}

impl Home {
    /// `TIDEGATE_HOME`, or `~/.tidegate`.
    pub(crate) fn find() -> anyhow::Result<Self> {
        let named = std::env::var_os("TIDEGATE_HOME").filter(|path| !path.is_empty()).map(PathBuf::from);
        let path = named
            .or_else(|| std::env::home_dir().map(|home| home.join(".tidegate")))
            .context("no home directory; set TIDEGATE_HOME")?;
        Ok(Self { path: std::path::absolute(path)? })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The gateway's socket.
    pub(crate) fn gateway_socket(&self) -> PathBuf {
        self.path.join("run/gateway.sock")
    }

    /// The socket of `--listen unix://`.
    pub(crate) fn agent_socket(&self) -> PathBuf {
        self.path.join("run/agent.sock")
    }

    /// The thread store.
    pub(crate) fn store(&self) -> PathBuf {
        self.path.join("agent/threads.sqlite")
    }

    /// The id that this installation keeps, made with its first start.
    pub(crate) fn installation_id(&self) -> anyhow::Result<String> {
        let file = self.path.join("agent/installation_id");
        let read = || std::fs::read_to_string(&file).ok().and_then(|text| Uuid::try_parse(text.trim()).ok());
        if let Some(id) = read() {
            return Ok(id.to_string());
        }
        let place = || format!("cannot write {}", file.display());
        std::fs::create_dir_all(self.path.join("agent")).with_context(place)?;
        let id = Uuid::now_v7();
        match std::fs::OpenOptions::new().write(true).create_new(true).open(&file) {
            Ok(mut new) => writeln!(new, "{id}").with_context(place)?,
            // Another process was first, or the file holds something else; what it holds is not worth a failure.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                return Ok(read().unwrap_or(id).to_string());
            }
            Err(error) => return Err(error).with_context(place),
        }
        Ok(id.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::Home;

    #[test]
    fn an_installation_keeps_its_id() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home { path: directory.path().join("new") };
        let first = home.installation_id().unwrap();
        assert_eq!(home.installation_id().unwrap(), first);
    }
}
