//! What a connection follows: its tenant's threads as such, and what happens inside those it has opened.
//!
//! Each is a task that takes events from the session layer and says them. A gate in front of each lets the answer to a
//! request out before anything that the request has caused: whoever answers holds it meanwhile.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use agent_session::{Attester, Event, Lifecycle, Next, Published, Subscription, TenantSubscription};
use agent_threads::ThreadId;
use tokio::sync::{Mutex as Gate, Notify, OwnedMutexGuard};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use crate::attestation;
use crate::connection::{Connection, Voice};
use crate::notifications;
use crate::outbound::Gone;
use crate::transport::Goodbye;

/// Held while an answer goes out before the events behind the gate.
pub(crate) type Held = OwnedMutexGuard<()>;

/// What a connection follows.
#[derive(Default)]
pub(crate) struct Subscriptions {
    threads: Arc<Threads>,
    tenant: Arc<Gate<()>>,
    failed: Arc<Notify>,
}

struct Followed {
    gate: Arc<Gate<()>>,
    task: AbortHandle,
    /// Kept for as long as the client may be asked to attest for the thread.
    _attester: Option<Arc<dyn Attester>>,
}

impl Subscriptions {
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
        let task = connection.spawn(feed.thread(thread, provider, events));
        let attester = attestation::attester(connection);
        if let Some(attester) = &attester {
            let sessions = &connection.shared.sessions;
            sessions.offer_attestation(&connection.principal.tenant, thread, attester);
        }
        let before = self.lock().insert(thread, Followed { gate, task, _attester: attester });
        if let Some(before) = before {
            before.task.abort();
        }
        held
    }

    /// Stops following a thread; whether it was followed.
    pub(crate) fn leave(&self, thread: ThreadId) -> bool {
        let Some(followed) = self.lock().remove(&thread) else { return false };
        let was = !followed.task.is_finished();
        followed.task.abort();
        was
    }

    /// Begins to follow the tenant's threads as such.
    pub(crate) fn follow_tenant(&self, connection: &Connection) {
        let events = connection.shared.sessions.tenant_events(&connection.principal.tenant);
        let voice = Arc::clone(&connection.voice);
        let stop = connection.shared.stop.clone();
        let feed = Feed { gate: Arc::clone(&self.tenant), voice, failed: Arc::clone(&self.failed), stop };
        connection.spawn(feed.tenant(events, Arc::clone(&self.threads)));
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
    lock(threads).get(&thread).is_some_and(|followed| !followed.task.is_finished())
}

/// A task that says events. When the server stops, it says what has happened by then and ends.
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
