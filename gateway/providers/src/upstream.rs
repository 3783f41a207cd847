//! One provider, ready to be called.
//!
//! Joins a provider's facts with the line to it; the two built-in kinds of line are HTTP and the rehearsal that
//! answers inside this process.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderValue};
use http::{StatusCode, Uri};
use tidegate_responses::{Request, Splices};

use crate::body::Body;
use crate::headers::CHATGPT_ACCOUNT_ID;
use crate::provider::{AccountKind, Capabilities, Endpoint, Operation, Provider};
use crate::rehearsal;
use crate::send::{Line, SendError};
use crate::session::Session;
use crate::socket::{self, Target};

/// How long a connection that is made ahead of need may take.
const PREWARM_MAX: Duration = Duration::from_secs(5);

/// A model call, ready to be sent.
pub struct Call {
    /// What is asked for; never [`Operation::Models`].
    pub operation: Operation,
    /// The model, as the body names it.
    pub model: String,
    /// The body as the provider shall see it, after all edits.
    pub body: Bytes,
    /// Whether the body asks for a stream.
    pub stream: bool,
    /// The caller's headers that the provider may see; the call's own headers are added to them.
    pub headers: HeaderMap,
    /// The credential that the caller brought, for providers that take it.
    pub caller: Option<CallerCredential>,
    /// Whether the call stays away from the provider's WebSocket; see [`crate::Providers::stays_on_http`].
    pub over_http: bool,
    /// The value of `x-oai-attestation`; only where [`Upstream::wants_attestation`] says so.
    pub attestation: Option<HeaderValue>,
    /// How often the call may be repeated before its answer begins.
    pub repeats: Repeats,
}

/// A caller's own credential, passed on untouched. It has no printable form.
#[derive(Clone)]
pub struct CallerCredential {
    /// The value of `authorization`.
    pub authorization: HeaderValue,
    /// The value of `chatgpt-account-id`.
    pub account: Option<HeaderValue>,
}

/// How often a call may be repeated before its answer begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeats {
    /// As often as the provider's configuration says.
    AsConfigured,
    /// Once at most: the caller repeats by itself.
    Once,
}

/// What a provider answered. Its body has not been read.
#[derive(Debug)]
pub struct Answer {
    /// The status, whatever it is: an error of the provider is an answer too.
    pub status: StatusCode,
    /// The headers as they came, those of the connection included.
    pub headers: HeaderMap,
    /// The body.
    pub body: Body,
    /// How many requests were made; none if there was nothing to ask for.
    pub attempts: u32,
    /// How long it took until the head of the answer was there.
    pub timing: Timing,
}

/// How long it took until the head of an answer was there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timing {
    /// From the first attempt on.
    pub total: Duration,
    /// From the start of the attempt that was answered, connecting included.
    pub last_attempt: Duration,
    /// What was waited for credentials.
    pub credential: Duration,
    /// What making the connection took, if the attempt that was answered had to make one.
    pub connect: Option<Duration>,
    /// What this crate itself worked on the requests: building and signing them.
    pub own: Duration,
}

/// One provider, ready to be called.
pub struct Upstream {
    pub(crate) provider: Box<dyn Provider>,
    pub(crate) route: Route,
}

/// How a provider is reached.
pub(crate) enum Route {
    Http(Box<Line>),
    Rehearsal,
}

impl Upstream {
    /// The provider's id.
    #[must_use]
    pub fn id(&self) -> &str {
        self.provider.id()
    }

    /// What the provider can do.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.provider.capabilities()
    }

    /// What must change in a request before this provider sees it. Often nothing.
    #[must_use]
    pub fn edits(&self, request: &Request) -> Splices {
        self.provider.edits(request)
    }

    /// How the gateway identifies to the provider.
    #[must_use]
    pub fn account(&self) -> AccountKind {
        match &self.route {
            Route::Http(line) if line.headers.contains_key(CHATGPT_ACCOUNT_ID) => AccountKind::ChatGpt,
            Route::Http(line) => line.credential.account(),
            Route::Rehearsal => AccountKind::None,
        }
    }

    /// Whether the caller should be asked for an attestation, or its own be passed on, for this operation.
    #[must_use]
    pub fn wants_attestation(&self, operation: Operation, caller: Option<&CallerCredential>) -> bool {
        let asked = matches!(operation, Operation::Responses | Operation::Compact);
        asked && self.capabilities().first_party && self.account_of(caller) == AccountKind::ChatGpt
    }

    /// Whether a request may be given a service tier that it did not name.
    #[must_use]
    pub fn has_service_tiers(&self) -> bool {
        self.provider.has_service_tiers()
    }

    /// Whether callers bring their own credential.
    #[must_use]
    pub fn takes_callers_credential(&self) -> bool {
        matches!(&self.route, Route::Http(line) if line.credential.is_caller())
    }

    /// Whether local paths are to be taken out of the metadata that this provider sees.
    #[must_use]
    pub fn redacts_workspaces(&self) -> bool {
        matches!(&self.route, Route::Http(line) if line.redact_workspaces)
    }

    /// Whether the provider may see the trace that a call belongs to.
    #[must_use]
    pub fn sees_traces(&self) -> bool {
        matches!(&self.route, Route::Http(line) if line.trace_context)
    }

    /// The host that calls go to; none for a provider inside this process.
    #[must_use]
    pub fn host(&self) -> Option<String> {
        Some(self.provider.host()?.host()?.to_owned())
    }

    /// How a call identifies to the provider.
    #[must_use]
    pub fn account_of(&self, caller: Option<&CallerCredential>) -> AccountKind {
        match &self.route {
            Route::Http(line) if line.credential.is_caller() => match caller {
                Some(CallerCredential { account: Some(_), .. }) => AccountKind::ChatGpt,
                _ => AccountKind::ApiKey,
            },
            _ => self.account(),
        }
    }

    /// Makes a connection for the first call to find, and holds it for as long as it is of use.
    pub(crate) async fn prewarm(&self) {
        let Route::Http(line) = &self.route else { return };
        let Some(host) = self.provider.host() else { return };
        match line.transport.prewarm(&host, PREWARM_MAX).await {
            Ok(()) => {
                tracing::debug!(provider = self.id(), "connection made ahead of need is no longer held")
            }
            Err(error) => told_of_cold(self.id(), &host, &error),
        }
    }

    /// Whether a call goes over the session's WebSocket. What is signed cannot: there is no signature for a message.
    fn takes_socket(&self, call: &Call, endpoint: &Endpoint, session: &Session) -> bool {
        self.capabilities().websockets
            && !call.over_http
            && call.stream
            && call.operation == Operation::Responses
            && endpoint.service.is_none()
            && !session.has_fallen_back(self.id())
    }

    /// Sends a call and waits for the head of the answer. Dropping the future cancels the call. `session` is the path of
    /// the caller's thread, if the call belongs to one.
    pub async fn send(&self, mut call: Call, session: Option<&mut Session>) -> Result<Answer, SendError> {
        let of_thread = session.is_some() && call.operation == Operation::Responses;
        match &self.route {
            Route::Http(line) => {
                let endpoint = self.provider.endpoint(call.operation, &call.model);
                let endpoint = endpoint.ok_or(SendError::NotOffered)?;
                if let Some(session) = session
                    && self.takes_socket(&call, &endpoint, session)
                {
                    let target = Target { provider: self.id(), line, endpoint: &endpoint };
                    // Apart, so that a call over HTTP does not carry the room for this one.
                    if let Some(answer) = Box::pin(socket::respond(target, &call, session)).await? {
                        return Ok(answer);
                    }
                }
                if of_thread && let Some(answer) = socket::without(&mut call, self.capabilities())? {
                    return Ok(answer);
                }
                line.respond(endpoint, call).await
            }
            Route::Rehearsal => match call.operation {
                Operation::Compact | Operation::InputTokens => Err(SendError::NotOffered),
                Operation::Responses | Operation::Models => {
                    let instead =
                        if of_thread { socket::without(&mut call, self.capabilities())? } else { None };
                    Ok(instead.unwrap_or_else(|| rehearsal::answer(&call)))
                }
            },
        }
    }
}

/// Apart, because a cause has to be a trait object to be logged with its own causes.
fn told_of_cold(provider: &str, at: &Uri, error: &(dyn Error + 'static)) {
    // Never what may stand before the host.
    let (host, port) = (at.host().unwrap_or_default(), at.port_u16());
    tracing::warn!(provider, host, port, error, "cannot connect to a provider ahead of its first call");
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream").field("id", &self.id()).finish_non_exhaustive()
    }
}
