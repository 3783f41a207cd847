//! The limits of the gateway's surfaces. Each key names its unit and has a default.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

/// Limits of what callers may send and of what is kept for them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServerConfig {
    /// The largest request body, in bytes.
    pub body_bytes_max: usize,
    /// The largest event of a provider's stream, in bytes.
    pub event_bytes_max: usize,
    /// How long a request body, or a message on a WebSocket, may take to arrive, in milliseconds.
    pub body_timeout_ms: u64,
    /// How many model calls run at once; further ones are answered with 503.
    pub concurrent_calls_max: usize,
    /// How many bytes of request bodies, of messages that are arriving on WebSockets, and of unfinished events may be held
    /// for all callers together; a call that would need more is answered with 503, and a socket is closed with 1013.
    pub held_bytes_max: usize,
    /// How long a WebSocket may stay open on which no call runs, in milliseconds. Clients open another when they need it.
    pub websocket_idle_ms: u64,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            body_bytes_max: 64 * 1024 * 1024,
            event_bytes_max: 16 * 1024 * 1024,
            body_timeout_ms: 60_000,
            concurrent_calls_max: 10_000,
            held_bytes_max: 1024 * 1024 * 1024,
            websocket_idle_ms: 600_000,
        }
    }
}

impl ServerConfig {
    pub(crate) fn body_timeout(&self) -> Duration {
        Duration::from_millis(self.body_timeout_ms)
    }

    pub(crate) fn websocket_idle(&self) -> Duration {
        Duration::from_millis(self.websocket_idle_ms)
    }
}
