//! A store that says "written" and writes later: what a test of crashes has to catch.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use agent_threads::{
    Appended, Entry, Error, ItemRecord, Lease, ListQuery, Mark, OwnerId, Page, PageQuery, ReadState, Record,
    TenantId, Thread, ThreadId, ThreadStore, ThreadUpdate, TraceRecord, TraceRow, TurnId, TurnPlace,
    TurnRecords,
};
use futures_util::future::{BoxFuture, FutureExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// How long after its acknowledgement a write is written.
const LATE: Duration = Duration::from_millis(10);
/// How many writes may wait.
const QUEUE_MAX: usize = 1_024;

/// Writes late.
pub(super) struct Early {
    store: Arc<dyn ThreadStore>,
    queue: mpsc::Sender<Write>,
    /// The last sequence number that was promised in each thread.
    promised: Mutex<HashMap<ThreadId, u64>>,
    _writer: JoinSet<()>,
}

enum Write {
    Create(Box<Thread>, OwnerId, Vec<Entry>),
    Append(Lease, Vec<Entry>, Box<ThreadUpdate>),
}

impl Early {
    pub(super) fn over(store: Arc<dyn ThreadStore>) -> Self {
        let (queue, mut writes) = mpsc::channel(QUEUE_MAX);
        let mut writer = JoinSet::new();
        let behind = Arc::clone(&store);
        writer.spawn(async move {
            while let Some(write) = writes.recv().await {
                tokio::time::sleep(LATE).await;
                // A write that is refused was promised all the same.
                match write {
                    Write::Create(thread, owner, entries) => {
                        drop(behind.create(*thread, &owner, entries).await);
                    }
                    Write::Append(lease, entries, update) => {
                        drop(behind.append(&lease, entries, *update).await);
                    }
                }
            }
        });
        Self { store, queue, promised: Mutex::default(), _writer: writer }
    }

    async fn promise(&self, id: ThreadId, entries: usize, write: Write) -> Result<Appended, Error> {
        self.queue.send(write).await.map_err(|error| Error::Unavailable(Box::new(error)))?;
        let mut promised = self.promised.lock().unwrap_or_else(PoisonError::into_inner);
        let last = promised.entry(id).or_default();
        *last = last.saturating_add(u64::try_from(entries).unwrap_or(0));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at_ms = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        Ok(Appended { last_sequence: *last, at_ms, read_state: ReadState::default() })
    }
}

impl ThreadStore for Early {
    fn create<'a>(
        &'a self,
        thread: Thread,
        owner: &'a OwnerId,
        entries: Vec<Entry>,
    ) -> BoxFuture<'a, Result<(Lease, Appended), Error>> {
        async move {
            let lease = Lease { tenant: thread.tenant.clone(), thread_id: thread.id, epoch: 1 };
            let count = entries.len();
            let write = Write::Create(Box::new(thread), owner.clone(), entries);
            let appended = self.promise(lease.thread_id, count, write).await?;
            Ok((lease, appended))
        }
        .boxed()
    }

    fn append<'a>(
        &'a self,
        lease: &'a Lease,
        entries: Vec<Entry>,
        update: ThreadUpdate,
    ) -> BoxFuture<'a, Result<Appended, Error>> {
        let count = entries.len();
        let write = Write::Append(lease.clone(), entries, Box::new(update));
        self.promise(lease.thread_id, count, write).boxed()
    }

    delegated!();
}
