//! Who is on the other end of a connection.

use agent_threads::TenantId;

/// A caller as its transport has identified it; never taken from what the caller says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Principal {
    /// Whose threads it sees.
    pub tenant: TenantId,
    /// Who it is within the tenant.
    pub subject: String,
}

impl Principal {
    /// The one user of a desk, where reaching the listener is what identifies.
    #[must_use]
    pub fn desk() -> Self {
        Self { tenant: TenantId::new("local"), subject: "desk".to_owned() }
    }
}
