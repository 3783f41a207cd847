//! The threads that are in memory, and all that callers can do with them.

use std::{sync::Arc, time::Duration};

use agent_threads::{ItemRecord, ListQuery, Page, PageQuery, TenantId, ThreadId, ThreadStore, TurnId, UserInput};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Error, ModelGateway, Options,
    event::{Subscription, TenantSubscription},
    model::{Model, Provider},
    request::{NewThread, Overrides, StartTurn},
    view::{ThreadView, TurnView},
};

/// All threads of all tenants. A clone is another handle to the same.
#[derive(Clone)]
pub struct Sessions {
    _inner: Arc<()>,
}

#[expect(unused_variables, clippy::unused_async, reason = "signatures first")]
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
        Self { _inner: Arc::new(()) }
    }

    /// The models that may be used.
    pub async fn models(&self) -> Result<Arc<Vec<Model>>, Error> {
        Err(Error::Stopping)
    }

    /// The providers behind the gateway.
    pub async fn providers(&self) -> Result<Vec<Provider>, Error> {
        Err(Error::Stopping)
    }

    /// Starts a thread. Nothing is stored before its first user message, and nothing at all of an ephemeral one.
    pub async fn start(&self, tenant: &TenantId, new: NewThread) -> Result<ThreadView, Error> {
        Err(Error::Stopping)
    }

    /// Loads a thread and applies `overrides` to it.
    pub async fn resume(&self, tenant: &TenantId, id: ThreadId, overrides: Overrides) -> Result<ThreadView, Error> {
        Err(Error::Stopping)
    }

    /// A thread, without loading it.
    pub async fn read(&self, tenant: &TenantId, id: ThreadId) -> Result<ThreadView, Error> {
        Err(Error::Stopping)
    }

    /// A page of the tenant's stored threads.
    pub async fn list(&self, tenant: &TenantId, query: ListQuery) -> Result<Page<ThreadView>, Error> {
        Err(Error::Stopping)
    }

    /// A page of a thread's turns, each with all its items.
    pub async fn turns(&self, tenant: &TenantId, id: ThreadId, page: PageQuery) -> Result<Page<TurnView>, Error> {
        Err(Error::Stopping)
    }

    /// A page of a thread's items, of one turn or of all.
    pub async fn items(
        &self,
        tenant: &TenantId,
        id: ThreadId,
        turn: Option<TurnId>,
        page: PageQuery,
    ) -> Result<Page<ItemRecord>, Error> {
        Err(Error::Stopping)
    }

    /// The tenant's threads that are in memory.
    #[must_use]
    pub fn loaded(&self, tenant: &TenantId) -> Vec<ThreadId> {
        Vec::new()
    }

    /// Starts a turn and answers once the user's message is stored. While a turn is running the message joins it as
    /// steering, and the answer is the running turn. A message that was accepted before is answered with its turn.
    pub async fn start_turn(&self, tenant: &TenantId, id: ThreadId, turn: StartTurn) -> Result<TurnView, Error> {
        Err(Error::Stopping)
    }

    /// Steers the running turn `expected` and answers once the message is stored.
    pub async fn steer(
        &self,
        tenant: &TenantId,
        id: ThreadId,
        expected: TurnId,
        input: Vec<UserInput>,
        client_message_id: Option<String>,
    ) -> Result<TurnId, Error> {
        Err(Error::Stopping)
    }

    /// Stops the running turn (if it is `turn`, where one is named) and answers once it has ended.
    pub async fn interrupt(&self, tenant: &TenantId, id: ThreadId, turn: Option<TurnId>) -> Result<(), Error> {
        Err(Error::Stopping)
    }

    /// What happens in a thread: stored events after sequence number `after`, if one is given, then live ones. Loads
    /// the thread.
    pub async fn subscribe(&self, tenant: &TenantId, id: ThreadId, after: Option<u64>) -> Result<Subscription, Error> {
        Err(Error::Stopping)
    }

    /// What happens to the tenant's threads from now on.
    #[must_use]
    pub fn tenant_events(&self, tenant: &TenantId) -> TenantSubscription {
        TenantSubscription { feed: crate::event::Hub::default().subscribe(1) }
    }

    /// Names a thread; an empty name takes the name away.
    pub async fn set_name(&self, tenant: &TenantId, id: ThreadId, name: String) -> Result<(), Error> {
        Err(Error::Stopping)
    }

    /// Archives a thread.
    pub async fn archive(&self, tenant: &TenantId, id: ThreadId) -> Result<(), Error> {
        Err(Error::Stopping)
    }

    /// Brings a thread back from the archive.
    pub async fn unarchive(&self, tenant: &TenantId, id: ThreadId) -> Result<ThreadView, Error> {
        Err(Error::Stopping)
    }

    /// Stops a thread's turn and deletes the thread.
    pub async fn delete(&self, tenant: &TenantId, id: ThreadId) -> Result<(), Error> {
        Err(Error::Stopping)
    }

    /// Changes what the thread's next turn runs with.
    pub async fn update_settings(
        &self,
        tenant: &TenantId,
        id: ThreadId,
        overrides: Overrides,
    ) -> Result<ThreadView, Error> {
        Err(Error::Stopping)
    }

    /// Starts nothing new, waits until the running turns have ended, at most for `grace`, and interrupts the rest.
    pub async fn drain(&self, grace: Duration) {}
}
