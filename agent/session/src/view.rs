//! Threads and turns as callers see them: what is stored together with what is running.

use agent_threads::{Entry, Item, ItemRecord, Thread, TurnEnd, TurnError, TurnId, TurnRecords, Usage};

use crate::event::Status;

/// A thread as a caller sees it.
#[derive(Debug, Clone)]
pub struct ThreadView {
    /// Its facts.
    pub thread: Thread,
    /// What it is doing.
    pub status: Status,
    /// Whether it is never stored.
    pub ephemeral: bool,
    /// Whether it has had its first user message, and with it a history.
    pub materialized: bool,
    /// The turn that is running.
    pub active_turn: Option<TurnId>,
    /// The last turn that used tokens, and those so far. Known once the thread was resumed or had a turn.
    pub tokens: Option<(TurnId, TokenUsage)>,
}

/// A thread that was taken up again.
#[derive(Debug, Clone)]
pub struct Resumed {
    /// The thread.
    pub view: ThreadView,
    /// The model that it was held with before, where that is another one now.
    pub model_before: Option<String>,
}

/// Tokens of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenUsage {
    /// Of the last response.
    pub last: Usage,
    /// Of the thread so far.
    pub total: Usage,
    /// The model's context window, if known.
    pub context_window: Option<u64>,
}

/// How a turn stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TurnStatus {
    /// It is running.
    InProgress,
    /// It ended as it should.
    Completed,
    /// It was stopped by the user, or its process died.
    Interrupted,
    /// It ended with an error.
    Failed,
}

/// A turn as a caller sees it.
#[derive(Debug, Clone)]
pub struct TurnView {
    /// Its id.
    pub id: TurnId,
    /// How it stands.
    pub status: TurnStatus,
    /// Why it failed.
    pub error: Option<TurnError>,
    /// Items of the turn: all in a page of turns, the final answer in a `TurnCompleted` event, else none.
    pub items: Vec<ItemRecord>,
    /// When it began, in Unix milliseconds.
    pub started_at_ms: Option<i64>,
    /// When it ended, in Unix milliseconds.
    pub completed_at_ms: Option<i64>,
}

impl TurnView {
    /// A turn that is running.
    pub(crate) fn running(id: TurnId, started_at_ms: i64) -> Self {
        Self {
            id,
            status: TurnStatus::InProgress,
            error: None,
            items: Vec::new(),
            started_at_ms: Some(started_at_ms),
            completed_at_ms: None,
        }
    }

    /// A turn that has ended.
    pub(crate) fn ended(id: TurnId, end: &TurnEnd, started_at_ms: i64, completed_at_ms: i64) -> Self {
        let (status, error) = outcome(end);
        Self { status, error, completed_at_ms: Some(completed_at_ms), ..Self::running(id, started_at_ms) }
    }

    /// A stored turn. One without an end that is not running in this process was left by a process that died.
    pub(crate) fn stored(turn: TurnRecords, running: Option<TurnId>) -> Self {
        let TurnRecords { turn_id, records } = turn;
        let left = if running == Some(turn_id) { TurnStatus::InProgress } else { TurnStatus::Interrupted };
        let mut view = Self { started_at_ms: None, status: left, ..Self::running(turn_id, 0) };
        for record in records {
            match record.entry {
                Entry::TurnStarted(_) => view.started_at_ms = Some(record.at_ms),
                Entry::Item { item, .. } => view.items.push(ItemRecord {
                    turn_id,
                    sequence: record.sequence,
                    at_ms: record.at_ms,
                    item,
                }),
                Entry::TurnEnded { end, .. } => {
                    (view.status, view.error) = outcome(&end);
                    view.completed_at_ms = Some(record.at_ms);
                }
                Entry::ModelItem { .. }
                | Entry::ContextItem { .. }
                | Entry::Compacted { .. }
                | Entry::Usage { .. }
                | Entry::Reverted { .. } => {}
            }
        }
        view
    }

    /// The last thing that the model said in this turn.
    #[must_use]
    pub fn final_message(&self) -> Option<&str> {
        self.items.iter().rev().find_map(|record| match &record.item {
            Item::AgentMessage { text, .. } => Some(text.as_str()),
            Item::UserMessage { .. } | Item::Reasoning { .. } | Item::ContextCompaction { .. } => None,
        })
    }
}

fn outcome(end: &TurnEnd) -> (TurnStatus, Option<TurnError>) {
    match end {
        TurnEnd::Completed => (TurnStatus::Completed, None),
        TurnEnd::Interrupted => (TurnStatus::Interrupted, None),
        TurnEnd::Failed { error } => (TurnStatus::Failed, Some(error.clone())),
    }
}
