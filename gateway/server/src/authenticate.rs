//! Says who calls.
//!
//! A gateway without configured callers serves one desk: its listeners are loopback or unix sockets (anything else is
//! refused at the start), and everybody who reaches them is the desk's user. Never looks at a payload.

/// Who calls.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Principal {
    /// Whose call it is.
    pub(crate) tenant: &'static str,
}

const DESK: Principal = Principal { tenant: "local" };

/// The caller of a request that reached a desk's listener.
pub(crate) fn authenticate() -> Principal {
    DESK
}
