//! What a user has chosen to begin new threads with, such as a model picked in a terminal.
//!
//! Kept in memory, per principal, for as long as the process lives: a desk's lasting choices stand in its configuration.
//! Only keys that mean something to this service are kept; every other write is refused, so that nobody believes it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use crate::configuration::{self, Requirements, Values};
use crate::principal::Principal;
use crate::rpc::Refusal;

/// How many principals' choices are kept; beyond it further ones are refused.
const PRINCIPALS_MAX: usize = 10_000;
/// How long a value may be.
const VALUE_BYTES_MAX: usize = 256;
/// The keys that a user cannot write: which provider a thread stays with, and what is said in the service's name.
const NOT_WRITTEN: [&str; 2] = ["model_provider", "developer_instructions"];

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
    values: Values,
}

impl Chosen {
    /// The values by key.
    pub(crate) fn values(&self) -> &Values {
        &self.values
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
        (changes, expected): (Vec<Change>, Option<&str>),
        requirements: &Requirements,
    ) -> Result<Chosen, Refusal> {
        for change in &changes {
            check(change, requirements)?;
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

fn check(Change { key, value }: &Change, requirements: &Requirements) -> Result<(), Refusal> {
    if NOT_WRITTEN.contains(&key.as_str()) {
        return Err(Refusal::invalid(format!(
            "`{key}` cannot be written: the service's operator decides it"
        )));
    }
    if value.is_null() {
        return Ok(());
    }
    configuration::check(key, value).map_err(|error| Refusal::invalid(error.to_string()))?;
    if value.as_str().is_some_and(|text| text.len() > VALUE_BYTES_MAX) {
        return Err(Refusal::invalid(format!("the value of `{key}` is too long")));
    }
    requirements.allows(key, value).map_err(|error| Refusal::invalid(error.to_string()))
}

#[cfg(test)]
mod tests {
    use agent_threads::TenantId;
    use serde_json::{Value, json};

    use super::{Change, Preferences};
    use crate::configuration::Requirements;
    use crate::principal::Principal;

    fn change(key: &str, value: Value) -> Vec<Change> {
        vec![Change { key: key.to_owned(), value }]
    }

    fn write(preferences: &Preferences, who: &Principal, key: &str, value: Value) -> Result<(), String> {
        let written = preferences.write(who, (change(key, value), None), &Requirements::default());
        written.map(drop).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn choices_belong_to_one_principal() {
        let preferences = Preferences::default();
        let desk = Principal::desk();
        let other = Principal { tenant: TenantId::new("other"), ..desk.clone() };
        write(&preferences, &desk, "model", json!("a")).unwrap();
        assert_eq!(preferences.of(&desk).values()["model"], "a");
        assert!(preferences.of(&other).values().is_empty());
        write(&preferences, &desk, "model", Value::Null).unwrap();
        assert!(preferences.of(&desk).values().is_empty());
    }

    #[test]
    fn a_write_is_whole_and_versioned() {
        let preferences = Preferences::default();
        let (desk, free) = (Principal::desk(), Requirements::default());
        let mut changes = change("model", json!("a"));
        changes.extend(change("tui.theme", json!("x")));
        preferences.write(&desk, (changes, None), &free).unwrap_err();
        assert!(preferences.of(&desk).values().is_empty());
        let first = preferences.of(&desk).version();
        preferences.write(&desk, (change("model", json!("a")), Some(&first)), &free).unwrap();
        preferences.write(&desk, (change("model", json!("b")), Some(&first)), &free).unwrap_err();
        assert_eq!(preferences.of(&desk).values()["model"], "a");
    }

    #[test]
    fn what_cannot_be_chosen_is_refused() {
        let (preferences, desk) = (Preferences::default(), Principal::desk());
        for (key, value) in [
            ("model", json!(["b"])),
            ("model", json!("x".repeat(1 << 10))),
            ("model_provider", json!("other")),
            ("developer_instructions", json!("be rude")),
            ("sandbox_mode", json!("everything")),
        ] {
            assert!(write(&preferences, &desk, key, value).is_err(), "{key}");
        }
        let narrow =
            Requirements { sandbox_modes: Some(vec![json!("read-only")]), ..Requirements::default() };
        let mode = |mode: &str| (change("sandbox_mode", json!(mode)), None);
        let refusal = preferences.write(&desk, mode("danger-full-access"), &narrow).unwrap_err().to_string();
        assert!(refusal.contains("`sandbox_mode`") && refusal.contains("read-only"), "{refusal}");
        preferences.write(&desk, mode("read-only"), &narrow).unwrap();
    }
}
