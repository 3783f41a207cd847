//! The agent's configuration file, and the checked values that the parts are made of.

mod context;
mod users;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use agent_server::Configuration;
use agent_session::{Access, ClientCertificate, TenantLimits};
use context::ContextConfig;
use schemars::JsonSchema;
use serde::Deserialize;
use service_runtime::Drain;
use service_runtime::config::{Error, Problem, Service, Source};
use service_runtime::drain::DrainConfig;
use service_runtime::listen::{Address, Tls, TlsConfig};
use service_runtime::log::LogConfig;
use service_runtime::serve::{Limits, ServeConfig};
use service_runtime::telemetry::TelemetryConfig;
use tidegate_callers::{AuthenticationConfig, CallerConfig, Callers, CallersConfig, Host, WebSocketAuth};
use users::Users;
use users::{DefaultsConfig, RequirementsConfig, TenantConfig};

/// The configuration of agentd. Every key has a default: without a file the agent finds its gateway and keeps its
/// threads under the data directory, which is `TIDEGATE_HOME` or `~/.tidegate`. Relative paths start at the file's directory.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AgentdConfig {
    /// Where the gateway is: `https://HOST:PORT`, `http://HOST:PORT`, `IP:PORT` or `unix:PATH`; `TIDEGATE_GATEWAY` is used
    /// when this is not set, and then `run/gateway.sock` in the data directory.
    pub gateway: Option<String>,
    /// What the agent shows to the gateway, and whom it trusts to be the gateway.
    pub gateway_access: AccessConfig,
    /// Where `/livez`, `/readyz` and `/metrics` are served besides the listener, for probes from other machines. Nothing
    /// else is served there, and nobody has to show who they are.
    pub health_listen: Option<Address>,
    /// The file that threads are kept in; `agent/threads.sqlite` in the data directory otherwise.
    pub store: Option<PathBuf>,
    /// Which credentials of clients are known.
    pub authentication: AuthenticationConfig,
    /// Whom a client's credential stands for. The first row that fits is used; the issuer `ws-auth` is whoever the flags of
    /// that name let in.
    pub callers: Vec<CallerConfig>,
    /// What threads begin with where their client does not say. `TIDEGATE_DEFAULTS_<KEY>` in the environment, what users
    /// choose for themselves, and `-c` on the command line win over it, in this order.
    pub defaults: DefaultsConfig,
    /// What no default, no choice and no request may go beyond.
    pub requirements: RequirementsConfig,
    /// What the model is told beside the conversation.
    pub context: ContextConfig,
    /// What holds for single tenants, by name.
    pub tenants: BTreeMap<String, TenantConfig>,
    /// Limits of sessions.
    pub limits: LimitsConfig,
    /// TLS for a `ws://` listener, which clients then reach as `wss://`; unix sockets stay plain.
    pub tls: Option<TlsConfig>,
    /// Limits of connections.
    pub connections: ServeConfig,
    /// How the process stops.
    pub drain: DrainConfig,
    /// What is logged.
    pub log: LogConfig,
    /// What is exported to an OpenTelemetry collector.
    pub telemetry: TelemetryConfig,
}

impl AgentdConfig {
    /// Its paths, to let relative ones start at the file's directory. `[authentication]` lets its own start there.
    fn paths_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let AccessConfig { token_file, ca_file, client_certificate_file, client_key_file } =
            &mut self.gateway_access;
        let of_access = [token_file, ca_file, client_certificate_file, client_key_file];
        let socket = self.health_listen.iter_mut().filter_map(Address::path_mut);
        let of_tls = self.tls.iter_mut().flat_map(TlsConfig::paths_mut);
        of_access.into_iter().flatten().chain(&mut self.store).chain(socket).chain(of_tls)
    }
}

/// What the agent shows to the gateway, and whom it trusts to be the gateway.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AccessConfig {
    /// A file with a key or token of the gateway's; read again when it changes, as mounted service-account tokens do.
    pub token_file: Option<PathBuf>,
    /// A PEM file with the certificate authorities of an `https://` gateway, instead of the machine's.
    pub ca_file: Option<PathBuf>,
    /// A PEM file with the certificate that the agent shows to an `https://` gateway. Read once.
    pub client_certificate_file: Option<PathBuf>,
    /// The PEM file with that certificate's key. Read once.
    pub client_key_file: Option<PathBuf>,
}

/// Limits of sessions, as configured.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// How many threads may be in memory at once, of all tenants.
    pub loaded_threads_max: usize,
    /// How many of them may be one tenant's.
    pub tenant_loaded_threads_max: usize,
    /// How many turns may run at once, per tenant.
    pub running_turns_max: usize,
    /// How many connections and gRPC subscriptions a tenant may have.
    pub tenant_connections_max: usize,
    /// The largest user message, in bytes of text and image data.
    pub message_bytes_max: usize,
    /// How many times one turn may call the model.
    pub model_calls_max: u32,
    /// After this time a thread without turn or subscriber leaves memory, in milliseconds.
    pub idle_unload_after_ms: u64,
    /// A model that says nothing for this long counts as broken, in milliseconds.
    pub stream_idle_timeout_ms: u64,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            loaded_threads_max: 10_000,
            tenant_loaded_threads_max: 5_000,
            running_turns_max: 256,
            tenant_connections_max: 1_000,
            message_bytes_max: 15 << 20,
            model_calls_max: 500,
            idle_unload_after_ms: 30 * 60 * 1_000,
            stream_idle_timeout_ms: 300_000,
        }
    }
}

/// A configuration that was checked as a whole.
#[derive(Debug)]
pub(crate) struct Checked {
    /// Where the gateway is, if the file says.
    pub(crate) gateway: Option<String>,
    pub(crate) access: Access,
    pub(crate) health_listen: Option<Address>,
    /// Where threads are kept, if the file says.
    pub(crate) store: Option<PathBuf>,
    pub(crate) callers: Callers,
    pub(crate) configuration: Configuration,
    pub(crate) tenant_connections_max: usize,
    pub(crate) sessions: agent_session::Options,
    pub(crate) tls: Option<Tls>,
    pub(crate) limits: Limits,
    pub(crate) drain: Drain,
    pub(crate) grace: Duration,
    pub(crate) log: LogConfig,
    pub(crate) telemetry: TelemetryConfig,
}

/// Reads and checks a configuration; `None` means the defaults. `ws_auth` is what the command line says of callers.
pub(crate) fn load(file: Option<&Path>, ws_auth: Option<&WebSocketAuth>) -> Result<Checked, Error> {
    let source = match file {
        Some(file) => Source::read(file)?,
        None => Source::from_text("the built-in configuration", ""),
    };
    source.is_of(Service::Agent)?;
    let environment = |name: &str| std::env::var(name).ok();
    let surroundings = Surroundings { ws_auth, directory: source.directory(), environment: &environment };
    let mut checked = source.parse_checked(|mut config: AgentdConfig| {
        source.resolve(config.paths_mut());
        check(config, &surroundings)
    })?;
    checked.configuration.file = file.and_then(|file| std::path::absolute(file).ok());
    Ok(checked)
}

/// What the agent with this configuration file shows to the gateway that it is started beside; nothing if it goes to
/// another one.
pub fn shown_beside(file: &Path) -> Result<Option<AccessConfig>, Error> {
    let source = Source::read(file)?;
    let mut config: AgentdConfig = source.parse()?;
    source.resolve(config.paths_mut());
    Ok(config.gateway.is_none().then_some(config.gateway_access))
}

/// What a file does not say by itself.
struct Surroundings<'a> {
    /// What the command line says of callers.
    ws_auth: Option<&'a WebSocketAuth>,
    /// Where relative paths start.
    directory: &'a Path,
    environment: &'a dyn Fn(&str) -> Option<String>,
}

/// A gateway's address as the client of the contract takes it. A relative path starts at this directory.
pub(crate) fn gateway_uri(text: &str, directory: &Path) -> Option<String> {
    if text.starts_with("http://") || text.starts_with("https://") {
        return Some(text.to_owned());
    }
    match text.parse().ok()? {
        Address::Tcp(at) => Some(format!("http://{at}")),
        Address::Unix(path) => {
            Some(format!("unix:{}", std::path::absolute(directory.join(path)).ok()?.to_str()?))
        }
    }
}

/// Checks everything and tells every problem at once.
fn check(config: AgentdConfig, surroundings: &Surroundings<'_>) -> Result<Checked, Vec<Problem>> {
    let mut problems = Vec::new();
    let tables = CallersConfig { authentication: config.authentication, callers: config.callers };
    let callers = keep(callers(&tables, surroundings), &mut problems);
    let gateway = config.gateway.map(|text| {
        gateway_uri(&text, surroundings.directory).unwrap_or_else(|| {
            problems.push(
                Problem::new("gateway", "is not an address")
                    .fix("write https://HOST:PORT, http://HOST:PORT, IP:PORT or unix:PATH"),
            );
            String::new()
        })
    });
    let access = access(&config.gateway_access, &mut problems);
    let mut sessions = sessions(&config.limits, &mut problems);
    let desk = callers.as_ref().is_some_and(|callers| !callers.knows_credentials());
    config.context.build(desk, &mut sessions, &mut problems);
    let users =
        Users { defaults: &config.defaults, requirements: &config.requirements, tenants: &config.tenants };
    let configuration = users.build(surroundings.environment, &mut problems);
    sessions.tenants = users::limits(&config.tenants, sessions.tenant, &mut problems);
    let tls = config.tls.and_then(|tls| keep(tls.build("tls"), &mut problems));
    let limits = keep(config.connections.build("connections"), &mut problems);
    keep(config.telemetry.check("telemetry"), &mut problems);
    let grace = Duration::from_millis(config.drain.grace_ms);
    let drain = keep(config.drain.build("drain"), &mut problems);
    match (limits, drain, callers) {
        (Some(limits), Some(drain), Some(callers)) if problems.is_empty() => Ok(Checked {
            callers,
            gateway,
            access,
            health_listen: config.health_listen,
            store: config.store,
            configuration,
            tenant_connections_max: config.limits.tenant_connections_max,
            sessions,
            tls,
            limits,
            drain,
            grace,
            log: config.log,
            telemetry: config.telemetry,
        }),
        _ => Err(problems),
    }
}

fn keep<T>(result: Result<T, Vec<Problem>>, problems: &mut Vec<Problem>) -> Option<T> {
    result.map_err(|found| problems.extend(found)).ok()
}

fn callers(tables: &CallersConfig, surroundings: &Surroundings<'_>) -> Result<Callers, Vec<Problem>> {
    let &Surroundings { ws_auth, directory, environment } = surroundings;
    let host = Host { directory, environment, clock: SystemTime::now };
    let problem =
        |problem: tidegate_callers::Problem| Problem::new(problem.key, problem.message).fix(problem.fix);
    Callers::build_with(ws_auth, tables, &host).map_err(|found| found.into_iter().map(problem).collect())
}

/// Reads the files that are read once. The token's is read with the first call: it may be mounted later.
fn access(config: &AccessConfig, problems: &mut Vec<Problem>) -> Access {
    let mut read = |key: &str, path: &Path| match std::fs::read_to_string(path) {
        Ok(text) if text.contains("-----BEGIN ") => Some(text),
        Ok(_) => {
            let message = format!("is {}, which holds no PEM text", path.display());
            problems.push(Problem::new(format!("gateway_access.{key}"), message));
            None
        }
        Err(error) => {
            let message = format!("is {}, which cannot be read: {error}", path.display());
            problems.push(Problem::new(format!("gateway_access.{key}"), message));
            None
        }
    };
    let authorities = config.ca_file.as_deref().and_then(|path| read("ca_file", path));
    let pair = match (&config.client_certificate_file, &config.client_key_file) {
        (Some(chain), Some(key)) => read("client_certificate_file", chain).zip(read("client_key_file", key)),
        (None, None) => None,
        (chain, _) => {
            let (there, missing) = match chain {
                Some(_) => ("client_certificate_file", "client_key_file"),
                None => ("client_key_file", "client_certificate_file"),
            };
            let message = format!("is there without {missing}");
            problems
                .push(Problem::new(format!("gateway_access.{there}"), message).fix(format!("add {missing}")));
            None
        }
    };
    Access {
        token_file: config.token_file.clone(),
        authorities: authorities.map(String::into_bytes),
        certificate: pair.map(|(chain, key)| ClientCertificate { chain: chain.into(), key: key.into() }),
    }
}

/// The options of sessions, as far as a file says them.
fn sessions(limits: &LimitsConfig, problems: &mut Vec<Problem>) -> agent_session::Options {
    const DAY_MS: u64 = 86_400_000;
    let wide = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
    let rows = [
        ("loaded_threads_max", wide(limits.loaded_threads_max), 1..=1_000_000),
        ("tenant_loaded_threads_max", wide(limits.tenant_loaded_threads_max), 1..=1_000_000),
        ("running_turns_max", wide(limits.running_turns_max), 1..=100_000),
        ("tenant_connections_max", wide(limits.tenant_connections_max), 1..=1_000_000),
        ("message_bytes_max", wide(limits.message_bytes_max), 1_024..=(15 << 20)),
        ("model_calls_max", limits.model_calls_max.into(), 1..=100_000),
        ("idle_unload_after_ms", limits.idle_unload_after_ms, 1_000..=DAY_MS),
        ("stream_idle_timeout_ms", limits.stream_idle_timeout_ms, 1_000..=DAY_MS),
    ];
    for (name, value, range) in rows {
        if !range.contains(&value) {
            let message = format!("is {value}, outside {} to {}", range.start(), range.end());
            problems.push(Problem::new(format!("limits.{name}"), message));
        }
    }
    agent_session::Options {
        loaded_threads_max: limits.loaded_threads_max,
        tenant: TenantLimits {
            loaded_threads_max: limits.tenant_loaded_threads_max,
            running_turns_max: limits.running_turns_max,
        },
        message_bytes_max: limits.message_bytes_max,
        model_calls_max: limits.model_calls_max,
        idle_unload_after: Duration::from_millis(limits.idle_unload_after_ms),
        stream_idle_timeout: Duration::from_millis(limits.stream_idle_timeout_ms),
        ..agent_session::Options::default()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{AgentdConfig, Source, Surroundings, check, gateway_uri, load};

    fn alone() -> Surroundings<'static> {
        let environment = &|name: &str| (name == "TIDEGATE_DEFAULTS_MODEL").then(|| "x".to_owned());
        Surroundings { ws_auth: None, directory: Path::new(""), environment }
    }

    fn problems(text: &str) -> String {
        let source = Source::from_text("agent.toml", text);
        let result = source.parse_checked(|config| check(config, &alone()));
        result.err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn the_defaults_are_good() {
        assert_eq!(problems(""), "");
    }

    #[test]
    fn all_problems_are_told_at_once_with_their_lines() {
        let text = problems(
            "gateway = \"ftp://x\"\n[limits]\nrunning_turns_max = 0\n[drain]\ngrace_ms = 99999999999\n",
        );
        for expected in ["agent.toml:1:", "`gateway` is not an address", "agent.toml:3:", "agent.toml:5:"] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
        let text = problems("[limits]\nrunning_turn_max = 1\n");
        assert!(text.contains("agent.toml:2:") && text.contains("`running_turns_max`"), "{text}");
    }

    #[test]
    fn what_users_are_given_and_kept_within_is_checked() {
        let text = problems(
            "[defaults]\nsandbox_mode = \"all\"\n[requirements]\nallowed_approval_policies = []\n\
             [tenants.\"a b\"]\n[tenants.acme.requirements]\nallowed_sandbox_modes = [\"some\"]\n\
             [tenants.acme.limits]\nrunning_turns_max = 0\n",
        );
        for expected in [
            "agent.toml:2:",
            "`workspace-write`",
            "agent.toml:4:",
            "allows nothing",
            "cannot be a tenant's name",
            "agent.toml:7:26: `tenants.acme.requirements.allowed_sandbox_modes[0]` is \"some\", which there is not; the value \
             of `sandbox_mode` must be one of `read-only`,",
            "agent.toml:9:",
        ] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
        let text = problems(
            "[requirements]\nallowed_sandbox_modes = [\"read-only\"]\n\
             [tenants.acme.requirements]\nallowed_sandbox_modes = [\"workspace-write\"]\n",
        );
        assert!(text.contains("agent.toml:3:") && text.contains("leaves nothing"), "{text}");
        let good = "[tenants.acme]\ndefaults = { model = \"a\" }\nlimits = { connections_max = 5 }\n";
        assert_eq!(problems(good), "");
    }

    #[test]
    fn half_of_a_certificate_and_files_that_are_none_are_told() {
        let text = problems("[gateway_access]\nclient_key_file = \"k.pem\"\nca_file = \"Cargo.toml\"\n");
        for expected in ["agent.toml:2:", "add client_certificate_file", "agent.toml:3:", "holds no PEM text"]
        {
            assert!(text.contains(expected), "{expected} in {text}");
        }
    }

    #[test]
    fn relative_paths_start_at_the_file_s_directory() {
        let text = "health_listen = \"unix:h\"\nstore = \"s\"\n[tls]\ncertificate_file = \"c\"\nkey_file = \"k\"\n\
             [gateway_access]\ntoken_file = \"t\"\nca_file = \"/a\"\nclient_certificate_file = \"d\"\nclient_key_file = \"e\"\n";
        let source = Source::from_text("/etc/tidegate/agent.toml", text);
        let mut config: AgentdConfig = source.parse().unwrap();
        source.resolve(config.paths_mut());
        let paths: Vec<_> = config.paths_mut().map(|path| path.display().to_string()).collect();
        let told: Vec<_> =
            paths.iter().map(|path| path.strip_prefix("/etc/tidegate/").unwrap_or(path)).collect();
        assert_eq!(told, ["t", "/a", "d", "e", "s", "h", "c", "k"]);
    }

    #[test]
    fn unknown_keys_and_wrong_values_are_told_in_one_go() {
        let text =
            problems("stor = \"x\"\n[telemetry]\nsample_ratio = 3.0\n[limits]\nrunning_turns_max = 0\n");
        for expected in [
            "agent.toml:1:1: unknown key `stor`",
            "agent.toml:3:1: `telemetry.sample_ratio` must",
            "agent.toml:5:",
        ] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
    }

    #[test]
    fn the_gateway_s_file_is_known() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("gateway.toml");
        std::fs::write(&file, "listen = []\n[model_providers.x]\n").unwrap();
        let told = load(Some(&file), None).unwrap_err().to_string();
        assert!(told.contains("gateway.toml:1:1: `listen` shows that this is the gateway's file"), "{told}");
        assert!(
            told.contains("run this one with `gatewayd --config ") && told.ends_with("gateway.toml`"),
            "{told}"
        );
    }

    #[test]
    fn gateways_are_named_in_four_ways() {
        let uri = |text| gateway_uri(text, Path::new("/etc/tidegate"));
        assert_eq!(uri("unix:run/g.sock").as_deref(), Some("unix:/etc/tidegate/run/g.sock"));
        assert_eq!(uri("https://gateway:4100").as_deref(), Some("https://gateway:4100"));
        assert_eq!(uri("127.0.0.1:4100").as_deref(), Some("http://127.0.0.1:4100"));
        assert_eq!(uri("http://gateway:4100").as_deref(), Some("http://gateway:4100"));
        assert_eq!(uri("unix:/run/g.sock").as_deref(), Some("unix:/run/g.sock"));
        assert_eq!(uri("gateway"), None);
    }

    #[test]
    fn the_committed_schema_is_the_code_s() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/config/agentd.schema.json");
        service_runtime::config::check_committed::<AgentdConfig>(&file).unwrap();
    }
}
