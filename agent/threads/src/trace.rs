//! What happened in a thread besides its log: its turns, its model calls, and how it came and went.
//!
//! For people who look into what a thread did and what it cost. Nothing is decided by it and nothing of what was said is
//! in it. It is written late and at best, may have holes, and a thread keeps only the newest of it.

use serde::{Deserialize, Serialize};

use crate::{TenantId, ThreadId, TurnId, Usage};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceEvent {
    /// When, or when it was over, in Unix milliseconds.
    pub at_ms: i64,
    /// The turn that it belongs to, if it belongs to one.
    pub turn_id: Option<TurnId>,
    /// What.
    pub kind: TraceKind,
}

/// Something that happened in a thread, to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceRow {
    /// Whose thread.
    pub tenant: TenantId,
    /// The thread.
    pub thread_id: ThreadId,
    /// What happened.
    pub event: TraceEvent,
}

/// Something that happened in a thread, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceRecord {
    /// Grows by one with everything that is kept of the thread.
    pub number: u64,
    /// What happened.
    pub event: TraceEvent,
}

/// What can happen. Stored as JSON: a field may be added with a default, none may change its meaning. A kind that this
/// version does not know is passed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TraceKind {
    /// A turn ended.
    Turn(TracedTurn),
    /// A call of the model ended.
    ModelCall(TracedCall),
    /// The conversation was replaced by a shorter one.
    Compaction(TracedCompaction),
    /// The thread came, went or changed as a whole.
    Lifecycle(TracedLifecycle),
}

/// How something ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TraceOutcome {
    /// As it should.
    Completed,
    /// It was stopped.
    Interrupted,
    /// With an error.
    Failed,
}

/// A turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracedTurn {
    /// When it began, in Unix milliseconds.
    pub started_at_ms: i64,
    /// The model that it ran with.
    pub model: String,
    /// How it ended.
    pub outcome: TraceOutcome,
    /// The stable reason of its failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How often the store was written to.
    pub commits: u32,
    /// How long that took, in microseconds.
    pub commits_us: u64,
}

/// What a model call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallPurpose {
    /// The turn itself.
    Turn,
    /// A compaction.
    Compaction,
}

/// A model call: one attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracedCall {
    /// When it began, in Unix milliseconds.
    pub started_at_ms: i64,
    /// How long it took until the first event of the answer, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_event_ms: Option<u64>,
    /// What it was for.
    pub purpose: CallPurpose,
    /// Which call of its turn, from 1 on.
    pub call: u32,
    /// Which attempt at that call, from 1 on.
    pub attempt: u32,
    /// The provider that answered, or the one that was asked for.
    pub provider: String,
    /// The model that was asked for.
    pub model: String,
    /// How it ended.
    pub outcome: TraceOutcome,
    /// The stable reason of its failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Tokens, if the provider reported them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

/// A compaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracedCompaction {
    /// When it began, in Unix milliseconds.
    pub started_at_ms: i64,
    /// Whether a user asked for it; otherwise the conversation had grown too long.
    pub asked_for: bool,
    /// Whether the provider made it.
    pub remote: bool,
    /// How it ended.
    pub outcome: TraceOutcome,
    /// The stable reason of its failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What became of a thread as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracedLifecycle {
    /// What.
    pub event: LifecycleEvent,
    /// The other thread that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other: Option<ThreadId>,
}

/// What can become of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LifecycleEvent {
    /// It was started.
    Started,
    /// It was made of another one's history.
    Forked,
    /// It came into memory.
    Loaded,
    /// It left memory.
    Unloaded,
    /// A client took it up again.
    Resumed,
    /// The end of its history was taken out.
    Reverted,
    /// Its last turn was found open: the process that ran it had died.
    CrashFound,
}
