//! One request on its way to its answer: what a method's code gets, and what it gives back.

use std::sync::Arc;

use agent_session::{Error, Fault, TraceContext};
use agent_threads::{TenantId, ThreadId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::connection::Connection;
use crate::outbound::Gone;
use crate::router::{self, Method};
use crate::rpc::{self, Refusal};
use crate::subscriptions::Held;

/// A method's result: the answer, printed.
pub(crate) type Answer = Result<String, Refusal>;

/// A request on its way.
pub(crate) struct Call<'a> {
    pub(crate) connection: &'a Arc<Connection>,
    id: &'a RawValue,
    params: Option<&'a RawValue>,
    trace: TraceContext,
    /// What must not be heard before the answer.
    held: Vec<Held>,
    /// What is said right after the answer, before anything that was held back.
    after: Vec<String>,
}

impl<'a> Call<'a> {
    pub(crate) fn new(
        connection: &'a Arc<Connection>,
        id: &'a RawValue,
        params: Option<&'a RawValue>,
        trace: TraceContext,
    ) -> Self {
        Self { connection, id, params, trace, held: Vec::new(), after: Vec::new() }
    }

    /// Has the request answered and sends the answer.
    pub(crate) async fn answer(mut self, method: Method) -> Result<(), Gone> {
        // Boxed: the largest method decides, and most requests need far less.
        let answer = Box::pin(router::route(&mut self, method)).await;
        let voice = &self.connection.voice;
        match answer {
            Ok(text) => voice.send(text).await?,
            Err(refusal) => voice.send(rpc::failure(self.id, &refusal)).await?,
        }
        for text in self.after {
            voice.send(text).await?;
        }
        Ok(())
    }

    /// The method's parameters.
    pub(crate) fn params<P: DeserializeOwned>(&self) -> Result<P, Refusal> {
        rpc::params(self.params)
    }

    /// The answer with this result.
    #[expect(clippy::unnecessary_wraps, reason = "every method ends with it")]
    pub(crate) fn done<R: Serialize>(&self, result: &R) -> Answer {
        Ok(rpc::answer(self.id, result))
    }

    /// The trace that the request belongs to.
    pub(crate) fn trace(&self) -> &TraceContext {
        &self.trace
    }

    /// The caller's tenant.
    pub(crate) fn tenant(&self) -> &'a TenantId {
        &self.connection.principal.tenant
    }

    /// Lets the answer out before what happens in this thread from now on.
    pub(crate) async fn before_events_of(&mut self, thread: ThreadId) {
        self.held.extend(self.connection.subscriptions.hold(thread).await);
    }

    /// Lets the answer out before what happens to the tenant's threads from now on.
    pub(crate) async fn before_tenant_events(&mut self) {
        self.held.push(self.connection.subscriptions.hold_tenant().await);
    }

    /// Lets the answer out before what this holds back.
    pub(crate) fn hold(&mut self, held: Held) {
        self.held.push(held);
    }

    /// Says this right after the answer, unless the client does not want to hear it.
    pub(crate) fn then<P: Serialize>(&mut self, method: &'static str, params: &P) {
        self.after.extend(self.connection.voice.notification(method, params, rpc::now_ms()));
    }
}

/// Reads a thread's id.
pub(crate) fn thread_id(text: &str) -> Result<ThreadId, Refusal> {
    text.parse().map_err(|error| Refusal::invalid(format!("invalid thread id: {error}")))
}

/// A session's error in the words that clients know.
pub(crate) fn refusal(error: Error) -> Refusal {
    match error.fault() {
        Fault::Caller => Refusal::invalid(error.to_string()),
        Fault::Overload => Refusal::overloaded(error.to_string()),
        Fault::Upstream | Fault::Internal => {
            let retryable = error.is_retryable();
            let text = chain(&error);
            tracing::warn!(error = text, retryable, "a request failed");
            match error {
                // The gateway's failures are written for people.
                Error::Gateway(_) if retryable => Refusal::overloaded(text),
                Error::Gateway(_) => Refusal::internal(text),
                _ if retryable => Refusal::overloaded("the thread store is not available"),
                _ => Refusal::internal("the thread store failed"),
            }
        }
    }
}

/// An error with its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
