//! What users begin with and are kept within, for everybody and for single tenants, as it is written and as it is checked.

use std::collections::{BTreeMap, HashMap};

use agent_server::{Configuration, KEYS, Requirements, Tenant, Values, check};
use agent_session::TenantLimits;
use agent_threads::TenantId;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use service_runtime::config::Problem;

/// The environment variables that have a default each, and the key behind it in capitals.
const VARIABLE: &str = "TIDEGATE_DEFAULTS_";

/// What threads begin with where their client does not say, with the keys of Codex's own configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DefaultsConfig {
    /// The model; the gateway's default otherwise.
    pub model: Option<String>,
    /// How many tokens the model's input may have before it is condensed.
    pub model_auto_compact_token_limit: Option<u64>,
    /// The provider; the one that serves the model otherwise.
    pub model_provider: Option<String>,
    /// The reasoning effort; the model's default otherwise.
    pub model_reasoning_effort: Option<String>,
    /// How much of the reasoning is summarized: `auto`, `concise`, `detailed` or `none`.
    pub model_reasoning_summary: Option<String>,
    /// The service tier.
    pub service_tier: Option<String>,
    /// When the user is asked: `untrusted`, `on-request` or `never`.
    pub approval_policy: Option<String>,
    /// What commands may touch: `read-only`, `workspace-write` or `danger-full-access`.
    pub sandbox_mode: Option<String>,
    /// Added after the model's base instructions.
    pub developer_instructions: Option<String>,
}

/// What no default, no choice of a user and no request may go beyond. The first of each list holds where nobody says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RequirementsConfig {
    /// The approval policies that may be used: `untrusted`, `on-request`, `never`; all of them otherwise.
    pub allowed_approval_policies: Option<Vec<String>>,
    /// The sandbox modes that may be used: `read-only`, `workspace-write`, `danger-full-access`; all of them otherwise.
    pub allowed_sandbox_modes: Option<Vec<String>>,
}

/// What holds for one tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TenantConfig {
    /// What its threads begin with instead.
    pub defaults: DefaultsConfig,
    /// What it is kept within, besides what everybody is.
    pub requirements: RequirementsConfig,
    /// What it may use at once instead.
    pub limits: TenantLimitsConfig,
}

/// What one tenant may use at once, if not what others may.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TenantLimitsConfig {
    /// Threads in memory.
    pub loaded_threads_max: Option<usize>,
    /// Turns that run.
    pub running_turns_max: Option<usize>,
    /// Connections and gRPC subscriptions.
    pub connections_max: Option<usize>,
}

/// The tables about users.
pub(super) struct Users<'a> {
    pub(super) defaults: &'a DefaultsConfig,
    pub(super) requirements: &'a RequirementsConfig,
    pub(super) tenants: &'a BTreeMap<String, TenantConfig>,
}

impl Users<'_> {
    /// Checks them, and what the environment says besides.
    pub(super) fn build(
        &self,
        environment: &dyn Fn(&str) -> Option<String>,
        problems: &mut Vec<Problem>,
    ) -> Configuration {
        let requirements = self.requirements.build("requirements", problems);
        let mut tenants = HashMap::new();
        for (name, tenant) in self.tenants {
            let key = format!("tenants.{name}");
            if !is_tenant(name) {
                problems.push(Problem::new(key.clone(), "cannot be a tenant's name"));
            }
            let theirs = tenant.requirements.build(&format!("{key}.requirements"), problems);
            if requirements.and(&theirs).is_impossible()
                && !requirements.is_impossible()
                && !theirs.is_impossible()
            {
                let message = "leaves nothing of what [requirements] allows everybody";
                problems.push(Problem::new(format!("{key}.requirements"), message));
            }
            let values = tenant.defaults.build(&format!("{key}.defaults"), problems);
            let connections_max = tenant.limits.connections_max;
            tenants.insert(TenantId::new(name), Tenant { values, requirements: theirs, connections_max });
        }
        Configuration {
            of_file: self.defaults.build("defaults", problems),
            tenants,
            of_environment: of_environment(environment, problems),
            requirements,
            ..Configuration::default()
        }
    }
}

impl DefaultsConfig {
    fn build(&self, at: &str, problems: &mut Vec<Problem>) -> Values {
        let given = [
            ("model", &self.model),
            ("model_provider", &self.model_provider),
            ("model_reasoning_effort", &self.model_reasoning_effort),
            ("model_reasoning_summary", &self.model_reasoning_summary),
            ("service_tier", &self.service_tier),
            ("approval_policy", &self.approval_policy),
            ("sandbox_mode", &self.sandbox_mode),
            ("developer_instructions", &self.developer_instructions),
        ];
        let given = given.into_iter().filter_map(|(key, text)| Some((key, Value::from(text.clone()?))));
        let limit = self.model_auto_compact_token_limit;
        let limit = limit.map(|limit| ("model_auto_compact_token_limit", Value::from(limit)));
        let mut values = Values::new();
        for (key, value) in given.chain(limit) {
            if let Err(error) = check(key, &value) {
                problems.push(Problem::new(format!("{at}.{key}"), "cannot be used").fix(error.to_string()));
            }
            values.insert(key.to_owned(), value);
        }
        values
    }
}

impl RequirementsConfig {
    fn build(&self, at: &str, problems: &mut Vec<Problem>) -> Requirements {
        let mut list = |name: &str, key: &str, texts: &Option<Vec<String>>| {
            let texts = texts.as_ref()?;
            let at = format!("{at}.{name}");
            if texts.is_empty() {
                problems.push(
                    Problem::new(at.clone(), "allows nothing").fix("leave it out, or list at least one"),
                );
            }
            let values: Vec<Value> = texts.iter().map(|text| Value::from(text.as_str())).collect();
            for (index, value) in values.iter().enumerate() {
                if let Err(error) = check(key, value) {
                    let message = format!("is {value}, which there is not");
                    problems.push(Problem::new(format!("{at}[{index}]"), message).fix(error.to_string()));
                }
            }
            Some(values)
        };
        Requirements {
            approval_policies: list(
                "allowed_approval_policies",
                "approval_policy",
                &self.allowed_approval_policies,
            ),
            sandbox_modes: list("allowed_sandbox_modes", "sandbox_mode", &self.allowed_sandbox_modes),
        }
    }
}

fn of_environment(environment: &dyn Fn(&str) -> Option<String>, problems: &mut Vec<Problem>) -> Values {
    let mut values = Values::new();
    for key in KEYS {
        let name = format!("{VARIABLE}{}", key.to_ascii_uppercase());
        let Some(text) = environment(&name).filter(|text| !text.is_empty()) else { continue };
        // A number is one in the environment too.
        let number = text.parse::<u64>().ok().filter(|_| key == "model_auto_compact_token_limit");
        let value = number.map_or_else(|| Value::from(text), Value::from);
        if let Err(error) = check(key, &value) {
            let message = format!("cannot be what the environment variable {name} says");
            problems.push(Problem::new(format!("defaults.{key}"), message).fix(error.to_string()));
        }
        values.insert(key.to_owned(), value);
    }
    values
}

/// What single tenants may use at once, where it is not what `all` may.
pub(super) fn limits(
    tenants: &BTreeMap<String, TenantConfig>,
    all: TenantLimits,
    problems: &mut Vec<Problem>,
) -> HashMap<TenantId, TenantLimits> {
    let mut found = HashMap::new();
    for (name, TenantConfig { limits, .. }) in tenants {
        let rows = [
            ("loaded_threads_max", limits.loaded_threads_max, 1_000_000),
            ("running_turns_max", limits.running_turns_max, 100_000),
            ("connections_max", limits.connections_max, 1_000_000),
        ];
        for (key, value, most) in rows {
            if value.is_some_and(|value| !(1..=most).contains(&value)) {
                let message = format!("is {}, outside 1 to {most}", value.unwrap_or_default());
                problems.push(Problem::new(format!("tenants.{name}.limits.{key}"), message));
            }
        }
        let theirs = TenantLimits {
            loaded_threads_max: limits.loaded_threads_max.unwrap_or(all.loaded_threads_max),
            running_turns_max: limits.running_turns_max.unwrap_or(all.running_turns_max),
        };
        if theirs != all {
            found.insert(TenantId::new(name), theirs);
        }
    }
    found
}

/// Whether a caller could have this tenant.
fn is_tenant(name: &str) -> bool {
    let marks = |byte: u8| b"._-:@".contains(&byte);
    name.len() <= 128
        && name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || marks(byte))
}

#[cfg(test)]
mod tests {
    use super::of_environment;

    #[test]
    fn the_environment_has_defaults_too() {
        let mut problems = Vec::new();
        let environment = |name: &str| match name {
            "TIDEGATE_DEFAULTS_MODEL" => Some("gpt-6-sol".to_owned()),
            "TIDEGATE_DEFAULTS_SERVICE_TIER" => Some(String::new()),
            "TIDEGATE_DEFAULTS_SANDBOX_MODE" => Some("everything".to_owned()),
            _ => None,
        };
        let values = of_environment(&environment, &mut problems);
        assert_eq!(values["model"], "gpt-6-sol");
        assert!(!values.contains_key("service_tier"));
        assert_eq!(problems.len(), 1);
        assert!(problems[0].message.contains("TIDEGATE_DEFAULTS_SANDBOX_MODE"), "{problems:?}");
    }
}
