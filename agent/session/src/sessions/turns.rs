//! Turns: starting, steering, stopping and following them.

use std::sync::Arc;

use agent_threads::{Direction, ItemId, PageQuery, TenantId, ThreadId, TurnId, UserInput};
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, oneshot};

use super::{Inner, Sessions, images};
use crate::{
    Attester, Error,
    clock::now_ms,
    driver::{self, Start},
    machine::{Opener, UserMessage},
    request::{ClientMetadata, Overrides, StartTurn, SteerTurn},
    subscription::{Log, Subscription},
    thread::{Begun, Command, Entered, Gone, Loaded, Refusal, Running},
    trace_context::TraceContext,
    view::TurnView,
};

/// How often a message is brought to a thread whose turn ends, or which leaves memory, just then.
pub(super) const ATTEMPTS_MAX: usize = 8;

/// How a message was taken.
enum Taken {
    /// It is in the running turn.
    By(Running),
    /// It was taken before.
    Before(TurnId),
}

impl Sessions {
    /// Starts a turn and answers once the user's message is stored. While a turn is running the message joins it as
    /// steering, and the answer is the running turn. A message that was accepted before is answered with its turn.
    pub async fn start_turn(
        &self,
        tenant: &TenantId,
        id: ThreadId,
        turn: StartTurn,
    ) -> Result<TurnView, Error> {
        let StartTurn { input, client_message_id, overrides, .. } = turn;
        let message = self.inner.message(input, client_message_id).await?;
        for _ in 0..ATTEMPTS_MAX {
            let thread = self.inner.load(tenant, id).await?;
            let entered = {
                let _edit = thread.edits.lock().await;
                self.inner.enter(&thread, &overrides)?
            };
            let taken = match entered {
                Err(Gone) => {
                    self.inner.forget(&thread);
                    continue;
                }
                Ok(Entered::Begun(begun, permit)) => {
                    let running = Running::of(&begun);
                    let (reply, replied) = oneshot::channel();
                    let start = Start {
                        opener: Opener::Message(message.clone()),
                        root_turn_id: turn.root_turn_id,
                        output_schema: turn.output_schema.clone(),
                        service_tier: turn.service_tier_for_turn.clone(),
                        trace: turn.trace.clone(),
                        reply,
                    };
                    self.inner.spawn(&thread, *begun, start, permit);
                    taken(running, replied).await
                }
                Ok(Entered::Joined(running)) => {
                    join(running, message.clone(), overrides.client_metadata.clone()).await
                }
            };
            match taken {
                Some(Ok(Taken::By(running))) => {
                    return Ok(TurnView::running(running.turn_id, running.started_at_ms));
                }
                Some(Ok(Taken::Before(turn_id))) => return turn_of(&thread, turn_id).await,
                Some(Err(error)) => return Err(error),
                None => {}
            }
        }
        Err(Error::Overloaded { what: "attempts to start a turn", limit: ATTEMPTS_MAX })
    }

    /// Steers the running turn, if it is the expected one, and answers once the message is stored.
    pub async fn steer(&self, tenant: &TenantId, id: ThreadId, steer: SteerTurn) -> Result<TurnId, Error> {
        let message = self.inner.message(steer.input, steer.client_message_id).await?;
        let running = self.running(tenant, id, Some(steer.expected)).await?;
        match join(running, message, steer.client_metadata).await {
            Some(Ok(Taken::By(running))) => Ok(running.turn_id),
            Some(Ok(Taken::Before(turn_id))) => Ok(turn_id),
            Some(Err(error)) => Err(error),
            None => Err(Error::NoActiveTurn),
        }
    }

    /// Stops the running turn (if it is `turn`, where one is named) and answers once it has ended.
    pub async fn interrupt(
        &self,
        tenant: &TenantId,
        id: ThreadId,
        turn: Option<TurnId>,
    ) -> Result<(), Error> {
        let running = self.running(tenant, id, turn).await?;
        let (ended, has_ended) = oneshot::channel();
        // Either fails only because the turn has ended.
        if running.commands.send(Command::Interrupt { ended }).await.is_ok() {
            let _ = has_ended.await;
        }
        Ok(())
    }

    /// Condenses what the model is told of a thread, in a turn of its own, and answers once that turn is stored. A turn that
    /// is running is stopped for it.
    pub async fn compact(&self, tenant: &TenantId, id: ThreadId) -> Result<(), Error> {
        for _ in 0..ATTEMPTS_MAX {
            let thread = self.inner.load(tenant, id).await?;
            let entered = {
                let _edit = self.quiet(&thread).await?;
                if !thread.view().materialized {
                    return Err(Error::Invalid(format!("thread {id} has nothing to compact yet").into()));
                }
                self.inner.enter(&thread, &Overrides::default())?
            };
            match entered {
                Err(Gone) => self.inner.forget(&thread),
                // Nobody gets in between while the thread is quiet.
                Ok(Entered::Joined(_)) => {}
                Ok(Entered::Begun(begun, permit)) => {
                    let running = Running::of(&begun);
                    let (reply, replied) = oneshot::channel();
                    let start = Start {
                        opener: Opener::Compaction(ItemId::generate()),
                        root_turn_id: None,
                        output_schema: None,
                        service_tier: None,
                        trace: TraceContext::default(),
                        reply,
                    };
                    self.inner.spawn(&thread, *begun, start, permit);
                    if let Some(answer) = taken(running, replied).await {
                        return answer.map(|_| ());
                    }
                }
            }
        }
        Err(Error::Overloaded { what: "attempts to compact a thread", limit: ATTEMPTS_MAX })
    }

    /// What happens in a thread: stored events after sequence number `after`, if one is given, then live ones. Loads
    /// the thread. A number that the thread has not reached is refused: whoever has it means another thread.
    pub async fn subscribe(
        &self,
        tenant: &TenantId,
        id: ThreadId,
        after: Option<u64>,
    ) -> Result<Subscription, Error> {
        let queue_max = self.inner.shared.options.event_queue.get();
        for _ in 0..ATTEMPTS_MAX {
            let thread = self.inner.load(tenant, id).await?;
            let Ok((feed, first_turn)) = thread.subscribe(queue_max) else {
                self.inner.forget(&thread);
                continue;
            };
            let Some(after) = after else { return Ok(Subscription::new(feed, None)) };
            // What is stored from here on is in the feed.
            let stored = thread.view().materialized;
            let store = Arc::clone(&thread.store);
            if after > 0 && (!stored || store.records(tenant, id, after - 1, 1).await?.is_empty()) {
                return Err(Error::UnknownSequence(after));
            }
            let log = Log::new(store, (tenant.clone(), id), after, first_turn, stored);
            return Ok(Subscription::new(feed, Some(log)));
        }
        Err(Error::Overloaded { what: "attempts to subscribe", limit: ATTEMPTS_MAX })
    }

    /// Takes note that a subscriber of a thread can attest, for as long as the subscriber keeps `attester`. A thread that
    /// is not in memory takes no note: a subscriber keeps it there.
    pub fn offer_attestation(&self, tenant: &TenantId, id: ThreadId, attester: &Arc<dyn Attester>) {
        if let Some(thread) = self.inner.find(tenant, id) {
            thread.attesters.offer(attester);
        }
    }

    /// Keeps turns from beginning in a thread for as long as the guard lives, and stops the one that is running.
    pub(super) async fn quiet(&self, thread: &Arc<Loaded>) -> Result<OwnedMutexGuard<()>, Error> {
        loop {
            let edit = Arc::clone(&thread.edits).lock_owned().await;
            if thread.running().is_none() {
                return Ok(edit);
            }
            drop(edit);
            match self.interrupt(&thread.tenant, thread.id, None).await {
                Ok(()) | Err(Error::NoActiveTurn) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The running turn, if it is the one that the caller means.
    async fn running(
        &self,
        tenant: &TenantId,
        id: ThreadId,
        expected: Option<TurnId>,
    ) -> Result<Running, Error> {
        let running = match self.inner.find(tenant, id) {
            Some(thread) => thread.running(),
            None => self.inner.store.thread(tenant, id).await.map(|_| None)?,
        };
        let running = running.ok_or(Error::NoActiveTurn)?;
        match expected {
            Some(expected) if expected != running.turn_id => {
                Err(Error::OtherTurn { expected, found: running.turn_id })
            }
            _ => Ok(running),
        }
    }
}

impl Inner {
    async fn message(
        &self,
        content: Vec<UserInput>,
        client_id: Option<String>,
    ) -> Result<UserMessage, Error> {
        if content.is_empty() {
            return Err(Error::Invalid("the message has no content".into()));
        }
        let size = |part: &UserInput| match part {
            UserInput::Text { text, .. } => text.len(),
            UserInput::Image { url, .. } => url.len(),
            UserInput::LocalImage { path, .. } => path.len(),
            UserInput::Mention { name, path } | UserInput::Skill { name, path } => name.len() + path.len(),
        };
        let bytes_max = self.shared.options.message_bytes_max;
        let left = bytes_max.checked_sub(content.iter().map(size).sum::<usize>());
        let left = left.ok_or(Error::Invalid("the message is too large".into()))?;
        let images = match self.shared.options.context.local_images {
            true => images::read(&content, left).await?,
            false => images::refuse(&content)?,
        };
        Ok(UserMessage { id: ItemId::generate(), client_id, content, images })
    }

    fn enter(
        &self,
        thread: &Loaded,
        overrides: &Overrides,
    ) -> Result<Result<Entered<OwnedSemaphorePermit>, Gone>, Error> {
        let tenant = self.tenant(&thread.tenant);
        let (turns, limit) = (Arc::clone(&tenant.turns), tenant.limits.running_turns_max);
        thread.enter(overrides, now_ms(), || {
            if self.turns.is_closed() || self.shared.stop.is_cancelled() {
                return Err(Error::Stopping);
            }
            turns.try_acquire_owned().map_err(|_| Error::Overloaded { what: "running turns", limit })
        })
    }

    fn spawn(&self, thread: &Arc<Loaded>, begun: Begun, start: Start, permit: OwnedSemaphorePermit) {
        let (shared, thread) = (Arc::clone(&self.shared), Arc::clone(thread));
        let turn = async move {
            driver::run(shared, thread, begun, start).await;
            drop(permit);
        };
        self.tasks.spawn(self.turns.track_future(turn));
    }
}

impl Running {
    fn of(begun: &Begun) -> Self {
        Self { turn_id: begun.turn_id, started_at_ms: begun.started_at_ms, commands: begun.sender.clone() }
    }
}

/// Brings a message to a turn that is running. `None` if that has ended before.
async fn join(
    running: Running,
    message: UserMessage,
    client_metadata: ClientMetadata,
) -> Option<Result<Taken, Error>> {
    let (reply, replied) = oneshot::channel();
    running.commands.send(Command::Steer { message, client_metadata, reply }).await.ok()?;
    taken(running, replied).await
}

async fn taken(
    running: Running,
    replied: oneshot::Receiver<Result<(), Refusal>>,
) -> Option<Result<Taken, Error>> {
    Some(match replied.await.ok()? {
        Ok(()) => Ok(Taken::By(running)),
        Err(Refusal::Duplicate(turn_id)) => Ok(Taken::Before(turn_id)),
        Err(Refusal::Error(error)) => Err(error),
    })
}

/// A turn of a thread, looked for from the newest on.
async fn turn_of(thread: &Loaded, turn_id: TurnId) -> Result<TurnView, Error> {
    if let Some(running) = thread.running().filter(|running| running.turn_id == turn_id) {
        return Ok(TurnView::running(turn_id, running.started_at_ms));
    }
    let mut page = PageQuery { cursor: None, limit: 1, direction: Direction::Descending };
    loop {
        let turns = thread.store.turns(&thread.tenant, thread.id, page.clone()).await?;
        if let Some(turn) = turns.elements.into_iter().find(|turn| turn.turn_id == turn_id) {
            let view = TurnView::stored(turn, None);
            return Ok(TurnView { items: Vec::new(), ..view });
        }
        page.limit = 0;
        page.cursor = Some(turns.next.ok_or(Error::NotFound(thread.id))?);
    }
}
