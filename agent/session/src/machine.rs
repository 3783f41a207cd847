//! The turn as a state machine: `(state, input) → (state, effects)`.
//!
//! Pure: no IO, no clock, no randomness. Effects are performed in order, and a `Commit` is finished before what follows
//! it, so the order of the effects is the order of the barriers: nothing is told, called or run on the strength of an
//! entry that is not stored.

use agent_threads::{Entry, Item, TurnEnd, TurnError, TurnErrorKind, TurnId, TurnStart, Usage};

use crate::{
    context::{self, Opening},
    event::{Event, Status},
    gateway::{CallEvent, Failure, FailureFault},
    options::Retries,
    response::{At, Batch, Progress, Response, Told},
    verdict,
    view::{TokenUsage, TurnView},
};

mod compaction;
mod words;

#[cfg(test)]
mod tests;

use compaction::Compaction;
pub(crate) use words::{Effect, Input, Opener, Pause, Purpose, ToolCall, UserMessage};

/// The longest doubling of the pause between retries.
const DOUBLINGS_MAX: u32 = 10;

/// One turn.
#[derive(Debug, Clone)]
pub(crate) struct Turn {
    id: TurnId,
    started_at_ms: i64,
    limits: Limits,
    /// Of the model in use, if known.
    pub(crate) context_window: Option<u64>,
    phase: Phase,
    /// Model calls so far.
    calls: u32,
    /// Retries of the present call.
    retries: u32,
    response: Response,
    /// Tool calls that are running.
    tools: Vec<ToolCall>,
    /// Tokens of the thread, and those that are not committed.
    total: Usage,
    unsaved: Option<Usage>,
    /// The last message of the model.
    answer: Option<Item>,
    /// What the present call condenses, if it is no answer that is asked for.
    compaction: Option<Compaction>,
    /// Answers since the input was condensed, if it was in this turn.
    answers_since: Option<u32>,
}

/// What bounds a turn.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub(crate) model_calls_max: u32,
    pub(crate) retries: Retries,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// A model call is in flight.
    Calling,
    /// A model call is to be repeated after a pause.
    Waiting,
    /// Tools are running.
    Tools,
    /// It is over.
    Ended,
}

impl Turn {
    /// Begins a turn with the user's message, or to condense the input; `total` are the thread's tokens so far.
    pub(crate) fn begin(
        start: TurnStart,
        opener: Opener,
        opening: Opening,
        (total, limits): (Usage, Limits),
        at_ms: i64,
    ) -> (Self, Vec<Effect>) {
        let id = start.turn_id;
        let mut turn = Self {
            id,
            started_at_ms: at_ms,
            limits,
            context_window: None,
            phase: Phase::Calling,
            calls: 0,
            retries: 0,
            response: Response::default(),
            tools: Vec::new(),
            total,
            unsaved: None,
            answer: None,
            compaction: None,
            answers_since: None,
        };
        let mut batch = Batch { entries: opening.repairs, told: Vec::new() };
        let active = Event::StatusChanged(Status::Active);
        batch.told.push(Told { event: active, entry: None });
        let started = Event::TurnStarted { turn: TurnView::running(id, at_ms) };
        batch.told.push(Told { event: started, entry: Some(batch.entries.len()) });
        batch.entries.push(Entry::TurnStarted(Box::new(start)));
        batch.entries.extend(opening.notices);
        match opener {
            Opener::Message(message) => turn.user_message(&mut batch, message, at_ms),
            Opener::Compaction(item) => turn.condense_alone(&mut batch, item, at_ms),
        }
        let mut effects = vec![Effect::Commit(batch.entries), Effect::Accepted];
        effects.extend(batch.told.into_iter().map(Effect::Tell));
        effects.extend(turn.call(at_ms));
        (turn, effects)
    }

    /// Whether the turn is over.
    pub(crate) fn has_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// Takes an input. One that does not fit the state (a late answer of something that was cancelled) changes nothing.
    pub(crate) fn apply(&mut self, input: Input, at_ms: i64) -> Vec<Effect> {
        match (self.phase, input) {
            // The commit that failed may have been the turn's last.
            (_, Input::StoreFailed(error)) => self.store_failed(error, at_ms),
            (Phase::Ended, _) => Vec::new(),
            (_, Input::Interrupt) => self.interrupt(at_ms),
            (_, Input::Steer(message)) => self.steer(message, at_ms),
            (Phase::Calling, Input::ContextFull(item)) => self.condense_first(item, at_ms),
            (Phase::Calling, Input::Call(event)) => self.call_event(event, at_ms),
            (Phase::Calling, Input::CallFailed(failure)) => self.broken(&failure, at_ms),
            (Phase::Waiting, Input::RetryDue) => self.call(at_ms),
            (Phase::Tools, Input::ToolFinished { call_id, output }) => {
                self.tool_finished(&call_id, &output, at_ms)
            }
            (
                Phase::Waiting | Phase::Tools,
                Input::Call(_) | Input::CallFailed(_) | Input::ContextFull(_),
            )
            | (Phase::Calling | Phase::Tools, Input::RetryDue)
            | (Phase::Calling | Phase::Waiting, Input::ToolFinished { .. }) => Vec::new(),
        }
    }

    fn at(&self, ms: i64) -> At {
        At { turn_id: self.id, call: self.calls, ms }
    }

    fn call(&mut self, at_ms: i64) -> Vec<Effect> {
        if self.calls >= self.limits.model_calls_max {
            let error = TurnError {
                kind: TurnErrorKind::Other,
                reason: "model_calls_exceeded".to_owned(),
                message: format!("the turn needs more than {} model calls", self.limits.model_calls_max),
                http_status: None,
            };
            return self.fail(error, at_ms);
        }
        self.calls += 1;
        self.phase = Phase::Calling;
        self.response = Response::default();
        vec![Effect::CallModel(self.purpose())]
    }

    fn call_event(&mut self, event: CallEvent, at_ms: i64) -> Vec<Effect> {
        match event {
            CallEvent::Head { rate_limits, .. } => {
                self.response.rate_limits = rate_limits;
                Vec::new()
            }
            CallEvent::Event { kind, data } if self.compaction.is_some() => {
                // Nobody is told how a summary is written.
                self.response.event(&kind, &data, self.at(at_ms));
                Vec::new()
            }
            CallEvent::Event { kind, data } => {
                let had_done = self.response.has_done();
                // Done items wait for the next event of weight, so that those which end a turn share its last commit.
                let ends =
                    matches!(kind.as_str(), "response.output_item.done" | "response.output_item.added")
                        || kind.ends_with(".delta");
                let mut effects = Vec::new();
                if had_done && ends {
                    let batch = self.response.settle(Progress::Running, self.at(at_ms));
                    effects = self.committed(batch);
                }
                let at = self.at(at_ms);
                let told = self.response.event(&kind, &data, at);
                effects.extend(told.into_iter().map(|event| Effect::Tell(Told { event, entry: None })));
                effects
            }
            CallEvent::Completed { usage, .. } => {
                self.count(usage);
                self.completed(at_ms)
            }
            CallEvent::Failed { failure, usage } => {
                self.count(usage);
                self.broken(&failure, at_ms)
            }
        }
    }

    fn completed(&mut self, at_ms: i64) -> Vec<Effect> {
        use tidegate_responses::Status::{Cancelled, Failed, Incomplete};
        if self
            .response
            .terminal
            .as_ref()
            .is_some_and(|end| matches!(end.status, Cancelled | Failed | Incomplete))
        {
            return self.broken(&unfinished(), at_ms);
        }
        if let Some(compaction) = self.compaction.take() {
            return self.condensed(compaction, at_ms);
        }
        self.retries = 0;
        self.answers_since = self.answers_since.map(|answers| answers.saturating_add(1));
        let calls = std::mem::take(&mut self.response.calls);
        if calls.is_empty() {
            return self.finish(TurnEnd::Completed, Progress::Ended, Vec::new(), at_ms);
        }
        let mut batch = self.response.settle(Progress::Ended, self.at(at_ms));
        self.save_usage(&mut batch);
        let mut effects = self.committed(batch);
        self.tools.clone_from(&calls);
        self.phase = Phase::Tools;
        effects.extend(calls.into_iter().map(Effect::RunTool));
        effects
    }

    /// How often the provider's broken streams may be begun again, where that is known.
    pub(crate) fn allow_retries(&mut self, max: Option<u32>) {
        if let Some(max) = max {
            self.limits.retries.max = max;
        }
    }

    /// The response ended otherwise than it should: it is tried again from the start, or the turn fails.
    fn broken(&mut self, failure: &Failure, at_ms: i64) -> Vec<Effect> {
        let verdict = verdict::judge(failure, self.response.terminal.as_ref());
        let Retries { max, base, delay_max } = self.limits.retries;
        if let Some(effects) = self.condense_less(&verdict, at_ms) {
            return effects;
        }
        let too_late = failure.retry_delay.is_some_and(|delay| delay > delay_max);
        if !verdict.retry || self.retries >= max || too_late {
            return self.fail(verdict.error, at_ms);
        }
        let pause = match failure.retry_delay {
            Some(delay) => Pause::Exact(delay),
            None => Pause::About(base.saturating_mul(1 << self.retries.min(DOUBLINGS_MAX))),
        };
        self.retries += 1;
        // A retry is not one more call of the turn.
        self.calls = self.calls.saturating_sub(1);
        self.phase = Phase::Waiting;
        self.response = Response::default();
        let error = TurnError {
            kind: TurnErrorKind::StreamDisconnected,
            message: format!("Reconnecting... {}/{max}", self.retries),
            ..verdict.error.clone()
        };
        let details = Some(verdict.error.message);
        let event = Event::Error { turn_id: self.id, error, details, will_retry: true };
        vec![Effect::Tell(Told { event, entry: None }), Effect::Pause(pause)]
    }

    fn tool_finished(&mut self, call_id: &str, output: &str, at_ms: i64) -> Vec<Effect> {
        let Some(index) = self.tools.iter().position(|call| call.call_id == call_id) else {
            return Vec::new();
        };
        let call = self.tools.remove(index);
        let mut batch = Batch::default();
        batch.model_item(self.id, context::tool_output(&call, output));
        let mut effects = self.committed(batch);
        if self.tools.is_empty() {
            effects.extend(self.call(at_ms));
        }
        effects
    }

    /// A response that is in flight gives way to one that knows the user's new message.
    fn steer(&mut self, message: UserMessage, at_ms: i64) -> Vec<Effect> {
        // What is being condensed is older than the message, which then comes after the summary.
        self.answer_next();
        let calling = self.phase == Phase::Calling && self.compaction.is_none();
        let mut batch = match calling {
            true => self.response.settle(Progress::Cut, self.at(at_ms)),
            false => Batch::default(),
        };
        self.save_usage(&mut batch);
        self.user_message(&mut batch, message, at_ms);
        let mut effects = self.committed(batch);
        effects.insert(1, Effect::Accepted);
        if calling {
            effects.insert(2, Effect::CancelCall);
            effects.extend(self.call(at_ms));
        }
        effects
    }

    fn interrupt(&mut self, at_ms: i64) -> Vec<Effect> {
        let mut effects = match self.phase {
            Phase::Calling => vec![Effect::CancelCall],
            Phase::Tools => vec![Effect::CancelTools],
            Phase::Waiting | Phase::Ended => Vec::new(),
        };
        let open_calls = std::mem::take(&mut self.tools);
        let outputs = open_calls.iter().map(|call| context::tool_output(call, context::OUTCOME_UNKNOWN));
        let outputs = outputs.map(|json| Entry::ModelItem { turn_id: self.id, json }).collect();
        effects.extend(self.finish(TurnEnd::Interrupted, Progress::Cut, outputs, at_ms));
        effects
    }

    fn fail(&mut self, error: TurnError, at_ms: i64) -> Vec<Effect> {
        let mut effects = match self.phase {
            Phase::Calling => vec![Effect::CancelCall],
            Phase::Waiting | Phase::Tools | Phase::Ended => Vec::new(),
        };
        effects.extend(self.finish(TurnEnd::Failed { error }, Progress::Cut, Vec::new(), at_ms));
        effects
    }

    /// The store cannot be relied on: the turn ends without being written.
    fn store_failed(&mut self, error: TurnError, at_ms: i64) -> Vec<Effect> {
        let calling = self.phase;
        self.phase = Phase::Ended;
        let mut effects = match calling {
            Phase::Calling => vec![Effect::CancelCall],
            Phase::Tools => vec![Effect::CancelTools],
            Phase::Waiting | Phase::Ended => Vec::new(),
        };
        effects.push(self.end(&TurnEnd::Failed { error }, None, at_ms));
        effects
    }

    fn finish(&mut self, end: TurnEnd, progress: Progress, entries: Vec<Entry>, at_ms: i64) -> Vec<Effect> {
        if self.compaction.take().is_some() {
            // What was said of a summary until then is no part of the conversation.
            self.response = Response::default();
        }
        let mut batch = self.response.settle(progress, self.at(at_ms));
        self.phase = Phase::Ended;
        batch.entries.extend(entries);
        self.save_usage(&mut batch);
        let entry = Some(batch.entries.len());
        batch.entries.push(Entry::TurnEnded { turn_id: self.id, end: end.clone() });
        let mut effects = self.committed(batch);
        effects.push(self.end(&end, entry, at_ms));
        effects
    }

    fn end(&self, end: &TurnEnd, entry: Option<usize>, at_ms: i64) -> Effect {
        let mut told = Vec::new();
        let mut status = Status::Idle;
        if let TurnEnd::Failed { error } = end {
            status = Status::SystemError;
            let event =
                Event::Error { turn_id: self.id, error: error.clone(), details: None, will_retry: false };
            told.push(Told { event, entry: None });
        }
        let mut turn = TurnView::ended(self.id, end, self.started_at_ms, at_ms);
        turn.items.extend(self.answer.clone().map(|item| agent_threads::ItemRecord {
            turn_id: self.id,
            sequence: 0,
            at_ms,
            item,
        }));
        told.push(Told { event: Event::TurnCompleted { turn }, entry });
        Effect::End(status, told)
    }

    fn user_message(&self, batch: &mut Batch, message: UserMessage, at_ms: i64) {
        let json = message.model_item();
        let item = message.into_item();
        let event = Event::ItemStarted { turn_id: self.id, item: item.clone(), at_ms };
        batch.told.push(Told { event, entry: None });
        batch.complete(self.id, item, at_ms, at_ms);
        batch.model_item(self.id, json);
    }

    fn count(&mut self, usage: Option<Usage>) {
        let Some(usage) = usage else { return };
        self.total = self.total.plus(usage);
        self.unsaved = Some(self.unsaved.map_or(usage, |unsaved| unsaved.plus(usage)));
    }

    fn save_usage(&mut self, batch: &mut Batch) {
        if let Some(last) = self.unsaved.take() {
            let (turn_id, total) = (self.id, self.total);
            let tokens = TokenUsage { last, total, context_window: self.context_window };
            let entry = Some(batch.entries.len());
            batch.entries.push(Entry::Usage { turn_id, last, total });
            batch.told.push(Told { event: Event::TokenUsage { turn_id, tokens }, entry });
        }
        let rate_limits = std::mem::take(&mut self.response.rate_limits);
        if !rate_limits.is_empty() {
            batch.told.push(Told { event: Event::RateLimits(rate_limits), entry: None });
        }
    }

    fn committed(&mut self, batch: Batch) -> Vec<Effect> {
        for told in &batch.told {
            if let Event::ItemCompleted { item: item @ Item::AgentMessage { .. }, .. } = &told.event {
                self.answer = Some(item.clone());
            }
        }
        let mut effects = Vec::with_capacity(batch.told.len() + 3);
        if !batch.entries.is_empty() {
            effects.push(Effect::Commit(batch.entries));
        }
        effects.extend(batch.told.into_iter().map(Effect::Tell));
        effects
    }
}

/// A response that its provider did not complete, in the words of the gateway's failures.
fn unfinished() -> Failure {
    Failure {
        reason: "response_failed".to_owned(),
        fault: FailureFault::Upstream,
        message: "the provider did not complete the response".to_owned(),
        retryable: true,
        retry_delay: None,
        http_status: None,
        code: None,
    }
}
