//! Tests of the start-up code through its public interface, over real sockets on this machine.
#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise, also in their helpers")]
#![expect(clippy::expect_used, reason = "tests stop at the first surprise, also in their helpers")]

mod certificates;
mod config;
mod drain;
mod guard;
mod health;
mod limits;
mod listen;
mod memory;
mod signals;
mod support;
mod telemetry;
mod tls;
mod watch;
