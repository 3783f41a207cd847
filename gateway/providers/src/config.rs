//! The configuration of providers, as an administrator writes it.
//!
//! The keys are the ones of Codex's own `config.toml`, so a block can be copied from a laptop. Nothing is
//! checked here beyond its type: `check` turns a configuration into values that cannot be wrong, and refuses
//! keys that this version cannot honor instead of ignoring them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// Which providers there are and which of them is asked first.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
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
}

/// One provider: any endpoint that speaks the Responses API.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
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
    #[schemars(with = "Option<String>")]
    pub experimental_bearer_token: Option<SecretString>,
    /// Whether the provider takes the OpenAI key, that is the one in `OPENAI_API_KEY`.
    pub requires_openai_auth: Option<bool>,
    /// Headers to send with every call.
    #[schemars(with = "BTreeMap<String, String>")]
    pub http_headers: BTreeMap<String, SecretString>,
    /// Headers to send with every call: name to environment variable. Left out if the variable is not set.
    pub env_http_headers: BTreeMap<String, String>,
    /// Query parameters to send with every call.
    #[schemars(with = "BTreeMap<String, String>")]
    pub query_params: BTreeMap<String, SecretString>,
    /// How often a call is repeated before its answer begins: 0 to 100, 2 by default.
    pub request_max_retries: Option<u32>,
    /// How long the provider may be silent before its answer is given up, in milliseconds; 300000 by default.
    pub stream_idle_timeout_ms: Option<u64>,
    /// Whether the provider's Responses WebSocket is used. This version uses HTTP only, so only `false` is taken.
    pub supports_websockets: Option<bool>,
    /// The models that this provider serves and no others. Without it the provider is asked for its list and
    /// takes any model.
    pub models: Option<Vec<String>>,
    /// What is known of a model, by its slug. Wins over what the provider's own list says.
    pub model_facts: BTreeMap<String, ModelFacts>,

    /// Refused: a later version brings credentials from commands.
    #[schemars(skip)]
    pub auth: Option<IgnoredAny>,
    /// Refused: a later version brings Amazon Bedrock.
    #[schemars(skip)]
    pub aws: Option<IgnoredAny>,
    /// Refused: the gateway never repeats a stream that has begun.
    #[schemars(skip)]
    pub stream_max_retries: Option<IgnoredAny>,
    /// Refused: there are no upstream WebSockets in this version.
    #[schemars(skip)]
    pub websocket_connect_timeout_ms: Option<IgnoredAny>,
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
