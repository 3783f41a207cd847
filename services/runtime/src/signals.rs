//! Turns SIGTERM and SIGINT into a drain, and a second one into an abort.

use std::convert::Infallible;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::drain::Drain;

/// The handlers of the process, installed once at the start so that no signal is missed.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Installs the handlers; needs a running runtime.
    pub fn install() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Steers the drain for as long as it is polled: the first signal begins it, the next one aborts.
    pub async fn steer(mut self, drain: &Drain) -> Infallible {
        loop {
            let name = tokio::select! {
                Some(()) = self.terminate.recv() => "SIGTERM",
                Some(()) = self.interrupt.recv() => "SIGINT",
                else => return std::future::pending().await,
            };
            if drain.is_draining() {
                tracing::warn!(signal = name, "stopping at once");
                drain.abort();
            } else {
                tracing::info!(signal = name, "stopping");
                drain.begin();
            }
        }
    }
}
