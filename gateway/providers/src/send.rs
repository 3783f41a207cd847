//! Sends a call over HTTP: attempts, recovery of a rejected credential, repeats.
//!
//! Everything that can be known before a call is prepared when the configuration is built. A call is repeated
//! only before its answer is handed over; what comes after that is the caller's to see.

use std::error::Error;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName};
use http::{Method, Request, StatusCode, response};
use http_body_util::Full;
use tokio::time::Instant;

use crate::body::Body;
use crate::credential::{Credential, CredentialError, CredentialSource};
use crate::headers::{self, Accept};
use crate::provider::{Endpoint, Fault};
use crate::retry::{Budget, Retries};
use crate::sign::{self, Authority, Payload, Refusal, Signer, Subject};
use crate::transport::{DialError, Obstacle, Step, Told, Transport, Unanswered};
use crate::upstream::{Answer, Call, CallerCredential, Repeats, Timing};

/// How long a provider may take before it answers a call that is not a stream: the whole response is made first.
const WHOLE_ANSWER_MAX: Duration = Duration::from_secs(15 * 60);
pub(crate) const ATTESTATION: HeaderName = HeaderName::from_static("x-oai-attestation");
/// What is read of an answer that will be repeated, so that its connection can be used again.
const DISCARDED_BODY_MAX: usize = 64 * 1024;
/// What is read of a refusal in order to know its reason.
const REFUSAL_BODY_MAX: usize = 64 * 1024;
/// How long the body of a refusal is waited for.
const REFUSAL_WAIT_MAX: Duration = Duration::from_secs(5);

/// Why a call got no answer.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The provider's name has no address.
    #[error("cannot resolve the name of upstream")]
    Resolve {
        /// What the resolver said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The proxy before the provider could not be reached, or it gave no way through.
    #[error("cannot reach upstream through the proxy")]
    Proxy {
        /// The proxy's answer if there was one; 407 if it wants a credential, or another one.
        status: Option<StatusCode>,
        /// What was wrong.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The provider could not be reached.
    #[error("cannot connect to upstream")]
    Connect {
        /// What the network said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// No secure connection could be made.
    #[error("cannot establish tls with upstream")]
    Tls {
        /// What was wrong with the handshake or the certificate.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The connection was not made in time.
    #[error("connecting to upstream took too long, at {step}")]
    ConnectTimeout {
        /// What was being done when the time was over.
        step: Step,
    },
    /// The provider took the call and did not answer in time.
    #[error("upstream did not answer within {} s", limit.as_secs_f64())]
    Timeout {
        /// For how long the gateway waited.
        limit: Duration,
    },
    /// The connection was closed before an answer came.
    #[error("upstream closed the connection before it answered")]
    ClosedBeforeHeaders {
        /// What the connection said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// What came is not HTTP.
    #[error("upstream answered with something that is not http")]
    Malformed {
        /// What was wrong.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The response that the call goes on from was known to a socket only, and that socket is gone. The call
    /// succeeds with its whole input instead.
    #[error("the response to continue was lost with its socket")]
    ContinuationLost,
    /// The provider closed the socket because of the call.
    #[error("upstream closed the socket")]
    Closed {
        /// What its close frame said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// There is no credential for the call.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// The provider has no such operation, or not for this model.
    #[error("this provider does not offer the operation")]
    NotOffered,
    /// The call could not be put into a request.
    #[error("cannot build the upstream request")]
    Request {
        /// What was wrong.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

impl SendError {
    /// Who can do something about it.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Resolve { .. }
            | Self::Proxy { .. }
            | Self::Connect { .. }
            | Self::Tls { .. }
            | Self::ConnectTimeout { .. }
            | Self::Timeout { .. }
            | Self::ClosedBeforeHeaders { .. }
            | Self::Malformed { .. }
            | Self::ContinuationLost
            | Self::Closed { .. } => Fault::Upstream,
            Self::Credential(error) => error.fault(),
            Self::NotOffered => Fault::Caller,
            Self::Request { .. } => Fault::Bug,
        }
    }

    /// Whether the same call can succeed later, a continuation with its whole input.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Resolve { .. }
            | Self::Connect { .. }
            | Self::ConnectTimeout { .. }
            | Self::Timeout { .. }
            | Self::ClosedBeforeHeaders { .. }
            | Self::ContinuationLost => true,
            // A proxy that says no has a rule; one that fails may recover.
            Self::Proxy { status, .. } => status.is_none_or(|status| status.is_server_error()),
            Self::Credential(error) => error.is_retryable(),
            Self::Tls { .. }
            | Self::Malformed { .. }
            | Self::Closed { .. }
            | Self::NotOffered
            | Self::Request { .. } => false,
        }
    }

    /// Whether this crate repeats the call by itself. A provider that was silent for minutes is not asked again.
    fn is_repeated(&self) -> bool {
        self.is_retryable() && !matches!(self, Self::Timeout { .. } | Self::Credential(_))
    }
}

/// All that is needed to call one provider over HTTP.
pub(crate) struct Line {
    pub(crate) transport: Transport,
    pub(crate) credential: CredentialSource,
    /// What signs, for providers that want signatures.
    pub(crate) signer: Option<Signer>,
    /// The configured headers.
    pub(crate) headers: HeaderMap,
    pub(crate) retries_max: u32,
    pub(crate) budget: Budget,
    /// How long the provider may be silent.
    pub(crate) idle: Duration,
    /// How long opening a WebSocket may take, from the first packet to the last of its handshake.
    pub(crate) websocket_connect: Duration,
    pub(crate) redact_workspaces: bool,
    /// Whether the provider may see the trace that a call belongs to.
    pub(crate) trace_context: bool,
}

/// One request, in the form that can be sent again.
struct Message {
    method: Method,
    endpoint: Endpoint,
    headers: HeaderMap,
    payload: Payload,
    caller: Option<CallerCredential>,
    /// How often it may be repeated.
    repeats_max: u32,
    /// How long the head of the answer may take.
    limit: Duration,
}

/// Apart from the loop, so that no error is held while it waits.
fn told_of_repeat(attempts: u32, wait: Duration, error: &(dyn Error + 'static)) {
    tracing::debug!(attempts, ?wait, error, "upstream call is repeated");
}

impl Line {
    /// Makes a model call.
    pub(crate) async fn respond(&self, endpoint: Endpoint, call: Call) -> Result<Answer, SendError> {
        let (accept, limit) = match call.stream {
            true => (Accept::EventStream, self.idle),
            false => (Accept::Json, self.idle.max(WHOLE_ANSWER_MAX)),
        };
        let mut headers = headers::for_call(call.headers, &self.headers, accept);
        if let Some(attestation) = call.attestation {
            headers.insert(ATTESTATION, attestation);
        }
        let repeats_max = self.repeats_max(call.repeats);
        let (method, payload, caller) = (Method::POST, Payload::new(call.body), call.caller);
        self.send(Message { method, endpoint, headers, payload, caller, repeats_max, limit }).await
    }

    /// Asks for the provider's models. `caller` is the credential of the caller that wants to know.
    pub(crate) async fn models(
        &self,
        endpoint: Endpoint,
        extra: HeaderMap,
        caller: Option<CallerCredential>,
        limit: Duration,
    ) -> Result<Answer, SendError> {
        let headers = headers::for_call(extra, &self.headers, Accept::Json);
        let (method, payload, repeats_max) = (Method::GET, Payload::new(Bytes::new()), self.retries_max);
        self.send(Message { method, endpoint, headers, payload, caller, repeats_max, limit }).await
    }

    /// How often a call may be repeated.
    pub(crate) fn repeats_max(&self, repeats: Repeats) -> u32 {
        match repeats {
            Repeats::AsConfigured => self.retries_max,
            Repeats::Once => self.retries_max.min(1),
        }
    }

    /// Asks once, for a probe: no repeats but the one with a newer credential. A body is posted, nothing is got.
    pub(crate) async fn probe(
        &self,
        endpoint: Endpoint,
        body: Option<Bytes>,
        limit: Duration,
    ) -> Result<Answer, SendError> {
        let headers = headers::for_call(HeaderMap::new(), &self.headers, Accept::Json);
        let method = if body.is_some() { Method::POST } else { Method::GET };
        let payload = Payload::new(body.unwrap_or_default());
        self.send(Message { method, endpoint, headers, payload, caller: None, repeats_max: 0, limit }).await
    }

    async fn send(&self, message: Message) -> Result<Answer, SendError> {
        let started = Instant::now();
        let mut retries = Retries::new(&self.budget, message.repeats_max);
        let mut credential = self.credential.current().await?;
        let mut timing = Timing { credential: started.elapsed(), ..Timing::default() };
        let (mut recovered, mut corrected) = (false, false);
        let mut attempts = 0;
        loop {
            attempts += 1;
            let began = Instant::now();
            let (head, mut body) = match self.attempt(&message, &credential, &mut timing).await {
                Ok(answered) => answered,
                Err(error) => {
                    let wait = if error.is_repeated() { retries.after_failure() } else { None };
                    let Some(wait) = wait else { return Err(error) };
                    told_of_repeat(attempts, wait, &error);
                    tokio::time::sleep(wait).await;
                    continue;
                }
            };
            if head.status.is_success() {
                self.credential.accepted(credential.generation);
            }
            match refusal(&credential, &head, &mut body).await {
                Some(Refusal::Credential) if !recovered => {
                    recovered = true;
                    let asked = Instant::now();
                    let newer = self.credential.recover(credential.generation).await?;
                    timing.credential += asked.elapsed();
                    if newer.generation != credential.generation {
                        credential = newer;
                        continue;
                    }
                }
                Some(Refusal::Clock) if !corrected => {
                    corrected = true;
                    if self.signer.as_ref().is_some_and(|signer| signer.follow(&head.headers)) {
                        continue;
                    }
                }
                _ => {}
            }
            let Some(wait) = retries.after_status(head.status, &head.headers) else {
                if !head.status.is_server_error() {
                    self.budget.refill();
                }
                (timing.total, timing.last_attempt) = (started.elapsed(), began.elapsed());
                return Ok(Answer { status: head.status, headers: head.headers, body, attempts, timing });
            };
            tracing::debug!(attempts, ?wait, status = head.status.as_u16(), "upstream call is repeated");
            let again = Instant::now() + wait;
            let _ = tokio::time::timeout(wait, body.collect(DISCARDED_BODY_MAX)).await;
            tokio::time::sleep_until(again).await;
        }
    }

    async fn attempt(
        &self,
        message: &Message,
        credential: &Credential,
        timing: &mut Timing,
    ) -> Result<(response::Parts, Body), SendError> {
        let began = Instant::now();
        let mut request = Request::new(Full::new(message.payload.bytes().clone()));
        *request.method_mut() = message.method.clone();
        *request.uri_mut() = message.endpoint.uri.clone();
        *request.headers_mut() = message.headers.clone();
        let (method, endpoint, payload) = (&message.method, &message.endpoint, &message.payload);
        let (caller, signer) = (message.caller.as_ref(), self.signer.as_ref());
        let authority = Authority { proof: &credential.proof, caller, signer };
        sign::authorize(request.headers_mut(), &Subject { method, endpoint, payload }, &authority)?;
        timing.own += began.elapsed();
        match tokio::time::timeout(message.limit, self.transport.request(request)).await {
            Ok(Ok(Told { response, connect })) => {
                timing.connect = connect;
                let (head, received) = response.into_parts();
                Ok((head, Body::upstream(received, self.idle)))
            }
            Ok(Err(error)) => Err(classify(error)),
            Err(_) => Err(SendError::Timeout { limit: message.limit }),
        }
    }
}

/// Why an answer refuses the request's authorization, if it does. Leaves the body as it was.
async fn refusal(credential: &Credential, head: &response::Parts, body: &mut Body) -> Option<Refusal> {
    let said = match Refusal::is_in_body(head.status, &credential.proof) {
        true => body.beginning(REFUSAL_BODY_MAX, REFUSAL_WAIT_MAX).await,
        false => Bytes::new(),
    };
    Refusal::of(head.status, &credential.proof, &head.headers, &said)
}

impl SendError {
    /// What stood in the way of a connection; `source` is all that is known of it.
    fn unreached(obstacle: Obstacle, source: Box<dyn Error + Send + Sync>) -> SendError {
        match obstacle {
            Obstacle::Address => Self::Request { source },
            Obstacle::Resolve => Self::Resolve { source },
            Obstacle::Connect => Self::Connect { source },
            Obstacle::Tls => Self::Tls { source },
            Obstacle::Proxy(status) => Self::Proxy { status, source },
            Obstacle::Time(step) => Self::ConnectTimeout { step },
        }
    }
}

impl From<DialError> for SendError {
    fn from(error: DialError) -> SendError {
        SendError::unreached(error.obstacle(), error.into())
    }
}

pub(crate) fn classify(error: Unanswered) -> SendError {
    match error {
        Unanswered::Dial(error) => error.into(),
        Unanswered::Exchange(error) => broken(error),
        Unanswered::Shared(error) => match cause::<DialError>(&error) {
            Some(dial) => SendError::unreached(dial.obstacle(), error.into()),
            None => broken(error),
        },
    }
}

/// What ended an exchange that had begun.
fn broken(error: impl Error + Send + Sync + 'static) -> SendError {
    // With TLS 1.3 a server that refuses the client's certificate says so after the handshake. What TLS cannot accept
    // has this kind and, behind HTTP/2, no type.
    if cause::<io::Error>(&error).is_some_and(|error| error.kind() == io::ErrorKind::InvalidData) {
        return SendError::Tls { source: error.into() };
    }
    let http = cause::<hyper::Error>(&error);
    let malformed = http.is_some_and(hyper::Error::is_parse);
    let ours = http.is_some_and(hyper::Error::is_user);
    let source = error.into();
    match (malformed, ours) {
        (true, _) => SendError::Malformed { source },
        (_, true) => SendError::Request { source },
        _ => SendError::ClosedBeforeHeaders { source },
    }
}

/// The cause of this type, if there is one. An `io::Error` leaves what it wraps out of its sources.
pub(crate) fn cause<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        next = match error.downcast_ref::<io::Error>().and_then(|error| error.get_ref()) {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}
