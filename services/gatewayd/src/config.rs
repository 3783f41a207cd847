//! The gateway's configuration file: the tables of the crates that it is made of, side by side.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

use gateway_providers::{
    AliasConfig, BedrockModelConfig, ProviderConfig, Providers, ProvidersConfig, ServiceTierConfig,
};
use gateway_server::ServerConfig;
use schemars::JsonSchema;
use serde::Deserialize;
use service_runtime::{
    Drain,
    config::{Error, Problem, Source},
    drain::DrainConfig,
    guard::{GuardConfig, Rules},
    listen::{Address, Tls, TlsConfig},
    log::LogConfig,
    serve::{Limits, ServeConfig},
    telemetry::TelemetryConfig,
};

/// Where the gateway listens if nothing else is said.
const DEFAULT_PORT: u16 = 4100;

/// The configuration of gatewayd. Every key has a default: without a file the gateway listens on 127.0.0.1:4100 and serves
/// OpenAI if `OPENAI_API_KEY` is set, and the scripted `rehearsal` model otherwise.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GatewaydConfig {
    /// Where to listen; gRPC and HTTP share each address.
    pub listen: Vec<Address>,
    /// TLS for every TCP listener; without it they are plain.
    pub tls: Option<TlsConfig>,
    /// The provider for models that no other provider lists.
    pub model_provider: Option<String>,
    /// The model that clients are told to start with.
    pub model: Option<String>,
    /// Providers by id, with the keys of Codex's own configuration.
    pub model_providers: BTreeMap<String, ProviderConfig>,
    /// Where OpenAI's API is, for the built-in provider `openai`; the same as `base_url` in its table.
    pub openai_base_url: Option<String>,
    /// Model names that clients use, and where their calls go.
    pub model_aliases: BTreeMap<String, AliasConfig>,
    /// Models of Amazon Bedrock that this version does not know, by their exact ids, or other facts for known ones.
    pub bedrock_models: BTreeMap<String, BedrockModelConfig>,
    /// Which service tier a request gets that names none.
    pub service_tier: ServiceTierConfig,
    /// Limits of calls.
    pub limits: ServerConfig,
    /// Limits of connections.
    pub connections: ServeConfig,
    /// Which web pages may call.
    pub guard: GuardConfig,
    /// How the process stops.
    pub drain: DrainConfig,
    /// What is logged.
    pub log: LogConfig,
    /// What is exported to an OpenTelemetry collector.
    pub telemetry: TelemetryConfig,
}

impl Default for GatewaydConfig {
    fn default() -> Self {
        Self {
            listen: vec![Address::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT)))],
            tls: None,
            model_provider: None,
            model: None,
            model_providers: BTreeMap::new(),
            openai_base_url: None,
            model_aliases: BTreeMap::new(),
            bedrock_models: BTreeMap::new(),
            service_tier: ServiceTierConfig::default(),
            limits: ServerConfig::default(),
            connections: ServeConfig::default(),
            guard: GuardConfig::default(),
            drain: DrainConfig::default(),
            log: LogConfig::default(),
            telemetry: TelemetryConfig::default(),
        }
    }
}

/// A configuration that was checked as a whole.
pub(crate) struct Checked {
    pub(crate) listeners: Vec<(Address, Rules)>,
    pub(crate) tls: Option<Tls>,
    pub(crate) providers: Providers,
    pub(crate) server: ServerConfig,
    pub(crate) limits: Limits,
    pub(crate) drain: Drain,
    pub(crate) log: LogConfig,
    pub(crate) telemetry: TelemetryConfig,
}

/// Reads and checks a configuration; `None` means the defaults. `listen` replaces the file's addresses unless empty.
pub(crate) fn load(file: Option<&Path>, listen: Vec<Address>) -> Result<Checked, Error> {
    let source = match file {
        Some(file) => Source::read(file)?,
        None => Source::from_text("the built-in configuration", ""),
    };
    let mut config: GatewaydConfig = source.parse()?;
    if !listen.is_empty() {
        config.listen = listen;
    }
    check(config, &|name| std::env::var(name).ok()).map_err(|problems| source.invalid(problems))
}

/// Checks everything and tells every problem at once.
fn check(
    config: GatewaydConfig,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Checked, Vec<Problem>> {
    let mut problems = Vec::new();
    if config.listen.is_empty() {
        problems.push(
            Problem::new("listen", "is empty").fix("name at least one address, such as 127.0.0.1:4100"),
        );
    }
    let mut listeners = Vec::new();
    for (index, address) in config.listen.into_iter().enumerate() {
        if !address.is_local() {
            problems.push(
                Problem::new(
                    format!("listen[{index}]"),
                    format!(
                        "is {address}, which other machines can reach, and callers are not authenticated"
                    ),
                )
                .fix("listen on a loopback address or a unix socket"),
            );
            continue;
        }
        if let Some(rules) = keep(config.guard.build(&address, "guard"), &mut problems) {
            listeners.push((address, rules));
        }
    }
    let tls = config.tls.and_then(|tls| keep(tls.build("tls"), &mut problems));
    let limits = keep(config.connections.build("connections"), &mut problems);
    let drain = keep(config.drain.build("drain"), &mut problems);
    let providers = ProvidersConfig {
        default_provider: config.model_provider,
        default_model: config.model,
        model_providers: config.model_providers,
        openai_base_url: config.openai_base_url,
        model_aliases: config.model_aliases,
        bedrock_models: config.bedrock_models,
        service_tier: config.service_tier,
    };
    let providers = Providers::build(&providers, environment)
        .map_err(|found| found.into_iter().map(problem_of_a_provider).collect());
    let providers = keep(providers, &mut problems);
    match (providers, limits, drain) {
        (Some(providers), Some(limits), Some(drain)) if problems.is_empty() => Ok(Checked {
            listeners,
            tls,
            providers,
            server: config.limits,
            limits,
            drain,
            log: config.log,
            telemetry: config.telemetry,
        }),
        _ => Err(problems),
    }
}

fn keep<T>(result: Result<T, Vec<Problem>>, problems: &mut Vec<Problem>) -> Option<T> {
    result.map_err(|found| problems.extend(found)).ok()
}

fn problem_of_a_provider(problem: gateway_providers::Problem) -> Problem {
    Problem::new(problem.key, problem.message).fix(problem.fix)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn problems(text: &str) -> String {
        let source = Source::from_text("gateway.toml", text);
        let result = source
            .parse::<GatewaydConfig>()
            .and_then(|config| check(config, &|_| None).map_err(|problems| source.invalid(problems)));
        result.err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn the_defaults_work_without_an_account() {
        assert_eq!(problems(""), "");
    }

    #[test]
    fn all_problems_are_told_at_once_with_their_lines() {
        let text = problems(
            "listen = [\"0.0.0.0:4100\"]\n\n[model_providers.corp]\nbase_url = \"ftp://x\"\n\n[drain]\ngrace_ms = 99999999999\n",
        );
        assert!(text.contains("gateway.toml:1:"), "{text}");
        assert!(text.contains("`listen[0]` is 0.0.0.0:4100"), "{text}");
        assert!(text.contains("gateway.toml:4:"), "{text}");
        assert!(text.contains("gateway.toml:7:"), "{text}");
    }

    #[test]
    fn an_unknown_key_names_its_neighbor() {
        let text = problems("[model_providers.corp]\nbase_ulr = \"http://127.0.0.1:1/v1\"\n");
        assert!(
            text.contains("gateway.toml:2:") && text.contains("base_ulr") && text.contains("`base_url`"),
            "{text}"
        );
    }

    #[test]
    fn the_committed_schema_is_the_code_s() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/config/gatewayd.schema.json");
        service_runtime::config::check_committed::<GatewaydConfig>(&file).unwrap();
    }
}
