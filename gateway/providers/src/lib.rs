//! Upstream providers, their credentials and the connections to them.
//!
//! The only crate that opens upstream sockets or holds provider keys. It does not know who calls, whether they
//! may, or what is counted: it routes a model to a provider, sends the bytes it is given with the provider's
//! credential, and hands back the answer with its body unread.

mod bedrock;
mod body;
mod build;
mod catalogue;
mod check;
mod config;
mod credential;
mod custom;
mod headers;
mod openai;
mod probe;
mod provider;
mod registry;
mod rehearsal;
mod retry;
mod secret;
mod send;
mod session;
mod sign;
mod socket;
mod transport;
mod upstream;

pub use body::{Body, BodyError};
pub use catalogue::{ListForm, Model, ModelList, Viewer};
pub use config::{
    AliasConfig, AuthConfig, AwsCommandConfig, AwsConfig, BedrockModelConfig, ModelFacts, Problem,
    ProviderConfig, ProvidersConfig, ReasoningEffort, ServiceTierConfig, WireApi,
};
pub use credential::CredentialError;
pub use probe::{Finding, Probe, Told};
pub use provider::{AccountKind, Capabilities, Fault, Operation};
pub use registry::{ProviderFacts, Providers, RouteError, Routed};
pub use send::SendError;
pub use session::Session;
pub use transport::Step;
pub use upstream::{Answer, Call, CallerCredential, Repeats, Timing, Upstream};
