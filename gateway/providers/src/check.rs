//! Turns one provider's configuration into values that cannot be wrong.
//!
//! Finds every problem of a block, not only the first, and says for each what to write instead. Reads
//! environment variables through the function it is given; makes no connection.

use std::collections::BTreeSet;
use std::time::Duration;

use http::header::{HeaderMap, HeaderName};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::config::{ModelFacts, Problem, ProviderConfig, WireApi};
use crate::credential::{CredentialSource, sensitive};
use crate::headers;
use crate::openai;

/// How often a call is repeated unless the configuration says otherwise.
const RETRIES_DEFAULT: u32 = 2;
/// The most that may be asked for.
const RETRIES_MAX: u32 = 100;
/// How long a provider may be silent unless the configuration says otherwise.
const IDLE_DEFAULT_MS: u64 = 300_000;
/// The longest silence that may be asked for.
const IDLE_MAX_MS: u64 = 24 * 60 * 60 * 1000;
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
    pub(crate) models: Option<Vec<String>>,
    pub(crate) facts: std::collections::BTreeMap<String, ModelFacts>,
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
    let retries_max = check.retries();
    let idle = check.idle();
    check.models();
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
        websockets: config.supports_websockets.unwrap_or(false),
        models: config.models.clone(),
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
        if self.id.starts_with("amazon-bedrock") {
            self.problem("", "Amazon Bedrock is not supported in this version", "remove the table");
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
        if self.is_openai() {
            for key in ["name", "requires_openai_auth"] {
                if config.keys().contains(&key) {
                    let fix = "remove the key, or give the provider another id";
                    self.problem(key, "openai is built in; this key cannot be changed", fix);
                }
            }
        }
    }

    fn base(&mut self) -> Option<Url> {
        let text = match (&self.config.base_url, self.is_openai()) {
            (Some(text), _) => text.as_str(),
            (None, true) => openai::BASE_URL,
            (None, false) => {
                let fix = "base_url = \"https://host/v1\", the address up to and without /responses";
                self.problem("base_url", "missing", fix);
                return None;
            }
        };
        let mut url = match Url::parse(text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => url,
            _ => {
                self.problem("base_url", "not an http or https address", "for example https://host/v1");
                return None;
            }
        };
        if !url.username().is_empty() || url.password().is_some() {
            self.problem("base_url", "holds a credential", "take it out and use env_key");
        }
        if url.query().is_some() || url.fragment().is_some() {
            self.problem("base_url", "has a query or a fragment", "use query_params for the query");
        }
        if url.path().trim_end_matches('/').ends_with("/responses") {
            self.problem("base_url", "names the operation", "write the address up to and without /responses");
        }
        if !self.config.query_params.is_empty() {
            let pairs = self.config.query_params.iter().map(|(name, value)| (name, value.expose_secret()));
            url.query_pairs_mut().extend_pairs(pairs);
        }
        Some(url)
    }

    fn headers(&mut self) -> HeaderMap {
        let config = self.config;
        let mut headers = HeaderMap::new();
        if self.is_openai() {
            for (name, variable) in openai::ENV_HEADERS {
                let value = (self.env)(variable).filter(|value| !value.trim().is_empty());
                self.header(&mut headers, "env_http_headers", name, value.as_deref());
            }
        }
        for (name, value) in &config.http_headers {
            self.header(&mut headers, "http_headers", name, Some(value.expose_secret()));
        }
        for (name, variable) in &config.env_http_headers {
            let value = (self.env)(variable).filter(|value| !value.trim().is_empty());
            self.header(&mut headers, "env_http_headers", name, value.as_deref());
        }
        headers
    }

    /// Adds a configured header. Its value may be a secret, so no message shows it.
    fn header(&mut self, headers: &mut HeaderMap, table: &str, name: &str, value: Option<&str>) {
        let key = format!("{table}.{name}");
        let Ok(parsed) = HeaderName::try_from(name) else {
            return self.problem(&key, "not a header name", "use letters, digits and '-'");
        };
        if parsed == http::header::AUTHORIZATION {
            let fix = "use env_key or experimental_bearer_token";
            return self.problem(&key, "the credential has keys of its own", fix);
        }
        if headers::is_owned(&parsed) {
            return self.problem(&key, "the gateway sets this header itself", "remove it");
        }
        match value.map(|value| sensitive(value.trim())) {
            Some(Some(value)) => drop(headers.insert(parsed, value)),
            Some(None) => {
                self.problem(&key, "the value cannot stand in a header", "remove control characters")
            }
            None => {}
        }
    }

    fn credential(&mut self) -> Option<CredentialSource> {
        let config = self.config;
        let bearer = config.experimental_bearer_token.as_ref();
        let openai_key = config.requires_openai_auth == Some(true);
        let sources = [config.env_key.is_some(), bearer.is_some(), openai_key];
        if sources.into_iter().filter(|set| *set).count() > 1 {
            let message = "env_key, experimental_bearer_token and requires_openai_auth exclude each other";
            self.problem("", message, "keep one of them");
            return None;
        }
        let (key, secret) = if let Some(token) = bearer {
            ("experimental_bearer_token", SecretString::from(token.expose_secret().trim().to_owned()))
        } else if let Some(variable) = &config.env_key {
            ("env_key", self.read_env("env_key", variable)?)
        } else if openai_key {
            ("requires_openai_auth", self.read_env("requires_openai_auth", openai::ENV_KEY)?)
        } else if self.is_openai() {
            ("env_key", self.read_env("env_key", openai::ENV_KEY)?)
        } else {
            return Some(CredentialSource::none());
        };
        if secret.expose_secret().is_empty() {
            self.problem(key, "empty", "give a token, or remove the key");
            return None;
        }
        let Some(source) = CredentialSource::bearer(&secret) else {
            self.problem(key, "the value cannot stand in a header", "remove control characters from it");
            return None;
        };
        Some(source)
    }

    fn read_env(&mut self, key: &str, variable: &str) -> Option<SecretString> {
        let value = (self.env)(variable).map(|value| value.trim().to_owned());
        let message = match &value {
            None => format!("environment variable {variable} is not set"),
            Some(value) if value.is_empty() => format!("environment variable {variable} is empty"),
            Some(value) => return Some(SecretString::from(value.as_str())),
        };
        let instructions = self.config.env_key_instructions.as_deref();
        let fix = match instructions {
            Some(instructions) => instructions.to_owned(),
            None => format!("set {variable} for the gateway's process"),
        };
        self.problem(key, message, fix);
        None
    }

    fn retries(&mut self) -> u32 {
        let retries = self.config.request_max_retries.unwrap_or(RETRIES_DEFAULT);
        if retries > RETRIES_MAX {
            self.problem("request_max_retries", "too many", format!("at most {RETRIES_MAX}"));
        }
        retries
    }

    fn idle(&mut self) -> Duration {
        let millis = self.config.stream_idle_timeout_ms.unwrap_or(IDLE_DEFAULT_MS);
        if millis == 0 || millis > IDLE_MAX_MS {
            self.problem("stream_idle_timeout_ms", "out of range", format!("1 to {IDLE_MAX_MS}"));
        }
        Duration::from_millis(millis)
    }

    fn models(&mut self) {
        let config = self.config;
        let mut seen = BTreeSet::new();
        for slug in config.models.iter().flatten() {
            if slug.is_empty() || slug.len() > NAME_MAX || slug.chars().any(char::is_control) {
                self.problem(
                    "models",
                    format!("{slug:?} is not a model's name"),
                    "write it as the provider does",
                );
            }
            if !seen.insert(slug) {
                self.problem("models", format!("{slug} is listed twice"), "remove one");
            }
        }
        if config.models.as_ref().is_some_and(Vec::is_empty) {
            let fix = "list at least one model, or remove the key to take any";
            self.problem("models", "the provider serves nothing", fix);
        }
        for (slug, facts) in &config.model_facts {
            let key = format!("model_facts.{slug}");
            if config.models.is_some() && !seen.contains(slug) {
                self.problem(
                    &key,
                    "not among the provider's models",
                    "add it to models, or remove the facts",
                );
            }
            let efforts = facts.reasoning_efforts.as_deref().unwrap_or_default();
            if let Some(default) = &facts.default_reasoning_effort
                && !efforts.iter().any(|known| known.effort == *default)
            {
                let key = format!("{key}.default_reasoning_effort");
                self.problem(&key, "not among reasoning_efforts", "name one of them");
            }
            if facts.context_window == Some(0) {
                self.problem(&format!("{key}.context_window"), "zero", "the number of tokens, or no key");
            }
        }
    }
}

impl ProviderConfig {
    /// The keys that are set.
    fn keys(&self) -> Vec<&'static str> {
        let keys = [
            ("name", self.name.is_some()),
            ("base_url", self.base_url.is_some()),
            ("wire_api", self.wire_api.is_some()),
            ("env_key", self.env_key.is_some()),
            ("env_key_instructions", self.env_key_instructions.is_some()),
            ("experimental_bearer_token", self.experimental_bearer_token.is_some()),
            ("requires_openai_auth", self.requires_openai_auth.is_some()),
            ("http_headers", !self.http_headers.is_empty()),
            ("env_http_headers", !self.env_http_headers.is_empty()),
            ("query_params", !self.query_params.is_empty()),
            ("request_max_retries", self.request_max_retries.is_some()),
            ("stream_idle_timeout_ms", self.stream_idle_timeout_ms.is_some()),
            ("supports_websockets", self.supports_websockets.is_some()),
            ("models", self.models.is_some()),
            ("model_facts", !self.model_facts.is_empty()),
            ("auth", self.auth.is_some()),
            ("aws", self.aws.is_some()),
            ("stream_max_retries", self.stream_max_retries.is_some()),
            ("websocket_connect_timeout_ms", self.websocket_connect_timeout_ms.is_some()),
        ];
        keys.into_iter().filter(|(_, set)| *set).map(|(key, _)| key).collect()
    }
}
