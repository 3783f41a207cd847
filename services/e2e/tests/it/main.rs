//! Everything that is tested across the services or about the repository, in one binary.

mod contract;
mod harness;
mod hygiene;
