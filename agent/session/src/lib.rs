//! Runs turns: a synchronous state machine and the driver that performs its effects.
//!
//! Knows threads, turns and items, and reaches models only through the gateway. It knows no client's wire: whoever
//! speaks JSON-RPC or gRPC holds [`Sessions`] and translates.

mod attestation;
mod catalogue;
mod clock;
mod context;
mod driver;
mod error;
mod event;
mod gateway;
mod machine;
mod model;
mod options;
mod request;
mod response;
mod sessions;
mod subscription;
mod surroundings;
mod thread;
mod trace_context;
mod verdict;
mod view;
mod watch;

pub use attestation::{Attestation, AttestationProblem, Attester, Attesters};
pub use error::{Error, Fault};
pub use event::{Event, Lifecycle, Next, Published, Status, TenantSubscription};
pub use gateway::{
    Access, Call, CallEvent, ClientCertificate, Envelope, Failure, FailureFault, GrpcGateway, InvalidAddress,
    ModelGateway, ModelStream, Report, RequestKind,
};
pub use model::{AccountKind, Model, Provider, RateLimit, RateLimitWindow, ReasoningEffort};
pub use options::{Options, Retries, TenantLimits};
pub use request::{
    ClientMetadata, ForkPoint, ForkThread, MetadataChange, NewThread, Overrides, StartTurn, SteerTurn,
};
pub use sessions::Sessions;
pub use subscription::Subscription;
pub use surroundings::ContextOptions;
pub use trace_context::TraceContext;
pub use view::{Resumed, ThreadView, TokenUsage, TurnStatus, TurnView};
