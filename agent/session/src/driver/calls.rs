//! The model calls of a turn: one stream for all of them, opened with the first and replaced when it breaks.

use std::time::Duration;

use agent_threads::{Origin, Settings, Thread};
use futures_util::StreamExt as _;

use super::{Activity, Driver, Wake};
use crate::{
    catalogue::Facts,
    context::Request,
    gateway::{Call, CallEvent, Envelope, Failure, FailureFault},
    machine::Input,
};

impl Driver {
    /// Calls the model; answers with its context window.
    pub(super) fn call(&mut self, known: &Facts) -> Option<u64> {
        let model = known.model(&self.settings.model);
        let Self { facts, settings, service_tier, .. } = self;
        let request = Request {
            settings,
            service_tier,
            model,
            cache_key: facts.id.to_string(),
            output_schema: self.output_schema.as_ref(),
        };
        let body = self.kept.as_ref().map(|kept| kept.context.body(&request)).unwrap_or_default();
        let call = Call {
            envelope: self.envelope(),
            provider: self.facts.origin.provider.clone(),
            turn_state: self.turn_state.clone(),
            attesters: self.thread.thread.attesters.clone(),
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
            user_agent: user_agent(origin),
            turn_started_at_ms: self.started_at_ms,
            sandbox: Some(sandbox_name(&self.settings)),
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

/// The client with its version, if it told one.
fn user_agent(Origin { originator, client_version, .. }: &Origin) -> String {
    match client_version.as_str() {
        "" => originator.clone(),
        version => format!("{originator}/{version}"),
    }
}

/// The sandbox setting's name, as Codex tells it upstream. The setting is a name or an object with a `type`; nobody
/// having chosen means the narrowest.
fn sandbox_name(settings: &Settings) -> String {
    let sandbox = settings.sandbox.as_ref();
    let name = sandbox.and_then(|sandbox| sandbox.as_str().or_else(|| sandbox.get("type")?.as_str()));
    let mut kebab = String::new();
    for letter in name.unwrap_or("readOnly").chars() {
        if letter.is_ascii_uppercase() {
            kebab.push('-');
        }
        kebab.push(letter.to_ascii_lowercase());
    }
    kebab
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_sandbox_is_told_by_its_name() {
        for (sandbox, name) in [
            (Value::Null, "read-only"),
            (json!({"type": "workspaceWrite", "writableRoots": ["/secret"]}), "workspace-write"),
            (json!({"type": "dangerFullAccess"}), "danger-full-access"),
            (json!("workspace-write"), "workspace-write"),
        ] {
            let settings = Settings { sandbox: Some(sandbox.clone()), ..Settings::default() };
            assert_eq!(sandbox_name(&settings), name, "{sandbox}");
        }
        assert_eq!(sandbox_name(&Settings::default()), "read-only");
    }

    #[test]
    fn a_client_without_version_is_told_without() {
        let origin = |version: &str| Origin {
            originator: "codex-tui".to_owned(),
            client_version: version.to_owned(),
            ..Origin::default()
        };
        assert_eq!(user_agent(&origin("0.169.0")), "codex-tui/0.169.0");
        assert_eq!(user_agent(&origin("")), "codex-tui");
    }
}
