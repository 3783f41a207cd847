//! The agent's command line: Codex's own `app-server` flags, and what is ours beside them.
//!
//! A flag that would change who may come in or what runs, and that cannot be honored yet, is refused with the reason.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};
use service_runtime::cli::{chain, report};
use service_runtime::config::schema;
use service_runtime::{Exit, Fault, block_on_half};

use crate::listen::Listen;
use crate::overrides::{self, Override};
use crate::ws_auth::WsAuth;
use crate::{AgentdConfig, config, run};

/// The agent: runs coding sessions for Codex clients and reaches models only through the gateway.
#[derive(Debug, Parser)]
#[command(name = "agentd", version)]
pub struct Args {
    #[command(flatten)]
    codex: CodexOptions,
    #[command(flatten)]
    own: OwnOptions,
    #[command(subcommand)]
    command: Command,
}

/// Options that Codex takes before and after the subcommand.
#[derive(Debug, clap::Args)]
struct CodexOptions {
    /// Override a configuration value, as Codex does; keys that mean nothing here are accepted. Repeatable.
    #[arg(short = 'c', long = "config", value_name = "key=value")]
    overrides: Vec<String>,
    /// The same as `-c features.<name>=true`. Repeatable.
    #[arg(long, value_name = "FEATURE")]
    enable: Vec<String>,
    /// The same as `-c features.<name>=false`. Repeatable.
    #[arg(long, value_name = "FEATURE")]
    disable: Vec<String>,
    /// Refuse overrides that mean nothing here.
    #[arg(long)]
    strict_config: bool,
}

/// Options of this service alone.
#[derive(Debug, clap::Args)]
struct OwnOptions {
    /// This service's own configuration file; without one every key has its default.
    #[arg(long, value_name = "FILE")]
    service_config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the Codex app-server protocol and the gRPC session API.
    AppServer(Box<AppServer>),
    /// Check a configuration file as a whole and say everything that is wrong with it.
    Check {
        /// The configuration file.
        file: PathBuf,
    },
    /// Print the JSON schema of the configuration file.
    Schema,
}

#[derive(Debug, clap::Args)]
struct AppServer {
    #[command(flatten)]
    codex: CodexOptions,
    #[command(flatten)]
    own: OwnOptions,
    /// Where to listen: `stdio://`, `ws://IP:PORT`, `wss://IP:PORT`, `unix://PATH`, `unix://` (a socket in the data directory)
    /// or `off`.
    #[arg(long, value_name = "URL", default_value = "stdio://", conflicts_with = "stdio")]
    listen: Listen,
    /// The same as `--listen stdio://`.
    #[arg(long)]
    stdio: bool,
    /// Accepted and without effect: this service has no analytics.
    #[arg(long)]
    analytics_default_enabled: bool,
    #[command(flatten)]
    ws_auth: WsAuth,
    #[command(flatten)]
    refused: Refused,
}

/// Flags of Codex's that cannot be honored yet.
#[derive(Debug, clap::Args)]
struct Refused {
    #[arg(long, hide = true)]
    startup_sign_out: bool,
    #[arg(long, hide = true)]
    print_startup_config: bool,
    #[arg(long, hide = true, value_name = "JSON")]
    startup_client_info: Option<String>,
    #[arg(long, hide = true, value_name = "PATH")]
    cloud_skills_snapshot: Option<String>,
    #[arg(long, hide = true, value_name = "URL")]
    code_mode_host: Option<String>,
}

impl Refused {
    /// Why the service does not start, if one of them is given.
    fn check(&self) -> Result<(), String> {
        const NO_ACCOUNT: &str = "credentials live in the gateway, and clients have no account here";
        const NO_CODE: &str = "there is no such host for model-written code here";
        let flags = [
            ("--startup-sign-out", self.startup_sign_out, NO_ACCOUNT),
            ("--startup-client-info", self.startup_client_info.is_some(), NO_ACCOUNT),
            ("--print-startup-config", self.print_startup_config, "use `check FILE` and `schema` instead"),
            ("--cloud-skills-snapshot", self.cloud_skills_snapshot.is_some(), "there are no skills here yet"),
            ("--code-mode-host", self.code_mode_host.is_some(), NO_CODE),
        ];
        match flags.iter().find(|(_, given, _)| *given) {
            Some((flag, _, reason)) => Err(format!("{flag} is not supported: {reason}")),
            None => Ok(()),
        }
    }
}

impl CodexOptions {
    fn into_overrides(self) -> Result<Vec<Override>, overrides::Error> {
        let on = self.enable.iter().map(|name| Ok(Override::feature(name, true)));
        let off = self.disable.iter().map(|name| Ok(Override::feature(name, false)));
        self.overrides.iter().map(|text| Override::parse(text)).chain(on).chain(off).collect()
    }
}

/// Does what the arguments ask for.
#[must_use]
pub fn main_with(args: Args) -> Exit {
    main_over(args, Ok)
}

/// The same over a thread store that is wrapped, for tests of what is left when the process ends at a certain moment.
#[must_use]
pub fn main_over(args: Args, wrap: run::Wrap) -> Exit {
    let Args { codex, own, command } = args;
    let done = match command {
        Command::AppServer(app_server) => match plan(codex, own, *app_server) {
            Ok(plan) => return block_on_half(run::run(plan, wrap)),
            Err(error) => Err(error),
        },
        Command::Check { file } => check(&file),
        Command::Schema => print(&schema::<AgentdConfig>()),
    };
    match done {
        Ok(()) => Exit::Ok,
        Err(error) => report(&error),
    }
}

/// What is to be run: everything that can be wrong with the command line and the file is found here.
fn plan(before: CodexOptions, own: OwnOptions, app_server: AppServer) -> anyhow::Result<run::Plan> {
    let AppServer { codex: after, own: own_after, listen, stdio, ws_auth, refused, .. } = app_server;
    refused.check().map_err(wrong_usage)?;
    let listen = if stdio { Listen::Stdio } else { listen };
    let ws_auth = ws_auth.build().map_err(|error| Fault { exit: error.exit(), message: chain(&error) })?;
    let strict = before.strict_config || after.strict_config;
    let file = own_after.service_config.or(own.service_config);
    let mut checked = config::load(file.as_deref(), ws_auth.as_ref())?;
    listen
        .check(checked.callers.knows_credentials(), checked.tls.is_some())
        .map_err(|error| Fault { exit: Exit::Config, message: error.to_string() })?;
    let mut overrides = before.into_overrides().map_err(wrong_override)?;
    overrides.extend(after.into_overrides().map_err(wrong_override)?);
    checked.configuration.of_flags = overrides::values(&overrides, strict).map_err(wrong_override)?;
    Ok(run::Plan { listen, checked })
}

fn wrong_override(error: overrides::Error) -> Fault {
    wrong_usage(chain(&error))
}

fn wrong_usage(message: String) -> Fault {
    Fault { exit: Exit::Usage, message }
}

fn check(file: &Path) -> anyhow::Result<()> {
    config::load(Some(file), None)?;
    print(&format!("{}: the configuration is good\n", file.display()))
}

fn print(text: &str) -> anyhow::Result<()> {
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use service_runtime::Exit;

    use super::{Args, Command, plan};
    use crate::listen::Listen;
    use crate::run::Plan;

    fn planned(line: &str) -> anyhow::Result<Plan> {
        let Args { codex, own, command } = Args::try_parse_from(line.split(' '))?;
        let Command::AppServer(app_server) = command else { panic!("{line}") };
        plan(codex, own, *app_server)
    }

    #[test]
    fn codex_s_own_command_lines_work() {
        for (line, listen) in [
            ("agentd app-server", Listen::Stdio),
            ("agentd app-server --stdio", Listen::Stdio),
            ("agentd --config model=x app-server --listen stdio://", Listen::Stdio),
            ("agentd -c a=b --enable f app-server --disable g -c model=x --listen off", Listen::Off),
            ("agentd app-server --analytics-default-enabled --listen unix://", Listen::Unix(None)),
        ] {
            assert_eq!(planned(line).unwrap().listen, listen, "{line}");
        }
        let both = planned("agentd -c model=a -c service_tier=b app-server -c model=c").unwrap();
        let flags = both.checked.configuration.of_flags;
        assert_eq!((&flags["model"], &flags["service_tier"]), (&"c".into(), &"b".into()));
    }

    #[test]
    fn what_cannot_be_honored_is_refused_with_the_reason() {
        for (line, expected) in [
            (
                "agentd app-server --ws-auth capability-token",
                "`--ws-token-file` or `--ws-token-sha256` is required",
            ),
            ("agentd app-server --ws-token-file /t", "websocket auth flags require `--ws-auth"),
            ("agentd app-server --listen wss://127.0.0.1:1", "[tls]"),
            ("agentd app-server --startup-sign-out", "--startup-sign-out is not supported"),
            (
                "agentd app-server --listen ws://0.0.0.0:1",
                "refusing to start non-loopback websocket listener",
            ),
            ("agentd app-server --stdio --listen off", "cannot be used with"),
            ("agentd --strict-config -c tui.x=1 app-server", "unknown configuration field `tui.x`"),
            ("agentd app-server -c model", "expected key=value"),
        ] {
            let error = format!("{:#}", planned(line).unwrap_err());
            assert!(error.contains(expected), "{line}: {error}");
        }
    }

    #[test]
    fn wrong_flags_are_a_wrong_command_line_and_wrong_files_a_wrong_configuration() {
        let secret = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(secret.path(), "short").unwrap();
        let short =
            format!("--ws-auth signed-bearer-token --ws-shared-secret-file {}", secret.path().display());
        for (flags, exit) in [
            ("--ws-auth capability-token", Exit::Usage),
            ("--ws-token-file /t", Exit::Usage),
            ("--ws-auth capability-token --ws-token-sha256 zz", Exit::Usage),
            ("--startup-sign-out", Exit::Usage),
            ("-c model", Exit::Usage),
            ("--strict-config -c tui.x=1", Exit::Usage),
            ("--ws-auth capability-token --ws-token-file /nonexistent", Exit::Config),
            (short.as_str(), Exit::Config),
        ] {
            let error = planned(&format!("agentd app-server {flags}")).unwrap_err();
            assert_eq!(Exit::of(&error), exit, "{flags}: {error:#}");
        }
    }

    #[test]
    fn a_listener_that_the_configuration_forbids_is_a_wrong_configuration() {
        for listen in ["ws://0.0.0.0:1", "wss://127.0.0.1:1"] {
            let error = planned(&format!("agentd app-server --listen {listen}")).unwrap_err();
            assert_eq!(Exit::of(&error), Exit::Config, "{error:#}");
        }
    }
}
