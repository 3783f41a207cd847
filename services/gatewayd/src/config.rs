//! The gateway's configuration file: the tables of the crates that it is made of, side by side. How it is read and checked
//! stands in `load`.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use gateway_providers::{AliasConfig, BedrockModelConfig, ProviderConfig, ServiceTierConfig};
use gateway_server::ServerConfig;
use schemars::JsonSchema;
use serde::Deserialize;
use service_runtime::{
    drain::DrainConfig,
    guard::GuardConfig,
    listen::{Address, TlsConfig},
    log::LogConfig,
    serve::ServeConfig,
    telemetry::TelemetryConfig,
};
use tidegate_callers::{AuthenticationConfig, CallerConfig};

/// Where the gateway listens if nothing else is said.
const DEFAULT_PORT: u16 = 4100;

/// The configuration of gatewayd. Every key has a default: without a file the gateway listens on 127.0.0.1:4100 and serves
/// OpenAI if `OPENAI_API_KEY` is set, and the scripted `rehearsal` model otherwise. Relative paths start at the file's directory.
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
    /// Which credentials of callers are known.
    pub authentication: AuthenticationConfig,
    /// Whom a caller's credential stands for. The first row that fits is used.
    pub callers: Vec<CallerConfig>,
    /// The file with the rules of what callers may call.
    pub policy_file: Option<PathBuf>,
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

impl GatewaydConfig {
    /// Its paths, to let relative ones start at the file's directory. `[authentication]` lets its own start there.
    pub(crate) fn paths_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let sockets = self.listen.iter_mut().filter_map(Address::path_mut);
        let of_tls = self.tls.iter_mut().flat_map(TlsConfig::paths_mut);
        let of_providers = self.model_providers.values_mut().flat_map(ProviderConfig::paths_mut);
        sockets.chain(of_tls).chain(of_providers).chain(&mut self.policy_file)
    }
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
            authentication: AuthenticationConfig::default(),
            callers: Vec::new(),
            policy_file: None,
            limits: ServerConfig::default(),
            connections: ServeConfig::default(),
            guard: GuardConfig::default(),
            drain: DrainConfig::default(),
            log: LogConfig::default(),
            telemetry: TelemetryConfig::default(),
        }
    }
}
