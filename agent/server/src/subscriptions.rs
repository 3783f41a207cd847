//! What a connection follows: its tenant's threads as such, and what happens inside those it has opened.
//!
//! Each is a feed that takes events from the session layer and says them. A gate in front of each lets the answer to a
//! request out before anything that the request has caused: whoever answers holds it meanwhile. One task runs all feeds of
//! a connection: what happens in a thread is often news to its tenant too, and two tasks would be woken for it on two
//! processors.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use agent_session::{Attester, Event, Lifecycle, Next, Published, Subscription, TenantSubscription};
use agent_threads::ThreadId;
use futures_util::StreamExt as _;
use futures_util::future::{AbortHandle, BoxFuture, abortable};
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Mutex as Gate, Notify, OwnedMutexGuard, mpsc};
use tokio_util::sync::CancellationToken;

use crate::attestation;
use crate::connection::{Connection, Voice};
use crate::notifications;
use crate::outbound::Gone;
use crate::transport::Goodbye;

/// Held while an answer goes out before the events behind the gate.
pub(crate) type Held = OwnedMutexGuard<()>;

/// How many feeds wait to be taken up.
const BEGINNING_MAX: usize = 16;

/// What a connection follows.
pub(crate) struct Subscriptions {
    threads: Arc<Threads>,
    tenant: Arc<Gate<()>>,
    failed: Arc<Notify>,
    feeds: mpsc::Sender<BoxFuture<'static, ()>>,
}

/// The feeds of a connection.
pub(crate) struct Feeds(mpsc::Receiver<BoxFuture<'static, ()>>);

struct Followed {
    gate: Arc<Gate<()>>,
    feed: AbortHandle,
    /// Gone when the feed has ended.
    is_fed: Weak<()>,
    /// Kept for as long as the client may be asked to attest for the thread.
    _attester: Option<Arc<dyn Attester>>,
}

impl Feeds {
    /// Runs them until the server stops and the last one has ended.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut running = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = stop.cancelled(), if !self.0.is_closed() => self.0.close(),
                Some(feed) = self.0.recv() => running.push(feed),
                Some(()) = running.next() => {}
                else => return,
            }
        }
    }
}

impl Followed {
    fn is_fed(&self) -> bool {
        self.is_fed.strong_count() > 0
    }
}

impl Subscriptions {
    /// Nothing yet, and what will run the feeds.
    pub(crate) fn new() -> (Self, Feeds) {
        let (feeds, beginning) = mpsc::channel(BEGINNING_MAX);
        let (threads, tenant, failed) = <_>::default();
        (Self { threads, tenant, failed, feeds }, Feeds(beginning))
    }

    /// Holds back what happens in a thread; nothing to hold back when it is not followed.
    pub(crate) async fn hold(&self, thread: ThreadId) -> Option<Held> {
        let gate = self.lock().get(&thread).map(|followed| Arc::clone(&followed.gate))?;
        Some(gate.lock_owned().await)
    }

    /// Holds back what happens to the tenant's threads.
    pub(crate) async fn hold_tenant(&self) -> Held {
        Arc::clone(&self.tenant).lock_owned().await
    }

    /// Whether the connection follows this thread.
    pub(crate) fn follows(&self, thread: ThreadId) -> bool {
        follows(&self.threads, thread)
    }

    /// Begins to follow a thread; the events wait until the returned hold is let go.
    pub(crate) async fn follow(
        &self,
        connection: &Connection,
        thread: ThreadId,
        provider: String,
        events: Subscription,
    ) -> Held {
        let gate = Arc::new(Gate::new(()));
        let held = Arc::clone(&gate).lock_owned().await;
        let voice = Arc::clone(&connection.voice);
        let stop = connection.shared.stop.clone();
        let feed = Feed { gate: Arc::clone(&gate), voice, failed: Arc::clone(&self.failed), stop };
        let fed = Arc::new(());
        let is_fed = Arc::downgrade(&fed);
        let (feed, handle) = abortable(async move {
            feed.thread(thread, provider, events).await;
            drop(fed);
        });
        // Nobody runs feeds any more when the connection is about to end.
        let _ = self
            .feeds
            .send(Box::pin(async move {
                let _ = feed.await;
            }))
            .await;
        let attester = attestation::attester(connection);
        if let Some(attester) = &attester {
            let sessions = &connection.shared.sessions;
            sessions.offer_attestation(&connection.principal.tenant, thread, attester);
        }
        let followed = Followed { gate, feed: handle, is_fed, _attester: attester };
        if let Some(before) = self.lock().insert(thread, followed) {
            before.feed.abort();
        }
        held
    }

    /// Stops following a thread; whether it was followed.
    pub(crate) fn leave(&self, thread: ThreadId) -> bool {
        let Some(followed) = self.lock().remove(&thread) else { return false };
        let was = followed.is_fed();
        followed.feed.abort();
        was
    }

    /// Begins to follow the tenant's threads as such.
    pub(crate) async fn follow_tenant(&self, connection: &Connection) {
        let events = connection.shared.sessions.tenant_events(&connection.principal.tenant);
        let voice = Arc::clone(&connection.voice);
        let stop = connection.shared.stop.clone();
        let feed = Feed { gate: Arc::clone(&self.tenant), voice, failed: Arc::clone(&self.failed), stop };
        let _ = self.feeds.send(Box::pin(feed.tenant(events, Arc::clone(&self.threads)))).await;
    }

    /// Stops following anything.
    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    /// Waits until the client has fallen so far behind that events are lost.
    pub(crate) async fn failed(&self) -> Goodbye {
        self.failed.notified().await;
        Goodbye::TooSlow
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ThreadId, Followed>> {
        lock(&self.threads)
    }
}

type Threads = Mutex<HashMap<ThreadId, Followed>>;

fn lock(threads: &Threads) -> std::sync::MutexGuard<'_, HashMap<ThreadId, Followed>> {
    threads.lock().unwrap_or_else(PoisonError::into_inner)
}

fn follows(threads: &Threads, thread: ThreadId) -> bool {
    lock(threads).get(&thread).is_some_and(Followed::is_fed)
}

/// What says events. When the server stops, it says what has happened by then and ends.
struct Feed {
    gate: Arc<Gate<()>>,
    voice: Arc<Voice>,
    failed: Arc<Notify>,
    stop: CancellationToken,
}

impl Feed {
    async fn thread(self, thread: ThreadId, provider: String, mut events: Subscription) {
        loop {
            let next = tokio::select! {
                biased;
                next = events.next() => next,
                () = self.stop.cancelled() => return,
            };
            let published = match next {
                Next::Event(published) => published,
                Next::Lagged | Next::Failed(_) => return self.failed.notify_one(),
                Next::Closed => return,
            };
            let _turn = self.gate.lock().await;
            if self.say(thread, &provider, &published).await.is_err() {
                return;
            }
        }
    }

    async fn say(&self, thread: ThreadId, provider: &str, published: &Published) -> Result<(), Gone> {
        if let Event::RateLimits(limits) = &published.event {
            for limit in limits {
                if let Some(text) = notifications::rate_limit(&self.voice, limit, published.at_ms) {
                    self.voice.send(text).await?;
                }
            }
            return Ok(());
        }
        match notifications::of_thread(&self.voice, thread, provider, published) {
            Some(text) => self.voice.send(text).await,
            None => Ok(()),
        }
    }

    async fn tenant(self, mut events: TenantSubscription, followed: Arc<Threads>) {
        loop {
            let next = tokio::select! {
                biased;
                next = events.next() => next,
                () = self.stop.cancelled() => return,
            };
            let event = match next {
                Next::Event(event) => event,
                Next::Lagged | Next::Failed(_) => return self.failed.notify_one(),
                Next::Closed => return,
            };
            // Of a thread that it follows, a client hears what it does among its other events, in their order.
            if let Lifecycle::StatusChanged { id, .. } = &*event
                && follows(&followed, *id)
            {
                continue;
            }
            let _turn = self.gate.lock().await;
            for text in notifications::of_tenant(&self.voice, &event) {
                if self.voice.send(text).await.is_err() {
                    return;
                }
            }
        }
    }
}
