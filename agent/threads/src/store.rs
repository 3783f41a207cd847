//! What a thread store promises.
//!
//! Accepted is written: when `create` or `append` answers, the entries survive a crash of this process. An append carries
//! its owner's epoch, so a process that lost a thread cannot write to it. A foreign tenant's thread is not found.

use futures_util::future::BoxFuture;

use crate::{
    Entry, Item, Mark, OwnerId, ReadState, Record, TenantId, Thread, ThreadId, ThreadUpdate, TraceRecord,
    TraceRow, TurnId, page,
};

/// Keeps threads.
pub trait ThreadStore: Send + Sync + 'static {
    /// Writes a new thread with its first entries, owned by `owner`.
    fn create<'a>(
        &'a self,
        thread: Thread,
        owner: &'a OwnerId,
        entries: Vec<Entry>,
    ) -> BoxFuture<'a, Result<(Lease, Appended), Error>>;

    /// Writes a new thread whose log begins with the entries of `source` up to the sequence number `through`, owned by
    /// `owner`. What is copied keeps its places and times. The source is of the same tenant and does not change.
    fn fork<'a>(
        &'a self,
        source: ThreadId,
        through: u64,
        thread: Thread,
        owner: &'a OwnerId,
    ) -> BoxFuture<'a, Result<(Lease, Appended), Error>>;

    /// Makes `owner` the thread's only writer; whoever was it before cannot append any more. The owner itself may repeat
    /// the call: its earlier lease stays good.
    fn acquire<'a>(
        &'a self,
        tenant: &'a TenantId,
        id: ThreadId,
        owner: &'a OwnerId,
    ) -> BoxFuture<'a, Result<(Lease, Thread), Error>>;

    /// Appends all entries and applies the update, or nothing. A user message whose `client_id` is in the thread
    /// already is refused with `DuplicateMessage`. The end of a turn that was not stopped leaves the thread unread.
    fn append<'a>(
        &'a self,
        lease: &'a Lease,
        entries: Vec<Entry>,
        update: ThreadUpdate,
    ) -> BoxFuture<'a, Result<Appended, Error>>;

    /// Takes all entries after `keep` out of the log and appends `entry`, or nothing. Sequence numbers are not given out
    /// again. The thread counts as read.
    fn revert<'a>(
        &'a self,
        lease: &'a Lease,
        keep: u64,
        entry: Entry,
    ) -> BoxFuture<'a, Result<Appended, Error>>;

    /// A thread's facts.
    fn thread<'a>(&'a self, tenant: &'a TenantId, id: ThreadId) -> BoxFuture<'a, Result<Thread, Error>>;

    /// At most `limit` records after sequence number `after`, in order; 0 stands for the store's own bound.
    fn records<'a>(
        &'a self,
        tenant: &'a TenantId,
        id: ThreadId,
        after: u64,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<Record>, Error>>;

    /// A page of turns in the order of their `TurnStarted`, each with its records except the model's items. A page with
    /// long turns ends early, but has one turn at least.
    fn turns<'a>(
        &'a self,
        tenant: &'a TenantId,
        id: ThreadId,
        page: PageQuery,
    ) -> BoxFuture<'a, Result<Page<TurnRecords>, Error>>;

    /// Where a turn stands in the log; `None` if the thread has no such turn.
    fn turn_place<'a>(
        &'a self,
        tenant: &'a TenantId,
        id: ThreadId,
        turn: TurnId,
    ) -> BoxFuture<'a, Result<Option<TurnPlace>, Error>>;

    /// A page of items, of one turn or of all.
    fn items<'a>(
        &'a self,
        tenant: &'a TenantId,
        id: ThreadId,
        turn: Option<TurnId>,
        page: PageQuery,
    ) -> BoxFuture<'a, Result<Page<ItemRecord>, Error>>;

    /// A page of a tenant's threads. A thread that grows while it is paged by `UpdatedAt` may move past the cursor.
    fn list<'a>(
        &'a self,
        tenant: &'a TenantId,
        query: ListQuery,
    ) -> BoxFuture<'a, Result<Page<Thread>, Error>>;

    /// Changes a thread's facts, whoever owns it.
    fn update<'a>(
        &'a self,
        tenant: &'a TenantId,
        id: ThreadId,
        update: ThreadUpdate,
    ) -> BoxFuture<'a, Result<Thread, Error>>;

    /// Marks a thread as read or unread for a user who has seen it at revision `seen`; refused with `ReadStateChanged`
    /// if it is at another one by now.
    fn mark<'a>(
        &'a self,
        tenant: &'a TenantId,
        id: ThreadId,
        mark: Mark,
        seen: u64,
    ) -> BoxFuture<'a, Result<ReadState, Error>>;

    /// Keeps what happened in threads, and tells of how many rows. Rows of a thread that is not there are passed over, and
    /// of a thread the newest few thousand are kept. Forks take what happened in their turns along; a revert takes nothing
    /// of it back.
    fn trace(&self, rows: Vec<TraceRow>) -> BoxFuture<'_, Result<usize, Error>>;

    /// At most `limit` things that happened in a thread, after the one with number `after`, in order; 0 stands for the
    /// store's own bound.
    fn traced<'a>(
        &'a self,
        tenant: &'a TenantId,
        id: ThreadId,
        after: u64,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<TraceRecord>, Error>>;

    /// Removes a thread, its log, and what happened in it.
    fn delete<'a>(&'a self, tenant: &'a TenantId, id: ThreadId) -> BoxFuture<'a, Result<(), Error>>;
}

/// The right to append to a thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Whose thread.
    pub tenant: TenantId,
    /// The thread.
    pub thread_id: ThreadId,
    /// Grows with every change of the owner.
    pub epoch: u64,
}

/// Where appended entries stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The last sequence number of the thread.
    pub last_sequence: u64,
    /// When they were accepted, in Unix milliseconds.
    pub at_ms: i64,
    /// What is unread after them.
    pub read_state: ReadState,
}

/// Where a turn stands in its thread's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TurnPlace {
    /// The sequence number of its `TurnStarted`.
    pub start: u64,
    /// That of the turn after it, if there is one.
    pub next: Option<u64>,
}

/// A turn's records, in order.
#[derive(Debug, Clone)]
pub struct TurnRecords {
    /// The turn.
    pub turn_id: TurnId,
    /// Its records except the model's items.
    pub records: Vec<Record>,
}

/// An item with its place.
#[derive(Debug, Clone)]
pub struct ItemRecord {
    /// The turn it belongs to.
    pub turn_id: TurnId,
    /// Its place in the log.
    pub sequence: u64,
    /// When it was accepted, in Unix milliseconds.
    pub at_ms: i64,
    /// The item.
    pub item: Item,
}

impl ItemRecord {
    /// The cursor of a list of items that goes on past this one, in either direction.
    #[must_use]
    pub fn cursor(&self) -> String {
        page::past_item(self.sequence)
    }
}

/// Which way a page goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// From the oldest to the newest.
    #[default]
    Ascending,
    /// From the newest to the oldest.
    Descending,
}

/// Which page of a thread's log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PageQuery {
    /// A cursor of an earlier page; its form is the store's own.
    pub cursor: Option<String>,
    /// At most so many; the store has a bound of its own, for which 0 stands.
    pub limit: u32,
    /// Which way.
    pub direction: Direction,
}

/// A page, with cursors to go on from it.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// The page's elements.
    pub elements: Vec<T>,
    /// Goes on in the same direction; `None` at the end.
    pub next: Option<String>,
    /// Goes back in the other direction from the page's first element, that element included; `None` on an empty page.
    pub backwards: Option<String>,
}

/// How threads are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SortKey {
    /// By their start.
    #[default]
    CreatedAt,
    /// By their last entry.
    UpdatedAt,
}

/// Which threads.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListQuery {
    /// Which page.
    pub page: PageQuery,
    /// How they are sorted.
    pub sort: SortKey,
    /// Archived ones, or the others.
    pub archived: bool,
    /// Only of these sources; empty means all.
    pub sources: Vec<String>,
    /// Only with these working directories; empty means all.
    pub cwds: Vec<String>,
    /// Only of these providers; empty means all.
    pub providers: Vec<String>,
    /// Without these threads.
    pub except: Vec<ThreadId>,
    /// Only with this text in the name or the preview, in any case.
    pub search: Option<String>,
}

/// Why a store refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such thread in this tenant.
    #[error("thread not found: {0}")]
    NotFound(ThreadId),
    /// The thread is there already.
    #[error("thread exists already: {0}")]
    Exists(ThreadId),
    /// Another process owns the thread by now.
    #[error("another process owns thread {0} by now")]
    StaleOwner(ThreadId),
    /// The message is in the thread already.
    #[error("the message is in turn {turn_id} already")]
    DuplicateMessage {
        /// The turn that it began or joined.
        turn_id: TurnId,
    },
    /// The read state is another one than the caller has seen.
    #[error("read state changed")]
    ReadStateChanged(ReadState),
    /// The cursor is not one of this store's.
    #[error("not a cursor of this list")]
    BadCursor,
    /// The call asks for more than a store takes.
    #[error("{what} over the limit of {limit}")]
    TooLarge {
        /// What is too large, with its unit.
        what: &'static str,
        /// How much it may be.
        limit: usize,
    },
    /// The store holds something that this version cannot read.
    #[error("the store holds something unreadable at {place}")]
    Corrupt {
        /// Where.
        place: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The store cannot be reached or written; a repeat may help.
    #[error("the thread store failed")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// Whether the same call can succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unavailable(_) => true,
            Self::NotFound(_)
            | Self::Exists(_)
            | Self::StaleOwner(_)
            | Self::DuplicateMessage { .. }
            | Self::ReadStateChanged(_)
            | Self::BadCursor
            | Self::TooLarge { .. }
            | Self::Corrupt { .. } => false,
        }
    }
}
