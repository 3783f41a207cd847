//! A store in memory that counts commits and can be told to fail.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use agent_threads::{
    Appended, Entry, Error, ItemRecord, Lease, ListQuery, Mark, MemoryStore, OwnerId, Page, PageQuery,
    ReadState, Record, TenantId, Thread, ThreadId, ThreadStore, ThreadUpdate, TraceRecord, TraceRow, TurnId,
    TurnPlace, TurnRecords,
};
use futures_util::{FutureExt as _, future::BoxFuture};

#[derive(Default)]
pub(crate) struct CountingStore {
    inner: Arc<MemoryStore>,
    pub(crate) commits: AtomicUsize,
    pub(crate) fails: AtomicBool,
    /// Whether logs cannot be read.
    pub(crate) blind: AtomicBool,
    /// How often everybody else may run between a write or read and its answer.
    pub(crate) yields: usize,
    /// How it takes what happened, and how often it was given any.
    pub(crate) traces: Traces,
    pub(crate) trace_writes: AtomicUsize,
}

/// How the store takes what happened in threads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Traces {
    #[default]
    Kept,
    Refused,
    /// It never answers.
    Hung,
    /// It does not answer the first one.
    HungOnce,
}

impl CountingStore {
    /// One that takes what happened in threads like this.
    pub(crate) fn taking(traces: Traces) -> Self {
        Self { traces, ..Self::default() }
    }

    pub(crate) fn commits(&self) -> usize {
        self.commits.load(Ordering::SeqCst)
    }

    fn answered_late<'a, T: Send + 'a>(
        &self,
        call: BoxFuture<'a, Result<T, Error>>,
    ) -> BoxFuture<'a, Result<T, Error>> {
        let yields = self.yields;
        async move {
            let answer = call.await;
            for _ in 0..yields {
                tokio::task::yield_now().await;
            }
            answer
        }
        .boxed()
    }

    fn count(&self) -> Result<(), Error> {
        self.commits.fetch_add(1, Ordering::SeqCst);
        match self.fails.load(Ordering::SeqCst) {
            true => Err(Error::Unavailable("disk full".into())),
            false => Ok(()),
        }
    }
}

impl ThreadStore for CountingStore {
    fn create<'a>(
        &'a self,
        thread: Thread,
        owner: &'a OwnerId,
        entries: Vec<Entry>,
    ) -> BoxFuture<'a, Result<(Lease, Appended), Error>> {
        match self.count() {
            Ok(()) => self.answered_late(self.inner.create(thread, owner, entries)),
            Err(error) => async { Err(error) }.boxed(),
        }
    }

    fn acquire<'a>(
        &'a self,
        tenant: &'a TenantId,
        id: ThreadId,
        owner: &'a OwnerId,
    ) -> BoxFuture<'a, Result<(Lease, Thread), Error>> {
        self.inner.acquire(tenant, id, owner)
    }

    fn append<'a>(
        &'a self,
        lease: &'a Lease,
        entries: Vec<Entry>,
        update: ThreadUpdate,
    ) -> BoxFuture<'a, Result<Appended, Error>> {
        match self.count() {
            Ok(()) => self.answered_late(self.inner.append(lease, entries, update)),
            Err(error) => async { Err(error) }.boxed(),
        }
    }

    fn fork<'a>(
        &'a self,
        source: ThreadId,
        through: u64,
        thread: Thread,
        owner: &'a OwnerId,
    ) -> BoxFuture<'a, Result<(Lease, Appended), Error>> {
        self.inner.fork(source, through, thread, owner)
    }

    fn revert<'a>(
        &'a self,
        lease: &'a Lease,
        keep: u64,
        entry: Entry,
    ) -> BoxFuture<'a, Result<Appended, Error>> {
        self.answered_late(self.inner.revert(lease, keep, entry))
    }

    fn turn_place<'a>(
        &'a self,
        tenant: &'a TenantId,
        id: ThreadId,
        turn: TurnId,
    ) -> BoxFuture<'a, Result<Option<TurnPlace>, Error>> {
        self.inner.turn_place(tenant, id, turn)
    }

    fn mark<'a>(
        &'a self,
        tenant: &'a TenantId,
        id: ThreadId,
        mark: Mark,
        seen: u64,
    ) -> BoxFuture<'a, Result<ReadState, Error>> {
        self.inner.mark(tenant, id, mark, seen)
    }

    fn thread<'a>(&'a self, tenant: &'a TenantId, id: ThreadId) -> BoxFuture<'a, Result<Thread, Error>> {
        self.inner.thread(tenant, id)
    }

    fn records<'a>(
        &'a self,
        tenant: &'a TenantId,
        id: ThreadId,
        after: u64,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<Record>, Error>> {
        match self.blind.load(Ordering::SeqCst) {
            true => async { Err(Error::Unavailable("no reads".into())) }.boxed(),
            false => self.answered_late(self.inner.records(tenant, id, after, limit)),
        }
    }

    fn turns<'a>(
        &'a self,
        tenant: &'a TenantId,
        id: ThreadId,
        page: PageQuery,
    ) -> BoxFuture<'a, Result<Page<TurnRecords>, Error>> {
        self.inner.turns(tenant, id, page)
    }

    fn items<'a>(
        &'a self,
        tenant: &'a TenantId,
        id: ThreadId,
        turn: Option<TurnId>,
        page: PageQuery,
    ) -> BoxFuture<'a, Result<Page<ItemRecord>, Error>> {
        self.inner.items(tenant, id, turn, page)
    }

    fn list<'a>(
        &'a self,
        tenant: &'a TenantId,
        query: ListQuery,
    ) -> BoxFuture<'a, Result<Page<Thread>, Error>> {
        self.inner.list(tenant, query)
    }

    fn update<'a>(
        &'a self,
        tenant: &'a TenantId,
        id: ThreadId,
        update: ThreadUpdate,
    ) -> BoxFuture<'a, Result<Thread, Error>> {
        self.inner.update(tenant, id, update)
    }

    fn trace(&self, rows: Vec<TraceRow>) -> BoxFuture<'_, Result<usize, Error>> {
        let before = self.trace_writes.fetch_add(1, Ordering::SeqCst);
        match self.traces {
            Traces::HungOnce if before == 0 => std::future::pending().boxed(),
            Traces::Kept | Traces::HungOnce => self.inner.trace(rows),
            Traces::Refused => async { Err(Error::Unavailable("no traces".into())) }.boxed(),
            Traces::Hung => std::future::pending().boxed(),
        }
    }

    fn traced<'a>(
        &'a self,
        tenant: &'a TenantId,
        id: ThreadId,
        after: u64,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<TraceRecord>, Error>> {
        self.inner.traced(tenant, id, after, limit)
    }

    fn delete<'a>(&'a self, tenant: &'a TenantId, id: ThreadId) -> BoxFuture<'a, Result<(), Error>> {
        self.inner.delete(tenant, id)
    }
}
