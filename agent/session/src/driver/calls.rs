//! The model calls of a turn: one stream for all of them, opened with the first and replaced when it breaks.

use std::time::Duration;

use agent_threads::{Settings, Thread};
use futures_util::StreamExt as _;

use super::{Activity, Driver, Wake};
use crate::{
    catalogue,
    context::Request,
    gateway::{Call, CallEvent, Envelope, Failure, FailureFault},
    machine::Input,
    model::Model,
};

impl Driver {
    /// Calls the model; answers with its context window.
    pub(super) fn call(&mut self, models: &[Model]) -> Option<u64> {
        let model = catalogue::find(models, &self.settings.model);
        let Self { facts, settings, .. } = self;
        let request = Request {
            settings,
            model,
            cache_key: facts.id.to_string(),
            output_schema: self.output_schema.as_ref(),
        };
        let body = self.kept.as_ref().map(|kept| kept.context.body(&request)).unwrap_or_default();
        let call = Call {
            envelope: self.envelope(),
            provider: self.facts.origin.provider.clone(),
            turn_state: self.turn_state.clone(),
            body,
        };
        match &mut self.stream {
            Some(stream) => {
                self.unanswered = Some(call.clone());
                stream.as_mut().call(call);
                self.activity = Activity::Calling;
            }
            None => self.send(call),
        }
        model.and_then(|model| model.context_window)
    }

    /// Makes a call on a stream of its own.
    pub(super) fn send(&mut self, call: Call) {
        self.unanswered = None;
        let mut stream = self.shared.gateway.open();
        stream.as_mut().call(call);
        self.stream = Some(stream);
        self.activity = Activity::Calling;
    }

    fn envelope(&self) -> Envelope {
        let Thread { origin, session_id, id, parent_id, forked_from_id, .. } = &self.facts;
        Envelope {
            installation_id: self.shared.options.installation_id.clone(),
            session_id: *session_id,
            thread_id: *id,
            turn_id: self.turn_id,
            parent_id: *parent_id,
            forked_from_id: *forked_from_id,
            thread_source: origin.thread_source.clone(),
            originator: origin.originator.clone(),
            user_agent: format!("{}/{}", origin.originator, origin.client_version),
            turn_started_at_ms: self.started_at_ms,
            sandbox: sandbox_name(&self.settings),
        }
    }

    /// Waits for what the call brings next.
    pub(super) async fn receive(&mut self) -> Wake {
        let idle = self.shared.options.stream_idle_timeout;
        let Some(stream) = &mut self.stream else { return Wake::Input(Input::CallFailed(closed())) };
        let received = tokio::time::timeout(idle, stream.next()).await;
        let unanswered = self.unanswered.take();
        let failure = match received {
            Ok(Some(Ok(event))) => {
                match &event {
                    CallEvent::Head { turn_state: Some(turn_state), .. } => {
                        self.turn_state = Some(turn_state.clone());
                    }
                    CallEvent::Completed { .. } | CallEvent::Failed { .. } => self.activity = Activity::None,
                    CallEvent::Head { .. } | CallEvent::Event { .. } => {}
                }
                return Wake::Input(Input::Call(event));
            }
            Ok(Some(Err(failure))) => failure,
            Ok(None) => match unanswered {
                Some(call) => return Wake::StreamGone(call),
                None => closed(),
            },
            Err(_) => idle_for(idle),
        };
        self.stream = None;
        self.activity = Activity::None;
        Wake::Input(Input::CallFailed(failure))
    }
}

/// The sandbox setting's name: it is either a name or an object with a `type`.
fn sandbox_name(settings: &Settings) -> Option<String> {
    let sandbox = settings.sandbox.as_ref()?;
    let name = sandbox.as_str().or_else(|| sandbox.get("type")?.as_str());
    name.map(str::to_owned)
}

fn closed() -> Failure {
    broken("stream_closed", "stream closed before the response was complete".to_owned())
}

fn idle_for(idle: Duration) -> Failure {
    broken("stream_idle", format!("the model's stream was silent for {} s", idle.as_secs()))
}

fn broken(reason: &str, message: String) -> Failure {
    Failure {
        reason: reason.to_owned(),
        fault: FailureFault::Upstream,
        message,
        retryable: true,
        retry_delay: None,
        http_status: None,
        code: None,
    }
}
