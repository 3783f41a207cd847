//! Who is on the other end of a connection.

use agent_threads::TenantId;
use tidegate_callers::Principal as Caller;

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
        Self::from(&Caller::desk())
    }
}

impl From<&Caller> for Principal {
    fn from(caller: &Caller) -> Self {
        Self { tenant: TenantId::new(&caller.tenant), subject: caller.subject.as_ref().to_owned() }
    }
}
