//! Providers against a scripted upstream: what is sent, what is repeated, what is given up, what is kept secret.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod bedrock;
mod bodies;
mod commands;
mod configuration;
mod credentials;
mod harness;
mod headers;
mod models;
mod network;
mod probe;
mod refusals;
mod rehearsal;
mod retries;
mod routing;
mod secrets;
mod sockets;
