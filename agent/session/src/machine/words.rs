//! What a turn is told and what it asks for.

use std::time::Duration;

use agent_threads::{Entry, Item, ItemId, TurnError, Usage, UserInput};
use serde_json::value::RawValue;

use crate::{
    context::{self, Outcome, Trim},
    event::Status,
    gateway::{CallEvent, Failure},
    response::Told,
};

/// What happens to a turn.
#[derive(Debug, Clone)]
pub(crate) enum Input {
    /// The model call brought something.
    Call(CallEvent),
    /// The stream of the model call broke, or never came about.
    CallFailed(Failure),
    /// The input has grown so long that it is condensed before the model is called; this item shows it.
    ContextFull(ItemId),
    /// The pause before a retry is over.
    RetryDue,
    /// The user said something while the turn was running.
    Steer(UserMessage),
    /// A tool has answered.
    ToolFinished { call_id: String, output: String },
    /// The turn shall end.
    Interrupt,
    /// A commit did not succeed; nothing of it is stored, or nobody knows.
    StoreFailed(TurnError),
}

/// What a turn wants done.
#[derive(Debug, Clone)]
pub(crate) enum Effect {
    /// Store these entries, all or none.
    Commit(Vec<Entry>),
    /// The user's message is stored: answer whoever sent it.
    Accepted,
    /// Tell the subscribers.
    Tell(Told),
    /// Call the model with all that is stored by now.
    CallModel(Purpose),
    /// Store that the model's input begins anew with this, and these entries with it.
    BeginAnew { outcome: Outcome, total: Usage, entries: Vec<Entry> },
    /// Let the model call go.
    CancelCall,
    /// Give `RetryDue` after a pause.
    Pause(Pause),
    /// Run a tool and give `ToolFinished`.
    RunTool(ToolCall),
    /// Stop the tools that are running.
    CancelTools,
    /// The turn is over: the thread does this now, and then tell these.
    End(Status, Vec<Told>),
}

/// What a model call is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The model's next answer.
    #[default]
    Answer,
    /// A shorter input.
    Compaction(Trim),
}

/// What a turn begins with.
#[derive(Debug, Clone)]
pub(crate) enum Opener {
    /// What the user said.
    Message(UserMessage),
    /// The wish that the input be condensed; this item shows it.
    Compaction(ItemId),
}

/// A pause before a retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pause {
    /// As long as the provider asked for.
    Exact(Duration),
    /// About so long.
    About(Duration),
}

/// A message of the user.
#[derive(Debug, Clone)]
pub(crate) struct UserMessage {
    pub(crate) id: ItemId,
    pub(crate) client_id: Option<String>,
    pub(crate) content: Vec<UserInput>,
    /// What is sent for each image that the content names by its file; none for one that could not be read.
    pub(crate) images: Vec<Option<String>>,
}

/// A tool that the model calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ToolCall {
    pub(crate) call_id: String,
    pub(crate) name: String,
    pub(crate) input: String,
    /// Whether the input is free-form text and not JSON.
    pub(crate) custom: bool,
}

impl ToolCall {
    pub(crate) fn new(call_id: &str, name: &str, namespace: Option<&str>, input: &str, custom: bool) -> Self {
        let name = match namespace {
            Some(namespace) => format!("{namespace}.{name}"),
            None => name.to_owned(),
        };
        Self { call_id: call_id.to_owned(), name, input: input.to_owned(), custom }
    }

    /// A call of which only the id matters any more.
    pub(crate) fn unnamed(call_id: String, custom: bool) -> Self {
        Self { call_id, name: String::new(), input: String::new(), custom }
    }
}

impl UserMessage {
    pub(super) fn model_item(&self) -> Box<RawValue> {
        context::user_message(&self.content, &self.images)
    }

    pub(super) fn into_item(self) -> Item {
        Item::UserMessage { id: self.id, client_id: self.client_id, content: self.content }
    }
}
