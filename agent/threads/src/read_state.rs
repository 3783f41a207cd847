//! What of a thread its user has not seen yet.
//!
//! One for each thread, shared by all who may read it. Stores keep it; they decide here what a turn's end and a user's
//! mark make of it, so that all of them decide alike.

use uuid::Uuid;

use crate::{Entry, TurnEnd, TurnId};

/// What of a thread its user has not seen yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReadState {
    /// Where the unread part begins; `None` if all is read.
    pub first_unread: Option<Unread>,
    /// Grows with everything that can change what is unread.
    pub revision: u64,
}

/// Where the unread part of a thread begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread {
    /// At its start: somebody marked it.
    Start,
    /// At the earliest turn whose end nobody has seen.
    Turn(TurnId),
}

/// What a user says about a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// All of it was seen.
    Read,
    /// It counts as not seen.
    Unread,
}

impl Unread {
    pub(crate) fn as_uuid(self) -> Uuid {
        match self {
            Self::Start => Uuid::nil(),
            Self::Turn(turn_id) => turn_id.as_uuid(),
        }
    }

    pub(crate) fn from_uuid(uuid: Uuid) -> Self {
        if uuid.is_nil() { Self::Start } else { Self::Turn(TurnId::from_uuid(uuid)) }
    }
}

impl ReadState {
    /// After the end of a turn that nobody has seen, if there was one.
    pub(crate) fn after(self, ended: Option<TurnId>) -> Self {
        let Some(turn_id) = ended else { return self };
        let first_unread = self.first_unread.or(Some(Unread::Turn(turn_id)));
        Self { first_unread, revision: self.revision + 1 }
    }

    /// After a user's mark.
    pub(crate) fn marked(self, mark: Mark) -> Self {
        let first_unread = match mark {
            Mark::Read => None,
            Mark::Unread => Some(Unread::Start),
        };
        Self { first_unread, revision: self.revision + 1 }
    }
}

/// The first of the entries' turns whose end its user has to see. Who stops a turn knows that it ended, and one that ends
/// with the model's input beginning anew has said nothing.
pub(crate) fn ended(entries: &[Entry]) -> Option<TurnId> {
    if entries.iter().any(|entry| matches!(entry, Entry::Compacted { .. })) {
        return None;
    }
    entries.iter().find_map(|entry| match entry {
        Entry::TurnEnded { turn_id, end: TurnEnd::Completed | TurnEnd::Failed { .. } } => Some(*turn_id),
        _ => None,
    })
}
