//! The scripted upstream does what its scripts say, over real sockets.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

mod aws_endpoints;
mod bedrock;
mod client;
mod faults;
mod http2;
mod proxies;
mod sockets;
mod tls;
mod turns;
