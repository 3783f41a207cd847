//! The life of a model call, from top to bottom, whatever surface it came by.

use std::{
    future::{Future, poll_fn},
    sync::Arc,
};

use bytes::Bytes;
use gateway_providers::{
    AccountKind, Answer, Call, CallerCredential, Operation, Providers, Repeats, Routed, Session, Upstream,
};
use http::{HeaderMap, HeaderValue};
use tidegate_responses::{Request, headers::X_MODELS_ETAG, rate_limit::RateLimit};
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::{
    ServerConfig,
    admit::{Admission, Permit},
    authenticate::authenticate,
    edit::{Context, Edited, Rules, edit},
    failure::CallError,
    metrics::Metrics,
    rate_limits::{self, RateLimits},
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
    pub(crate) rate_limits: RateLimits,
}

/// What a surface knows of a call before its body has arrived.
pub(crate) struct Inbound<'a> {
    pub(crate) surface: &'static str,
    pub(crate) operation: Operation,
    pub(crate) context: Context<'a>,
    /// The provider that the caller's thread began with.
    pub(crate) provider_hint: Option<&'a str>,
    /// The credential that the caller brought; it goes to providers that take it and to nobody else.
    pub(crate) caller: Option<CallerCredential>,
    pub(crate) repeats: Repeats,
}

/// A call whose bytes are final and that has not left yet.
pub(crate) struct Opened {
    upstream: Arc<Upstream>,
    call: Call,
    settlement: Settlement,
    permit: Permit,
    /// Whether the provider wants to know that the caller is a genuine client.
    pub(crate) wants_attestation: bool,
    reroute: Option<String>,
    tier: Option<String>,
}

/// A call that a provider has answered, whatever its status.
pub(crate) struct Answered {
    pub(crate) answer: Answer,
    pub(crate) settlement: Settlement,
    pub(crate) permit: Permit,
    /// The model name to show to the caller, where the provider's own would mislead it.
    pub(crate) reroute: Option<String>,
    /// The service tier that was asked for.
    pub(crate) tier: Option<String>,
    pub(crate) account: AccountKind,
    pub(crate) limits: Vec<RateLimit>,
}

impl Pipeline {
    /// Takes a call up to the point where it can leave. The steps are the design's, in its order: authenticate, admit,
    /// decode, route, edit.
    pub(crate) async fn open(
        &self,
        inbound: Inbound<'_>,
        read_body: impl Future<Output = Result<Bytes, CallError>>,
    ) -> Result<Box<Opened>, CallError> {
        let began = Instant::now();
        let principal = authenticate();
        let permit = self.admission.admit()?;
        let request = Request::scan(read_body.await?)?;
        let asked = request.model()?.ok_or(CallError::NoModel)?;
        let stream = request.stream()? && inbound.operation == Operation::Responses;
        let Routed { upstream, model } = self.providers.route(&asked, inbound.provider_hint)?;
        let default_tier =
            self.providers.service_tier(principal.tenant).filter(|_| upstream.has_service_tiers());
        let rules = Rules { operation: inbound.operation, model: model.as_deref(), default_tier };
        // Nothing changes these bytes after this line: they are what is signed and sent.
        let Edited { body, headers, tier } = edit(&request, inbound.context, &upstream, &rules)?;
        // Only what OpenAI itself says of its own model is news to the caller.
        let misleading = model.is_some() || !upstream.capabilities().first_party;
        let reroute = misleading.then(|| asked.clone().into_owned());
        let model = model.unwrap_or_else(|| asked.into_owned());
        let facts = CallFacts {
            tenant: principal.tenant,
            surface: inbound.surface,
            provider: upstream.id().to_owned(),
            model: model.clone(),
            thread: thread_of(&headers),
        };
        let span = trace::open(&headers, &facts.provider, &facts.model, &facts.thread);
        let settlement = Settlement::open(&self.metrics, facts, span, began);
        let Inbound { operation, caller, repeats, .. } = inbound;
        let wants_attestation = upstream.wants_attestation(operation, caller.as_ref());
        let over_http = self.providers.stays_on_http(&upstream, &model, caller.as_ref());
        let attestation = None;
        let call = Call { operation, model, body, stream, headers, caller, over_http, attestation, repeats };
        Ok(Box::new(Opened { upstream, call, settlement, permit, wants_attestation, reroute, tier }))
    }

    /// Sends an opened call and comes back with its answer: credential, sign, send. Relay and settle happen while the
    /// surface reads the answer.
    pub(crate) async fn send(
        &self,
        opened: Box<Opened>,
        attestation: Option<HeaderValue>,
        session: Option<&mut Session>,
    ) -> Result<Answered, CallError> {
        let Opened { upstream, mut call, mut settlement, mut permit, wants_attestation, reroute, tier } =
            *opened;
        call.attestation = attestation.filter(|_| wants_attestation);
        let account = upstream.account_of(call.caller.as_ref());
        let caller = call.caller.clone().filter(|_| upstream.takes_callers_credential());
        let sent = upstream.send(call, session).instrument(settlement.span().clone());
        let sent = tokio::select! {
            sent = sent => sent,
            () = poll_fn(|cx| permit.poll_revoked(cx)) => {
                settlement.settle(Outcome::Unsent);
                return Err(CallError::Stopping);
            }
        };
        match sent {
            Ok(mut answer) => {
                self.retag_models(upstream.id(), &mut answer.headers, caller.as_ref());
                settlement.answered(answer.status.as_u16(), answer.attempts);
                let limits = rate_limits::of_headers(&answer.headers);
                if caller.is_none() {
                    self.rate_limits.report(upstream.id(), limits.clone());
                }
                Ok(Answered { answer, settlement, permit, reroute, tier, account, limits })
            }
            Err(error) => {
                settlement.settle(Outcome::Unsent);
                Err(error.into())
            }
        }
    }
}

impl Pipeline {
    /// A provider's word about its list of models is a word to the gateway. The caller hears of the gateway's own list.
    fn retag_models(&self, provider: &str, headers: &mut HeaderMap, caller: Option<&CallerCredential>) {
        let Some(etag) = headers.remove(X_MODELS_ETAG) else { return };
        self.providers.upstream_models_changed(provider, &etag, caller);
        if let Some(ours) = self.providers.models_etag(caller) {
            headers.insert(X_MODELS_ETAG, ours);
        }
    }
}

fn thread_of(headers: &HeaderMap) -> String {
    headers.get("thread-id").and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned()
}
