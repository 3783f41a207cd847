//! Both services on a desk: up, ask, trace, check, doctor, keys, policy, schema.
//!
//! Starts gatewayd and agentd as two processes of this same program, with a unix socket between them and the provider's
//! key in the first alone. It relays nothing itself.

mod address;
mod ask;
mod child;
mod cli;
mod connect;
mod desk;
mod home;
mod key;
mod keys;
mod output;
mod policy;
mod trace;
mod up;

pub use cli::main_with;
