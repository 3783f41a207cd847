//! What a caller is told when a rule says no.
//!
//! The rule's name is told, so that its owner can be asked; what else it says is not.

use std::fmt;

/// Characters of a caller's own words that are repeated to it.
const SHOWN_MAX: usize = 80;

/// A rule says no. The caller's fault; the same call is denied again as long as the rule stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} (rule {rule})")]
pub struct Denied {
    /// The dotted name of the rule, such as `tenants.acme.models.deny`.
    pub rule: String,
    /// What is denied.
    pub message: String,
}

impl Denied {
    pub(crate) fn new(rule: &str, message: impl fmt::Display) -> Denied {
        Denied { rule: rule.to_owned(), message: message.to_string() }
    }
}

/// A name that a caller chose: quoted, without control characters, not longer than a line.
pub(crate) fn shown(name: &str) -> String {
    match name.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{:?}…", name.get(..end).unwrap_or_default()),
        None => format!("{name:?}"),
    }
}
