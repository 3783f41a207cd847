//! Who calls, from the outside: keys files, signed tokens, issuers on real sockets, and the order of proofs.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod files;
mod order;
mod remote;
mod signer;
mod support;
mod tokens;
mod websocket;
