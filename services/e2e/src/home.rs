//! A user's machine for one client: an empty home, an empty working directory, and an environment that holds nothing
//! of the machine that runs the tests.
//!
//! Proxies point at a closed loopback port and only loopback is exempt, so that a client that calls the outside fails
//! at once instead of reaching it.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Context as _;
use tempfile::TempDir;

/// The discard port, on which nothing listens.
const CLOSED: &str = "http://127.0.0.1:9";

/// What keeps Codex at home: no update check, no analytics, no plugin catalog, no tips. Pasted text is not guessed from
/// the speed of typing, and no login shell is started to look at its environment.
const QUIET_CODEX: &str = "\
check_for_update_on_startup = false
analytics.enabled = false
features.plugins = false
features.shell_snapshot = false
tui.show_tooltips = false
tui.animations = false
disable_paste_burst = true
";

/// One fresh machine; its files go away with it.
#[derive(Debug)]
pub struct Home {
    root: TempDir,
}

impl Home {
    /// Makes the directories.
    pub fn new() -> anyhow::Result<Self> {
        let home = Self { root: TempDir::with_prefix("desk-").context("a temporary directory")? };
        for directory in ["home", "codex", "work", "tmp"] {
            std::fs::create_dir(home.path(directory))?;
        }
        home.configure_codex("")?;
        Ok(home)
    }

    /// A path below this machine's root.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Where clients are started.
    pub fn work(&self) -> PathBuf {
        self.path("work")
    }

    /// Writes Codex's `config.toml`: what keeps it quiet, then `settings`.
    pub fn configure_codex(&self, settings: &str) -> anyhow::Result<()> {
        std::fs::write(self.path("codex").join("config.toml"), format!("{QUIET_CODEX}{settings}"))?;
        Ok(())
    }

    /// The whole environment of a client.
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        let mut all: Vec<(&'static str, OsString)> = vec![
            ("PATH", std::env::var_os("PATH").unwrap_or_default()),
            ("HOME", self.path("home").into()),
            ("CODEX_HOME", self.path("codex").into()),
            ("TMPDIR", self.path("tmp").into()),
            ("LANG", "C.UTF-8".into()),
            ("TERM", "xterm-256color".into()),
        ];
        for proxy in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"] {
            all.push((proxy, CLOSED.into()));
        }
        for exempt in ["NO_PROXY", "no_proxy"] {
            all.push((exempt, "127.0.0.1,localhost".into()));
        }
        all
    }
}
