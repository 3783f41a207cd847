//! Puts what happened in threads into their store, late and at best.
//!
//! Whoever has something to note puts it into a bounded queue and goes on; what finds it full is counted and forgotten. One
//! task writes what has gathered for a while, for all threads at once, so that no turn gets one more commit for it. A store
//! that refuses or hangs costs rows and nothing else.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use agent_threads::{ThreadStore, TraceRow};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// How many rows wait at most.
const QUEUE_MAX: usize = 4_096;
/// How many rows are written at once: few enough that no turn's commit waits long behind them.
const BATCH_MAX: usize = 128;
/// How long rows are gathered before they are written.
const GATHER: Duration = Duration::from_secs(2);
/// How long the store may take for a batch.
const WRITE_MAX: Duration = Duration::from_secs(5);
/// How long the end of the process waits for the rows that are left, and a reader for those before it.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where notes are put.
#[derive(Debug)]
pub(super) struct Recorder {
    queue: mpsc::Sender<Note>,
    hurry: Arc<Notify>,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Note {
    Row(Box<TraceRow>),
    /// Somebody waits until everything before this is written.
    Flush(oneshot::Sender<()>),
}

/// What writes notes.
pub(super) struct Writer {
    store: Arc<dyn ThreadStore>,
    queue: mpsc::Receiver<Note>,
    /// There is enough for a batch, or somebody waits for what there is.
    hurry: Arc<Notify>,
    /// Whether the last batch was full, so that more may wait than that.
    behind: bool,
    dropped: Arc<AtomicU64>,
    batch: Vec<TraceRow>,
    waiting: Vec<oneshot::Sender<()>>,
}

impl Recorder {
    pub(super) fn over(store: Arc<dyn ThreadStore>) -> (Self, Writer) {
        let (sender, queue) = mpsc::channel(QUEUE_MAX);
        let dropped = Arc::<AtomicU64>::default();
        let hurry = Arc::<Notify>::default();
        let writer = Writer {
            store,
            queue,
            hurry: Arc::clone(&hurry),
            behind: false,
            dropped: Arc::clone(&dropped),
            batch: Vec::with_capacity(BATCH_MAX),
            waiting: Vec::new(),
        };
        (Self { queue: sender, hurry, dropped }, writer)
    }

    /// Notes a row, if there is room. Wakes nobody until there is enough for a batch: a turn notes several.
    pub(super) fn keep(&self, row: TraceRow) {
        if self.queue.try_send(Note::Row(Box::new(row))).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        } else if self.queue.max_capacity() - self.queue.capacity() >= BATCH_MAX {
            self.hurry.notify_one();
        }
    }

    /// Waits until everything that was noted is written, but not for long.
    pub(super) async fn flush(&self) {
        let (done, is_done) = oneshot::channel();
        if self.queue.try_send(Note::Flush(done)).is_ok() {
            self.hurry.notify_one();
            // Whatever comes of it, the reader reads what is there.
            let _ = timeout(PATIENCE, is_done).await;
        }
    }

    /// How many rows were not kept.
    pub(super) fn dropped(&self) -> impl Fn() -> u64 + Send + Sync + 'static {
        let dropped = Arc::clone(&self.dropped);
        move || dropped.load(Ordering::Relaxed)
    }
}

impl Writer {
    /// Writes until the process stops, and then what is left.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.gather() => {}
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.write() => {}
            }
        }
        self.queue.close();
        // A store that does not answer must not keep the process.
        let _ = timeout(PATIENCE, self.finish()).await;
    }

    /// Waits for a note and then for those that come soon after it. May be dropped at any time without losing anything.
    async fn gather(&mut self) {
        if self.batch.is_empty() && self.waiting.is_empty() {
            let Some(first) = self.queue.recv().await else { return std::future::pending().await };
            self.take(first);
        }
        if !self.behind {
            tokio::select! {
                () = sleep(GATHER) => {}
                () = self.hurry.notified() => {}
            }
        }
        while self.batch.len() < BATCH_MAX
            && let Ok(note) = self.queue.try_recv()
        {
            self.take(note);
        }
        self.behind = self.batch.len() >= BATCH_MAX;
    }

    fn take(&mut self, note: Note) {
        match note {
            Note::Row(row) => self.batch.push(*row),
            Note::Flush(done) => self.waiting.push(done),
        }
    }

    /// Writes what has gathered. Dropped on the way it has written all of it or nothing, and is done with it.
    async fn write(&mut self) {
        let rows = std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH_MAX));
        let count = rows.len();
        if count > 0 {
            let kept = match timeout(WRITE_MAX, self.store.trace(rows)).await {
                Ok(Ok(kept)) => kept,
                Ok(Err(error)) => {
                    let error: &(dyn std::error::Error + 'static) = &error;
                    tracing::debug!(error, "what happened in threads cannot be kept");
                    0
                }
                Err(_) => 0,
            };
            let lost = u64::try_from(count.saturating_sub(kept)).unwrap_or(u64::MAX);
            self.dropped.fetch_add(lost, Ordering::Relaxed);
        }
        for done in self.waiting.drain(..) {
            // A reader that is gone waits for nothing.
            let _ = done.send(());
        }
    }

    async fn finish(&mut self) {
        loop {
            while self.batch.len() < BATCH_MAX {
                let Some(note) = self.queue.recv().await else { return self.write().await };
                self.take(note);
            }
            self.write().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use agent_threads::{
        LifecycleEvent, MemoryStore, TenantId, ThreadId, TraceEvent, TraceKind, TracedLifecycle,
    };

    use tokio::time::Instant;

    use super::*;

    fn row() -> TraceRow {
        let kind = TraceKind::Lifecycle(TracedLifecycle { event: LifecycleEvent::Loaded, other: None });
        let event = TraceEvent { at_ms: 1, turn_id: None, kind };
        TraceRow { tenant: TenantId::new("acme"), thread_id: ThreadId::generate(), event }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_kept_is_counted_and_stops_nobody() {
        let (recorder, writer) = Recorder::over(Arc::new(MemoryStore::new()));
        for _ in 0..QUEUE_MAX + 5 {
            recorder.keep(row());
        }
        let dropped = recorder.dropped();
        assert_eq!(dropped(), 5);
        // Nobody reads the queue: a reader of the trace waits for a moment and no longer.
        recorder.flush().await;
        let stop = CancellationToken::new();
        stop.cancel();
        writer.run(stop).await;
        assert_eq!(dropped(), u64::try_from(QUEUE_MAX + 5).unwrap(), "rows of no thread");
        recorder.keep(row());
        assert_eq!(dropped(), u64::try_from(QUEUE_MAX + 6).unwrap(), "the process is about to end");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_waits_long_for_more_to_come() {
        let (recorder, writer) = Recorder::over(Arc::new(MemoryStore::new()));
        let stop = CancellationToken::new();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(writer.run(stop.clone()));
        let dropped = recorder.dropped();
        // The rows are of no thread, so that one counts as dropped as soon as it was to be written.
        let written_within = async |rows: usize, within: Duration| {
            let before = dropped();
            (0..rows).for_each(|_| recorder.keep(row()));
            tokio::time::sleep(within).await;
            usize::try_from(dropped() - before).unwrap()
        };
        let moment = Duration::from_millis(1);
        assert_eq!(written_within(BATCH_MAX - 1, moment).await, 0, "more may come");
        assert_eq!(written_within(0, GATHER).await, BATCH_MAX - 1);
        assert_eq!(written_within(3 * BATCH_MAX, moment).await, 3 * BATCH_MAX, "enough for batches");
        // Whoever reads does not wait for the rest to come.
        let asked = Instant::now();
        (0..=BATCH_MAX).for_each(|_| recorder.keep(row()));
        recorder.flush().await;
        assert_eq!(asked.elapsed(), Duration::ZERO);
        stop.cancel();
        tasks.join_next().await.unwrap().unwrap();
    }
}
