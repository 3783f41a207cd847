//! Codex's `-c key=value`: what of a laptop's configuration means something to this service.
//!
//! Keys that mean nothing here are accepted, because a laptop's configuration has many and one program starts both;
//! `--strict-config` refuses them.

use agent_server::{KEYS, ValueError, Values, check};
use serde_json::Value;

/// Why overrides cannot be used. The command line has to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// There is no `=`.
    #[error("invalid override `{0}`: expected key=value")]
    NoValue(String),
    /// There is nothing before the `=`.
    #[error("invalid override `{0}`: the key is empty")]
    NoKey(String),
    /// The key cannot have this value.
    #[error("invalid override")]
    Value(#[from] ValueError),
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

/// What these overrides say of threads; the last one for a key counts.
pub(crate) fn values(overrides: &[Override], strict: bool) -> Result<Values, Error> {
    let mut values = Values::new();
    for Override { key, value } in overrides {
        if KEYS.contains(&key.as_str()) {
            check(key, value)?;
            values.insert(key.clone(), value.clone());
        } else if strict {
            return Err(Error::Unknown(key.clone()));
        } else {
            tracing::debug!(key, "a configuration override means nothing here");
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use agent_server::Values;

    use super::{Error, Override, values};

    fn parsed(texts: &[&str], strict: bool) -> Result<Values, Error> {
        let overrides = texts.iter().map(|text| Override::parse(text)).collect::<Result<Vec<_>, _>>()?;
        values(&overrides, strict)
    }

    #[test]
    fn values_are_toml_or_texts() {
        for text in ["model=\"o3\"", "model='o3'", "model=o3", " model = o3 ", "model=\"o3"] {
            assert_eq!(parsed(&[text], true).unwrap()["model"], "o3", "{text}");
        }
        let both = parsed(&["model=a", "model=b", "model_reasoning_effort=high"], true).unwrap();
        assert_eq!((&both["model"], &both["model_reasoning_effort"]), (&"b".into(), &"high".into()));
    }

    #[test]
    fn keys_of_a_laptop_are_accepted_unless_strict() {
        let laptop = ["mcp_servers.x.command=\"y\"", "features.web_search=true", "tui={}", "model=a"];
        assert_eq!(parsed(&laptop, false).unwrap()["model"], "a");
        assert_eq!(parsed(&laptop, true), Err(Error::Unknown("mcp_servers.x.command".to_owned())));
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(matches!(parsed(&["model"], false), Err(Error::NoValue(_))));
        assert!(matches!(parsed(&["=x"], false), Err(Error::NoKey(_))));
        assert!(matches!(parsed(&["model=5"], false), Err(Error::Value(_))));
        assert!(matches!(parsed(&["sandbox_mode=all"], false), Err(Error::Value(_))));
    }
}
