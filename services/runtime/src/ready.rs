//! Tells the process that started this one that it listens everywhere it was told to.
//!
//! Whoever asks an address instead may be answered by another process that had it first.

use std::env;
use std::os::unix::net::UnixDatagram;

/// The environment variable that names the unix datagram socket where somebody waits for it.
pub const SOCKET: &str = "TIDEGATE_READY_SOCKET";

/// Tells it, if somebody waits.
pub(crate) fn tell() {
    let Some(socket) = env::var_os(SOCKET).filter(|path| !path.is_empty()) else { return };
    if let Err(error) = UnixDatagram::unbound().and_then(|datagram| datagram.send_to(b"ready", &socket)) {
        tracing::warn!(%error, "nobody could be told that this process is ready");
    }
}
