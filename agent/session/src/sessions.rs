//! The threads that are in memory, of all tenants: how they come and go.
//!
//! What callers do with a thread is in [`threads`] (its facts and history), [`forks`], [`edits`] (of its log) and
//! [`turns`].

mod edits;
mod forks;
mod images;
mod limits;
mod threads;
mod turns;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use agent_threads::{LifecycleEvent, MemoryStore, OwnerId, TenantId, Thread, ThreadId, ThreadStore};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, MissedTickBehavior},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Error, ModelGateway, Options, TenantLimits,
    catalogue::Catalogue,
    clock::now_ms,
    driver::Shared,
    event::{Hub, Lifecycle, Status, TenantSubscription},
    model::{Model, Provider, RateLimit},
    thread::{Kind, Loaded},
    watch::Observer,
};

/// How often idle threads are looked for, at least.
const SWEEP_MAX: Duration = Duration::from_secs(60);
/// How many threads leave memory at once: everybody who follows their tenant is told of each, and who does not keep up with
/// what is told is let go.
const LEAVING_MAX: usize = 256;
/// The pause before more of them leave.
const BETWEEN_LEAVES: Duration = Duration::from_millis(200);
/// How long interrupted turns may take to be written when the service stops.
const INTERRUPT_TIMEOUT: Duration = Duration::from_secs(10);

/// All threads of all tenants. A clone is another handle to the same.
#[derive(Clone)]
pub struct Sessions {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    store: Arc<dyn ThreadStore>,
    /// Keeps the threads that nobody keeps.
    ephemeral: Arc<dyn ThreadStore>,
    /// Whoever runs this process's tasks.
    tasks: TaskTracker,
    /// The turns among them; closed when nothing new is started.
    turns: TaskTracker,
    threads: Mutex<HashMap<(TenantId, ThreadId), Arc<Loaded>>>,
    tenants: Mutex<HashMap<TenantId, Arc<Tenant>>>,
}

/// What a tenant's connections and turns share. There are as many as tenants that were ever let in.
struct Tenant {
    hub: Arc<Hub<Arc<Lifecycle>>>,
    limits: TenantLimits,
    /// Room for further threads in memory.
    threads: Arc<Semaphore>,
    /// Room for further turns.
    turns: Arc<Semaphore>,
}

impl Sessions {
    /// Sessions over a store and a gateway. Their tasks belong to `tasks` and end when `shutdown` is cancelled.
    #[must_use]
    pub fn new(
        store: Arc<dyn ThreadStore>,
        gateway: Arc<dyn ModelGateway>,
        options: Options,
        tasks: &TaskTracker,
        shutdown: CancellationToken,
    ) -> Self {
        let sweep = (options.idle_unload_after / 4).clamp(Duration::from_secs(1), SWEEP_MAX);
        let shared = Shared {
            catalogue: Arc::new(Catalogue::new(Arc::clone(&gateway), options.models_ttl)),
            gateway,
            options,
            owner: OwnerId::generate(),
            observer: Arc::new(Observer::new(&store, tasks, &shutdown)),
            stop: shutdown.child_token(),
        };
        let inner = Arc::new(Inner {
            shared: Arc::new(shared),
            store,
            ephemeral: Arc::new(MemoryStore::new()),
            tasks: tasks.clone(),
            turns: TaskTracker::new(),
            threads: Mutex::default(),
            tenants: Mutex::default(),
        });
        let looked_at = Arc::downgrade(&inner);
        inner.shared.observer.show(Box::new(move || {
            let inner = looked_at.upgrade();
            inner.map(|inner| (inner.threads().len(), inner.turns.len())).unwrap_or_default()
        }));
        tasks.spawn(limits::tell(Arc::downgrade(&inner), shutdown.clone()));
        tasks.spawn(sweep_idle(Arc::downgrade(&inner), sweep, shutdown));
        Self { inner }
    }

    /// The models that may be used.
    pub async fn models(&self) -> Result<Arc<Vec<Model>>, Error> {
        Ok(Arc::clone(&self.inner.shared.catalogue.facts().await?.models))
    }

    /// The providers behind the gateway.
    pub async fn providers(&self) -> Result<Vec<Provider>, Error> {
        Ok(self.inner.shared.gateway.providers().await?)
    }

    /// The usage limits of the gateway's own credential for this provider, as they are known now.
    pub async fn rate_limits(&self, provider: &str) -> Result<Vec<RateLimit>, Error> {
        Ok(self.inner.shared.gateway.rate_limits(provider).await?)
    }

    /// What happens to the tenant's threads from now on.
    #[must_use]
    pub fn tenant_events(&self, tenant: &TenantId) -> TenantSubscription {
        let queue_max = self.inner.shared.options.event_queue.get();
        TenantSubscription { feed: self.inner.tenant(tenant).hub.subscribe(queue_max) }
    }

    /// The tenant's threads that are in memory, from the oldest to the newest.
    #[must_use]
    pub fn loaded(&self, tenant: &TenantId) -> Vec<ThreadId> {
        let threads = self.inner.threads();
        let mut ids: Vec<ThreadId> = threads.keys().filter(|key| key.0 == *tenant).map(|key| key.1).collect();
        ids.sort_unstable();
        ids
    }

    /// Whether a thread of the tenant is in memory.
    #[must_use]
    pub fn is_loaded(&self, tenant: &TenantId, id: ThreadId) -> bool {
        self.inner.threads().contains_key(&(tenant.clone(), id))
    }

    /// Starts nothing new, waits until the running turns have ended, at most for `grace`, and interrupts the rest.
    pub async fn drain(&self, grace: Duration) {
        let Inner { turns, shared, .. } = &*self.inner;
        turns.close();
        if tokio::time::timeout(grace, turns.wait()).await.is_err() {
            shared.stop.cancel();
            // A store that hangs must not keep the process; the next start closes what is left open.
            let _ = tokio::time::timeout(INTERRUPT_TIMEOUT, turns.wait()).await;
        }
    }
}

impl Inner {
    /// A panic elsewhere cannot leave a half-done change: maps only gain or lose one element at a time.
    fn threads(&self) -> MutexGuard<'_, HashMap<(TenantId, ThreadId), Arc<Loaded>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tenant(&self, tenant: &TenantId) -> Arc<Tenant> {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = tenants.get(tenant) {
            return Arc::clone(known);
        }
        let options = &self.shared.options;
        let limits = options.tenants.get(tenant).copied().unwrap_or(options.tenant);
        let new = Arc::new(Tenant {
            hub: Arc::default(),
            limits,
            threads: Arc::new(Semaphore::new(limits.loaded_threads_max)),
            turns: Arc::new(Semaphore::new(limits.running_turns_max)),
        });
        tenants.insert(tenant.clone(), Arc::clone(&new));
        new
    }

    fn tell(&self, tenant: &TenantId, event: Lifecycle) {
        self.tenant(tenant).hub.publish(&Arc::new(event));
    }

    /// Tells everybody who follows any tenant's threads.
    fn tell_all(&self, event: Lifecycle) {
        let tenants: Vec<Arc<Tenant>> =
            self.tenants.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        let event = Arc::new(event);
        tenants.iter().for_each(|tenant| tenant.hub.publish(&event));
    }

    /// The thread, if it is in memory.
    fn find(&self, tenant: &TenantId, id: ThreadId) -> Option<Arc<Loaded>> {
        self.threads().get(&(tenant.clone(), id)).cloned()
    }

    /// The thread, brought into memory if it is not there.
    async fn load(&self, tenant: &TenantId, id: ThreadId) -> Result<Arc<Loaded>, Error> {
        if let Some(thread) = self.find(tenant, id) {
            return Ok(thread);
        }
        let facts = self.store.thread(tenant, id).await?;
        if facts.archived {
            return Err(Error::Archived(id));
        }
        let loaded = self.loaded(facts, Kind { ephemeral: false, materialized: true });
        let (thread, new) = self.place(loaded)?;
        if new {
            self.shared.observer.lifecycle(tenant, id, LifecycleEvent::Loaded);
            self.tell(tenant, Lifecycle::StatusChanged { id, status: Status::Idle });
        }
        Ok(thread)
    }

    /// A thread as it comes into memory.
    fn loaded(&self, facts: Thread, kind: Kind) -> Loaded {
        let store = if kind.ephemeral { &self.ephemeral } else { &self.store };
        let hub = Arc::clone(&self.tenant(&facts.tenant).hub);
        Loaded::new(facts, Arc::clone(store), hub, kind)
    }

    /// Room for one more thread of the tenant in memory; threads that nobody needs make way.
    fn room(&self, tenant: &TenantId) -> Result<OwnedSemaphorePermit, Error> {
        let limit = self.shared.options.loaded_threads_max;
        if self.threads().len() >= limit {
            self.sweep(Duration::ZERO, None);
        }
        let of_tenant = self.tenant(tenant);
        if of_tenant.threads.available_permits() == 0 {
            // What a tenant has too much of is not made up for by others.
            self.sweep(Duration::ZERO, Some(tenant));
        }
        let room = Arc::clone(&of_tenant.threads).try_acquire_owned();
        if self.threads().len() >= limit {
            return Err(Error::Overloaded { what: "loaded threads", limit });
        }
        let limit = of_tenant.limits.loaded_threads_max;
        room.map_err(|_| Error::Overloaded { what: "loaded threads of this tenant", limit })
    }

    /// Puts a thread into memory that nobody else knows.
    fn insert(&self, thread: Loaded) -> Result<Arc<Loaded>, Error> {
        self.place(thread).map(|(thread, _)| thread)
    }

    /// Puts a thread into memory, unless it has come there in the meantime; and whether it had not.
    fn place(&self, mut thread: Loaded) -> Result<(Arc<Loaded>, bool), Error> {
        let room = self.room(&thread.tenant);
        let limit = self.shared.options.loaded_threads_max;
        let mut threads = self.threads();
        let key = (thread.tenant.clone(), thread.id);
        if let Some(known) = threads.get(&key) {
            return Ok((Arc::clone(known), false));
        }
        thread.room = Some(room?);
        if threads.len() >= limit {
            return Err(Error::Overloaded { what: "loaded threads", limit });
        }
        let thread = Arc::new(thread);
        threads.insert(key, Arc::clone(&thread));
        Ok((thread, true))
    }

    /// Takes a thread out of memory that was found to be gone.
    fn forget(&self, thread: &Arc<Loaded>) {
        let key = (thread.tenant.clone(), thread.id);
        let mut threads = self.threads();
        if threads.get(&key).is_some_and(|known| Arc::ptr_eq(known, thread)) {
            threads.remove(&key);
        }
    }

    /// Takes threads out of memory that nobody has needed for `idle`, those of one tenant or of all, and what is more than may
    /// be idle there, least lately needed first. Whether that was as many as leave at once, so that there may be more.
    fn sweep(&self, idle: Duration, of: Option<&TenantId>) -> bool {
        let mut threads = self.threads();
        let mut known: Vec<(Option<Instant>, Arc<Loaded>)> =
            threads.values().map(|thread| (thread.idle_since(), Arc::clone(thread))).collect();
        // Those that somebody needs come first: they stay, without what can be read again.
        known.sort_by_key(|(since, _)| *since);
        let unneeded = known.iter().filter(|(since, _)| since.is_some()).count();
        let mut surplus = unneeded.saturating_sub(self.shared.options.idle_threads_max);
        let mut retired: Vec<Arc<Loaded>> = Vec::new();
        for (since, thread) in known {
            if retired.len() == LEAVING_MAX {
                break;
            }
            let too_many = since.is_some() && surplus > 0;
            let meant = of.is_none_or(|tenant| thread.tenant == *tenant);
            let idle = if too_many { Duration::ZERO } else { idle };
            if (too_many || meant) && thread.retire(idle) {
                surplus = surplus.saturating_sub(1);
                threads.remove(&(thread.tenant.clone(), thread.id));
                retired.push(thread);
            }
        }
        drop(threads);
        let all = retired.len() == LEAVING_MAX;
        for thread in retired {
            self.tell(&thread.tenant, Lifecycle::Closed(thread.id));
            if thread.ephemeral {
                self.drop_ephemeral(&thread.tenant, thread.id);
            } else if thread.view().materialized {
                self.shared.observer.lifecycle(&thread.tenant, thread.id, LifecycleEvent::Unloaded);
            }
        }
        all
    }

    /// Tells a thread's subscribers that it is gone, unless a turn is running, and takes it out of memory.
    fn close(&self, thread: &Arc<Loaded>) -> bool {
        let closed = thread.close(now_ms());
        if closed {
            self.forget(thread);
        }
        closed
    }
}

async fn sweep_idle(inner: std::sync::Weak<Inner>, every: Duration, shutdown: CancellationToken) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let Some(inner) = inner.upgrade() else { return };
        let idle = inner.shared.options.idle_unload_after;
        while inner.sweep(idle, None) {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(BETWEEN_LEAVES) => {}
            }
        }
    }
}
