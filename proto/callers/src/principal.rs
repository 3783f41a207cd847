//! Who calls. Comes from a credential or a connection, never from a payload.

use std::sync::Arc;

/// The tenant of a desk, where everybody who reaches the service is its one user.
const DESK: &str = "local";

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Whose call it is: what is stored, counted and shown belongs to the tenant.
    pub tenant: Arc<str>,
    /// Who it is within the tenant.
    pub subject: Arc<str>,
    /// What the credential was given for, in the operator's own words.
    pub scopes: Arc<[Box<str>]>,
    /// How the caller has shown it.
    pub proof: Proof,
}

/// How a caller has shown who it is. Never holds the credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// It reached a listener that lets everybody in who can reach it.
    Desk,
    /// A key of the keys file, by its public id.
    Key(Arc<str>),
    /// A signed token, by the name of its issuer in the configuration.
    Token(Arc<str>),
    /// A client certificate, by its SPIFFE id.
    Certificate(Arc<str>),
}

impl Principal {
    /// Everybody who reaches a desk's listener.
    #[must_use]
    pub fn desk() -> Principal {
        Principal { tenant: DESK.into(), subject: DESK.into(), scopes: Arc::default(), proof: Proof::Desk }
    }
}
