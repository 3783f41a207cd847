//! Why a session call was refused, and whose fault that is.
//!
//! How a turn fails is not told here but in its `TurnError`: a turn that started always ends, it never throws.

use std::borrow::Cow;

use agent_threads::{ReadState, ThreadId, TurnId};

use crate::gateway::Failure;

/// Why a call was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such thread in this tenant.
    #[error("thread not found: {0}")]
    NotFound(ThreadId),
    /// The thread has no history before its first user message.
    #[error("thread {0} is not materialized yet")]
    NotMaterialized(ThreadId),
    /// The thread keeps no history.
    #[error("thread {0} is ephemeral")]
    Ephemeral(ThreadId),
    /// The thread is in the archive.
    #[error("session {0} is archived. Run `codex unarchive {0}` to unarchive it first.")]
    Archived(ThreadId),
    /// The thread has no such turn.
    #[error("turn not found: {0}")]
    TurnNotFound(TurnId),
    /// What is unread is not what the caller has seen.
    #[error("read state changed")]
    ReadStateChanged(ReadState),
    /// The thread has not come so far.
    #[error("the thread has no event {0}")]
    UnknownSequence(u64),
    /// No turn is running.
    #[error("no active turn")]
    NoActiveTurn,
    /// Another turn is running than the caller thinks.
    #[error("expected active turn id `{expected}` but found `{found}`")]
    OtherTurn {
        /// What the caller expected.
        expected: TurnId,
        /// What is running.
        found: TurnId,
    },
    /// The request cannot be right.
    #[error("{0}")]
    Invalid(Cow<'static, str>),
    /// The cursor does not belong to this list.
    #[error("invalid cursor")]
    BadCursor,
    /// A limit of this process is reached.
    #[error("too many {what}, at most {limit}")]
    Overloaded {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// This process is about to stop and starts nothing new.
    #[error("the service is stopping")]
    Stopping,
    /// The thread store refused.
    #[error("the thread store refused")]
    Store(#[source] agent_threads::Error),
    /// The gateway refused.
    #[error("the model gateway refused")]
    Gateway(#[source] Failure),
}

/// Whose fault an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The caller's: it has to change the request.
    Caller,
    /// Nobody's: there is no room just now.
    Overload,
    /// The gateway's, or of what stands behind it.
    Upstream,
    /// Ours: the store or this process failed.
    Internal,
}

impl Error {
    /// Whose fault it is.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::NotFound(_)
            | Self::NotMaterialized(_)
            | Self::Ephemeral(_)
            | Self::Archived(_)
            | Self::TurnNotFound(_)
            | Self::ReadStateChanged(_)
            | Self::UnknownSequence(_)
            | Self::NoActiveTurn
            | Self::OtherTurn { .. }
            | Self::Invalid(_)
            | Self::BadCursor => Fault::Caller,
            Self::Overloaded { .. } | Self::Stopping => Fault::Overload,
            Self::Gateway(_) => Fault::Upstream,
            Self::Store(_) => Fault::Internal,
        }
    }

    /// Whether the same call can succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Overloaded { .. } | Self::Stopping => true,
            Self::Store(error) => error.is_retryable(),
            Self::Gateway(failure) => failure.retryable,
            Self::NotFound(_)
            | Self::NotMaterialized(_)
            | Self::Ephemeral(_)
            | Self::Archived(_)
            | Self::TurnNotFound(_)
            | Self::ReadStateChanged(_)
            | Self::UnknownSequence(_)
            | Self::NoActiveTurn
            | Self::OtherTurn { .. }
            | Self::Invalid(_)
            | Self::BadCursor => false,
        }
    }
}

impl From<agent_threads::Error> for Error {
    fn from(error: agent_threads::Error) -> Self {
        match error {
            agent_threads::Error::NotFound(id) => Self::NotFound(id),
            agent_threads::Error::BadCursor => Self::BadCursor,
            agent_threads::Error::ReadStateChanged(now) => Self::ReadStateChanged(now),
            // The store is well: it was asked for more than it takes.
            large @ agent_threads::Error::TooLarge { .. } => Self::Invalid(large.to_string().into()),
            other => Self::Store(other),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Gateway(failure)
    }
}
