//! The one thread of a process that writes.
//!
//! Takes all writes that wait, runs them in one transaction and answers after the commit. A refused write is answered for
//! itself; a failure of the database fails all writes of the transaction, none of which is then written. What happened in
//! threads comes after everything else, in a transaction of its own that does not wait for the disk.

use std::{path::PathBuf, sync::Arc};

use rusqlite::Connection;
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
type Answer = Box<dyn FnOnce(Option<&Broken>)>;

/// Why no write of a transaction has happened.
struct Broken {
    damaged: bool,
    cause: Arc<dyn std::error::Error + Send + Sync>,
}

impl From<rusqlite::Error> for Broken {
    fn from(error: rusqlite::Error) -> Self {
        Self { damaged: means_damage(&error), cause: Arc::new(error) }
    }
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Self { damaged: matches!(error, Error::Corrupt { .. }), cause: Arc::new(error) }
    }
}

impl Broken {
    /// The error for the caller of one of the writes.
    fn error(&self) -> Error {
        let cause = Arc::clone(&self.cause);
        if self.damaged { corrupt("the database file".to_owned(), cause) } else { unavailable(cause) }
    }
}

/// Writes.
pub(super) struct Writer {
    path: PathBuf,
    /// `None` after a failure that left the connection in doubt.
    connection: Option<Connection>,
    clock: Clock,
}

impl Writer {
    /// A writer with an open connection to the file.
    pub(super) fn new(path: PathBuf, connection: Connection, clock: Clock) -> Self {
        Self { path, connection: Some(connection), clock }
    }

    /// Writes until nobody can hand in writes any more.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut jobs = Vec::with_capacity(QUEUE_MAX);
        while queue.blocking_recv_many(&mut jobs, QUEUE_MAX) > 0 {
            let mut traces: Vec<Job> = jobs.extract_if(.., |job| job.is_trace()).collect();
            if !jobs.is_empty() {
                self.write(&mut jobs);
            }
            if !traces.is_empty() {
                self.write_late(&mut traces);
            }
        }
        if let Some(connection) = self.connection {
            // Best effort: another process may be reading, and the log is good where it is.
            let _ = connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)");
        }
    }

    fn write(&mut self, jobs: &mut Vec<Job>) {
        let connection = match self.connection.take().map_or_else(|| open::writer(&self.path), Ok) {
            Ok(connection) => connection,
            Err(error) => {
                let broken = Broken::from(error);
                return jobs.drain(..).for_each(|job| job.fail(&broken));
            }
        };
        let mut answers = Vec::with_capacity(jobs.len());
        let mut waiting = jobs.drain(..);
        let result = self.transaction(&connection, &mut waiting, &mut answers).map_err(Broken::from);
        // A connection whose rollback failed cannot begin again.
        if connection.is_autocommit() {
            self.connection = Some(connection);
        }
        let failed = result.as_ref().err();
        answers.into_iter().for_each(|answer| answer(failed));
        if let Some(broken) = failed {
            waiting.for_each(|job| job.fail(broken));
        }
    }

    /// Writes what may be lost with the machine's power: nobody waits for the disk on its account.
    fn write_late(&mut self, jobs: &mut Vec<Job>) {
        self.set("PRAGMA synchronous = NORMAL");
        self.write(jobs);
        self.set("PRAGMA synchronous = FULL");
    }

    /// A connection that cannot be told how to write is in doubt; the next one is opened as it should be.
    fn set(&mut self, pragma: &'static str) {
        self.connection =
            self.connection.take().filter(|connection| connection.execute_batch(pragma).is_ok());
    }

    fn transaction(
        &self,
        connection: &Connection,
        jobs: &mut impl Iterator<Item = Job>,
        answers: &mut Vec<Answer>,
    ) -> rusqlite::Result<()> {
        // Prepared once: a transaction of rusqlite's own would have both words parsed anew for every commit.
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute(())?;
        let done = self
            .run_all(connection, jobs, answers)
            .and_then(|()| connection.prepare_cached("COMMIT")?.execute(()).map(drop));
        if done.is_err() {
            // Best effort: SQLite may have rolled back by itself.
            let _ = connection.execute_batch("ROLLBACK");
        }
        done
    }

    fn run_all(
        &self,
        connection: &Connection,
        jobs: &mut impl Iterator<Item = Job>,
        answers: &mut Vec<Answer>,
    ) -> rusqlite::Result<()> {
        for job in jobs {
            let (answer, failed) = job.run(connection, (self.clock)());
            answers.push(answer);
            if let Some(error) = failed {
                return Err(error);
            }
        }
        Ok(())
    }
}

impl Job {
    fn is_trace(&self) -> bool {
        matches!(self, Self::Trace { .. })
    }

    fn run(self, connection: &Connection, now_ms: i64) -> (Answer, Option<rusqlite::Error>) {
        match self {
            Self::Create { new, owner, reply } => {
                settle(reply, write::create(connection, &new, &owner, now_ms))
            }
            Self::Acquire { tenant, id, owner, reply } => {
                settle(reply, write::acquire(connection, &tenant, id, &owner))
            }
            Self::Fork { source, new, owner, reply } => {
                settle(reply, write::fork(connection, source, &new, &owner))
            }
            Self::Append { lease, write, reply } => {
                settle(reply, write::append(connection, &lease, &write, now_ms))
            }
            Self::Revert { lease, keep, write, reply } => {
                settle(reply, write::revert(connection, &lease, keep, &write.entries, now_ms))
            }
            Self::Update { tenant, id, update, reply } => {
                settle(reply, write::update(connection, &tenant, id, &update))
            }
            Self::Mark { tenant, id, mark, seen, reply } => {
                settle(reply, write::mark(connection, &tenant, id, mark, seen))
            }
            Self::Delete { tenant, id, reply } => settle(reply, write::delete(connection, &tenant, id)),
            Self::Trace { rows, reply } => settle(reply, trace::keep(connection, &rows)),
        }
    }

    /// Answers a write that was not tried.
    fn fail(self, broken: &Broken) {
        match self {
            Self::Create { reply, .. } | Self::Fork { reply, .. } => send(reply, Err(broken.error())),
            Self::Acquire { reply, .. } => send(reply, Err(broken.error())),
            Self::Append { reply, .. } | Self::Revert { reply, .. } => send(reply, Err(broken.error())),
            Self::Mark { reply, .. } => send(reply, Err(broken.error())),
            Self::Update { reply, .. } => send(reply, Err(broken.error())),
            Self::Delete { reply, .. } => send(reply, Err(broken.error())),
            Self::Trace { reply, .. } => send(reply, Err(broken.error())),
        }
    }
}

fn settle<T: 'static>(reply: Reply<T>, result: Result<T, Failure>) -> (Answer, Option<rusqlite::Error>) {
    let (result, failed) = match result {
        Ok(done) => (Ok(done), None),
        Err(Failure::Refused(error)) => (Err(error), None),
        Err(Failure::Database(error)) => (Err(unavailable("the write failed")), Some(error)),
    };
    let answer = move |broken: Option<&Broken>| match broken {
        None => send(reply, result),
        Some(broken) => send(reply, Err(broken.error())),
    };
    (Box::new(answer), failed)
}

fn send<T>(reply: Reply<T>, answer: Result<T, Error>) {
    // A caller that is gone has what it asked for all the same.
    let _ = reply.send(answer);
}
