//! Codex's `-c key=value`: what of a laptop's configuration means something to this service.
//!
//! Keys that mean nothing here are accepted, because a laptop's configuration has many and one program starts both;
//! `--strict-config` refuses them.

use agent_server::Defaults;
use serde_json::Value;

/// The keys that mean something.
const KEYS: [&str; 8] = [
    "model",
    "model_provider",
    "model_reasoning_effort",
    "model_reasoning_summary",
    "service_tier",
    "approval_policy",
    "sandbox_mode",
    "developer_instructions",
];

/// Why overrides cannot be used. The command line has to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// There is no `=`.
    #[error("invalid override `{0}`: expected key=value")]
    NoValue(String),
    /// There is nothing before the `=`.
    #[error("invalid override `{0}`: the key is empty")]
    NoKey(String),
    /// The value is of the wrong type.
    #[error("invalid value for `{0}`: expected a text")]
    NotText(String),
    /// The key means nothing here and the caller is strict.
    #[error("unknown configuration field `{0}`: this service uses {known}", known = KEYS.join(", "))]
    Unknown(String),
}

/// One `key=value`. The value is TOML, or a text as it stands when it is not.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Override {
    key: String,
    value: Value,
}

impl Override {
    /// Reads `key=value`.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let (key, value) = text.split_once('=').ok_or_else(|| Error::NoValue(text.to_owned()))?;
        let (key, value) = (key.trim(), value.trim());
        if key.is_empty() {
            return Err(Error::NoKey(text.to_owned()));
        }
        let parsed = toml::from_str::<toml::Table>(&format!("value = {value}"));
        let parsed = parsed.ok().and_then(|mut table| table.remove("value"));
        let literal = || Value::String(value.trim_matches(['"', '\'']).to_owned());
        let value = parsed.and_then(|value| serde_json::to_value(value).ok()).unwrap_or_else(literal);
        Ok(Self { key: key.to_owned(), value })
    }

    /// What `--enable` and `--disable` stand for.
    pub(crate) fn feature(name: &str, on: bool) -> Self {
        Self { key: format!("features.{name}"), value: Value::Bool(on) }
    }
}

/// What threads begin with after these overrides; the last one for a key counts.
pub(crate) fn apply(mut defaults: Defaults, overrides: &[Override], strict: bool) -> Result<Defaults, Error> {
    for Override { key, value } in overrides {
        let text = || match value {
            Value::String(text) => Ok(Some(text.clone())),
            _ => Err(Error::NotText(key.clone())),
        };
        match key.as_str() {
            "model" => defaults.model = text()?,
            "model_provider" => defaults.provider = text()?,
            "model_reasoning_effort" => defaults.effort = text()?,
            "model_reasoning_summary" => defaults.summary = text()?,
            "service_tier" => defaults.service_tier = text()?,
            "developer_instructions" => defaults.developer_instructions = text()?,
            "approval_policy" => defaults.approval_policy = Some(value.clone()),
            "sandbox_mode" => defaults.sandbox_mode = text()?.map(Value::String),
            _ if strict => return Err(Error::Unknown(key.clone())),
            _ => tracing::debug!(key, "a configuration override means nothing here"),
        }
    }
    Ok(defaults)
}

#[cfg(test)]
mod tests {
    use agent_server::Defaults;

    use super::{Error, Override, apply};

    fn defaults(texts: &[&str], strict: bool) -> Result<Defaults, Error> {
        let overrides = texts.iter().map(|text| Override::parse(text)).collect::<Result<Vec<_>, _>>()?;
        apply(Defaults::default(), &overrides, strict)
    }

    #[test]
    fn values_are_toml_or_texts() {
        for text in ["model=\"o3\"", "model='o3'", "model=o3", " model = o3 ", "model=\"o3"] {
            assert_eq!(defaults(&[text], true).unwrap().model.as_deref(), Some("o3"), "{text}");
        }
        let both = defaults(&["model=a", "model=b", "model_reasoning_effort=high"], true).unwrap();
        assert_eq!((both.model.as_deref(), both.effort.as_deref()), (Some("b"), Some("high")));
    }

    #[test]
    fn keys_of_a_laptop_are_accepted_unless_strict() {
        let laptop = ["mcp_servers.x.command=\"y\"", "features.web_search=true", "tui={}", "model=a"];
        assert_eq!(defaults(&laptop, false).unwrap().model.as_deref(), Some("a"));
        assert_eq!(defaults(&laptop, true), Err(Error::Unknown("mcp_servers.x.command".to_owned())));
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(matches!(defaults(&["model"], false), Err(Error::NoValue(_))));
        assert!(matches!(defaults(&["=x"], false), Err(Error::NoKey(_))));
        assert!(matches!(defaults(&["model=5"], false), Err(Error::NotText(_))));
    }
}
