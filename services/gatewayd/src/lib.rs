//! The gateway as a process: its command line, its configuration, its parts put together.
//!
//! A library as well as a binary, so that `tidegate up` can start the same program.

mod cli;
mod config;
mod doctor;
mod load;
mod reload;
mod run;

pub use cli::{Args, main_with};
pub use config::GatewaydConfig;
pub use load::{policy, policy_of};
