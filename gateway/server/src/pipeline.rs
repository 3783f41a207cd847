//! The life of a model call, from top to bottom, whatever surface it came by.

use std::{
    future::{Future, poll_fn},
    sync::Arc,
};

use bytes::Bytes;
use gateway_providers::{
    AccountKind, Answer, Call, Operation, Providers, Repeats, Routed, Session, Upstream, Viewer,
};
use http::{HeaderMap, HeaderValue};
use opentelemetry::trace::FutureExt as _;
use tidegate_callers::Presented;
use tidegate_responses::{Request, headers::X_MODELS_ETAG, rate_limit::RateLimit};
use tokio::time::Instant;

use crate::{
    admit::{Admission, Bounds, Permit},
    arrival::Arrival,
    codex_ids::CodexIds,
    edit::{Context, Edited, Rules, edit},
    failure::CallError,
    generation::{Admitted, Generation, Present},
    headers,
    http::{Spares, websocket::Sockets},
    metrics::Metrics,
    places::{Place, Places},
    rate_limits::{self, RateLimits},
    settle::{Destination, Outcome, Settlement},
    trace::{Trace, Tracing},
};

/// What the pipeline works with; shared by all calls.
#[derive(Debug)]
pub(crate) struct Pipeline {
    pub(crate) present: Present,
    pub(crate) admission: Admission,
    pub(crate) metrics: Metrics,
    pub(crate) rate_limits: RateLimits,
    pub(crate) places: Places,
    pub(crate) sockets: Sockets,
    pub(crate) tracing: Tracing,
    /// Memory for bodies.
    pub(crate) spares: Spares,
}

/// What a surface knows of a call before its body has arrived.
pub(crate) struct Inbound<'a> {
    /// The state of the configuration that the call is bound to.
    pub(crate) generation: Arc<Generation>,
    pub(crate) surface: &'static str,
    pub(crate) operation: Operation,
    /// What the caller shows of itself.
    pub(crate) presented: Presented<'a>,
    pub(crate) trace: Trace<'a>,
    pub(crate) context: Context<'a>,
    /// The provider that the caller's thread began with.
    pub(crate) provider_hint: Option<&'a str>,
    pub(crate) repeats: Repeats,
    /// When the caller stops waiting, if it said so.
    pub(crate) deadline: Option<Instant>,
}

/// One who is not let in.
pub(crate) struct Stranger {
    pub(crate) error: CallError,
    /// The state of the configuration that keeps it out.
    pub(crate) generation: u64,
}

/// Where the body of a call comes from.
pub(crate) trait BodySource {
    /// Reads it, inflated.
    fn read(self, room: Room<'_>) -> impl Future<Output = Result<Bytes, CallError>> + Send;
}

/// What a body may take.
pub(crate) struct Room<'a> {
    /// Is told how much the call holds.
    pub(crate) permit: &'a mut Permit,
    pub(crate) bytes_max: usize,
}

/// A body that has arrived already.
impl BodySource for Bytes {
    async fn read(self, room: Room<'_>) -> Result<Bytes, CallError> {
        if self.len() > room.bytes_max {
            return Err(CallError::BodyTooLarge { limit: room.bytes_max });
        }
        room.permit.hold(self.len())?;
        Ok(self)
    }
}

/// What a call asks for, and of whom.
struct Asked<'a> {
    admitted: &'a Admitted,
    generation: &'a Generation,
    operation: Operation,
    provider_hint: Option<&'a str>,
    model: &'a str,
}

/// What was decided about a call.
struct Decided {
    upstream: Arc<Upstream>,
    /// The model's name at the provider, if it has another one there.
    model: Option<String>,
    edited: Edited,
}

/// A call whose bytes are final and that has not left yet.
pub(crate) struct Opened {
    generation: Arc<Generation>,
    /// Who is told of changes of the list of models.
    viewer: String,
    upstream: Arc<Upstream>,
    call: Call,
    settlement: Box<Settlement>,
    permit: Permit,
    /// Whether the provider wants to know that the caller is a genuine client.
    pub(crate) wants_attestation: bool,
    reroute: Option<String>,
    tier: Option<String>,
}

/// A call that a provider has answered, whatever its status.
pub(crate) struct Answered {
    pub(crate) answer: Answer,
    pub(crate) settlement: Box<Settlement>,
    pub(crate) permit: Permit,
    /// The longest event of the stream that is relayed.
    pub(crate) event_bytes_max: usize,
    /// The model name to show to the caller, where the provider's own would mislead it.
    pub(crate) reroute: Option<String>,
    /// The service tier that was asked for.
    pub(crate) tier: Option<String>,
    pub(crate) account: AccountKind,
    pub(crate) limits: Vec<RateLimit>,
}

impl Opened {
    /// The call is not sent after all.
    pub(crate) fn failed(mut self, error: &CallError) {
        self.settlement.failed(Outcome::Unsent, error.kind().0);
    }
}

impl Pipeline {
    /// The present state of the configuration, and who asks under it for something that is no model call. A stranger is
    /// accounted for like one that calls a model.
    pub(crate) async fn let_in(
        &self,
        surface: &'static str,
        presented: Presented<'_>,
    ) -> Result<(Arc<Generation>, Admitted), Stranger> {
        let generation = self.present.generation();
        let ids = CodexIds::of_headers(presented.headers);
        let mut arrival = Arrival::new(&self.metrics, surface, generation.number, ids);
        match generation.authenticate(presented).await {
            Ok(admitted) => {
                arrival.answered();
                Ok((generation, admitted))
            }
            Err(error) => {
                arrival.rejected(&error);
                Err(Stranger { error, generation: generation.number })
            }
        }
    }

    /// Accounts for what a caller sent instead of a call.
    pub(crate) fn rejected(&self, surface: &'static str, generation: u64, error: &CallError) {
        Arrival::new(&self.metrics, surface, generation, CodexIds::default()).rejected(error);
    }

    /// Takes a call up to the point where it can leave. The steps are the design's, in its order: authenticate, admit,
    /// decode, authorize, route, edit.
    pub(crate) async fn open(
        &self,
        inbound: Inbound<'_>,
        body: impl BodySource,
    ) -> Result<Box<Opened>, CallError> {
        let (surface, generation) = (inbound.surface, inbound.generation.number);
        let mut arrival = Arrival::new(&self.metrics, surface, generation, inbound.context.ids());
        arrival.deadline = inbound.deadline;
        let opened = self.take_in(&mut arrival, inbound, body).await;
        opened.inspect_err(|error| arrival.rejected(error))
    }

    async fn take_in(
        &self,
        arrival: &mut Arrival,
        inbound: Inbound<'_>,
        body: impl BodySource,
    ) -> Result<Box<Opened>, CallError> {
        let Inbound { generation, operation, presented, trace, context, provider_hint, repeats, .. } =
            inbound;
        let admitted = generation.authenticate(presented).await?;
        arrival.authenticated(&admitted.principal);
        let Admitted { principal, rules, foreign_authorization } = &admitted;
        let caller = headers::caller_credential(presented.headers).filter(|_| *foreign_authorization);
        let limits = &generation.limits;
        let bounds = Bounds { calls: limits.concurrent_calls_max, bytes: limits.held_bytes_max };
        let mut permit = self.admission.admit(bounds, principal, rules)?;
        arrival.phases.admitted();
        let bytes_max = limits.body_bytes_max;
        let body = body.read(Room { permit: &mut permit, bytes_max }).await?;
        arrival.phases.body_arrived();
        rules.check_body(u64::try_from(body.len()).unwrap_or(u64::MAX))?;
        let request = Request::scan(body)?;
        let model = request.model()?.ok_or(CallError::NoModel)?;
        let stream = request.stream()? && operation == Operation::Responses;
        let rendered = matches!(context, Context::Envelope { .. });
        let asked =
            Asked { admitted: &admitted, generation: &generation, operation, provider_hint, model: &model };
        let decided = self.decide(&asked, &request, context).inspect_err(|_| arrival.asked_for(&model))?;
        let Decided { upstream, model: renamed, edited: Edited { body, mut headers, tier } } = decided;
        if rendered {
            headers::pass_trace(presented.headers, &mut headers);
        }
        // Only what OpenAI itself says of its own model is news to the caller.
        let misleading = renamed.is_some() || !upstream.capabilities().first_party;
        let reroute = misleading.then(|| model.clone().into_owned());
        let model = renamed.unwrap_or_else(|| model.into_owned());
        let to = Destination { provider: upstream.id().to_owned(), model: model.clone(), operation };
        let span = self.tracing.open(trace, arrival.phases.began());
        let mut settlement = Settlement::open(arrival, Arc::clone(principal), to, &body, span);
        if rules.logs_content() {
            settlement.log_content(&body);
        }
        let wants_attestation = upstream.wants_attestation(operation, caller.as_ref());
        let over_http = generation.providers.stays_on_http(&upstream, &model, caller.as_ref());
        let attestation = None;
        let call = Call { operation, model, body, stream, headers, caller, over_http, attestation, repeats };
        let viewer = admitted.viewer();
        Ok(Box::new(Opened {
            generation,
            viewer,
            upstream,
            call,
            settlement,
            permit,
            wants_attestation,
            reroute,
            tier,
        }))
    }

    /// Where a call goes and what its bytes are: authorize, route, edit.
    fn decide(
        &self,
        asked: &Asked<'_>,
        request: &Request,
        context: Context<'_>,
    ) -> Result<Decided, CallError> {
        let Admitted { principal, rules, .. } = asked.admitted;
        rules.check_model(asked.model)?;
        rules.check_request(request)?;
        let thread = context.thread();
        let providers = &asked.generation.providers;
        let Routed { upstream, model } =
            self.route(providers, &principal.tenant, &thread, asked.model, asked.provider_hint)?;
        rules.check_route(upstream.id(), model.as_deref().unwrap_or(asked.model))?;
        let default_tier = providers.service_tier(&principal.tenant);
        let edits = Rules {
            operation: asked.operation,
            model: model.as_deref(),
            default_tier: default_tier.filter(|_| upstream.has_service_tiers()),
            max_output_tokens: rules.output_tokens_to_insert(request),
            redact: rules.redacts_workspaces() || upstream.redacts_workspaces(),
        };
        // Nothing changes these bytes after this line: they are what is signed and sent.
        let edited = edit(request, context, &upstream, &edits)?;
        rules.check_tier(edited.tier.as_deref())?;
        Ok(Decided { upstream, model, edited })
    }

    /// Where a call goes: a thread stays where it began for as long as that place is there.
    fn route(
        &self,
        providers: &Providers,
        tenant: &str,
        thread: &str,
        asked: &str,
        hint: Option<&str>,
    ) -> Result<Routed, CallError> {
        if let Some(Place { provider, model }) = self.places.find(tenant, thread, asked)
            && hint.is_none_or(|hint| hint == provider)
            && let Ok(Routed { upstream, .. }) = providers.route(&model, Some(&provider))
        {
            let model = (model != asked).then_some(model);
            return Ok(Routed { upstream, model });
        }
        let routed = providers.route(asked, hint)?;
        let model = routed.model.as_deref().unwrap_or(asked).to_owned();
        let place = Place { provider: routed.upstream.id().to_owned(), model };
        self.places.remember(tenant, thread, asked, place);
        Ok(routed)
    }

    /// Sends an opened call and comes back with its answer: credential, sign, send. Relay and settle happen while the
    /// surface reads the answer.
    pub(crate) async fn send(
        &self,
        opened: Box<Opened>,
        attestation: Option<HeaderValue>,
        session: Option<&mut Session>,
    ) -> Result<Answered, CallError> {
        let Opened { generation, upstream, mut call, mut settlement, mut permit, .. } = *opened;
        let (reroute, tier) = (opened.reroute, opened.tier);
        call.attestation = attestation.filter(|_| opened.wants_attestation);
        let account = upstream.account_of(call.caller.as_ref());
        let caller = call.caller.clone().filter(|_| upstream.takes_callers_credential());
        settlement.leaves(&self.tracing, &upstream, &mut call);
        let sent = upstream.send(call, session).with_context(settlement.context());
        let sent = tokio::select! {
            sent = sent => sent,
            () = poll_fn(|cx| permit.poll_revoked(cx)) => {
                settlement.failed(Outcome::Unsent, CallError::Stopping.kind().0);
                return Err(CallError::Stopping);
            }
        };
        match sent {
            Ok(mut answer) => {
                // The body has left; what the call holds from here on is its answer's.
                permit.hold(0)?;
                let viewer = Viewer { credential: caller.as_ref(), name: &opened.viewer };
                generation.retag_models(upstream.id(), &mut answer.headers, viewer);
                settlement.answered(&answer);
                let limits = rate_limits::of_headers(&answer.headers);
                if caller.is_none() {
                    self.rate_limits.report(upstream.id(), limits.clone());
                }
                let event_bytes_max = generation.limits.event_bytes_max;
                Ok(Answered { answer, settlement, permit, event_bytes_max, reroute, tier, account, limits })
            }
            Err(error) => {
                let error = CallError::from(error);
                settlement.failed(Outcome::Unsent, error.kind().0);
                Err(error)
            }
        }
    }
}

impl Generation {
    /// A provider's word about its list of models is a word to the gateway. The caller hears of the gateway's own list.
    fn retag_models(&self, provider: &str, headers: &mut HeaderMap, viewer: Viewer<'_>) {
        let Some(etag) = headers.remove(X_MODELS_ETAG) else { return };
        self.providers.upstream_models_changed(provider, &etag, viewer.credential);
        if let Some(ours) = self.providers.models_etag(viewer) {
            headers.insert(X_MODELS_ETAG, ours);
        }
    }
}
