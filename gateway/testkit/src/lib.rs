//! A scripted upstream for tests: chunk cuts, stalls, resets, statuses.
//!
//! Plays what a test wrote down and records what it was asked; it understands no request and checks none.

mod exchange;
mod gate;
mod reply;
mod socket;
mod state;
mod turn;
mod upstream;
mod wire;

pub use gate::Gate;
pub use reply::Reply;
pub use socket::{Socket, SocketEnd, SocketMessage, SocketScript, messages};
pub use state::{Faults, Recorded};
pub use turn::{Turn, text_turn};
pub use upstream::{Timeout, Upstream, WAIT_MAX};
