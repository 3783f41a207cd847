//! Threads in one SQLite file, which several processes may have open at once.
//!
//! One thread writes, and puts the writes that wait into one transaction; a few connections read beside it. An answer to a
//! write is given after the commit is on the disk. A write that was handed to the thread happens whether or not its caller
//! still waits.

mod failure;
mod open;
mod read;
mod readers;
mod rows;
mod select;
mod statement;
mod trace;
mod write;
mod writer;

use std::{
    path::Path,
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use futures_util::future::{BoxFuture, FutureExt};
use tokio::{
    sync::{
        mpsc::{self, error::SendTimeoutError},
        oneshot,
    },
    task::spawn_blocking,
};
use tokio_util::task::TaskTracker;

use crate::{
    Appended, Clock, Entry, Error, ItemRecord, Lease, ListQuery, Mark, OwnerId, Page, PageQuery, ReadState,
    Record, TenantId, Thread, ThreadId, ThreadStore, ThreadUpdate, TraceRecord, TraceRow, TurnId, TurnPlace,
    TurnRecords, clock, encoded,
};
use failure::unavailable;
use readers::Readers;
use writer::{Job, Reply, Source, Writer};

/// How many writes wait at most; all of them fit into the next transaction.
const QUEUE_MAX: usize = 256;
/// How long a write waits for a place in the queue.
const QUEUE_WAIT: Duration = Duration::from_secs(10);

/// Keeps threads in a SQLite file.
pub struct SqliteStore {
    readers: Readers,
    /// `None` once the store is closed.
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    writer: TaskTracker,
}

impl SqliteStore {
    /// Opens the store in this file, which is made if it is missing, and so is its directory; both for this user only.
    ///
    /// # Errors
    /// `Corrupt` if the file is something else, is damaged, or was written by a newer version; `Unavailable` if it cannot be
    /// opened or is busy for too long.
    pub async fn open(path: &Path) -> Result<Self, Error> {
        Self::open_with_clock(path, clock::system()).await
    }

    /// Opens the store in this file with a clock of its own.
    ///
    /// # Errors
    /// As `open`.
    pub async fn open_with_clock(path: &Path, clock: Clock) -> Result<Self, Error> {
        let path = path.to_owned();
        let file = path.clone();
        let opened = spawn_blocking(move || open::first(&file)).await.map_err(unavailable)??;
        let writer = Writer::new(path.clone(), opened, clock);
        let (jobs, queue) = mpsc::channel(QUEUE_MAX);
        let tracker = TaskTracker::new();
        let token = tracker.token();
        let run = move || {
            writer.run(queue);
            drop(token);
        };
        thread::Builder::new().name("threads-writer".to_owned()).spawn(run).map_err(unavailable)?;
        tracker.close();
        Ok(Self { readers: Readers::of(path), jobs: Mutex::new(Some(jobs)), writer: tracker })
    }

    /// Finishes the writes that were accepted, moves the log into the main file and lets go of both. A call after it is
    /// refused.
    pub async fn close(&self) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.readers.close().await;
        self.writer.wait().await;
    }

    async fn submit<T>(&self, job: impl FnOnce(Reply<T>) -> Job) -> Result<T, Error> {
        let closed = || unavailable("the store is closed");
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or_else(closed)?;
        let (reply, answer) = oneshot::channel();
        jobs.send_timeout(job(reply), QUEUE_WAIT).await.map_err(|error| match error {
            SendTimeoutError::Timeout(_) => unavailable("too many writes wait"),
            SendTimeoutError::Closed(_) => closed(),
        })?;
        drop(jobs);
        answer.await.map_err(|_| unavailable("the writer is gone"))?
    }
}

impl ThreadStore for SqliteStore {
    fn create<'a>(
        &'a self,
        thread: Thread,
        owner: &'a OwnerId,
        entries: Vec<Entry>,
    ) -> BoxFuture<'a, Result<(Lease, Appended), Error>> {
        async move {
            let new = Box::new(encoded::new_thread(thread, &entries)?);
            self.submit(|reply| Job::Create { new, owner: owner.clone(), reply }).await
        }
        .boxed()
    }

    fn fork<'a>(
        &'a self,
        source: ThreadId,
        through: u64,
        thread: Thread,
        owner: &'a OwnerId,
    ) -> BoxFuture<'a, Result<(Lease, Appended), Error>> {
        async move {
            let (new, owner) = (Box::new(encoded::new_thread(thread, &[])?), owner.clone());
            self.submit(|reply| Job::Fork { source: Source { id: source, through }, new, owner, reply }).await
        }
        .boxed()
    }

    fn acquire<'a>(
        &'a self,
        tenant: &'a TenantId,
        id: ThreadId,
        owner: &'a OwnerId,
    ) -> BoxFuture<'a, Result<(Lease, Thread), Error>> {
        let job = move |reply| Job::Acquire { tenant: tenant.clone(), id, owner: owner.clone(), reply };
        self.submit(job).boxed()
    }

    fn append<'a>(
        &'a self,
        lease: &'a Lease,
        entries: Vec<Entry>,
        update: ThreadUpdate,
    ) -> BoxFuture<'a, Result<Appended, Error>> {
        async move {
            let write = Box::new(encoded::write(&entries, update)?);
            self.submit(|reply| Job::Append { lease: lease.clone(), write, reply }).await
        }
        .boxed()
    }

    fn revert<'a>(
        &'a self,
        lease: &'a Lease,
        keep: u64,
        entry: Entry,
    ) -> BoxFuture<'a, Result<Appended, Error>> {
        async move {
            let write = Box::new(encoded::write(&[entry], ThreadUpdate::default())?);
            self.submit(|reply| Job::Revert { lease: lease.clone(), keep, write, reply }).await
        }
        .boxed()
    }

    fn thread<'a>(&'a self, tenant: &'a TenantId, id: ThreadId) -> BoxFuture<'a, Result<Thread, Error>> {
        let tenant = tenant.clone();
        self.readers.run(move |connection| read::thread(connection, &tenant, id)).boxed()
    }

    fn records<'a>(
        &'a self,
        tenant: &'a TenantId,
        id: ThreadId,
        after: u64,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<Record>, Error>> {
        let tenant = tenant.clone();
        self.readers.run(move |connection| read::records(connection, &tenant, id, after, limit)).boxed()
    }

    fn turns<'a>(
        &'a self,
        tenant: &'a TenantId,
        id: ThreadId,
        page: PageQuery,
    ) -> BoxFuture<'a, Result<Page<TurnRecords>, Error>> {
        let tenant = tenant.clone();
        self.readers.run(move |connection| read::turns(connection, &tenant, id, &page)).boxed()
    }

    fn turn_place<'a>(
        &'a self,
        tenant: &'a TenantId,
        id: ThreadId,
        turn: TurnId,
    ) -> BoxFuture<'a, Result<Option<TurnPlace>, Error>> {
        let tenant = tenant.clone();
        self.readers.run(move |connection| read::turn_place(connection, &tenant, id, turn)).boxed()
    }

    fn items<'a>(
        &'a self,
        tenant: &'a TenantId,
        id: ThreadId,
        turn: Option<TurnId>,
        page: PageQuery,
    ) -> BoxFuture<'a, Result<Page<ItemRecord>, Error>> {
        let tenant = tenant.clone();
        self.readers.run(move |connection| read::items(connection, &tenant, id, turn, &page)).boxed()
    }

    fn list<'a>(
        &'a self,
        tenant: &'a TenantId,
        query: ListQuery,
    ) -> BoxFuture<'a, Result<Page<Thread>, Error>> {
        let tenant = tenant.clone();
        self.readers.run(move |connection| read::list(connection, &tenant, &query)).boxed()
    }

    fn update<'a>(
        &'a self,
        tenant: &'a TenantId,
        id: ThreadId,
        update: ThreadUpdate,
    ) -> BoxFuture<'a, Result<Thread, Error>> {
        async move {
            let update = Box::new(encoded::write(&[], update)?.update);
            self.submit(|reply| Job::Update { tenant: tenant.clone(), id, update, reply }).await
        }
        .boxed()
    }

    fn mark<'a>(
        &'a self,
        tenant: &'a TenantId,
        id: ThreadId,
        mark: Mark,
        seen: u64,
    ) -> BoxFuture<'a, Result<ReadState, Error>> {
        self.submit(move |reply| Job::Mark { tenant: tenant.clone(), id, mark, seen, reply }).boxed()
    }

    fn trace(&self, rows: Vec<TraceRow>) -> BoxFuture<'_, Result<usize, Error>> {
        self.submit(move |reply| Job::Trace { rows, reply }).boxed()
    }

    fn traced<'a>(
        &'a self,
        tenant: &'a TenantId,
        id: ThreadId,
        after: u64,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<TraceRecord>, Error>> {
        let tenant = tenant.clone();
        self.readers.run(move |connection| trace::read(connection, &tenant, id, after, limit)).boxed()
    }

    fn delete<'a>(&'a self, tenant: &'a TenantId, id: ThreadId) -> BoxFuture<'a, Result<(), Error>> {
        self.submit(move |reply| Job::Delete { tenant: tenant.clone(), id, reply }).boxed()
    }
}
