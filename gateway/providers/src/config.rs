//! The configuration of providers, as an administrator writes it.
//!
//! The keys are the ones of Codex's own `config.toml`, so a block can be copied from a laptop. Nothing is
//! checked here beyond its type: `check` turns a configuration into values that cannot be wrong, and refuses
//! keys that this version cannot honor instead of ignoring them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::secret::Secret;

/// Which providers there are and which of them is asked first.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProvidersConfig {
    /// The provider for models that no other provider lists. Without it: `openai` if `OPENAI_API_KEY` is set,
    /// else the only provider in `model_providers`, else `rehearsal` if there is none.
    #[serde(rename = "model_provider")]
    pub default_provider: Option<String>,
    /// The model that clients are told to start with. Without it: the first model of the default provider.
    #[serde(rename = "model")]
    pub default_model: Option<String>,
    /// Providers by id. `openai` and `rehearsal` are built in; a table for `openai` adjusts it.
    pub model_providers: BTreeMap<String, ProviderConfig>,
    /// Where OpenAI's API is, for the built-in provider `openai`; the same as `base_url` in its table.
    pub openai_base_url: Option<String>,
    /// Model names that clients use, and where their calls go.
    pub model_aliases: BTreeMap<String, AliasConfig>,
    /// Models of Amazon Bedrock that this version does not know, by their exact ids, or other facts for known ones.
    pub bedrock_models: BTreeMap<String, BedrockModelConfig>,
    /// Which service tier a request gets that names none.
    pub service_tier: ServiceTierConfig,
}

/// One provider: any endpoint that speaks the Responses API.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProviderConfig {
    /// The name that people see. Without it: the id.
    pub name: Option<String>,
    /// Where the API is, up to and without `/responses`, for example `https://llm.example.com/v1`.
    pub base_url: Option<String>,
    /// The protocol of the provider; only `responses` is spoken.
    pub wire_api: Option<WireApi>,
    /// The environment variable that holds the key. Read once, when the service starts.
    pub env_key: Option<String>,
    /// Told to the operator when the variable of `env_key` is not set: how to get a key.
    pub env_key_instructions: Option<String>,
    /// A bearer token, in the clear. Prefer `env_key`.
    pub experimental_bearer_token: Option<Secret>,
    /// Whether the provider takes the OpenAI key, that is the one in `OPENAI_API_KEY`.
    pub requires_openai_auth: Option<bool>,
    /// Headers to send with every call.
    pub http_headers: BTreeMap<String, Secret>,
    /// Headers to send with every call: name to environment variable. Left out if the variable is not set.
    pub env_http_headers: BTreeMap<String, String>,
    /// Query parameters to send with every call.
    pub query_params: BTreeMap<String, Secret>,
    /// How often a call is repeated before its answer begins: 0 to 100, 4 by default. For callers over
    /// HTTP, which repeat by themselves, once at most.
    pub request_max_retries: Option<u32>,
    /// How long the provider may be silent before its answer is given up, in milliseconds; 300000 by default.
    pub stream_idle_timeout_ms: Option<u64>,
    /// Whether the provider's Responses WebSocket is used for agents. True by default for `openai`, else false.
    pub supports_websockets: Option<bool>,
    /// The models that this provider serves and no others. Without it the provider is asked for its list and
    /// takes any model.
    pub models: Option<Vec<String>>,
    /// What is known of a model, by its slug. Wins over what the provider's own list says.
    pub model_facts: BTreeMap<String, ModelFacts>,

    /// How many times an agent may begin a broken stream again: 0 to 100, 5 by default. Told to agents; the gateway itself
    /// never repeats a stream that has begun.
    pub stream_max_retries: Option<u32>,
    /// How long the handshake of the provider's WebSocket may take, in milliseconds; 15000 by default.
    pub websocket_connect_timeout_ms: Option<u64>,
    /// A command that prints a bearer token. Excludes the other sources of a credential.
    pub auth: Option<AuthConfig>,
    /// How to sign with AWS credentials; for the Amazon Bedrock providers only.
    pub aws: Option<AwsConfig>,
    /// A file that holds the key and nothing else. Read again when it changes.
    pub key_file: Option<PathBuf>,
    /// Whether callers bring their own credential: their `Authorization` and `chatgpt-account-id` go to the provider
    /// untouched, and the gateway holds none.
    pub pass_through: Option<bool>,
    /// A file with further CA certificates (PEM) that the provider's certificate may come from, or that of an HTTPS
    /// proxy. Read once, when the service starts.
    pub ca_file: Option<PathBuf>,
    /// The certificate chain (PEM) that the gateway shows to the provider. Read once, when the service starts.
    pub client_certificate_file: Option<PathBuf>,
    /// The private key (PEM, not encrypted) of `client_certificate_file`. Read once, when the service starts.
    pub client_key_file: Option<PathBuf>,
    /// An HTTP proxy to go through by CONNECT, for example `http://proxy.example.com:3128`; `https://` and a user with a
    /// password are possible too. Without a port: 80, or 443 for `https://`. Proxies of the environment are not used.
    pub proxy: Option<Secret>,
    /// Hosts that are reached without `proxy`: names with all names below them, `.suffixes` for the names below only,
    /// addresses, networks such as `10.0.0.0/8`, or `*`; names and addresses may have a port. Nothing is left out
    /// unasked, `localhost` neither.
    pub no_proxy: Vec<String>,
    /// A file with the models that this provider serves and no others, in Codex's own format, `{"models": [...]}`.
    /// With `models`, what is known of those. Read once, when the service starts.
    pub models_file: Option<PathBuf>,
    /// Whether local paths are taken out of the metadata that goes to this provider.
    pub redact_workspaces: Option<bool>,
    /// Whether this provider may see the W3C trace context (`traceparent`, `tracestate`) of a call that came with one. True
    /// by default; false keeps trace ids inside the company.
    pub trace_context: Option<bool>,
}

impl ProviderConfig {
    /// The files that are read once, together with the table. Key files are read again by themselves.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let files = [&self.ca_file, &self.client_certificate_file, &self.client_key_file, &self.models_file];
        files.into_iter().filter_map(|file| file.as_deref())
    }

    /// All its paths, to let relative ones start at the configuration file's directory.
    pub fn paths_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let files = [
            &mut self.key_file,
            &mut self.ca_file,
            &mut self.client_certificate_file,
            &mut self.client_key_file,
            &mut self.models_file,
        ];
        files.into_iter().flatten().chain(self.auth.iter_mut().filter_map(|auth| auth.cwd.as_mut()))
    }
}

/// A command that prints a bearer token.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuthConfig {
    /// The program: a name that is looked up in PATH, or a path.
    pub command: String,
    /// Its arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// Where it runs. Without it: the directory of the service.
    pub cwd: Option<PathBuf>,
    /// Its environment besides PATH and HOME. Values may be secrets.
    #[serde(default)]
    pub env: BTreeMap<String, Secret>,
    /// How long it may take, in milliseconds; 5000 by default.
    pub timeout_ms: Option<u64>,
    /// After how long it is run again, in milliseconds; 300000 by default. 0 means only after the provider has refused
    /// the token.
    pub refresh_interval_ms: Option<u64>,
}

/// How to sign with AWS credentials.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AwsConfig {
    /// The profile of the shared AWS configuration.
    pub profile: Option<String>,
    /// The region. Without it: `AWS_REGION`, `AWS_DEFAULT_REGION`, the profile's, then `us-east-1`.
    pub region: Option<String>,
    /// A command that prints AWS credentials as JSON, in the form of `aws sts assume-role` or of
    /// `aws configure export-credentials`. Asked instead of AWS's own sources; excludes `profile`.
    pub credential_export: Option<AwsCommandConfig>,
    /// A command that signs in again, such as `aws sso login`. Run when no source has credentials that are good.
    pub auth_refresh: Option<AwsCommandConfig>,
}

/// A command that has to do with AWS credentials. It is run without a shell and sees PATH, HOME, the proxy variables and
/// those of the AWS tools, except keys and tokens.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AwsCommandConfig {
    /// The program: a name that is looked up in PATH, or a path.
    pub command: String,
    /// Its arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// How long it may take, in milliseconds; 30000 by default for `credential_export`, 300000 for `auth_refresh`.
    pub timeout_ms: Option<u64>,
}

/// A model of Amazon Bedrock and where it is served.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BedrockModelConfig {
    /// `amazon-bedrock` (Mantle) or `amazon-bedrock-runtime`.
    pub provider: String,
    /// The path before `/responses`: `/v1` or `/openai/v1`, as the model's card says.
    pub path: String,
    /// The service name in signatures. Without it: the provider's.
    pub signing_name: Option<String>,
    /// What clients need to know of the model.
    #[serde(default)]
    pub facts: ModelFacts,
}

/// Where calls for a model name go instead.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AliasConfig {
    /// The provider.
    pub provider: String,
    /// The model's name there.
    pub model: String,
}

/// Which service tier a request gets that names none.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServiceTierConfig {
    /// For everybody: `priority` (or `fast`), `flex`, or nothing.
    pub default: Option<String>,
    /// By tenant; wins over `default`.
    pub tenants: BTreeMap<String, String>,
}

/// The protocol of a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WireApi {
    /// The Responses API.
    Responses,
    /// The Chat Completions API; known in order to be refused with the reason.
    #[schemars(skip)]
    Chat,
}

/// What an administrator knows of a model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ModelFacts {
    /// The name that people see.
    pub display_name: Option<String>,
    /// One sentence for a model picker.
    pub description: Option<String>,
    /// The efforts that a request may name, from least to most.
    pub reasoning_efforts: Option<Vec<ReasoningEffort>>,
    /// The effort that is used when a request names none.
    pub default_reasoning_effort: Option<String>,
    /// How many tokens fit into the context.
    pub context_window: Option<u64>,
    /// Whether the model may call several tools at once.
    pub supports_parallel_tool_calls: Option<bool>,
    /// Whether the model can summarize its reasoning.
    pub supports_reasoning_summaries: Option<bool>,
    /// The developer message that a conversation with this model begins with.
    pub base_instructions: Option<String>,
    /// The reasoning summary that is asked for when nothing else is said, for example `auto`.
    pub default_reasoning_summary: Option<String>,
    /// Whether images may be sent in their original detail.
    pub supports_image_detail_original: Option<bool>,
    /// Whether calls go over the provider's WebSocket where it has one.
    pub prefer_websockets: Option<bool>,
}

/// A reasoning effort and when to take it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReasoningEffort {
    /// What a request names, for example `low`.
    pub effort: String,
    /// One sentence for a picker.
    #[serde(default)]
    pub description: String,
}

/// Something in a configuration that cannot work, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {message}")]
pub struct Problem {
    /// The dotted key, for example `model_providers.vllm.base_url`.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub fix: String,
}
