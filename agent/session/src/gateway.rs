//! What the driver needs of the model gateway: a stream of responses, the models, the providers.
//!
//! The types here are this crate's own, so that a test can stand in for the gateway; [`grpc`] speaks the contract.

mod access;
mod convert;
mod grpc;

use std::{collections::BTreeMap, pin::Pin, time::Duration};

use agent_threads::{ThreadId, TurnId, Usage};
use bytes::Bytes;
use futures_util::{Stream, future::BoxFuture, stream::BoxStream};

pub use self::access::{Access, ClientCertificate};
pub use self::grpc::{GrpcGateway, InvalidAddress};
use crate::{
    attestation::Attesters,
    model::{Model, Provider, RateLimit},
    trace_context::TraceContext,
};

/// Reaches models.
pub trait ModelGateway: Send + Sync + 'static {
    /// A stream for one busy thread. Does no IO before its first call.
    fn open(&self) -> Pin<Box<dyn ModelStream>>;

    /// The models that may be used.
    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, Failure>>;

    /// The providers behind the gateway.
    fn providers(&self) -> BoxFuture<'_, Result<Vec<Provider>, Failure>>;

    /// The usage limits of the gateway's own credential for this provider, as they are known now.
    fn rate_limits(&self, provider: &str) -> BoxFuture<'_, Result<Vec<RateLimit>, Failure>>;

    /// The same of every provider: as they are known now, and every change. Ends when the gateway ends it.
    fn watch_rate_limits(&self) -> BoxStream<'static, Result<Report, Failure>>;
}

/// The usage limits of the gateway's own credential for a provider.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The provider.
    pub provider: String,
    /// Its limits.
    pub limits: Vec<RateLimit>,
}

/// Carries one response after the other. Dropping it cancels the response that is in flight. After an `Err` or its end
/// it is of no further use.
pub trait ModelStream: Stream<Item = Result<CallEvent, Failure>> + Send {
    /// Begins the next response; the one before must have ended.
    fn call(self: Pin<&mut Self>, call: Call);
}

/// One model call.
#[derive(Debug, Clone)]
pub struct Call {
    /// Who is calling and why.
    pub envelope: Envelope,
    /// The provider that the thread stays with; empty lets the gateway choose by model.
    pub provider: String,
    /// What the provider sent as turn state earlier in the same turn.
    pub turn_state: Option<String>,
    /// The trace that it belongs to.
    pub trace: TraceContext,
    /// Those who can attest for the thread, should the gateway ask.
    pub attesters: Attesters,
    /// The JSON of the Responses API, exactly as the provider shall see it.
    pub body: Bytes,
}

/// Who is calling and why.
#[derive(Debug, Clone)]
pub struct Envelope {
    /// The installation that the call comes from.
    pub installation_id: String,
    /// Shared by a tree of threads.
    pub session_id: ThreadId,
    /// The thread.
    pub thread_id: ThreadId,
    /// The turn.
    pub turn_id: TurnId,
    /// The thread that started this one.
    pub parent_id: Option<ThreadId>,
    /// The thread that this one was forked from.
    pub forked_from_id: Option<ThreadId>,
    /// Why the thread exists.
    pub thread_source: Option<String>,
    /// The client program that the user works in.
    pub originator: String,
    /// That client with its version.
    pub user_agent: String,
    /// When the turn began, in Unix milliseconds.
    pub turn_started_at_ms: i64,
    /// The turn that started this tree of work.
    pub root_turn_id: TurnId,
    /// The context window inside the thread; grows with each compaction.
    pub window: u32,
    /// What the call is for.
    pub kind: RequestKind,
    /// The sandbox in force, for example `read-only`.
    pub sandbox: Option<String>,
    /// Further keys of the client's own. One that has a field above is ignored.
    pub extra: BTreeMap<String, String>,
}

/// What a model call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestKind {
    /// An answer.
    Turn,
    /// A shorter input.
    Compaction,
}

/// What a call brings.
#[derive(Debug, Clone)]
pub enum CallEvent {
    /// The provider accepted the call.
    Head {
        /// The provider that serves it.
        provider: String,
        /// To be sent back for the rest of the turn.
        turn_state: Option<String>,
        /// Usage limits as the provider reported them.
        rate_limits: Vec<RateLimit>,
        /// Whether the next response on this stream may continue this one although nothing is stored.
        continues: bool,
    },
    /// One event of the provider's stream.
    Event {
        /// Its type.
        kind: String,
        /// Its JSON payload as it came.
        data: Bytes,
    },
    /// The response ended as it should.
    Completed {
        /// Its id; empty if the provider named none.
        response_id: String,
        /// Tokens, if the provider reported them.
        usage: Option<Usage>,
    },
    /// The response ended otherwise; the stream can carry the next one.
    Failed {
        /// Why.
        failure: Failure,
        /// Tokens, if the provider reported them.
        usage: Option<Usage>,
    },
}

/// Why a call to the gateway did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Stable and machine-readable.
    pub reason: String,
    /// Who can do something about it.
    pub fault: FailureFault,
    /// For people.
    pub message: String,
    /// Whether the same call can succeed later.
    pub retryable: bool,
    /// When a repeat makes sense, if that is known.
    pub retry_delay: Option<Duration>,
    /// The provider's HTTP status, if it was the provider that refused.
    pub http_status: Option<u16>,
    /// The provider's error code.
    pub code: Option<String>,
}

/// Who can do something about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureFault {
    /// The caller.
    Caller,
    /// Whoever writes the gateway's rules.
    Policy,
    /// Whoever keeps the gateway's credentials.
    Credential,
    /// The provider.
    Upstream,
    /// Time: somebody is out of capacity.
    Overload,
    /// The gateway's makers.
    Bug,
}
