//! The policy file, as an operator writes it.
//!
//! Nothing is checked here beyond types: [`crate::Policy::build`] turns it into rules that cannot be wrong.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The policy file. A more specific table replaces single values of a more general one; what the requirements say
/// holds whatever the others say.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyConfig {
    /// What holds for everybody, unless a tenant or subject says otherwise.
    pub default: RulesConfig,
    /// What holds for a tenant, by its id.
    pub tenants: BTreeMap<String, TenantConfig>,
    /// What holds for everybody, whatever the other tables say.
    pub requirements: RulesConfig,
}

/// One struct with the keys that every table of rules has.
macro_rules! table {
    ($(#[$meta:meta])* pub struct $name:ident { $($more:tt)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            /// Providers that may be used, by id.
            pub providers: NamesConfig,
            /// Models that may be asked for. A model's name must pass as it is asked for and as the provider knows it.
            pub models: NamesConfig,
            /// Service tiers that may be used.
            pub tiers: TiersConfig,
            /// Tools that a request may bring: a type such as `web_search*`, or type and name such as
            /// `function:exec_command`, `namespace:clock`, `mcp:https://mcp.example.com/*`. What stands inside a
            /// namespace is judged as well.
            pub tools: NamesConfig,
            /// The most that a request may name as its `max_output_tokens`; one that names more is denied.
            pub max_output_tokens: Option<u64>,
            /// Whether a request that names no `max_output_tokens` gets the limit. Codex never names one, and a
            /// provider reached with a ChatGPT login refuses the field.
            pub insert_max_output_tokens: Option<bool>,
            /// The most bytes that a request's body may have, after decompression.
            pub max_body_bytes: Option<u64>,
            /// How many calls a principal may have at once.
            pub max_concurrent_calls: Option<usize>,
            /// Whether local paths are taken out of a request's metadata, also for OpenAI.
            pub redact_workspaces: Option<bool>,
            /// Whether prompts and answers may be logged.
            pub log_content: Option<bool>,
            /// Scopes that a caller must have, all of them.
            pub scopes_required: Option<Vec<String>>,
            $($more)*
        }
    };
}

table! {
    /// A table of rules; what it does not name it leaves to the more general ones.
    #[derive(Serialize)]
    pub struct RulesConfig {}
}

table! {
    /// The rules of a tenant.
    pub struct TenantConfig {
        /// What holds for one subject of the tenant, by its id.
        pub subjects: BTreeMap<String, RulesConfig>,
        /// What holds for the tenant and all its subjects, whatever the other tables say.
        pub requirements: RulesConfig,
    }
}

/// Which names are allowed. A name may begin or end with `*`, or both.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NamesConfig {
    /// Only these are allowed; an empty list allows nothing.
    pub allow: Option<Vec<String>>,
    /// These are denied, in any case of letters, also if they are in `allow`.
    pub deny: Option<Vec<String>>,
}

/// Which service tiers are allowed.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TiersConfig {
    /// Only these are allowed. A request that asks for none counts as `default`.
    pub allow: Option<Vec<String>>,
}

impl TenantConfig {
    /// The tenant's own rules, without those of its subjects.
    pub(crate) fn rules(&self) -> RulesConfig {
        let own = self.clone();
        RulesConfig {
            providers: own.providers,
            models: own.models,
            tiers: own.tiers,
            tools: own.tools,
            max_output_tokens: own.max_output_tokens,
            insert_max_output_tokens: own.insert_max_output_tokens,
            max_body_bytes: own.max_body_bytes,
            max_concurrent_calls: own.max_concurrent_calls,
            redact_workspaces: own.redact_workspaces,
            log_content: own.log_content,
            scopes_required: own.scopes_required,
        }
    }
}

/// Something in a policy that cannot work, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {message}")]
pub struct Problem {
    /// The dotted key, for example `tenants.acme.models.allow[0]`.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub fix: String,
}
