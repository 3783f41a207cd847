//! Accounts for a call: always, also when the caller goes away, and exactly once.
//!
//! A [`Settlement`] is opened before anything leaves and closes itself when it is dropped, so no path out of the
//! pipeline can forget it. Log line and metrics come from one place and cannot disagree.

use std::{sync::Arc, time::Duration};

use tidegate_callers::Principal;
use tidegate_responses::{Frame, Kind, Terminal, Usage, event::Status};
use tokio::time::Instant;
use tracing::Span;
use uuid::Uuid;

use crate::{
    metrics::{Ended, Metrics},
    trace,
};

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
        }
    }
}

/// What is known of a call before it is sent.
#[derive(Debug)]
pub(crate) struct CallFacts {
    pub(crate) principal: Arc<Principal>,
    /// The state of the configuration that the call is bound to.
    pub(crate) generation: u64,
    pub(crate) surface: &'static str,
    pub(crate) provider: String,
    pub(crate) model: String,
    pub(crate) thread: String,
}

/// The open account of one call.
#[derive(Debug)]
pub(crate) struct Settlement {
    id: Uuid,
    facts: CallFacts,
    span: Span,
    metrics: Metrics,
    began: Instant,
    first_chunk: Option<Duration>,
    terminal: Option<Terminal>,
    status: u16,
    attempts: u32,
    settled: bool,
}

impl Settlement {
    pub(crate) fn open(metrics: &Metrics, facts: CallFacts, span: Span, began: Instant) -> Self {
        metrics.began();
        Self {
            id: Uuid::now_v7(),
            facts,
            span,
            metrics: metrics.clone(),
            began,
            first_chunk: None,
            terminal: None,
            status: 0,
            attempts: 0,
            settled: false,
        }
    }

    /// The gateway's id of the call.
    pub(crate) fn id(&self) -> Uuid {
        self.id
    }

    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    pub(crate) fn model(&self) -> &str {
        &self.facts.model
    }

    pub(crate) fn generation(&self) -> u64 {
        self.facts.generation
    }

    pub(crate) fn provider(&self) -> &str {
        &self.facts.provider
    }

    /// The provider answered.
    pub(crate) fn answered(&mut self, status: u16, attempts: u32) {
        self.status = status;
        self.attempts = attempts;
    }

    /// A frame of the provider's stream passes. Only a terminal one is parsed. Tells what the frame is.
    pub(crate) fn observe(&mut self, frame: &Frame) -> Kind {
        if self.first_chunk.is_none() {
            self.first_chunk = Some(self.began.elapsed());
        }
        let kind = frame.kind();
        if kind.is_terminal() && self.terminal.is_none() {
            // A terminal event that cannot be read still ends the response; its usage is unknown.
            self.terminal = Some(Terminal::parse(kind, &frame.data()).unwrap_or_default());
        }
        kind
    }

    /// A whole body passed instead of a stream.
    pub(crate) fn observe_body(&mut self, body: &[u8]) {
        self.terminal = Terminal::parse_body(body).ok();
    }

    pub(crate) fn terminal(&self) -> Option<&Terminal> {
        self.terminal.as_ref()
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

    /// The call is over; only the first word counts.
    pub(crate) fn settle(&mut self, outcome: Outcome) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        let usage = self.terminal.as_ref().and_then(|terminal| terminal.usage.as_ref());
        let duration = self.began.elapsed();
        self.metrics.ended(&Ended {
            provider: &self.facts.provider,
            model: &self.facts.model,
            outcome: outcome.name(),
            duration,
            first_chunk: self.first_chunk,
            usage,
        });
        trace::close(&self.span, outcome.name(), usage);
        self.span.in_scope(|| self.log(outcome, duration, usage));
    }

    fn log(&self, outcome: Outcome, duration: Duration, usage: Option<&Usage>) {
        tracing::info!(
            target: "tidegate::access",
            call = %self.id,
            tenant = &*self.facts.principal.tenant,
            subject = &*self.facts.principal.subject,
            generation = self.facts.generation,
            surface = self.facts.surface,
            provider = self.facts.provider,
            model = self.facts.model,
            thread = self.facts.thread,
            status = self.status,
            attempts = self.attempts,
            outcome = outcome.name(),
            duration_ms = millis(duration),
            first_chunk_ms = self.first_chunk.map(millis),
            input_tokens = usage.map(|usage| usage.input_tokens),
            cached_input_tokens = usage.map(|usage| usage.cached_input_tokens),
            output_tokens = usage.map(|usage| usage.output_tokens),
            reasoning_output_tokens = usage.map(|usage| usage.reasoning_output_tokens),
            "call ended"
        );
    }
}

impl Drop for Settlement {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        match self.terminal {
            Some(_) => self.ended(),
            None => self.settle(Outcome::CallerGone),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
