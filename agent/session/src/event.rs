//! What happens in a thread, as its subscribers are told.
//!
//! A subscriber never slows a turn down: its queue is bounded, and one that falls behind is told so and dropped.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use agent_threads::{Item, ItemId, ReadState, Settings, ThreadId, TurnError, TurnId};
use tokio::sync::mpsc;

use crate::{
    model::RateLimit,
    view::{ThreadView, TokenUsage, TurnView},
};

/// What a thread is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It is not in memory.
    NotLoaded,
    /// It waits for a user message.
    Idle,
    /// A turn is running.
    Active,
    /// Its last turn failed.
    SystemError,
}

/// What happened in a thread.
#[derive(Debug, Clone)]
pub enum Event {
    /// The thread does something else now.
    StatusChanged(Status),
    /// A turn began.
    TurnStarted {
        /// The turn.
        turn: TurnView,
    },
    /// An item began; its content is still to come, except for user messages.
    ItemStarted {
        /// The turn it belongs to.
        turn_id: TurnId,
        /// The item.
        item: Item,
        /// When, in Unix milliseconds.
        at_ms: i64,
    },
    /// More of a message's text.
    AgentMessageDelta {
        /// The turn it belongs to.
        turn_id: TurnId,
        /// The message.
        item_id: ItemId,
        /// The text to append.
        delta: String,
    },
    /// A reasoning summary has one more part.
    ReasoningSummaryPartAdded {
        /// The turn it belongs to.
        turn_id: TurnId,
        /// The reasoning item.
        item_id: ItemId,
        /// The part.
        summary_index: u64,
    },
    /// More of a part of a reasoning summary.
    ReasoningSummaryDelta {
        /// The turn it belongs to.
        turn_id: TurnId,
        /// The reasoning item.
        item_id: ItemId,
        /// The part.
        summary_index: u64,
        /// The text to append.
        delta: String,
    },
    /// More of the reasoning itself.
    ReasoningTextDelta {
        /// The turn it belongs to.
        turn_id: TurnId,
        /// The reasoning item.
        item_id: ItemId,
        /// The part.
        content_index: u64,
        /// The text to append.
        delta: String,
    },
    /// An item is complete, and stored unless the thread is ephemeral.
    ItemCompleted {
        /// The turn it belongs to.
        turn_id: TurnId,
        /// The item.
        item: Item,
        /// When it began, in Unix milliseconds.
        started_at_ms: i64,
        /// When it was complete, in Unix milliseconds.
        at_ms: i64,
    },
    /// Tokens of the thread.
    TokenUsage {
        /// The turn that used the last ones.
        turn_id: TurnId,
        /// The tokens.
        tokens: TokenUsage,
    },
    /// Usage limits as the provider reported them.
    RateLimits(Vec<RateLimit>),
    /// Something went wrong in a turn.
    Error {
        /// The turn.
        turn_id: TurnId,
        /// What.
        error: TurnError,
        /// More about it, for people.
        details: Option<String>,
        /// Whether the turn goes on all the same.
        will_retry: bool,
    },
    /// A turn ended.
    TurnCompleted {
        /// The turn, with the final answer as its only item.
        turn: TurnView,
    },
    /// The thread has another name, or none.
    NameChanged {
        /// The name.
        name: Option<String>,
    },
    /// The next turn runs with other settings.
    SettingsChanged {
        /// The settings.
        settings: Box<Settings>,
    },
    /// What of the thread is unread is something else now.
    ReadStateChanged(ReadState),
    /// The end of the history was taken out.
    Reverted {
        /// The first turn that was taken out.
        turn_id: TurnId,
        /// The last sequence number that was kept.
        keep: u64,
    },
    /// The thread has left memory or was deleted; no event follows.
    Closed,
}

/// An event and when it happened.
#[derive(Debug, Clone)]
pub struct Published {
    /// The place in the thread's log of what it tells, if that is stored.
    pub sequence: Option<u64>,
    /// When, in Unix milliseconds.
    pub at_ms: i64,
    /// The event.
    pub event: Event,
    /// With what it was stored, if it was.
    pub(crate) commit: Commit,
}

/// The place in a thread's log of what was stored at once.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Commit {
    /// The last sequence number before it.
    pub(crate) before: u64,
    /// Its own last one.
    pub(crate) last: u64,
}

impl Event {
    /// The item that is coming about, if the event tells of one.
    pub(crate) fn of_item(&self) -> Option<&ItemId> {
        match self {
            Self::ItemStarted { item, .. } => Some(item.id()),
            Self::AgentMessageDelta { item_id, .. }
            | Self::ReasoningSummaryPartAdded { item_id, .. }
            | Self::ReasoningSummaryDelta { item_id, .. }
            | Self::ReasoningTextDelta { item_id, .. } => Some(item_id),
            Self::StatusChanged(_)
            | Self::TurnStarted { .. }
            | Self::ItemCompleted { .. }
            | Self::TokenUsage { .. }
            | Self::RateLimits(_)
            | Self::Error { .. }
            | Self::TurnCompleted { .. }
            | Self::NameChanged { .. }
            | Self::SettingsChanged { .. }
            | Self::ReadStateChanged(_)
            | Self::Reverted { .. }
            | Self::Closed => None,
        }
    }
}

impl Published {
    /// Something that is not stored.
    pub(crate) fn unstored(at_ms: i64, event: Event) -> Self {
        Self { sequence: None, at_ms, event, commit: Commit::default() }
    }
}

/// What happened to a tenant's threads.
#[derive(Debug, Clone)]
pub enum Lifecycle {
    /// A thread was started.
    Started(Box<ThreadView>),
    /// A thread does something else now.
    StatusChanged {
        /// The thread.
        id: ThreadId,
        /// What it does.
        status: Status,
    },
    /// The end of a thread's history was taken out.
    Reverted(ThreadId),
    /// A thread was archived, and has left memory with it.
    Archived(ThreadId),
    /// A thread was unarchived.
    Unarchived(ThreadId),
    /// A thread was deleted.
    Deleted(ThreadId),
    /// A thread has another name, or none.
    NameChanged {
        /// The thread.
        id: ThreadId,
        /// The name.
        name: Option<String>,
    },
    /// A thread left memory.
    Closed(ThreadId),
    /// Usage limits of the account that all tenants share, as its provider reported them.
    RateLimits(Vec<RateLimit>),
}

/// What a subscription gives next.
#[derive(Debug, Clone)]
pub enum Next<T> {
    /// This happened.
    Event(T),
    /// The subscriber was too slow; events are missing here and nothing follows.
    Lagged,
    /// The store could not be read; nothing follows.
    Failed(Arc<agent_threads::Error>),
    /// Nothing follows.
    Closed,
}

/// Those who are told, of one thread or of one tenant.
#[derive(Debug)]
pub(crate) struct Hub<T> {
    subscribers: Mutex<Vec<Subscriber<T>>>,
}

#[derive(Debug)]
struct Subscriber<T> {
    queue: mpsc::Sender<T>,
    lagged: Arc<AtomicBool>,
}

/// The receiving end of a [`Hub`].
#[derive(Debug)]
pub(crate) struct Feed<T> {
    queue: mpsc::Receiver<T>,
    lagged: Arc<AtomicBool>,
}

impl<T> Default for Hub<T> {
    fn default() -> Self {
        Self { subscribers: Mutex::new(Vec::new()) }
    }
}

impl<T: Clone> Hub<T> {
    pub(crate) fn subscribe(&self, queue_max: usize) -> Feed<T> {
        let (sender, queue) = mpsc::channel(queue_max);
        let lagged = Arc::new(AtomicBool::new(false));
        let mut subscribers = self.lock();
        // Where little is told and many come and go, nothing else would let go of those who have left.
        if subscribers.len() == subscribers.capacity() {
            subscribers.retain(|subscriber| !subscriber.queue.is_closed());
        }
        subscribers.push(Subscriber { queue: sender, lagged: Arc::clone(&lagged) });
        drop(subscribers);
        Feed { queue, lagged }
    }

    /// Tells everybody; whoever has no room left is dropped.
    pub(crate) fn publish(&self, message: &T) {
        self.lock().retain(|subscriber| match subscriber.queue.try_send(message.clone()) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                subscriber.lagged.store(true, Ordering::Release);
                false
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        });
    }

    /// Whether nobody listens.
    pub(crate) fn is_empty(&self) -> bool {
        let mut subscribers = self.lock();
        subscribers.retain(|subscriber| !subscriber.queue.is_closed());
        subscribers.is_empty()
    }

    /// Lets everybody go.
    pub(crate) fn close(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Subscriber<T>>> {
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Feed<T> {
    pub(crate) async fn next(&mut self) -> Next<T> {
        match self.queue.recv().await {
            Some(message) => Next::Event(message),
            None if self.lagged.load(Ordering::Acquire) => Next::Lagged,
            None => Next::Closed,
        }
    }
}

/// What happens to a tenant's threads, from now on. Dropping it unsubscribes.
#[derive(Debug)]
pub struct TenantSubscription {
    pub(crate) feed: Feed<Arc<Lifecycle>>,
}

impl TenantSubscription {
    /// What happens next. May be dropped at any time without losing anything.
    pub async fn next(&mut self) -> Next<Arc<Lifecycle>> {
        self.feed.next().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn those_who_have_left_are_not_kept_where_nothing_is_told() {
        let hub = Hub::default();
        let mut stays = hub.subscribe(1);
        for _ in 0..1_000 {
            drop(hub.subscribe(1));
        }
        assert!(hub.lock().len() < 10, "{} are kept", hub.lock().len());
        hub.publish(&5);
        assert!(matches!(stays.next().await, Next::Event(5)));
    }
}
