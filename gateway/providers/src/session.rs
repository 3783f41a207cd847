//! What belongs to one caller's thread at a provider: its socket, and whether it has fallen back to HTTP.

/// One thread's path to its provider, kept for as long as the thread is busy.
#[derive(Debug, Default)]
pub struct Session {}

impl Session {
    /// Whether a socket is held, so that a response can be continued by its id.
    #[must_use]
    pub fn has_socket(&self) -> bool {
        false
    }
}
