//! The desk's command line.

use std::{
    cmp::Ordering,
    collections::BTreeSet,
    ffi::OsString,
    io::IsTerminal as _,
    net::SocketAddr,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::SystemTime,
};

use agentd::AgentdConfig;
use clap::{Parser, Subcommand, ValueEnum};
use gateway_policy::PolicyConfig;
use gatewayd::GatewaydConfig;
use service_runtime::{Exit, block_on, cli::report, config};

use crate::{ask, child::follow_parent, home::Home, keys, output, policy, trace, up};

/// Tidegate on a desk: the model gateway and the agent service for Codex.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start gateway and agent as two processes and say what to paste where. Ctrl-C stops both.
    Up {
        /// Where sockets and threads are kept; TIDEGATE_HOME or ~/.tidegate otherwise. A gateway.toml and an agent.toml
        /// there are used.
        #[arg(long, value_name = "DIR")]
        data_dir: Option<PathBuf>,
        /// Where the gateway listens.
        #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:4100")]
        gateway: SocketAddr,
        /// Where the agent listens.
        #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:4500")]
        agent: SocketAddr,
    },
    /// Run one prompt through both services and stream the answer. Uses the desk that is up, or starts one for this prompt.
    /// An agent that asks who calls is shown the key in TIDEGATE_KEY.
    Ask {
        /// The prompt.
        prompt: String,
        /// The model; the default one otherwise.
        #[arg(long, short)]
        model: Option<String>,
        /// The data directory of the desk.
        #[arg(long, value_name = "DIR")]
        data_dir: Option<PathBuf>,
    },
    /// Show what a thread did and what it cost: its turns, their model calls with times and tokens, and totals. An agent that
    /// asks who calls is shown the key in TIDEGATE_KEY.
    Trace {
        /// The thread's id.
        thread: String,
        /// The data directory of the desk that is up.
        #[arg(long, value_name = "DIR")]
        data_dir: Option<PathBuf>,
        /// Print one JSON document instead of a tree.
        #[arg(long)]
        json: bool,
    },
    /// Check a configuration file as a whole and say everything that is wrong with it. The policy that a gateway's file
    /// names is checked with it.
    Check {
        /// The configuration file. Its keys tell whose it is; where they fit several, a file of the name agent.toml is the
        /// agent's, one with nothing but rules a policy, and any other the gateway's.
        file: PathBuf,
        /// What the file is, whatever its keys and name say.
        #[arg(long = "as", value_name = "KIND")]
        kind: Option<Kind>,
    },
    /// Try the gateway's providers: each credential and address, with requests that are refused before they cost anything.
    Doctor {
        /// The gateway's configuration file; the one that `up` uses otherwise.
        file: Option<PathBuf>,
        /// The data directory that `up` uses.
        #[arg(long, value_name = "DIR")]
        data_dir: Option<PathBuf>,
        /// A provider to try; all of them otherwise. Repeatable.
        #[arg(long, value_name = "ID")]
        provider: Vec<OsString>,
        /// Print one JSON document instead of lines.
        #[arg(long)]
        json: bool,
    },
    /// Make, show and take back the keys of callers.
    Keys {
        #[command(subcommand)]
        command: keys::Command,
    },
    /// Ask the gateway's policy what it says to a call.
    Policy {
        #[command(subcommand)]
        command: policy::Command,
    },
    /// Print the JSON schema of a service's configuration file, or of a policy file.
    Schema {
        /// Which file.
        kind: Kind,
    },
    /// Run the gateway alone; `tidegate gatewayd --help` says how.
    #[command(disable_help_flag = true)]
    Gatewayd {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Run the agent alone; `tidegate agentd --help` says how.
    #[command(disable_help_flag = true)]
    Agentd {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
}

/// What a configuration file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Gateway,
    Agent,
    Policy,
}

/// Does what the command line asks for.
#[must_use]
pub fn main_with(args: Vec<OsString>) -> Exit {
    // Codex's SDKs start `PROGRAM [--config k=v]… app-server …`; this program can be that one.
    if is_app_server(&args) {
        if let Some(socket) = missing_desk(&args) {
            output::note(&format!(
                "no desk is up: nobody listens on {}, so no model answers until `tidegate up` runs",
                socket.display()
            ));
        }
        return agentd::main_with(agentd::Args::parse_from(args));
    }
    match Args::parse_from(args).command {
        Command::Up { data_dir, gateway, agent } => block_on(up::up(up::Wish { data_dir, gateway, agent })),
        Command::Ask { prompt, model, data_dir } => block_on(ask::ask(ask::Wish { data_dir, model, prompt })),
        Command::Trace { thread, data_dir, json } => {
            block_on(trace::trace(trace::Wish { data_dir, thread, json }))
        }
        Command::Check { file, kind } => check(file, kind),
        Command::Doctor { file, data_dir, provider, json } => match gateway_file(file, data_dir) {
            Ok(file) => doctor(file, provider, json),
            Err(error) => report(&error),
        },
        Command::Keys { command } => match keys::run(command, SystemTime::now()) {
            Ok(said) => keys(&said),
            Err(error) => report(&error),
        },
        Command::Policy { command } => policy::run(command),
        Command::Schema { kind } => schema(kind),
        Command::Gatewayd { args } => {
            owned(|| gatewayd::main_with(gatewayd::Args::parse_from(named("gatewayd", args))))
        }
        Command::Agentd { args } => {
            owned(|| agentd::main_with(agentd::Args::parse_from(named("agentd", args))))
        }
    }
}

fn owned(run: impl FnOnce() -> Exit) -> Exit {
    match follow_parent() {
        Ok(()) => run(),
        Err(error) => report(&error),
    }
}

fn named(name: &str, args: Vec<OsString>) -> impl Iterator<Item = OsString> {
    std::iter::once(name.into()).chain(args)
}

/// Whether the first word after Codex's options is `app-server`.
fn is_app_server(args: &[OsString]) -> bool {
    let mut rest = args.iter().skip(1).filter_map(|arg| arg.to_str());
    while let Some(arg) = rest.next() {
        match arg {
            "-c" | "--config" | "--enable" | "--disable" => {
                let _ = rest.next();
            }
            "app-server" => return true,
            option if option.starts_with('-') => {}
            _ => return false,
        }
    }
    false
}

/// The socket of the desk's gateway, if it is the one that this app-server goes to and nobody is there.
fn missing_desk(args: &[OsString]) -> Option<PathBuf> {
    let elsewhere = std::env::var_os("TIDEGATE_GATEWAY").is_some_and(|gateway| !gateway.is_empty());
    // A file may name another gateway; the agent's own log tells of that one.
    let configured = args.iter().any(|arg| arg.to_string_lossy().starts_with("--service-config"));
    let socket = Home::find(None).ok()?.gateway_socket();
    (!elsewhere && !configured && UnixStream::connect(&socket).is_err()).then_some(socket)
}

fn check(file: PathBuf, kind: Option<Kind>) -> Exit {
    let kind = kind.unwrap_or_else(|| guess(&file));
    let words = [OsString::from(""), "check".into(), file.into_os_string()];
    let as_policy = || words.iter().cloned().chain(["--as".into(), "policy".into()]);
    match kind {
        Kind::Gateway => gatewayd::main_with(gatewayd::Args::parse_from(words)),
        Kind::Agent => agentd::main_with(agentd::Args::parse_from(words)),
        Kind::Policy => gatewayd::main_with(gatewayd::Args::parse_from(as_policy())),
    }
}

/// The gateway's configuration file that is meant; none if there is none.
fn gateway_file(file: Option<PathBuf>, data_dir: Option<PathBuf>) -> anyhow::Result<Option<PathBuf>> {
    match file {
        Some(file) => Ok(Some(file)),
        None => Ok(Home::find(data_dir)?.gateway_config()),
    }
}

fn doctor(file: Option<PathBuf>, providers: Vec<OsString>, json: bool) -> Exit {
    let mut words = vec![OsString::from(""), "doctor".into()];
    words.extend(json.then(|| "--json".into()));
    if let Some(file) = file {
        words.extend(["--config".into(), file.into_os_string()]);
    }
    words.push("--".into());
    words.extend(providers);
    gatewayd::main_with(gatewayd::Args::parse_from(words))
}

/// The answer goes to standard output alone, so that a script can take a key from there; a person at a terminal is told more.
fn keys(said: &keys::Said) -> Exit {
    if !said.note.is_empty() && std::io::stdout().is_terminal() {
        output::note(&said.note);
    }
    match output::write(&said.answer) {
        Ok(()) => Exit::Ok,
        Err(error) => report(&error.into()),
    }
}

fn guess(file: &Path) -> Kind {
    // What cannot be read is told by whoever checks it.
    kind_of(file, &std::fs::read_to_string(file).unwrap_or_default())
}

/// What a file is by the keys that not everybody knows, and by its name where they do not tell.
fn kind_of(file: &Path, text: &str) -> Kind {
    let table: toml::Table = text.parse().unwrap_or_default();
    let [gateway, agent, policy] =
        [config::keys::<GatewaydConfig>(), config::keys::<AgentdConfig>(), config::keys::<PolicyConfig>()];
    let count = |known: &BTreeSet<String>, others: &BTreeSet<String>| {
        table.keys().filter(|key| known.contains(*key) && !others.contains(*key)).count()
    };
    let is_policy = !table.is_empty() && table.keys().all(|key| policy.contains(key));
    let named_agent = file.file_name().is_some_and(|name| name == "agent.toml");
    if is_policy && (count(&policy, &agent) > 0 || !named_agent) {
        return Kind::Policy;
    }
    match count(&agent, &gateway).cmp(&count(&gateway, &agent)) {
        Ordering::Greater => Kind::Agent,
        Ordering::Equal if named_agent => Kind::Agent,
        Ordering::Equal | Ordering::Less => Kind::Gateway,
    }
}

fn schema(kind: Kind) -> Exit {
    match kind {
        Kind::Gateway => gatewayd::main_with(gatewayd::Args::parse_from(["", "schema"])),
        Kind::Agent => agentd::main_with(agentd::Args::parse_from(["", "schema"])),
        Kind::Policy => gatewayd::main_with(gatewayd::Args::parse_from(["", "schema", "policy"])),
    }
}

#[cfg(test)]
mod tests {
    use agentd::AgentdConfig;
    use gatewayd::GatewaydConfig;
    use service_runtime::config::{self, AGENT_KEYS, GATEWAY_KEYS};

    use super::{Kind, is_app_server, kind_of};

    #[test]
    fn the_services_know_each_other_s_files_by_all_their_own_keys() {
        let [gateway, agent] = [config::keys::<GatewaydConfig>(), config::keys::<AgentdConfig>()];
        assert_eq!(gateway.difference(&agent).collect::<Vec<_>>(), GATEWAY_KEYS.iter().collect::<Vec<_>>());
        assert_eq!(agent.difference(&gateway).collect::<Vec<_>>(), AGENT_KEYS.iter().collect::<Vec<_>>());
    }

    fn check(line: &str, expected: bool) {
        let args: Vec<_> = line.split(' ').map(Into::into).collect();
        assert_eq!(is_app_server(&args), expected, "{line}");
    }

    #[test]
    fn a_file_is_known_by_its_keys_and_then_by_its_name() {
        for (name, text, kind) in [
            ("a.toml", "", Kind::Gateway),
            ("a.toml", "not toml at all", Kind::Gateway),
            ("a.toml", "[log]\n[authentication]", Kind::Gateway),
            ("a.toml", "model = \"m\"\n[default]\nlog_content = false", Kind::Gateway),
            ("a.toml", "gateway = \"127.0.0.1:1\"", Kind::Agent),
            ("a.toml", "[authentication]\n[requirements]\n[tenants.a]\n[context]", Kind::Agent),
            ("a.toml", "[authentication]\n[requirements]", Kind::Agent),
            ("a.toml", "[default]\nlog_content = false", Kind::Policy),
            ("a.toml", "[tenants.a]\n[requirements]", Kind::Policy),
            ("etc/agent.toml", "", Kind::Agent),
            ("etc/agent.toml", "not toml at all", Kind::Agent),
            ("etc/agent.toml", "[log]\n[authentication]", Kind::Agent),
            ("etc/agent.toml", "[tenants.a]\n[requirements]", Kind::Agent),
            ("etc/agent.toml", "[default]\n[requirements]", Kind::Policy),
            ("etc/agent.toml", "[[callers]]\n[model_providers]", Kind::Gateway),
            ("gateway.toml", "[[callers]]\n[store]", Kind::Agent),
        ] {
            assert_eq!(kind_of(name.as_ref(), text), kind, "{name}: {text}");
        }
    }

    #[test]
    fn codex_s_own_command_line_is_known() {
        check("tidegate app-server --listen stdio://", true);
        check("tidegate --config a=b -c c=d app-server", true);
        check("tidegate --strict-config app-server", true);
        check("tidegate ask app-server", false);
        check("tidegate up", false);
    }
}
