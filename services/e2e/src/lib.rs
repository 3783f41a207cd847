//! Drives real clients against the real services: provisions the clients, gives each a fresh home, starts the
//! services, and speaks to a terminal program through a pseudo-terminal.
//!
//! Test only: nothing in the product depends on it. The tests themselves stand in `tests/it`.

pub mod attacks;
pub mod binaries;
pub mod canary;
pub mod certificate;
pub mod clients;
pub mod collector;
pub mod door;
pub mod frail;
pub mod frames;
pub mod home;
pub mod http;
pub mod login;
pub mod places;
pub mod process;
pub mod provision;
pub mod pty;
pub mod rpc;
pub mod schema;
pub mod service;
pub mod skip;
pub mod soak;
pub mod stack;
pub mod survivors;
pub mod tap;
