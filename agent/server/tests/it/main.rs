//! The app-server and a scripted client, over real sockets and pipes, with a scripted gateway behind them.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests: what must not happen fails them"
)]

mod accounts;
mod attestation;
mod bounds;
mod client;
mod configuration;
mod conversation;
mod doors;
mod gateway;
mod grpc;
mod house;
mod malformed;
mod programs;
mod tenants;
mod threads;
mod tiers;
mod turns;
