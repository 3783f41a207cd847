//! What a user has chosen to begin new threads with, such as a model picked in a terminal.
//!
//! Kept in memory, per principal, for as long as the process lives: a desk's lasting choices stand in its configuration.
//! Only keys that mean something to this service are kept; every other write is refused, so that nobody believes it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use serde_json::{Map, Value};

use crate::principal::Principal;
use crate::rpc::Refusal;

/// How many principals' choices are kept; beyond it further ones are refused.
const PRINCIPALS_MAX: usize = 10_000;
/// How long a value may be.
const VALUE_BYTES_MAX: usize = 256;
/// The keys that are kept; all hold texts.
const KEYS: [&str; 4] = ["model", "model_reasoning_effort", "model_reasoning_summary", "service_tier"];

/// Everybody's choices.
#[derive(Debug, Default)]
pub(crate) struct Preferences {
    all: Mutex<HashMap<Principal, Chosen>>,
}

/// One principal's choices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Chosen {
    /// Grows with every write.
    revision: u64,
    values: Map<String, Value>,
}

impl Chosen {
    /// The text chosen for this key.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.values.get(key)?.as_str()
    }

    /// Which version of the choices this is.
    pub(crate) fn version(&self) -> String {
        format!("revision:{}", self.revision)
    }
}

/// A change of one key; null takes the choice back.
pub(crate) struct Change {
    /// The key.
    pub(crate) key: String,
    /// Its value.
    pub(crate) value: Value,
}

impl Preferences {
    /// What this principal has chosen.
    pub(crate) fn of(&self, principal: &Principal) -> Chosen {
        self.lock().get(principal).cloned().unwrap_or_default()
    }

    /// Makes all changes or none; `expected` is the version that the caller has seen.
    pub(crate) fn write(
        &self,
        principal: &Principal,
        changes: Vec<Change>,
        expected: Option<&str>,
    ) -> Result<Chosen, Refusal> {
        for change in &changes {
            check(change)?;
        }
        let mut all = self.lock();
        let mut chosen = all.get(principal).cloned().unwrap_or_default();
        if expected.is_some_and(|expected| expected != chosen.version()) {
            return Err(Refusal::invalid(
                "Configuration was modified since last read. Fetch latest version and retry.",
            ));
        }
        if all.len() >= PRINCIPALS_MAX && !all.contains_key(principal) {
            return Err(Refusal::overloaded("too many users' choices are kept"));
        }
        for Change { key, value } in changes {
            if value.is_null() {
                drop(chosen.values.remove(&key))
            } else {
                drop(chosen.values.insert(key, value))
            }
        }
        chosen.revision += 1;
        all.insert(principal.clone(), chosen.clone());
        Ok(chosen)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Principal, Chosen>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check(change: &Change) -> Result<(), Refusal> {
    let key = &change.key;
    if !KEYS.contains(&key.as_str()) {
        return Err(Refusal::invalid(format!("`{key}` cannot be written: this service does not use it")));
    }
    match &change.value {
        Value::Null => Ok(()),
        Value::String(text) if text.len() <= VALUE_BYTES_MAX => Ok(()),
        Value::String(_) => Err(Refusal::invalid(format!("the value of `{key}` is too long"))),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Err(Refusal::invalid(format!("the value of `{key}` must be a text")))
        }
    }
}

#[cfg(test)]
mod tests {
    use agent_threads::TenantId;
    use serde_json::{Value, json};

    use super::{Change, Preferences};
    use crate::principal::Principal;

    fn change(key: &str, value: Value) -> Vec<Change> {
        vec![Change { key: key.to_owned(), value }]
    }

    #[test]
    fn choices_belong_to_one_principal() {
        let preferences = Preferences::default();
        let desk = Principal::desk();
        let other = Principal { tenant: TenantId::new("other"), ..desk.clone() };
        preferences.write(&desk, change("model", json!("a")), None).unwrap();
        assert_eq!(preferences.of(&desk).text("model"), Some("a"));
        assert_eq!(preferences.of(&other).text("model"), None);
        preferences.write(&desk, change("model", Value::Null), None).unwrap();
        assert_eq!(preferences.of(&desk).text("model"), None);
    }

    #[test]
    fn a_write_is_whole_and_versioned() {
        let preferences = Preferences::default();
        let desk = Principal::desk();
        let mut changes = change("model", json!("a"));
        changes.extend(change("sandbox_mode", json!("x")));
        preferences.write(&desk, changes, None).unwrap_err();
        assert_eq!(preferences.of(&desk).text("model"), None);
        let first = preferences.of(&desk).version();
        preferences.write(&desk, change("model", json!("a")), Some(&first)).unwrap();
        preferences.write(&desk, change("model", json!("b")), Some(&first)).unwrap_err();
        preferences.write(&desk, change("model", json!(["b"])), None).unwrap_err();
        assert_eq!(preferences.of(&desk).text("model"), Some("a"));
    }
}
