//! What makes a credential anew: a command, a file, the AWS chain.
//!
//! A mint only makes; when it is asked, how often, and by whom is `renewing`'s business.

use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;

use super::Proof;

/// Makes credentials.
pub(crate) trait Mint: Send + Sync + 'static {
    /// Makes one. Is polled in a task of its own, never in a caller's.
    fn mint(&self) -> BoxFuture<'_, Result<Minted, MintError>>;

    /// A number that changes when what credentials are made of changes, so that a permanent failure is tried again.
    fn inputs(&self) -> u64 {
        0
    }
}

/// A credential that was just made.
#[derive(Clone)]
pub(crate) struct Minted {
    pub(crate) proof: Proof,
    /// When the provider stops taking it, if that is known.
    pub(crate) expires_at: Option<SystemTime>,
    /// After how long another one is made although this one is good.
    pub(crate) refresh_after: Option<Duration>,
}

/// Why no credential could be made. Its words never hold a secret: neither output of a command nor a token.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{what}: {why}")]
pub struct MintError {
    /// The source, for example `command corp-token` or `file /run/key`.
    pub what: String,
    /// What went wrong.
    pub why: String,
    permanent: bool,
}

impl MintError {
    /// A failure that may pass.
    pub(crate) fn passing(what: impl Into<String>, why: impl Into<String>) -> MintError {
        MintError { what: what.into(), why: why.into(), permanent: false }
    }

    /// A failure that stays until somebody changes something.
    pub(crate) fn permanent(what: impl Into<String>, why: impl Into<String>) -> MintError {
        MintError { what: what.into(), why: why.into(), permanent: true }
    }

    /// Whether it stays until somebody changes something.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        self.permanent
    }
}
