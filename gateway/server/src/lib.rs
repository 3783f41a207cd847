//! The gateway's gRPC and HTTP surfaces and the one pipeline behind them.
//!
//! Whatever the surface, a model call goes through `pipeline` from top to bottom. Frameworks stop here: no other
//! crate of the gateway knows that there is HTTP or gRPC on this side.

mod admit;
mod arrival;
mod attestation;
mod codex_ids;
mod config;
mod content;
mod conventions;
mod document;
mod edit;
mod failure;
mod generation;
mod grpc;
mod headers;
mod http;
mod metrics;
mod origin;
mod phases;
mod pipeline;
mod places;
mod rate_limits;
mod relay;
mod series;
mod service;
mod settle;
mod trace;

pub use config::ServerConfig;
pub use generation::Configuration;
pub use http::body::ResponseBody;
pub use service::{Gateway, StartError};
