//! Everything that is tested across the services or about the repository, in one binary.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, and so may what several tests share"
)]

mod agent;
mod contract;
mod deploy;
mod desk;
mod gateway;
mod harness;
mod hygiene;
mod soak;
