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

    /// Steers the drain for as long as it is polled.
    pub async fn steer(mut self, drain: &Drain) -> Infallible {
        let mut told = Told::default();
        loop {
            let name = tokio::select! {
                Some(()) = self.terminate.recv() => "SIGTERM",
                Some(()) = self.interrupt.recv() => "SIGINT",
                else => return std::future::pending().await,
            };
            told.heed(name, drain);
        }
    }
}

/// Whether a signal has come.
#[derive(Debug, Default)]
struct Told(bool);

impl Told {
    /// The first signal begins the drain, the next one aborts it.
    ///
    /// A drain that has begun by itself is not aborted by the first one: whoever closes a process's standard input and
    /// then signals it, as Codex's SDKs do, wants one end and not two.
    fn heed(&mut self, name: &str, drain: &Drain) {
        if std::mem::replace(&mut self.0, true) {
            tracing::warn!(signal = name, "stopping at once");
            drain.abort();
        } else {
            tracing::info!(signal = name, "stopping");
            drain.begin();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn a_signal_begins_the_end_or_leaves_it_as_it_is_and_the_next_one_aborts() {
        for has_begun in [false, true] {
            let drain = Drain::new(Duration::ZERO, Duration::from_secs(1));
            if has_begun {
                drain.begin();
            }
            let mut told = Told::default();
            told.heed("SIGTERM", &drain);
            assert!(drain.is_draining());
            assert!(drain.aborted().now_or_never().is_none(), "begun before: {has_begun}");
            told.heed("SIGINT", &drain);
            assert!(drain.aborted().now_or_never().is_some());
        }
    }
}
