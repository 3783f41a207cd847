//! Supervises the long-running parts of a process: when one of them ends early, the process goes down in order.
//!
//! A part that fails, panics or ends before the drain began names itself in the error. Nothing is restarted:
//! that is the platform's job.

use std::collections::HashMap;
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinSet};

use crate::drain::Drain;
use crate::signals::Signals;

/// How long parts may take to end after every connection was dropped.
const STUCK_AFTER: Duration = Duration::from_secs(5);

/// Why a process went down without being asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A part returned an error.
    #[error("{name} failed")]
    Failed {
        /// The part.
        name: &'static str,
        /// What it said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A part panicked; the panic was logged where it happened.
    #[error("{name} panicked")]
    Panicked {
        /// The part.
        name: &'static str,
    },
    /// A part returned although nobody asked it to.
    #[error("{name} ended early")]
    EndedEarly {
        /// The part.
        name: &'static str,
    },
    /// A part did not end within its time after the drain.
    #[error("{name} did not stop in time")]
    Stuck {
        /// The part.
        name: &'static str,
    },
}

/// The named parts of a process.
#[derive(Debug)]
pub struct Tasks {
    drain: Drain,
    set: JoinSet<anyhow::Result<()>>,
    names: HashMap<Id, &'static str>,
}

impl Tasks {
    /// An empty set whose failures begin this drain.
    pub fn new(drain: Drain) -> Self {
        Self { drain, set: JoinSet::new(), names: HashMap::new() }
    }

    /// Starts a part. It should end by itself some time after the drain began.
    pub fn spawn<F, E>(&mut self, name: &'static str, part: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<anyhow::Error>,
    {
        let handle = self.set.spawn(async move { part.await.map_err(Into::into) });
        self.names.insert(handle.id(), name);
    }

    /// Runs until every part has ended; the first that ends wrongly begins the drain and is the error.
    ///
    /// Signals steer the drain meanwhile: the first begins it, the second aborts. Whoever started the process is told that
    /// it is ready, so everything listens by now.
    pub async fn run(mut self, signals: Signals) -> Result<(), Error> {
        crate::ready::tell();
        let drain = self.drain.clone();
        tokio::select! {
            result = self.wait() => result,
            never = signals.steer(&drain) => match never {},
        }
    }

    /// As [`run`](Self::run), for a process that someone else stops.
    pub async fn wait(&mut self) -> Result<(), Error> {
        let drain = self.drain.clone();
        let clock = async {
            drain.run().await;
            tokio::time::sleep(STUCK_AFTER).await;
        };
        tokio::pin!(clock);
        let mut first = Ok(());
        loop {
            let ended = tokio::select! {
                ended = self.set.join_next_with_id() => ended,
                () = &mut clock => return first.and(self.stuck()),
            };
            let Some(ended) = ended else { return first };
            if let Err(error) = self.judge(ended) {
                tracing::error!(error = crate::cli::chain(&error), "a part of the process ended");
                first = first.and(Err(error));
                drain.begin();
            }
        }
    }

    fn stuck(&mut self) -> Result<(), Error> {
        self.set.abort_all();
        self.names.values().next().map_or(Ok(()), |name| Err(Error::Stuck { name }))
    }

    fn judge(&mut self, ended: Result<(Id, anyhow::Result<()>), JoinError>) -> Result<(), Error> {
        let id = match &ended {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        let name = self.names.remove(&id).unwrap_or("a task");
        match ended {
            Ok((_, Ok(()))) if self.drain.is_draining() => Ok(()),
            Ok((_, Ok(()))) => Err(Error::EndedEarly { name }),
            Ok((_, Err(error))) => Err(Error::Failed { name, source: error.into() }),
            Err(_) => Err(Error::Panicked { name }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Drain, Error, Tasks};

    fn tasks() -> (Drain, Tasks) {
        let drain = Drain::new(Duration::ZERO, Duration::from_secs(30));
        (drain.clone(), Tasks::new(drain))
    }

    #[tokio::test(start_paused = true)]
    async fn a_failing_part_takes_the_others_down_in_order() {
        let (drain, mut tasks) = tasks();
        let other = drain.clone();
        tasks.spawn("server", async move {
            other.closing().await;
            anyhow::Ok(())
        });
        tasks.spawn("store", async { Err(anyhow::anyhow!("disk full")) });
        let error = tasks.wait().await.unwrap_err();
        assert_eq!(crate::cli::chain(&error), "store failed: disk full");
        assert!(drain.is_draining());
    }

    #[tokio::test(start_paused = true)]
    async fn early_ends_and_panics_carry_the_name() {
        let (_, mut early) = tasks();
        early.spawn("watcher", async { anyhow::Ok(()) });
        assert!(matches!(early.wait().await, Err(Error::EndedEarly { name: "watcher" })));
        let (_, mut panicking) = tasks();
        panicking.spawn("refresher", async {
            if Drain::new(Duration::ZERO, Duration::ZERO).is_draining() {
                return anyhow::Ok(());
            }
            panic!("on purpose")
        });
        assert!(matches!(panicking.wait().await, Err(Error::Panicked { name: "refresher" })));
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_never_ends_is_named() {
        let (drain, mut tasks) = tasks();
        tasks.spawn("stubborn", std::future::pending::<anyhow::Result<()>>());
        drain.begin();
        assert!(matches!(tasks.wait().await, Err(Error::Stuck { name: "stubborn" })));
    }

    #[tokio::test(start_paused = true)]
    async fn parts_that_end_after_the_drain_began_are_fine() {
        let (drain, mut tasks) = tasks();
        let inner = drain.clone();
        tasks.spawn("server", async move {
            inner.draining().await;
            anyhow::Ok(())
        });
        drain.begin();
        assert!(tasks.wait().await.is_ok());
    }
}
