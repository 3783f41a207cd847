//! The life of a model call, from top to bottom, whatever surface it came by.

use std::future::{Future, poll_fn};

use bytes::Bytes;
use gateway_providers::{Answer, Call, Operation, Providers, Repeats};
use http::HeaderMap;
use tidegate_responses::Request;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::{
    ServerConfig,
    admit::{Admission, Permit},
    authenticate::authenticate,
    failure::CallError,
    metrics::Metrics,
    settle::{CallFacts, Outcome, Settlement},
    trace,
};

/// What the pipeline works with; shared by all calls.
#[derive(Debug)]
pub(crate) struct Pipeline {
    pub(crate) config: ServerConfig,
    pub(crate) providers: Providers,
    pub(crate) admission: Admission,
    pub(crate) metrics: Metrics,
}

/// What a surface knows of a call before its body has arrived.
pub(crate) struct Inbound<'a> {
    pub(crate) surface: &'static str,
    /// Headers for the provider, already chosen from what the caller sent.
    pub(crate) headers: HeaderMap,
    /// The provider that the caller's thread began with.
    pub(crate) provider_hint: Option<&'a str>,
}

/// A call that a provider has answered, whatever its status.
pub(crate) struct Answered {
    pub(crate) answer: Answer,
    pub(crate) settlement: Settlement,
    pub(crate) permit: Permit,
}

impl Pipeline {
    /// Takes a call to a provider and comes back with its answer. The steps are the design's, in its order; relay and
    /// settle happen while the surface reads the answer.
    pub(crate) async fn call(
        &self,
        inbound: Inbound<'_>,
        read_body: impl Future<Output = Result<Bytes, CallError>>,
    ) -> Result<Answered, CallError> {
        let began = Instant::now();
        let principal = authenticate();
        let mut permit = self.admission.admit()?;
        let request = Request::scan(read_body.await?)?;
        let model = request.model()?.ok_or(CallError::NoModel)?;
        let stream = request.stream()?;
        let upstream = self.providers.route(&model, inbound.provider_hint)?;
        let facts = CallFacts {
            tenant: principal.tenant,
            surface: inbound.surface,
            provider: upstream.id().to_owned(),
            model: model.into_owned(),
            thread: thread_of(&inbound.headers),
        };
        let span = trace::open(&inbound.headers, &facts.provider, &facts.model, &facts.thread);
        let mut settlement = Settlement::open(&self.metrics, facts, span, began);
        // Nothing changes these bytes after this line: they are what is signed and sent.
        let body = upstream.edits(&request).apply(request.body());
        drop(request);
        let call = Call {
            operation: Operation::Responses,
            model: settlement.model().to_owned(),
            body,
            stream,
            headers: inbound.headers,
            caller: None,
            attestation: None,
            repeats: Repeats::AsConfigured,
        };
        let sent = upstream.send(call, None).instrument(settlement.span().clone());
        let sent = tokio::select! {
            sent = sent => sent,
            () = poll_fn(|cx| permit.poll_revoked(cx)) => {
                settlement.settle(Outcome::Unsent);
                return Err(CallError::Stopping);
            }
        };
        match sent {
            Ok(answer) => {
                settlement.answered(answer.status.as_u16(), answer.attempts);
                Ok(Answered { answer, settlement, permit })
            }
            Err(error) => {
                settlement.settle(Outcome::Unsent);
                Err(error.into())
            }
        }
    }
}

fn thread_of(headers: &HeaderMap) -> String {
    headers.get("thread-id").and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned()
}
