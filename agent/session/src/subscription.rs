//! Following a thread: what is stored, from a sequence number on, and then what happens.
//!
//! The log is what counts. The live feed tells of it first and of deltas besides; whatever the feed has not told, because it
//! happened before, because it was missed or because another process wrote it, is read from the store before anything
//! later is told. So each stored event is told once and in order, however often a subscriber comes back with its last
//! number.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use agent_threads::{Entry, ItemId, Record, TenantId, ThreadId, ThreadStore, TurnId};

use crate::{
    event::{Commit, Event, Feed, Next, Published},
    view::{TokenUsage, TurnView},
};

/// Records of one read from the store.
const PAGE: u32 = 256;

/// What happens in a thread: first what is stored, if that was asked for, then live. Dropping it unsubscribes.
pub struct Subscription {
    feed: Feed<Arc<Published>>,
    /// `None` if only what happens from now on is told.
    log: Option<Log>,
}

/// The stored part of a thread's events.
pub(crate) struct Log {
    store: Arc<dyn ThreadStore>,
    tenant: TenantId,
    thread_id: ThreadId,
    /// Everything up to here is told, or has nothing to tell.
    covered: u64,
    /// What comes after `covered` and up to here is in the feed.
    in_feed: u64,
    /// Whether the store may hold more after `covered` that has to be told before anything of the feed.
    behind: bool,
    ready: VecDeque<Published>,
    /// Of the feed, waiting until the store is read.
    held: Option<Arc<Published>>,
    /// Turns before this one have nothing in the feed.
    first_turn: TurnId,
    /// Items that were told complete from the store while the feed may still hold how they came about.
    complete: HashSet<ItemId>,
}

/// What becomes of an event of the feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Tell,
    /// It was told already, or is older than what was.
    Skip,
    /// Something before it was not told.
    Missed,
}

impl Subscription {
    pub(crate) fn new(feed: Feed<Arc<Published>>, log: Option<Log>) -> Self {
        Self { feed, log }
    }

    /// What happens next. May be dropped at any time without losing anything.
    pub async fn next(&mut self) -> Next<Arc<Published>> {
        let Some(log) = &mut self.log else { return self.feed.next().await };
        loop {
            if let Some(published) = log.ready.pop_front() {
                return Next::Event(Arc::new(published));
            }
            if log.behind {
                match log.read().await {
                    Ok(more) => log.behind = more,
                    Err(error) => return Next::Failed(Arc::new(error)),
                }
                continue;
            }
            let published = match log.held.take() {
                Some(held) => held,
                None => match self.feed.next().await {
                    Next::Event(published) => published,
                    over => return over,
                },
            };
            match log.judge(&published) {
                Verdict::Tell => return Next::Event(published),
                Verdict::Skip => {}
                Verdict::Missed => {
                    log.held = Some(published);
                    log.behind = true;
                }
            }
        }
    }

    /// The sequence number to go on from, when all that `next` has given was taken. 0 if stored events were not asked for.
    #[must_use]
    pub fn told(&self) -> u64 {
        let Some(log) = &self.log else { return 0 };
        log.ready.front().and_then(|next| next.sequence).map_or(log.covered, |next| next.saturating_sub(1))
    }
}

impl Log {
    /// The events after sequence number `after` of a thread in whose feed is nothing of turns before `first_turn`. `stored`
    /// if the thread is in the store by now.
    pub(crate) fn new(
        store: Arc<dyn ThreadStore>,
        (tenant, thread_id): (TenantId, ThreadId),
        after: u64,
        first_turn: TurnId,
        stored: bool,
    ) -> Self {
        Self {
            store,
            tenant,
            thread_id,
            covered: after,
            in_feed: after,
            behind: stored,
            ready: VecDeque::new(),
            held: None,
            first_turn,
            complete: HashSet::new(),
        }
    }

    /// Reads the next page; says whether there was one.
    async fn read(&mut self) -> Result<bool, agent_threads::Error> {
        let records = self.store.records(&self.tenant, self.thread_id, self.covered, PAGE).await?;
        let Some(last) = records.last() else { return Ok(false) };
        self.covered = last.sequence;
        self.in_feed = self.in_feed.max(last.sequence);
        for record in records {
            if let Entry::Item { turn_id, item } = &record.entry
                && *turn_id >= self.first_turn
            {
                self.complete.insert(item.id().clone());
            }
            self.ready.extend(told(record));
        }
        Ok(true)
    }

    fn judge(&mut self, published: &Published) -> Verdict {
        let Some(sequence) = published.sequence else {
            let late = published.event.of_item().is_some_and(|item| self.complete.contains(item));
            return if late { Verdict::Skip } else { Verdict::Tell };
        };
        if sequence <= self.covered {
            return Verdict::Skip;
        }
        // A turn that begins behind other entries of its commit has closed one there that a crash had left open.
        let closes = matches!(published.event, Event::TurnStarted { .. })
            && sequence > published.commit.before.saturating_add(1);
        if closes || published.commit.before > self.in_feed {
            self.covered = self.in_feed;
            return Verdict::Missed;
        }
        self.covered = sequence;
        self.in_feed = published.commit.last.max(sequence);
        // The feed is in the order of the log: what was told from the store is behind it.
        self.complete = HashSet::new();
        Verdict::Tell
    }
}

/// The event that tells a stored record, if a subscriber is told of it.
fn told(record: Record) -> Option<Published> {
    let Record { sequence, at_ms, entry } = record;
    let event = match entry {
        Entry::TurnStarted(start) => Event::TurnStarted { turn: TurnView::running(start.turn_id, at_ms) },
        Entry::Item { turn_id, item } => Event::ItemCompleted { turn_id, item, started_at_ms: at_ms, at_ms },
        Entry::Usage { turn_id, last, total } => {
            Event::TokenUsage { turn_id, tokens: TokenUsage { last, total, context_window: None } }
        }
        Entry::TurnEnded { turn_id, end } => Event::TurnCompleted {
            turn: TurnView { started_at_ms: None, ..TurnView::ended(turn_id, &end, 0, at_ms) },
        },
        Entry::Reverted { turn_id, keep } => Event::Reverted { turn_id, keep },
        Entry::ModelItem { .. } | Entry::ContextItem { .. } | Entry::Compacted { .. } => return None,
    };
    Some(Published { sequence: Some(sequence), at_ms, event, commit: Commit::default() })
}
