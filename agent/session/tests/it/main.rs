//! Turns from end to end: a scripted gateway, a store that counts, a paused clock; and the gRPC gateway over real sockets.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod attestation;
mod compaction;
mod continuation;
mod edits;
mod forks;
mod gateway;
mod goaway;
mod grpc;
mod races;
mod recovery;
mod store;
mod subscriptions;
mod support;
mod surroundings;
mod tenants;
mod traces;
mod turns;
