//! The one task of a process that writes.
//!
//! Takes all writes that wait, runs them in one transaction and answers after the commit. A refused write is answered for
//! itself; a failure of the database fails all writes of the transaction, none of which is then written. What happened in
//! threads comes after everything else, in a transaction of its own that does not wait for the disk.

use std::sync::Arc;

use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::sync::{mpsc, oneshot};

use super::{
    QUEUE_MAX,
    failure::{Failure, means_damage, unavailable},
    open, trace, write,
};
use crate::{
    Appended, Clock, Error, Lease, Mark, OwnerId, ReadState, TenantId, Thread, ThreadId, TraceRow,
    encoded::{EncodedUpdate, NewThread, Write, corrupt},
};

/// Where a write's answer goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// A write.
pub(super) enum Job {
    Create { new: Box<NewThread>, owner: OwnerId, reply: Reply<(Lease, Appended)> },
    Acquire { tenant: TenantId, id: ThreadId, owner: OwnerId, reply: Reply<(Lease, Thread)> },
    Fork { source: Source, new: Box<NewThread>, owner: OwnerId, reply: Reply<(Lease, Appended)> },
    Append { lease: Lease, write: Box<Write>, reply: Reply<Appended> },
    Revert { lease: Lease, keep: u64, write: Box<Write>, reply: Reply<Appended> },
    Update { tenant: TenantId, id: ThreadId, update: Box<EncodedUpdate>, reply: Reply<Thread> },
    Mark { tenant: TenantId, id: ThreadId, mark: Mark, seen: u64, reply: Reply<ReadState> },
    Delete { tenant: TenantId, id: ThreadId, reply: Reply<()> },
    Trace { rows: Vec<TraceRow>, reply: Reply<usize> },
}

/// What a fork copies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source {
    pub(super) id: ThreadId,
    pub(super) through: u64,
}

/// Sends an answer once it is known whether the transaction failed.
type Answer = Box<dyn FnOnce(Option<&Arc<sqlx::Error>>) + Send>;

/// Writes.
pub(super) struct Writer {
    options: SqliteConnectOptions,
    /// `None` after a failure that left the connection in doubt.
    connection: Option<SqliteConnection>,
    clock: Clock,
}

impl Writer {
    /// A writer with an open connection, and the way to open another.
    pub(super) fn new(options: SqliteConnectOptions, connection: SqliteConnection, clock: Clock) -> Self {
        Self { options, connection: Some(connection), clock }
    }

    /// Writes until nobody can hand in writes any more.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut jobs = Vec::with_capacity(QUEUE_MAX);
        while queue.recv_many(&mut jobs, QUEUE_MAX).await > 0 {
            let mut traces: Vec<Job> = jobs.extract_if(.., |job| job.is_trace()).collect();
            if !jobs.is_empty() {
                self.write(&mut jobs).await;
            }
            if !traces.is_empty() {
                self.write_late(&mut traces).await;
            }
        }
        if let Some(mut connection) = self.connection {
            // Best effort: another process may be reading, and the log is good where it is.
            let _ = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await;
            let _ = connection.close().await;
        }
    }

    async fn write(&mut self, jobs: &mut Vec<Job>) {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => match open::writer(&self.options).await {
                Ok(connection) => connection,
                Err(error) => {
                    let error = Arc::new(sqlx::Error::AnyDriverError(Box::new(error)));
                    return jobs.drain(..).for_each(|job| job.fail(&error));
                }
            },
        };
        let mut answers = Vec::with_capacity(jobs.len());
        let mut waiting = jobs.drain(..);
        let result = self.transaction(&mut connection, &mut waiting, &mut answers).await.map_err(Arc::new);
        let failed = result.as_ref().err();
        // A connection whose rollback failed cannot begin again.
        if failed.is_none() || (connection.ping().await.is_ok() && !connection.is_in_transaction()) {
            self.connection = Some(connection);
        }
        answers.into_iter().for_each(|answer| answer(failed));
        if let Some(error) = failed {
            waiting.for_each(|job| job.fail(error));
        }
    }

    /// Writes what may be lost with the machine's power: nobody waits for the disk on its account.
    async fn write_late(&mut self, jobs: &mut Vec<Job>) {
        self.wait_for_disk("PRAGMA synchronous = NORMAL").await;
        self.write(jobs).await;
        self.wait_for_disk("PRAGMA synchronous = FULL").await;
    }

    /// A connection that cannot be told how to write is in doubt; the next one is opened as it should be.
    async fn wait_for_disk(&mut self, pragma: &'static str) {
        if let Some(connection) = &mut self.connection
            && sqlx::query(pragma).execute(connection).await.is_err()
        {
            self.connection = None;
        }
    }

    async fn transaction(
        &self,
        connection: &mut SqliteConnection,
        jobs: &mut (impl Iterator<Item = Job> + Send),
        answers: &mut Vec<Answer>,
    ) -> Result<(), sqlx::Error> {
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        for job in jobs {
            let (answer, failed) = job.run(&mut transaction, (self.clock)()).await;
            answers.push(answer);
            if let Some(error) = failed {
                return Err(error);
            }
        }
        transaction.commit().await
    }
}

impl Job {
    fn is_trace(&self) -> bool {
        matches!(self, Self::Trace { .. })
    }

    async fn run(self, connection: &mut SqliteConnection, now_ms: i64) -> (Answer, Option<sqlx::Error>) {
        match self {
            Self::Create { new, owner, reply } => {
                settle(reply, write::create(connection, &new, &owner, now_ms).await)
            }
            Self::Acquire { tenant, id, owner, reply } => {
                settle(reply, write::acquire(connection, &tenant, id, &owner).await)
            }
            Self::Fork { source, new, owner, reply } => {
                settle(reply, write::fork(connection, source, &new, &owner).await)
            }
            Self::Append { lease, write, reply } => {
                settle(reply, write::append(connection, &lease, &write, now_ms).await)
            }
            Self::Revert { lease, keep, write, reply } => {
                settle(reply, write::revert(connection, &lease, keep, &write.entries, now_ms).await)
            }
            Self::Update { tenant, id, update, reply } => {
                settle(reply, write::update(connection, &tenant, id, &update).await)
            }
            Self::Mark { tenant, id, mark, seen, reply } => {
                settle(reply, write::mark(connection, &tenant, id, mark, seen).await)
            }
            Self::Delete { tenant, id, reply } => settle(reply, write::delete(connection, &tenant, id).await),
            Self::Trace { rows, reply } => settle(reply, trace::keep(connection, &rows).await),
        }
    }

    /// Answers a write that was not tried.
    fn fail(self, error: &Arc<sqlx::Error>) {
        match self {
            Self::Create { reply, .. } | Self::Fork { reply, .. } => send(reply, Err(write_error(error))),
            Self::Acquire { reply, .. } => send(reply, Err(write_error(error))),
            Self::Append { reply, .. } | Self::Revert { reply, .. } => send(reply, Err(write_error(error))),
            Self::Mark { reply, .. } => send(reply, Err(write_error(error))),
            Self::Update { reply, .. } => send(reply, Err(write_error(error))),
            Self::Delete { reply, .. } => send(reply, Err(write_error(error))),
            Self::Trace { reply, .. } => send(reply, Err(write_error(error))),
        }
    }
}

fn settle<T: Send + 'static>(reply: Reply<T>, result: Result<T, Failure>) -> (Answer, Option<sqlx::Error>) {
    let (result, failed) = match result {
        Ok(done) => (Ok(done), None),
        Err(Failure::Refused(error)) => (Err(error), None),
        Err(Failure::Database(error)) => (Err(unavailable("the write failed")), Some(error)),
    };
    let answer = move |failed: Option<&Arc<sqlx::Error>>| match failed {
        None => send(reply, result),
        Some(error) => send(reply, Err(write_error(error))),
    };
    (Box::new(answer), failed)
}

fn send<T>(reply: Reply<T>, answer: Result<T, Error>) {
    // A caller that is gone has what it asked for all the same.
    let _ = reply.send(answer);
}

fn write_error(error: &Arc<sqlx::Error>) -> Error {
    if means_damage(error) {
        corrupt("the database file".to_owned(), Arc::clone(error))
    } else {
        unavailable(Arc::clone(error))
    }
}
