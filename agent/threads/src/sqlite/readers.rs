//! The connections that read: a few, each opened when it is first needed and used by one thread at a time.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rusqlite::Connection;
use tokio::{sync::Semaphore, time::timeout};
use tokio_util::task::TaskTracker;

use super::{
    failure::{read_error, unavailable},
    open,
};
use crate::Error;

/// How many reads run at once.
const READERS_MAX: usize = 4;
/// How long a read waits for a connection.
const READER_WAIT: Duration = Duration::from_secs(10);

/// Reads beside the writer.
pub(super) struct Readers {
    path: PathBuf,
    places: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Connection>>>,
    running: TaskTracker,
}

impl Readers {
    /// Readers of this file.
    pub(super) fn of(path: PathBuf) -> Self {
        let places = Arc::new(Semaphore::new(READERS_MAX));
        Self { path, places, idle: Arc::default(), running: TaskTracker::new() }
    }

    /// Runs a read on a thread where it may wait for the disk.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let place = timeout(READER_WAIT, Arc::clone(&self.places).acquire_owned()).await;
        let place = place.map_err(|_| unavailable("too many reads wait"))?;
        let place = place.map_err(|_| unavailable("the store is closed"))?;
        let (idle, path) = (Arc::clone(&self.idle), self.path.clone());
        let read = self.running.spawn_blocking(move || {
            let found = lock(&idle).pop();
            let mut connection = found.map_or_else(|| open::reader(&path).map_err(read_error), Ok)?;
            let answer = read(&mut connection);
            lock(&idle).push(connection);
            drop(place);
            answer
        });
        read.await.map_err(unavailable)?
    }

    /// Finishes the reads that run and lets go of the file.
    pub(super) async fn close(&self) {
        self.places.close();
        self.running.close();
        self.running.wait().await;
        lock(&self.idle).clear();
    }
}

fn lock(idle: &Mutex<Vec<Connection>>) -> MutexGuard<'_, Vec<Connection>> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}
