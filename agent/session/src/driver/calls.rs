//! The model calls of a turn: one stream for all of them, opened with the first and replaced when it breaks.

use std::{sync::Arc, time::Duration};

use agent_threads::{CallPurpose, Origin, Settings, Thread};
use futures_util::{FutureExt as _, StreamExt as _};

use super::{Activity, Driver, Wake};
use crate::{
    catalogue::Facts,
    context::{Request, Wanted},
    gateway::{Call, CallEvent, Envelope, Failure, FailureFault, RequestKind},
    machine::{Input, Purpose},
};

impl Driver {
    /// Asks what the models are, before a call.
    pub(super) fn look_up(&mut self) {
        let catalogue = Arc::clone(&self.shared.catalogue);
        self.activity = Activity::Looking(async move { catalogue.facts().await }.boxed());
    }

    /// Whether the input has to be condensed before the model is called, and can be.
    pub(super) fn is_full(&self, known: &Facts) -> bool {
        let Some(context) = self.kept.as_ref().map(|kept| &kept.context) else { return false };
        let percent = self.shared.options.compact_at_percent.map(u64::from);
        let of_window = || {
            let window = known.model(&self.settings.model)?.context_window?;
            Some(window.saturating_mul(percent?) / 100)
        };
        let limit = self.settings.compact_at_tokens.or_else(of_window);
        limit.is_some_and(|limit| context.can_compact() && context.tokens() >= limit)
    }

    /// Calls the model.
    pub(super) fn call(&mut self, known: &Facts) {
        let model = known.model(&self.settings.model);
        let Self { facts, settings, service_tier, calling, .. } = &*self;
        let provider = known.provider(&facts.origin.provider, &settings.model);
        let answers = calling.purpose == Purpose::Answer;
        let request = Request {
            settings,
            service_tier,
            model,
            cache_key: facts.id.to_string(),
            output_schema: self.output_schema.as_ref().filter(|_| answers),
            item_ids: self.shared.options.item_ids,
        };
        let wanted = match (calling.purpose, &calling.continuation) {
            (Purpose::Answer, Some((id, known))) if self.stream.is_some() => Wanted::AnswerAfter(id, *known),
            (Purpose::Answer, _) => Wanted::Answer,
            (Purpose::Compaction(trim), _) => match provider.is_some_and(|provider| provider.compacts) {
                true => Wanted::Compaction(trim),
                false => Wanted::Summary(trim),
            },
        };
        let continuing = matches!(wanted, Wanted::AnswerAfter(..));
        let body = self.kept.as_ref().map(|kept| kept.context.body(&request, wanted)).unwrap_or_default();
        let instructions = request.head_bytes();
        let purpose = match self.calling.purpose {
            Purpose::Answer => CallPurpose::Turn,
            Purpose::Compaction(_) => CallPurpose::Compaction,
        };
        let trace = self.watch.calls(purpose);
        let call = Call {
            envelope: self.envelope(),
            provider: self.facts.origin.provider.clone(),
            turn_state: self.turn_state.clone(),
            trace,
            attesters: self.thread.thread.attesters.clone(),
            body,
        };
        self.calling.context_window = model.and_then(|model| model.context_window);
        self.calling.instructions = instructions;
        self.calling.continuing = continuing;
        // The next call continues this one or none.
        self.calling.continuation = None;
        self.calling.continues = false;
        self.calling.behind = false;
        self.calling.unanswered = self.stream.is_some();
        let stream = self.stream.get_or_insert_with(|| self.shared.gateway.open());
        stream.as_mut().call(call);
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
            root_turn_id: self.root_turn_id,
            window: self.kept.as_ref().map_or(0, |kept| kept.context.window),
            kind: match self.calling.purpose {
                Purpose::Answer => RequestKind::Turn,
                Purpose::Compaction(_) => RequestKind::Compaction,
            },
            sandbox: Some(sandbox_name(&self.settings)),
            extra: self.settings.client_metadata.clone(),
        }
    }

    /// Waits for what the call brings next.
    pub(super) async fn receive(&mut self) -> Wake {
        let idle = self.shared.options.stream_idle_timeout;
        let Some(stream) = &mut self.stream else { return Wake::Input(Input::CallFailed(closed())) };
        let received = tokio::time::timeout(idle, stream.next()).await;
        let unanswered = std::mem::take(&mut self.calling.unanswered);
        let failure = match received {
            Ok(Some(Ok(event))) => {
                match &event {
                    CallEvent::Failed { failure, .. } if self.calling.continuing && is_lost(failure) => {
                        self.watch.event(&event);
                        self.activity = Activity::None;
                        return Wake::CallAgain;
                    }
                    CallEvent::Head { turn_state, continues, .. } => {
                        self.calling.continues = *continues && self.calling.purpose == Purpose::Answer;
                        self.turn_state = turn_state.clone().or_else(|| self.turn_state.take());
                    }
                    CallEvent::Completed { response_id, .. } => {
                        let whole = self.calling.continues && !self.calling.behind;
                        self.calling.ended = Some(response_id).filter(|id| whole && !id.is_empty()).cloned();
                        self.activity = Activity::None;
                    }
                    CallEvent::Failed { .. } => self.activity = Activity::None,
                    CallEvent::Event { .. } => {}
                }
                self.watch.event(&event);
                return Wake::Input(Input::Call(event));
            }
            Ok(Some(Err(failure))) => failure,
            Ok(None) if unanswered => {
                self.watch.failed(&closed());
                self.stream = None;
                return Wake::CallAgain;
            }
            Ok(None) => closed(),
            Err(_) => idle_for(idle),
        };
        self.watch.failed(&failure);
        self.stream = None;
        if self.calling.continuing && is_lost(&failure) {
            return Wake::CallAgain;
        }
        self.activity = Activity::None;
        Wake::Input(Input::CallFailed(failure))
    }
}

/// Whether the provider does not know the response that a call continued.
fn is_lost(failure: &Failure) -> bool {
    let lost = |name: &str| matches!(name, "continuation_lost" | "previous_response_not_found");
    lost(&failure.reason) || failure.code.as_deref().is_some_and(lost)
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
