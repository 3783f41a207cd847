//! The agent as a process: its command line, its configuration, its parts put together.
//!
//! A library as well as a binary, so that `tidegate` can be the same program.

mod cli;
mod config;
mod home;
mod listen;
mod overrides;
mod run;
mod ws_auth;

pub use cli::{Args, main_over, main_with};
pub use config::{AccessConfig, AgentdConfig, shown_beside};
pub use run::Wrap;
