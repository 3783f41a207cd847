//! Attacks on a listener, as one hostile client makes them, and what the listener's process looks like meanwhile.
//!
//! Tests run them small and the soak runs them at full size. Each tells what has really left this machine; what the
//! server should have done about it is the caller's to say.

mod fired;
mod frames;
mod handshakes;
mod heads;
mod http2;
mod processors;
pub mod sink;
mod slow;
pub mod smuggling;
mod watch;

pub use fired::Fired;
pub use handshakes::{false_handshakes, handshake_flood, unfinished_handshakes};
pub use heads::{Bomb, header_bombs, lying_lengths};
pub use http2::{
    continuation_flood, empty_data_flood, hpack_bomb, made_you_reset, ping_flood, rapid_reset,
    settings_flood, zero_window_stall,
};
pub use processors::go_first;
pub use slow::{Pace, slow_bodies, slow_heads};
pub use watch::{Attack, Calls, Good, Observed, Siege, observe};
