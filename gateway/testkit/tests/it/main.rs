//! The scripted upstream does what its scripts say, over real sockets.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

mod client;
mod faults;
mod http2;
mod sockets;
mod turns;
