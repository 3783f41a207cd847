//! Performs a turn's effects: stores, tells, calls the model, waits; and feeds what comes of it back into the turn.
//!
//! One task per running turn. It decides nothing about the turn itself; that is [`crate::machine`]'s. Whoever asked for
//! the turn may go away at any time without harm to it.

mod calls;
mod writes;

use std::{collections::VecDeque, pin::Pin, sync::Arc, time::Duration};

use agent_threads::{
    Entry, ItemId, OwnerId, ReadState, ServiceTier, Settings, Thread, TurnError, TurnErrorKind, TurnId,
    TurnStart,
};
use futures_util::future::BoxFuture;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use self::writes::Last;
use crate::{
    Error, Options,
    catalogue::{Catalogue, Facts},
    clock::now_ms,
    context::{Context, Opening},
    event::{Event, Status},
    gateway::{Failure, ModelGateway, ModelStream},
    machine::{Effect, Input, Limits, Opener, Pause, Purpose, Turn, UserMessage},
    request::ClientMetadata,
    response::Told,
    surroundings::Surroundings,
    thread::{Begun, Command, Kept, Loaded, Refusal},
    trace_context::TraceContext,
    watch::{Observer, Subject, TurnWatch},
};

/// Records of one read while the log is loaded; 0 leaves it to the store.
const LOAD_PAGE: u32 = 0;
/// A pause before a retry is at most so much shorter or longer than told.
const JITTER: f64 = 0.1;

/// What all drivers share.
pub(crate) struct Shared {
    pub(crate) gateway: Arc<dyn ModelGateway>,
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) options: Options,
    pub(crate) owner: OwnerId,
    pub(crate) observer: Arc<Observer>,
    /// Interrupts all turns.
    pub(crate) stop: CancellationToken,
}

/// What a turn starts with.
pub(crate) struct Start {
    pub(crate) opener: Opener,
    /// The turn that started the tree of work, if it is another one.
    pub(crate) root_turn_id: Option<TurnId>,
    pub(crate) output_schema: Option<serde_json::Value>,
    /// Instead of the one of the settings.
    pub(crate) service_tier: Option<String>,
    pub(crate) trace: TraceContext,
    pub(crate) reply: oneshot::Sender<Result<(), Refusal>>,
}

/// Runs a turn from its first commit to its end.
pub(crate) async fn run(shared: Arc<Shared>, thread: Arc<Loaded>, begun: Begun, start: Start) {
    let Begun { turn_id, started_at_ms, facts, settings, materialized, kept, mut commands, .. } = begun;
    let mut subject = Subject::of(&facts, &settings, turn_id, thread.ephemeral, start.trace);
    subject.condenses = matches!(start.opener, Opener::Compaction(_));
    let mut driver = Driver {
        watch: TurnWatch::new(&shared.observer, subject, started_at_ms),
        shared,
        thread: Presence { thread, left: false },
        turn_id,
        started_at_ms,
        facts,
        service_tier: ServiceTier::maybe(start.service_tier).or_else(|| settings.service_tier.clone()),
        settings,
        output_schema: start.output_schema,
        reply: Some(start.reply),
        materialized,
        kept,
        last: Last::default(),
        unread: None,
        answer_sequence: 0,
        root_turn_id: start.root_turn_id.unwrap_or(turn_id),
        surroundings: Surroundings::default(),
        stream: None,
        calling: Calling::default(),
        turn_state: None,
        activity: Activity::None,
        results: VecDeque::new(),
        interrupters: Vec::new(),
    };
    match driver.begin(start.opener).await {
        Ok(mut turn) => {
            driver.watch.began();
            driver.follow(&mut turn, &mut commands).await;
        }
        Err(refusal) => driver.refuse(refusal),
    }
}

struct Driver {
    watch: TurnWatch,
    shared: Arc<Shared>,
    thread: Presence,
    turn_id: TurnId,
    started_at_ms: i64,
    /// As they were when the turn began.
    facts: Thread,
    settings: Settings,
    /// The one in force, which can be this turn's alone.
    service_tier: ServiceTier,
    output_schema: Option<serde_json::Value>,
    /// To whoever sent the message that is being stored.
    reply: Option<oneshot::Sender<Result<(), Refusal>>>,
    materialized: bool,
    kept: Option<Kept>,
    last: Last,
    /// What of the thread is unread by the turn's end, until that is told.
    unread: Option<ReadState>,
    /// Where the model's last message is stored.
    answer_sequence: u64,
    /// The turn that started the tree of work.
    root_turn_id: TurnId,
    /// What held when the turn began.
    surroundings: Surroundings,
    stream: Option<Pin<Box<dyn ModelStream>>>,
    calling: Calling,
    turn_state: Option<String>,
    activity: Activity,
    /// Results of tools.
    results: VecDeque<Input>,
    /// Dropped when the turn has ended.
    interrupters: Vec<oneshot::Sender<()>>,
}

/// The present model call, and what is known from the one before.
#[derive(Default)]
struct Calling {
    purpose: Purpose,
    /// Whether it is on a stream that carried others before, while nothing has come of it.
    unanswered: bool,
    /// Whether it continues a response that the provider remembers.
    continuing: bool,
    /// Whether the next one may continue this one, as far as its head tells.
    continues: bool,
    /// Whether something has come into the input from elsewhere since it was made, which its provider does not know.
    behind: bool,
    /// The response that has just ended as it should, if it may be continued.
    ended: Option<String>,
    /// The response that the next call on this stream may continue, and how much of the input it knows.
    continuation: Option<(String, usize)>,
    /// How long the instructions are.
    instructions: usize,
    /// Of the model in use, if known.
    context_window: Option<u64>,
}

/// The turn's place in its thread, given up even if the driver panics.
struct Presence {
    thread: Arc<Loaded>,
    left: bool,
}

impl Drop for Presence {
    fn drop(&mut self) {
        if !self.left {
            self.thread.leave(Some(Status::SystemError), None, Vec::new(), now_ms());
        }
    }
}

/// What is under way.
enum Activity {
    None,
    /// Asking for the model's facts, before the call.
    Looking(BoxFuture<'static, Result<Arc<Facts>, Failure>>),
    Calling,
    PausingUntil(Instant),
}

enum Wake {
    Input(Input),
    Command(Command),
    Looked(Arc<Facts>),
    /// The stream had grown too old before it took the call, or its provider does not know what the call continued.
    CallAgain,
}

impl Driver {
    /// Makes the thread ours and stores the message. Nothing is told before that.
    async fn begin(&mut self, opener: Opener) -> Result<Turn, Refusal> {
        let around = self.shared.options.context;
        self.surroundings = Surroundings::look(around, &self.settings, self.started_at_ms).await;
        let mut taken_back = false;
        loop {
            self.own().await.map_err(|error| Refusal::Error(error.into()))?;
            let fresh = Context::default();
            let context = self.kept.as_ref().map_or(&fresh, |kept| &kept.context);
            let opening = match opener {
                Opener::Message(_) => context.opening(self.turn_id, &self.settings, &self.surroundings),
                Opener::Compaction(_) => Opening { repairs: context.repairs(), notices: Vec::new() },
            };
            self.watch.opens_with(&opening.repairs);
            let start = TurnStart { turn_id: self.turn_id, settings: self.settings.clone() };
            let Options { model_calls_max, ref retries, .. } = self.shared.options;
            let limits = Limits { model_calls_max, retries: retries.clone() };
            let (turn, effects) =
                Turn::begin(start, opener.clone(), opening, (context.total, limits), self.started_at_ms);
            match self.perform(effects).await {
                Ok(()) => return Ok(turn),
                Err(agent_threads::Error::StaleOwner(_)) if !taken_back => {
                    // Another process had the thread while it was idle here. The user is here now.
                    self.kept = None;
                    taken_back = true;
                }
                Err(agent_threads::Error::DuplicateMessage { turn_id }) => {
                    return Err(Refusal::Duplicate(turn_id));
                }
                Err(error) => {
                    self.kept = None;
                    return Err(Refusal::Error(error.into()));
                }
            }
        }
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.thread.left = true;
        self.thread.thread.leave(None, self.kept.take(), Vec::new(), now_ms());
        if let Some(reply) = self.reply.take() {
            // Whoever asked may be gone.
            let _ = reply.send(Err(refusal));
        }
    }

    /// Acquires the thread and reads its log, unless that is done.
    async fn own(&mut self) -> Result<(), agent_threads::Error> {
        if !self.materialized || self.kept.is_some() {
            return Ok(());
        }
        let Loaded { store, tenant, id, .. } = &*self.thread.thread;
        let (lease, _) = store.acquire(tenant, *id, &self.shared.owner).await?;
        let mut context = Context::default();
        let mut after = 0;
        loop {
            let records = store.records(tenant, *id, after, LOAD_PAGE).await?;
            let Some(last) = records.last() else { break };
            after = last.sequence;
            for record in &records {
                context.add(&record.entry);
            }
        }
        self.kept = Some(Kept { lease, context });
        Ok(())
    }

    async fn follow(&mut self, turn: &mut Turn, commands: &mut mpsc::Receiver<Command>) {
        while !turn.has_ended() {
            let input = match self.wake(commands).await {
                Wake::Input(input) => input,
                Wake::Looked(facts) => {
                    let provider = facts.provider(&self.facts.origin.provider, &self.settings.model);
                    turn.allow_retries(provider.and_then(|provider| provider.stream_max_retries));
                    if turn.may_condense() && self.is_full(&facts) {
                        Input::ContextFull(ItemId::generate())
                    } else {
                        self.call(&facts);
                        turn.context_window = self.calling.context_window;
                        continue;
                    }
                }
                Wake::CallAgain => {
                    self.calling.continuation = None;
                    self.look_up();
                    continue;
                }
                Wake::Command(Command::Steer { message, client_metadata, reply }) => {
                    self.steer(turn, message, client_metadata, reply).await;
                    continue;
                }
                Wake::Command(Command::Inject { entries, reply }) => {
                    self.inject(turn, entries, reply).await;
                    continue;
                }
                Wake::Command(Command::Interrupt { ended }) => {
                    self.interrupters.push(ended);
                    Input::Interrupt
                }
            };
            let effects = turn.apply(input, now_ms());
            if let Err(error) = self.perform(effects).await {
                self.store_failed(turn, &error).await;
            }
            if let Some(id) = self.calling.ended.take() {
                // All that the response brought is in the input by now, and nothing else.
                let known = self.kept.as_ref().map_or(0, |kept| kept.context.len());
                self.calling.continuation = Some((id, known));
            }
        }
    }

    /// A message that was taken before leaves the turn as it was.
    async fn steer(
        &mut self,
        turn: &mut Turn,
        message: UserMessage,
        client_metadata: ClientMetadata,
        reply: oneshot::Sender<Result<(), Refusal>>,
    ) {
        let metadata = client_metadata.apply(&self.settings.client_metadata);
        if let Err(error) = ClientMetadata::check(&metadata) {
            // Whoever asked may be gone.
            let _ = reply.send(Err(Refusal::Error(error)));
            return;
        }
        // Stored with the message, or not at all.
        let before = std::mem::replace(&mut self.settings.client_metadata, metadata);
        let mut steered = turn.clone();
        let effects = steered.apply(Input::Steer(message), now_ms());
        self.reply = Some(reply);
        match (self.perform(effects).await, self.reply.take()) {
            (Ok(()), _) => *turn = steered,
            (Err(agent_threads::Error::DuplicateMessage { turn_id }), Some(reply)) => {
                self.settings.client_metadata = before;
                let _ = reply.send(Err(Refusal::Duplicate(turn_id)));
            }
            (Err(error), reply) => {
                *turn = steered;
                self.store_failed(turn, &error).await;
                if let Some(reply) = reply {
                    let _ = reply.send(Err(Refusal::Error(error.into())));
                }
            }
        }
    }

    /// The model is told with its next call; the one that is under way goes on.
    async fn inject(
        &mut self,
        turn: &mut Turn,
        entries: Vec<Entry>,
        reply: oneshot::Sender<Result<(), Error>>,
    ) {
        let done = self.commit(entries).await;
        self.calling.behind = true;
        if let Err(error) = &done {
            self.store_failed(turn, error).await;
        }
        // Whoever asked may be gone.
        let _ = reply.send(done.map_err(Error::from));
    }

    async fn store_failed(&mut self, turn: &mut Turn, error: &agent_threads::Error) {
        // What is stored is not known any more: the next turn reads it again.
        self.kept = None;
        let error = TurnError {
            kind: TurnErrorKind::InternalServerError,
            reason: "store_failed".to_owned(),
            message: error.to_string(),
            http_status: None,
        };
        let effects = turn.apply(Input::StoreFailed(error), now_ms());
        // Its effects store nothing, so they cannot fail.
        let _ = self.perform(effects).await;
    }

    async fn perform(&mut self, effects: Vec<Effect>) -> Result<(), agent_threads::Error> {
        for effect in effects {
            match effect {
                Effect::Commit(entries) => self.commit(entries).await?,
                Effect::Accepted => self.accepted(),
                Effect::Tell(told) => {
                    let published = self.published(told);
                    self.thread.thread.publish(published);
                }
                Effect::CallModel(purpose) => {
                    self.calling.purpose = purpose;
                    self.look_up();
                }
                Effect::BeginAnew { outcome, total, entries } => {
                    self.begin_anew(outcome, total, entries).await?;
                }
                Effect::CancelCall => {
                    self.watch.cancelled();
                    self.stream = None;
                    self.activity = Activity::None;
                }
                Effect::Pause(pause) => {
                    self.activity = Activity::PausingUntil(Instant::now() + length(pause))
                }
                // There is no tool yet, and the model is told so.
                Effect::RunTool(call) => self.results.push_back(Input::ToolFinished {
                    output: format!("unsupported tool: {}", call.name),
                    call_id: call.call_id,
                }),
                Effect::CancelTools => self.results.clear(),
                Effect::End(status, told) => {
                    if let Some(unread) = self.unread.take() {
                        let told = Told { event: Event::ReadStateChanged(unread), entry: None };
                        let published = self.published(told);
                        self.thread.thread.publish(published);
                    }
                    self.watch.ended(&told);
                    let told = told.into_iter().map(|told| self.published(told)).collect();
                    self.thread.left = true;
                    self.thread.thread.leave(Some(status), self.kept.take(), told, now_ms());
                }
            }
        }
        Ok(())
    }

    fn accepted(&mut self) {
        if let Some(reply) = self.reply.take() {
            // Whoever asked may be gone; the turn runs all the same.
            let _ = reply.send(Ok(()));
        }
    }

    async fn wake(&mut self, commands: &mut mpsc::Receiver<Command>) -> Wake {
        if let Some(result) = self.results.pop_front() {
            return Wake::Input(result);
        }
        let stop = self.shared.stop.clone();
        tokio::select! {
            biased;
            () = stop.cancelled() => Wake::Input(Input::Interrupt),
            Some(command) = commands.recv() => Wake::Command(command),
            wake = self.proceed() => wake,
        }
    }

    /// Waits for what is under way. May be dropped at any time without losing anything.
    async fn proceed(&mut self) -> Wake {
        match &mut self.activity {
            Activity::None => std::future::pending().await,
            Activity::Looking(looking) => {
                let looked = looking.await;
                self.activity = Activity::None;
                match looked {
                    Ok(facts) => Wake::Looked(facts),
                    Err(failure) => Wake::Input(Input::CallFailed(failure)),
                }
            }
            Activity::PausingUntil(until) => {
                tokio::time::sleep_until(*until).await;
                self.activity = Activity::None;
                Wake::Input(Input::RetryDue)
            }
            Activity::Calling => self.receive().await,
        }
    }
}

fn length(pause: Pause) -> Duration {
    match pause {
        Pause::Exact(pause) => pause,
        Pause::About(pause) => pause.mul_f64(rand::random_range(1.0 - JITTER..=1.0 + JITTER)),
    }
}
