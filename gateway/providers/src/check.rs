//! Turns one provider's configuration into values that cannot be wrong.
//!
//! Finds every problem of a block, not only the first, and says for each what to write instead. Reads
//! environment variables through the function it is given; makes no connection.

mod address;
mod auth;
mod credential;
mod headers;
mod keys;
mod models;
mod network;

use std::collections::BTreeMap;
use std::time::Duration;

use http::header::HeaderMap;
use url::Url;

use crate::catalogue::Entry;
use crate::config::{ModelFacts, Problem, ProviderConfig, WireApi};
use crate::credential::CredentialSource;
use crate::openai;
use crate::transport::Network;

/// How often a call is repeated unless the configuration says otherwise.
const RETRIES_DEFAULT: u32 = 4;
/// The most that may be asked for.
const RETRIES_MAX: u32 = 100;
/// How often an agent begins a broken stream again unless the configuration says otherwise.
pub(crate) const STREAM_RETRIES_DEFAULT: u32 = 5;
/// How long a provider may be silent unless the configuration says otherwise.
const IDLE_DEFAULT_MS: u64 = 300_000;
/// The longest silence that may be asked for.
const IDLE_MAX_MS: u64 = 24 * 60 * 60 * 1000;
/// How long the handshake of a WebSocket may take unless the configuration says otherwise.
const WEBSOCKET_CONNECT_DEFAULT_MS: u64 = 15_000;
/// The longest handshake that may be asked for.
const WEBSOCKET_CONNECT_MAX_MS: u64 = 120_000;
/// The longest id of a provider or a model.
pub(crate) const NAME_MAX: usize = 256;

/// The environment, as a function.
pub(crate) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A checked provider.
pub(crate) struct Settings {
    pub(crate) display_name: String,
    pub(crate) base: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) credential: CredentialSource,
    pub(crate) retries_max: u32,
    pub(crate) idle: Duration,
    pub(crate) websockets: bool,
    pub(crate) websocket_connect: Duration,
    pub(crate) stream_retries_max: u32,
    pub(crate) network: Network,
    pub(crate) redact_workspaces: bool,
    pub(crate) trace_context: bool,
    pub(crate) models: Option<Vec<String>>,
    /// The models of a file.
    pub(crate) known: Vec<Entry>,
    pub(crate) facts: BTreeMap<String, ModelFacts>,
}

/// Checks a provider; none if there are problems, which are added to `problems`.
pub(crate) fn provider(
    id: &str,
    config: &ProviderConfig,
    env: Env<'_>,
    problems: &mut Vec<Problem>,
) -> Option<Settings> {
    let before = problems.len();
    let mut check = Check { id, config, env, problems };
    check.id();
    check.refused_keys();
    let base = check.base();
    let headers = check.headers();
    let credential = check.credential();
    let retries_max = check.retries("request_max_retries", config.request_max_retries, RETRIES_DEFAULT);
    let stream_retries_max =
        check.retries("stream_max_retries", config.stream_max_retries, STREAM_RETRIES_DEFAULT);
    let idle =
        check.millis("stream_idle_timeout_ms", config.stream_idle_timeout_ms, (IDLE_DEFAULT_MS, IDLE_MAX_MS));
    let connect = (WEBSOCKET_CONNECT_DEFAULT_MS, WEBSOCKET_CONNECT_MAX_MS);
    let websocket_connect =
        check.millis("websocket_connect_timeout_ms", config.websocket_connect_timeout_ms, connect);
    let network = check.network(base.as_ref());
    let known = check.models();
    if problems.len() > before {
        return None;
    }
    Some(Settings {
        display_name: config.name.clone().unwrap_or_else(|| id.to_owned()),
        base: base?,
        headers,
        credential: credential?,
        retries_max,
        idle,
        // What OpenAI itself is known to offer; anything else has to be told.
        websockets: config.supports_websockets.unwrap_or(id == openai::ID),
        websocket_connect,
        stream_retries_max,
        network: network?,
        redact_workspaces: config.redact_workspaces.unwrap_or(false),
        trace_context: config.trace_context.unwrap_or(true),
        models: config.models.clone(),
        known,
        facts: config.model_facts.clone(),
    })
}

/// Checks a table for a built-in provider that has nothing to be set.
pub(crate) fn empty_table(id: &str, config: &ProviderConfig, problems: &mut Vec<Problem>) {
    for key in config.keys() {
        problems.push(Problem {
            key: format!("model_providers.{id}.{key}"),
            message: format!("{id} is built in and has nothing to configure"),
            fix: "remove the key, or give the provider another id".to_owned(),
        });
    }
}

struct Check<'a> {
    id: &'a str,
    config: &'a ProviderConfig,
    env: Env<'a>,
    problems: &'a mut Vec<Problem>,
}

impl Check<'_> {
    fn problem(&mut self, key: &str, message: impl Into<String>, fix: impl Into<String>) {
        let key = match key {
            "" => format!("model_providers.{}", self.id),
            key => format!("model_providers.{}.{key}", self.id),
        };
        self.problems.push(Problem { key, message: message.into(), fix: fix.into() });
    }

    fn is_openai(&self) -> bool {
        self.id == openai::ID
    }

    fn id(&mut self) {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if self.id.is_empty() || self.id.len() > NAME_MAX || !self.id.bytes().all(plain) {
            self.problem("", "not a provider id", "use letters, digits, '-', '_' and '.'");
        }
    }

    fn refused_keys(&mut self) {
        let config = self.config;
        if config.wire_api == Some(WireApi::Chat) {
            let message = "only the Responses API is spoken; Chat Completions would lose what clients send";
            self.problem(
                "wire_api",
                message,
                "wire_api = \"responses\", with an endpoint that serves /responses",
            );
        }
        if config.aws.is_some() {
            let message = "only requests to Amazon Bedrock are signed with AWS credentials";
            self.problem("aws", message, "remove the table, or use the provider amazon-bedrock");
        }
        if self.is_openai() {
            for key in ["name", "requires_openai_auth"] {
                if config.keys().contains(&key) {
                    let fix = "remove the key, or give the provider another id";
                    self.problem(key, "openai is built in; this key cannot be changed", fix);
                }
            }
        }
    }

    fn retries(&mut self, key: &str, configured: Option<u32>, default: u32) -> u32 {
        let retries = configured.unwrap_or(default);
        if retries > RETRIES_MAX {
            self.problem(key, "too many", format!("at most {RETRIES_MAX}"));
        }
        retries
    }

    fn millis(&mut self, key: &str, configured: Option<u64>, (default, most): (u64, u64)) -> Duration {
        let millis = configured.unwrap_or(default);
        if millis == 0 || millis > most {
            self.problem(key, "out of range", format!("1 to {most}"));
        }
        Duration::from_millis(millis)
    }
}
