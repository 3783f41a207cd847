//! The commands of the table `aws`: checked, and made ready to run.

use std::collections::BTreeMap;
use std::time::Duration;

use secrecy::SecretString;

use crate::check::Env;
use crate::config::{AwsCommandConfig, Problem};
use crate::credential::Program;

/// How long a command may take that prints credentials, unless the configuration says otherwise.
pub(super) const EXPORT_DEFAULT_MS: u64 = 30_000;
/// The same for a command that signs in again: somebody may have to answer it.
pub(super) const REFRESH_DEFAULT_MS: u64 = 300_000;
/// The range of what may be asked for. A call waits for so long at most.
const TIMEOUT_MS: std::ops::RangeInclusive<u64> = 100..=600_000;
/// What a command sees of the gateway's own environment: where things are, never keys or tokens.
const INHERITED: [&str; 17] = [
    "PATH",
    "HOME",
    "AWS_CA_BUNDLE",
    "AWS_CONFIG_FILE",
    "AWS_DEFAULT_REGION",
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
    "https_proxy",
    "http_proxy",
    "no_proxy",
];

/// The program of one of the keys; whatever is wrong with it is among the problems.
pub(super) fn program(
    (key, config): (&str, &AwsCommandConfig),
    default_ms: u64,
    profile: Option<&str>,
    env: Env<'_>,
    problems: &mut Vec<Problem>,
) -> Program {
    let mut problem = |name: &str, message: &str, fix: String| {
        problems.push(Problem { key: format!("{key}.{name}"), message: message.to_owned(), fix });
    };
    if config.command.trim().is_empty() {
        problem("command", "empty", "name a program, or remove the table".to_owned());
    }
    if std::iter::once(&config.command).chain(&config.args).any(|text| text.contains('\0')) {
        problem("args", "a program takes no NUL characters", "remove them".to_owned());
    }
    let timeout = config.timeout_ms.unwrap_or(default_ms);
    if !TIMEOUT_MS.contains(&timeout) {
        let fix = format!("{} to {}", TIMEOUT_MS.start(), TIMEOUT_MS.end());
        problem("timeout_ms", "out of range", fix);
    }
    let inherited = |name: &str| Some((name.to_owned(), SecretString::from(env(name)?)));
    let mut variables: BTreeMap<_, _> = INHERITED.into_iter().filter_map(inherited).collect();
    variables.extend(profile.map(|profile| ("AWS_PROFILE".to_owned(), SecretString::from(profile))));
    Program {
        command: config.command.clone(),
        args: config.args.clone(),
        cwd: None,
        env: variables,
        timeout: Duration::from_millis(timeout),
    }
}
