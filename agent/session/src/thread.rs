//! A thread in memory: its facts, its subscribers, and the turn that is running.
//!
//! One lock guards the state and is never held across an await. While a turn runs, its driver holds the lease and the
//! model's input; in between they rest here, so that the next turn need not read the log again.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use agent_threads::{Entry, Lease, Settings, TenantId, Thread, ThreadId, ThreadStore, TurnId};
use tokio::{
    sync::{Mutex as Gate, OwnedSemaphorePermit, mpsc, oneshot},
    time::Instant,
};

use crate::{
    Attesters, Error,
    context::Context,
    event::{Event, Feed, Hub, Lifecycle, Published, Status},
    machine::UserMessage,
    request::{ClientMetadata, Overrides},
    view::{ThreadView, TokenUsage},
};

/// Commands that wait for one turn's driver.
const COMMANDS_MAX: usize = 16;
/// How long a thread that nobody keeps outlives its last subscriber.
const EPHEMERAL_IDLE_MAX: Duration = Duration::from_secs(60);

/// A thread in memory.
pub(crate) struct Loaded {
    pub(crate) tenant: TenantId,
    pub(crate) id: ThreadId,
    pub(crate) ephemeral: bool,
    pub(crate) store: Arc<dyn ThreadStore>,
    pub(crate) attesters: Attesters,
    /// Its share of what its tenant may have in memory.
    pub(crate) room: Option<OwnedSemaphorePermit>,
    /// Held while a turn enters, and while the log is changed in another way than by a turn.
    pub(crate) edits: Arc<Gate<()>>,
    hub: Hub<Arc<Published>>,
    /// Those who are told of all the tenant's threads.
    tenant_hub: Arc<Hub<Arc<Lifecycle>>>,
    state: Mutex<State>,
}

struct State {
    facts: Thread,
    materialized: bool,
    status: Status,
    tokens: Option<(TurnId, TokenUsage)>,
    running: Option<Running>,
    kept: Option<Kept>,
    idle_since: Instant,
    /// It was taken out of memory; whoever still holds it has to load it anew.
    gone: bool,
}

/// How much of a thread is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    /// It is never stored.
    pub(crate) ephemeral: bool,
    /// It has a history by now.
    pub(crate) materialized: bool,
}

/// What a driver needs to write to the thread.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) lease: Lease,
    pub(crate) context: Context,
}

/// The turn that is running.
#[derive(Debug, Clone)]
pub(crate) struct Running {
    pub(crate) turn_id: TurnId,
    pub(crate) started_at_ms: i64,
    pub(crate) commands: mpsc::Sender<Command>,
}

/// What a driver can be told.
#[derive(Debug)]
pub(crate) enum Command {
    /// The user said something.
    Steer {
        /// The message.
        message: UserMessage,
        /// What is told with the model calls from here on.
        client_metadata: ClientMetadata,
        /// Answered once the message is stored.
        reply: oneshot::Sender<Result<(), Refusal>>,
    },
    /// The turn shall end.
    Interrupt {
        /// Dropped once it has.
        ended: oneshot::Sender<()>,
    },
    /// Something is added to the model's input from outside.
    Inject {
        /// The items.
        entries: Vec<Entry>,
        /// Answered once they are stored.
        reply: oneshot::Sender<Result<(), Error>>,
    },
}

/// Why a message was not taken.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// It was taken before, by this turn.
    Duplicate(TurnId),
    /// Something failed.
    Error(Error),
}

/// A turn that may begin: what its driver starts from.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) turn_id: TurnId,
    pub(crate) started_at_ms: i64,
    pub(crate) facts: Thread,
    pub(crate) settings: Settings,
    pub(crate) materialized: bool,
    pub(crate) kept: Option<Kept>,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) sender: mpsc::Sender<Command>,
}

/// What a message meets.
#[derive(Debug)]
pub(crate) enum Entered<P> {
    /// A turn begins with it.
    Begun(Box<Begun>, P),
    /// It joins the turn that is running.
    Joined(Running),
}

/// The thread left memory in the meantime.
#[derive(Debug)]
pub(crate) struct Gone;

impl Loaded {
    pub(crate) fn new(
        facts: Thread,
        store: Arc<dyn ThreadStore>,
        tenant_hub: Arc<Hub<Arc<Lifecycle>>>,
        kind: Kind,
    ) -> Self {
        let Kind { ephemeral, materialized } = kind;
        Self {
            tenant: facts.tenant.clone(),
            id: facts.id,
            ephemeral,
            store,
            attesters: Attesters::default(),
            room: None,
            edits: Arc::default(),
            hub: Hub::default(),
            tenant_hub,
            state: Mutex::new(State {
                facts,
                materialized,
                status: Status::Idle,
                tokens: None,
                running: None,
                kept: None,
                idle_since: Instant::now(),
                gone: false,
            }),
        }
    }

    /// Every change of the state is complete before anything in it can panic.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn view(&self) -> ThreadView {
        let state = self.state();
        ThreadView {
            thread: state.facts.clone(),
            status: state.status,
            ephemeral: self.ephemeral,
            materialized: state.materialized,
            active_turn: state.running.as_ref().map(|running| running.turn_id),
            tokens: state.tokens,
        }
    }

    pub(crate) fn running(&self) -> Option<Running> {
        self.state().running.clone()
    }

    /// Lets a message in. `permit` is asked for only if a turn begins with it.
    pub(crate) fn enter<P>(
        &self,
        overrides: &Overrides,
        now_ms: i64,
        permit: impl FnOnce() -> Result<P, Error>,
    ) -> Result<Result<Entered<P>, Gone>, Error> {
        let mut state = self.state();
        if state.gone {
            return Ok(Err(Gone));
        }
        if let Some(running) = &state.running {
            return Ok(Ok(Entered::Joined(running.clone())));
        }
        let settings = overrides.clone().apply(&state.facts.settings);
        ClientMetadata::check(&settings.client_metadata)?;
        let permit = permit()?;
        let (sender, commands) = mpsc::channel(COMMANDS_MAX);
        let turn_id = TurnId::generate();
        state.running = Some(Running { turn_id, started_at_ms: now_ms, commands: sender.clone() });
        let begun = Begun {
            turn_id,
            started_at_ms: now_ms,
            settings,
            facts: state.facts.clone(),
            materialized: state.materialized,
            kept: state.kept.take(),
            commands,
            sender,
        };
        Ok(Ok(Entered::Begun(Box::new(begun), permit)))
    }

    /// The running turn is over. What the thread does now and what is told of it cannot be overtaken by a next turn.
    pub(crate) fn leave(&self, status: Option<Status>, kept: Option<Kept>, told: Vec<Published>, at_ms: i64) {
        let mut state = self.state();
        state.running = None;
        state.kept = kept;
        state.idle_since = Instant::now();
        // A turn that was refused before it began changes nothing.
        if let Some(status) = status {
            state.status = status;
            let event = Event::StatusChanged(status);
            self.hub.publish(&Arc::new(Published::unstored(at_ms, event)));
            self.tell_tenant(status);
        }
        for published in told {
            self.hub.publish(&Arc::new(published));
        }
    }

    pub(crate) fn publish(&self, published: Published) {
        let mut state = self.state();
        match &published.event {
            Event::StatusChanged(status) => {
                state.status = *status;
                self.tell_tenant(*status);
            }
            Event::TokenUsage { turn_id, tokens } => state.tokens = Some((*turn_id, *tokens)),
            _ => {}
        }
        self.hub.publish(&Arc::new(published));
    }

    fn tell_tenant(&self, status: Status) {
        self.tenant_hub.publish(&Arc::new(Lifecycle::StatusChanged { id: self.id, status }));
    }

    /// What is needed to write to the thread, if no turn has it.
    pub(crate) fn take_kept(&self) -> Option<Kept> {
        self.state().kept.take()
    }

    pub(crate) fn put_kept(&self, kept: Kept) {
        self.state().kept = Some(kept);
    }

    /// The end of the history is gone, and with it what was known of it.
    pub(crate) fn reverted(&self, change: impl FnOnce(&mut Thread), published: Published) {
        let mut state = self.state();
        change(&mut state.facts);
        (state.kept, state.tokens) = (None, None);
        if state.status == Status::SystemError {
            state.status = Status::Idle;
        }
        self.hub.publish(&Arc::new(published));
    }

    /// The facts changed, and with them `event` is told.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Thread), event: Option<Event>, at_ms: i64) {
        let mut state = self.state();
        change(&mut state.facts);
        if let Some(event) = event {
            self.hub.publish(&Arc::new(Published::unstored(at_ms, event)));
        }
    }

    /// The thread is stored from now on.
    pub(crate) fn materialized(&self, preview: &str) {
        let mut state = self.state();
        state.materialized = true;
        preview.clone_into(&mut state.facts.preview);
    }

    /// Takes note of the tokens that the log tells, unless a turn has told others by now.
    pub(crate) fn remember_tokens(&self, tokens: Option<(TurnId, TokenUsage)>) {
        let mut state = self.state();
        state.tokens = state.tokens.or(tokens);
    }

    /// What happens from now on; and the first turn of which anything can be in there.
    pub(crate) fn subscribe(&self, queue_max: usize) -> Result<(Feed<Arc<Published>>, TurnId), Gone> {
        let mut state = self.state();
        if state.gone {
            return Err(Gone);
        }
        state.idle_since = Instant::now();
        let first = state.running.as_ref().map_or_else(TurnId::generate, |running| running.turn_id);
        Ok((self.hub.subscribe(queue_max), first))
    }

    /// Takes the thread out of memory if nobody needs it and nobody has for `idle`. Of one that has subscribers only the
    /// model's input leaves; the next turn reads it again.
    pub(crate) fn retire(&self, idle: Duration) -> bool {
        let idle = if self.ephemeral { idle.min(EPHEMERAL_IDLE_MAX) } else { idle };
        let mut state = self.state();
        if state.running.is_some() || state.idle_since.elapsed() < idle {
            return false;
        }
        let Ok(_no_edit) = self.edits.try_lock() else { return false };
        if !self.hub.is_empty() {
            state.idle_since = Instant::now();
            state.kept = None;
            return false;
        }
        state.gone = true;
        true
    }

    /// Since when nobody has needed the thread; `None` if somebody does.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        let state = self.state();
        (state.running.is_none() && self.hub.is_empty()).then_some(state.idle_since)
    }

    /// Takes the thread out of memory unless a turn is running, and lets its subscribers go.
    pub(crate) fn close(&self, at_ms: i64) -> bool {
        let mut state = self.state();
        if state.running.is_some() {
            return false;
        }
        state.gone = true;
        self.hub.publish(&Arc::new(Published::unstored(at_ms, Event::Closed)));
        self.hub.close();
        true
    }
}
