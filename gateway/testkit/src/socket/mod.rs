//! WebSockets: what a script says on them, how it is played, and what was seen.

mod play;
mod record;
mod script;

pub(crate) use play::{Session, handshake};
pub use record::{Socket, SocketEnd, SocketMessage};
pub use script::{SocketScript, messages};
