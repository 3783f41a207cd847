//! A user's machine for one client: an empty home, an empty working directory, and an environment that holds nothing
//! of the machine that runs the tests.
//!
//! Proxies point at a closed loopback port and only loopback is exempt, so that a client that calls the outside fails
//! at once instead of reaching it.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Context as _;
use tempfile::TempDir;

use crate::survivors;

/// The discard port, on which nothing listens.
const CLOSED: &str = "http://127.0.0.1:9";

/// The variable that tells Codex, and everything Codex starts, which machine it is on.
const CODEX_HOME: &str = "CODEX_HOME";

/// What keeps Codex at home: no update check, no analytics, no plugin catalog, no tips, and no background server that
/// copies itself into the home, updates itself and stays. Pasted text is not guessed from the speed of typing, and no login
/// shell is started to look at its environment.
const QUIET_CODEX: &str = "\
check_for_update_on_startup = false
analytics.enabled = false
features.daemon_auto_start = false
features.plugins = false
features.shell_snapshot = false
tui.show_tooltips = false
tui.animations = false
disable_paste_burst = true
";

/// One fresh machine; its files and whatever runs on it go away with it.
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

    /// Ends whatever still runs on this machine, whoever started it, and tells the command lines. Nothing that was started
    /// with another Codex home is looked at.
    pub fn end_processes(&self) -> anyhow::Result<Vec<String>> {
        survivors::end(CODEX_HOME, self.path("codex").as_os_str())
    }

    /// The whole environment of a client.
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        let mut all: Vec<(&'static str, OsString)> = vec![
            ("PATH", std::env::var_os("PATH").unwrap_or_default()),
            ("HOME", self.path("home").into()),
            (CODEX_HOME, self.path("codex").into()),
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

impl Drop for Home {
    fn drop(&mut self) {
        // Before the files go, which a process that goes on would write anew. A test that has failed already, or that
        // has asked what was left, has nothing to learn here.
        let _ = self.end_processes();
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
    use std::process::{Child, Command};

    use super::*;

    /// A process that no group of the harness knows.
    fn starts_on(home: &Home) -> Child {
        let mut sleep = Command::new("sleep");
        sleep.arg("1000").env_clear().envs(home.environment()).process_group(0).spawn().unwrap()
    }

    #[test]
    fn what_runs_on_a_machine_ends_with_it_and_nothing_else_does() {
        let (home, other) = (Home::new().unwrap(), Home::new().unwrap());
        let mut elsewhere = starts_on(&other);
        let mut asked = [starts_on(&home), starts_on(&home)];
        assert_eq!(home.end_processes().unwrap(), ["sleep 1000 ", "sleep 1000 "]);
        assert_eq!(home.end_processes().unwrap(), Vec::<String>::new());

        let (root, mut last) = (home.path(""), starts_on(&home));
        let failed = std::panic::catch_unwind(move || {
            let _home = home;
            panic!("a test that fails");
        });
        assert!(failed.is_err() && !root.exists());
        for child in asked.iter_mut().chain([&mut last]) {
            assert_eq!(child.wait().unwrap().signal(), Some(9));
        }
        assert!(elsewhere.try_wait().unwrap().is_none(), "a process of another machine");
        drop(other);
        assert_eq!(elsewhere.wait().unwrap().signal(), Some(9));
    }
}
