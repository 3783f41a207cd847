//! Speaks the wires of the agent's clients: the Codex app-server protocol and the gRPC session API.
//!
//! The only crate that knows a client's wire. It translates between it and `Sessions`, which knows no wire, and keeps
//! of each connection what belongs to it: who is there, what it has subscribed to, what it does not want to hear.

mod attestation;
mod call;
mod configuration;
mod connection;
mod door;
mod grpc;
mod methods;
mod notifications;
mod outbound;
mod preferences;
mod principal;
mod protocol;
mod questions;
mod router;
mod rpc;
mod seats;
mod server;
mod subscriptions;
mod transport;
mod wire;

pub use configuration::{Configuration, KEYS, Requirements, Tenant, ValueError, Values, check};
pub use door::Door;
pub use principal::Principal;
pub use protocol::{Answered, answered};
pub use server::{Options, Server};
pub use transport::http::{DescriptorError, Http};

/// The version of the Codex app-server protocol that is spoken; clients decide by it what they may ask for.
pub const PROTOCOL_VERSION: &str = "0.169.0";
