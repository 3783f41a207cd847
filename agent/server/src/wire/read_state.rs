//! What of a thread its user has not seen yet.

use agent_threads::{ReadState as Domain, ThreadId, TurnId, Unread as DomainUnread};
use serde::{Deserialize, Serialize};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Params {
    pub(crate) thread_id: String,
    pub(crate) operation: Operation,
    pub(crate) expected_revision: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub(crate) enum Operation {
    Read,
    Unread,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Response {
    pub(crate) read_state: ReadState,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReadState {
    first_unread: Option<Unread>,
    revision: String,
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
enum Unread {
    ThreadStart,
    Turn { turn_id: TurnId },
}

impl From<Domain> for ReadState {
    fn from(state: Domain) -> Self {
        let first_unread = state.first_unread.map(|unread| match unread {
            DomainUnread::Start => Unread::ThreadStart,
            DomainUnread::Turn(turn_id) => Unread::Turn { turn_id },
        });
        Self { first_unread, revision: state.revision.to_string() }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Changed {
    pub(crate) thread_id: ThreadId,
    pub(crate) read_state: ReadState,
}

/// What a client is told whose mark comes too late.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Conflict {
    pub(crate) reason: &'static str,
    pub(crate) read_state: ReadState,
}
