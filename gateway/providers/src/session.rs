//! What belongs to one caller's thread at a provider: its socket, and whether it has fallen back to HTTP.

/// One thread's path to its provider, kept for as long as the thread is busy.
#[derive(Debug, Default)]
pub struct Session {}
