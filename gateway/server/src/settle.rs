//! Accounts for a call: always, also when the caller goes away, and exactly once.
//!
//! A [`Settlement`] is opened before anything leaves and closes itself when it is dropped, so no path out of the
//! pipeline can forget it. Log line, metrics and spans come from one place and cannot disagree.

use std::{mem, sync::Arc};

use bytes::Bytes;
use gateway_providers::{Answer, Call, Operation, Upstream};
use opentelemetry::Context;
use tidegate_callers::Principal;
use tidegate_responses::{
    Frame, Kind, Terminal,
    event::{Status, created_id},
};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    arrival::{Arrival, is_over},
    codex_ids::CodexIds,
    content::Content,
    conventions,
    failure::DEADLINE_EXCEEDED,
    headers,
    metrics::{Ended, Metrics},
    phases::Phases,
    series::Labels,
    trace::{CallSpan, Tracing},
};

mod told;

pub(crate) use told::millis;

/// The longest text from outside that is told of a call.
const TEXT_BYTES_MAX: usize = 256;

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The provider's stream ended with a terminal event that says so.
    Completed,
    /// The provider cut the response short.
    Incomplete,
    /// The provider's stream ended with a failure.
    Failed,
    /// The provider refused with an error status.
    Refused,
    /// No answer of the provider could be had.
    Unsent,
    /// The provider's stream broke.
    Broken,
    /// The caller went away.
    CallerGone,
    /// The time that the caller gave the call is over.
    DeadlineExceeded,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Incomplete => "incomplete",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Unsent => "unsent",
            Self::Broken => "broken",
            Self::CallerGone => "caller_gone",
            Self::DeadlineExceeded => DEADLINE_EXCEEDED,
        }
    }
}

/// Where a call goes.
#[derive(Debug)]
pub(crate) struct Destination {
    pub(crate) provider: String,
    pub(crate) model: String,
    pub(crate) operation: Operation,
}

/// What is known of a call before it is sent.
#[derive(Debug)]
struct Facts {
    principal: Arc<Principal>,
    /// The state of the configuration that the call is bound to.
    generation: u64,
    surface: &'static str,
    to: Destination,
    ids: CodexIds,
    request_bytes: usize,
    /// When the caller stops waiting, if it said so.
    deadline: Option<Instant>,
}

/// The open account of one call.
#[derive(Debug)]
pub(crate) struct Settlement {
    id: Uuid,
    facts: Facts,
    span: CallSpan,
    metrics: Metrics,
    phases: Phases,
    terminal: Option<Terminal>,
    /// The provider's id of the response, as its first event tells it.
    created: Option<Box<str>>,
    /// How many events have passed.
    events: u64,
    status: u16,
    attempts: u32,
    upstream_request: Option<String>,
    response_bytes: usize,
    /// What went wrong, if more is known than the outcome says.
    error: Option<&'static str>,
    /// Only where a policy wants what is said to be logged.
    content: Option<Box<Content>>,
    settled: bool,
}

impl Settlement {
    /// Opens the account of a call that has come as far as being sent, with the body that the provider shall see. In a box:
    /// it is handed on with the call a dozen times.
    pub(crate) fn open(
        arrival: &mut Arrival,
        principal: Arc<Principal>,
        to: Destination,
        body: &Bytes,
        span: CallSpan,
    ) -> Box<Self> {
        let (generation, surface, metrics) = (arrival.generation, arrival.surface, arrival.metrics.clone());
        let (phases, ids) = (arrival.opened(), mem::take(&mut arrival.ids));
        metrics.began();
        let (request_bytes, deadline) = (body.len(), arrival.deadline);
        Box::new(Self {
            id: Uuid::now_v7(),
            facts: Facts { principal, generation, surface, to, ids, request_bytes, deadline },
            span,
            metrics,
            phases,
            terminal: None,
            created: None,
            events: 0,
            status: 0,
            attempts: 0,
            upstream_request: None,
            response_bytes: 0,
            error: None,
            content: None,
            settled: false,
        })
    }

    /// The gateway's id of the call.
    pub(crate) fn id(&self) -> Uuid {
        self.id
    }

    /// What log lines of the call are joined by.
    pub(crate) fn context(&self) -> Context {
        self.span.context()
    }

    pub(crate) fn model(&self) -> &str {
        &self.facts.to.model
    }

    pub(crate) fn generation(&self) -> u64 {
        self.facts.generation
    }

    pub(crate) fn provider(&self) -> &str {
        &self.facts.to.provider
    }

    /// What is asked and answered will be logged.
    pub(crate) fn log_content(&mut self, body: &Bytes) {
        self.content = Some(Box::new(Content::new(body)));
    }

    /// The call is sent.
    pub(crate) fn leaves(&mut self, tracing: &Tracing, upstream: &Upstream, call: &mut Call) {
        self.phases.left();
        self.span.leaves(tracing, upstream, call);
    }

    /// The provider answered.
    pub(crate) fn answered(&mut self, answer: &Answer) {
        self.phases.answered(&answer.timing);
        self.status = answer.status.as_u16();
        self.attempts = answer.attempts;
        self.upstream_request = headers::request_id(&answer.headers).map(|id| short(id).to_owned());
    }

    /// A part of the answer passes.
    pub(crate) fn passed(&mut self, bytes: usize) {
        self.response_bytes += bytes;
    }

    /// A frame of the provider's stream passes. Only a terminal one is parsed, and of the first its id read. Tells what the frame is.
    pub(crate) fn observe(&mut self, frame: &Frame) -> Kind {
        self.phases.event();
        let kind = frame.kind();
        self.events += u64::from(!matches!(kind, Kind::Comment | Kind::Done));
        if kind == Kind::Created && self.created.is_none() {
            self.created = created_id(&frame.data());
        }
        if kind.is_terminal() && self.terminal.is_none() {
            // A terminal event that cannot be read still ends the response; its usage is unknown.
            let data = frame.data();
            self.terminal = Some(Terminal::parse(kind, &data).unwrap_or_default());
            if let Some(content) = &mut self.content {
                content.ended(&data);
            }
        }
        kind
    }

    /// A whole body passed instead of a stream.
    pub(crate) fn observe_body(&mut self, body: &[u8]) {
        self.terminal = Terminal::parse_body(body).ok();
        if let Some(content) = &mut self.content {
            content.ended(body);
        }
    }

    pub(crate) fn terminal(&self) -> Option<&Terminal> {
        self.terminal.as_ref()
    }

    /// The provider's id of the response, if it has told one.
    pub(crate) fn response_id(&self) -> Option<&str> {
        let ended = self.terminal.as_ref().and_then(|terminal| terminal.response_id.as_deref());
        ended.or(self.created.as_deref())
    }

    /// The number of the event that comes next. Providers count from 0.
    pub(crate) fn next_number(&self) -> u64 {
        self.events
    }

    /// The response came to its end, as its terminal event says.
    pub(crate) fn ended(&mut self) {
        let outcome = match &self.terminal {
            Some(terminal) => match terminal.status {
                Status::Completed | Status::InProgress | Status::Queued => Outcome::Completed,
                Status::Incomplete => Outcome::Incomplete,
                Status::Failed | Status::Cancelled => Outcome::Failed,
                Status::Unknown if terminal.error.is_some() => Outcome::Failed,
                Status::Unknown => Outcome::Completed,
            },
            None => Outcome::Broken,
        };
        self.settle(outcome);
    }

    /// The call failed in a way that has a name.
    pub(crate) fn failed(&mut self, outcome: Outcome, reason: &'static str) {
        if !self.settled {
            self.error = Some(reason);
        }
        self.settle(outcome);
    }

    /// The call is over; only the first word counts.
    pub(crate) fn settle(&mut self, outcome: Outcome) {
        if mem::replace(&mut self.settled, true) {
            return;
        }
        let usage = self.terminal.as_ref().and_then(|terminal| terminal.usage);
        let (error, duration) = (self.error_type(outcome), self.phases.elapsed());
        self.metrics.ended(&Ended {
            labels: Labels {
                operation: conventions::operation(self.facts.to.operation),
                tenant: &self.facts.principal.tenant,
                provider: self.provider(),
                model: self.model(),
            },
            answered: (200..300).contains(&self.status),
            end: (outcome.name(), error),
            duration,
            phases: &self.phases,
            usage: usage.as_ref(),
        });
        // Log lines are joined to the span as long as it is the current one.
        let joined = self.span.is_sampled().then(|| self.context().attach());
        self.log(outcome, error, duration, usage.as_ref());
        if let Some(content) = &self.content {
            let Principal { tenant, subject, .. } = &*self.facts.principal;
            content.log(self.id, tenant, subject);
        }
        drop(joined);
        if self.span.is_sampled() {
            let (call, client) = self.attributes(outcome, usage.as_ref());
            self.span.close(call, client, error);
        }
    }

    /// What went wrong, in a word of a bounded set.
    fn error_type(&self, outcome: Outcome) -> Option<&'static str> {
        match outcome {
            Outcome::Completed | Outcome::Incomplete => None,
            Outcome::Refused => Some(conventions::status_type(self.status)),
            Outcome::Failed
            | Outcome::Unsent
            | Outcome::Broken
            | Outcome::CallerGone
            | Outcome::DeadlineExceeded => Some(self.error.unwrap_or(outcome.name())),
        }
    }
}

impl Drop for Settlement {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        match self.terminal {
            Some(_) => self.ended(),
            None if is_over(self.facts.deadline) => self.settle(Outcome::DeadlineExceeded),
            None => self.settle(Outcome::CallerGone),
        }
    }
}

/// Of a text from outside no more than this is told.
pub(crate) fn short(text: &str) -> &str {
    text.get(..text.floor_char_boundary(TEXT_BYTES_MAX)).unwrap_or_default()
}
