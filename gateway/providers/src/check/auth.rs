//! The table `auth` of a provider: a command that prints a token.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::Check;
use crate::config::AuthConfig;
use crate::credential::{CredentialSource, Program, TokenCommand};

/// How long a command may take unless the configuration says otherwise.
const TIMEOUT_DEFAULT_MS: u64 = 5_000;
/// The range of what may be asked for. A call waits for so long at most.
const TIMEOUT_MS: std::ops::RangeInclusive<u64> = 100..=600_000;
/// After how long a command is run again unless the configuration says otherwise.
const REFRESH_DEFAULT_MS: u64 = 300_000;
/// The longest such time that may be asked for.
const REFRESH_MAX_MS: u64 = 24 * 60 * 60 * 1000;
/// What a command sees of the gateway's own environment.
const INHERITED: [&str; 2] = ["PATH", "HOME"];

impl Check<'_> {
    /// The source that the table describes; whatever is wrong with it is among the problems.
    pub(super) fn command(&mut self, auth: &AuthConfig) -> CredentialSource {
        if auth.command.trim().is_empty() {
            self.problem("auth.command", "empty", "name a program, or remove the table");
        }
        // A command line is a frequent mistake: nothing splits it, as there is no shell.
        let line = auth.args.is_empty() && auth.command.contains(char::is_whitespace);
        if line && !Path::new(&auth.command).exists() {
            self.problem("auth.command", "holds white space", "write the arguments into args");
        }
        if auth.cwd.as_ref().is_some_and(|cwd| cwd.as_os_str().is_empty()) {
            self.problem("auth.cwd", "empty", "name a directory, or remove the key");
        }
        let texts = [auth.command.as_str()].into_iter().chain(auth.args.iter().map(String::as_str));
        if texts.into_iter().any(|text| text.contains('\0')) {
            self.problem("auth.args", "a program takes no NUL characters", "remove them");
        }
        let timeout = auth.timeout_ms.unwrap_or(TIMEOUT_DEFAULT_MS);
        if !TIMEOUT_MS.contains(&timeout) {
            let fix = format!("{} to {}", TIMEOUT_MS.start(), TIMEOUT_MS.end());
            self.problem("auth.timeout_ms", "out of range", fix);
        }
        let refresh = auth.refresh_interval_ms.unwrap_or(REFRESH_DEFAULT_MS);
        if refresh > REFRESH_MAX_MS {
            let fix = format!("0 to {REFRESH_MAX_MS}; 0 means only after the provider has refused the token");
            self.problem("auth.refresh_interval_ms", "out of range", fix);
        }
        let program = Program {
            command: auth.command.clone(),
            args: auth.args.clone(),
            cwd: auth.cwd.clone(),
            env: self.environment(auth),
            timeout: Duration::from_millis(timeout),
        };
        let refresh_after = (refresh > 0).then(|| Duration::from_millis(refresh));
        TokenCommand { program, refresh_after }.into_source()
    }

    /// The whole environment of the command. What the table says wins.
    fn environment(&mut self, auth: &AuthConfig) -> BTreeMap<String, SecretString> {
        let inherited = |name: &str| Some((name.to_owned(), SecretString::from((self.env)(name)?)));
        let mut env: BTreeMap<_, _> = INHERITED.into_iter().filter_map(inherited).collect();
        for (name, value) in &auth.env {
            if name.is_empty() || name.contains(['=', '\0']) || value.expose_secret().contains('\0') {
                let fix = "a name has no '=', and neither a name nor a value has a NUL character";
                self.problem(&format!("auth.env.{name}"), "not an environment variable", fix);
            }
            env.insert(name.clone(), SecretString::clone(value));
        }
        env
    }
}
