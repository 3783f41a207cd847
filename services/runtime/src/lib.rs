//! Start-up code that libraries never see: configuration, telemetry, listeners, health, drain.
//!
//! A service's `main` reads its configuration with [`config`], starts [`telemetry`], binds a
//! [`listen::Listener`], stacks [`guard`] and [`health`] around its own service, hands it to [`serve::serve`]
//! and runs everything under [`tasks::Tasks`]. Environment variables and files are read here, once; library
//! crates take values.

mod body;
pub mod cli;
pub mod config;
pub mod drain;
pub mod guard;
pub mod health;
pub mod listen;
pub mod log;
mod memory;
pub mod ready;
pub mod serve;
pub mod signals;
pub mod tasks;
pub mod telemetry;
pub mod watch;

pub use body::Reply;
pub use cli::{Exit, Fault, block_on, block_on_half};
pub use drain::Drain;
