//! The order in which a process goes down.
//!
//! Four steps, each a token that anyone may wait for: **draining** (readiness is off, everything still works),
//! **closing** (no new connection; every connection is asked to finish), **cut** (the grace period is over:
//! streams end with a typed last event) and **abort** (connections are dropped). [`Drain::run`] moves from
//! step to step by the clock; it does not know about signals.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

use crate::config::Problem;

/// How long streams have to write their typed end after the grace period. Short enough that the process is gone within a
/// second, whatever its peers do.
pub const CUT_LINGER: Duration = Duration::from_millis(600);
/// The longest delay and grace period that a configuration may ask for.
const WAIT_MS_MAX: u64 = 3_600_000;

/// How a process stops.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DrainConfig {
    /// How long new connections are still accepted after readiness is off, in milliseconds: load balancers
    /// need a moment to notice.
    pub pre_stop_delay_ms: u64,
    /// How long running requests and streams may take to finish, in milliseconds.
    pub grace_ms: u64,
}

impl Default for DrainConfig {
    fn default() -> Self {
        Self { pre_stop_delay_ms: 0, grace_ms: 30_000 }
    }
}

impl DrainConfig {
    /// Makes the handle, or says what is wrong; `at` is the dotted key of this table.
    pub fn build(&self, at: &str) -> Result<Drain, Vec<Problem>> {
        let over = |name: &str, value: u64| {
            let message = format!("is {value}, over the limit of {WAIT_MS_MAX}");
            (value > WAIT_MS_MAX).then(|| Problem::new(format!("{at}.{name}"), message))
        };
        let problems: Vec<Problem> =
            [over("pre_stop_delay_ms", self.pre_stop_delay_ms), over("grace_ms", self.grace_ms)]
                .into_iter()
                .flatten()
                .collect();
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Drain::new(Duration::from_millis(self.pre_stop_delay_ms), Duration::from_millis(self.grace_ms)))
    }
}

/// A cheap handle on the process's way down; clones share it.
#[derive(Debug, Clone)]
pub struct Drain {
    pre_stop_delay: Duration,
    grace: Duration,
    draining: CancellationToken,
    closing: CancellationToken,
    cut: CancellationToken,
    abort: CancellationToken,
}

impl Drain {
    /// A handle for a process that is up.
    pub fn new(pre_stop_delay: Duration, grace: Duration) -> Self {
        Self {
            pre_stop_delay,
            grace,
            draining: CancellationToken::new(),
            closing: CancellationToken::new(),
            cut: CancellationToken::new(),
            abort: CancellationToken::new(),
        }
    }

    /// Starts the way down; the second and later calls change nothing.
    pub fn begin(&self) {
        self.draining.cancel();
    }

    /// Skips every wait: connections are dropped at once.
    pub fn abort(&self) {
        for step in [&self.draining, &self.closing, &self.cut, &self.abort] {
            step.cancel();
        }
    }

    /// Whether the way down has begun.
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Waits for the way down to begin: readiness is off, work goes on.
    pub fn draining(&self) -> WaitForCancellationFuture<'_> {
        self.draining.cancelled()
    }

    /// Waits until no new connection is accepted and idle ones should end.
    pub fn closing(&self) -> WaitForCancellationFuture<'_> {
        self.closing.cancelled()
    }

    /// Cancelled when no new work should start on a long-lived connection, such as a WebSocket.
    pub fn closing_token(&self) -> &CancellationToken {
        &self.closing
    }

    /// Cancelled when the grace period is over: streams write their typed end now.
    pub fn cut_token(&self) -> &CancellationToken {
        &self.cut
    }

    /// Waits until everything that is still open should be dropped.
    pub fn aborted(&self) -> WaitForCancellationFuture<'_> {
        self.abort.cancelled()
    }

    /// Waits for the beginning, then takes the steps by the clock; returns after the last one.
    pub async fn run(&self) {
        self.draining.cancelled().await;
        tracing::info!(
            pre_stop_delay_ms = u64::try_from(self.pre_stop_delay.as_millis()).unwrap_or(u64::MAX),
            grace_ms = u64::try_from(self.grace.as_millis()).unwrap_or(u64::MAX),
            "draining"
        );
        for (wait, step) in
            [(self.pre_stop_delay, &self.closing), (self.grace, &self.cut), (CUT_LINGER, &self.abort)]
        {
            tokio::select! {
                () = step.cancelled() => {}
                () = tokio::time::sleep(wait) => step.cancel(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Drain, DrainConfig};

    #[tokio::test(start_paused = true)]
    async fn the_steps_follow_the_clock() {
        let drain = Drain::new(Duration::from_secs(2), Duration::from_secs(30));
        let start = Instant::now();
        drain.begin();
        let steps = async {
            drain.draining().await;
            let draining = start.elapsed();
            drain.closing().await;
            let closing = start.elapsed();
            drain.cut_token().cancelled().await;
            let cut = start.elapsed();
            drain.aborted().await;
            [draining, closing, cut, start.elapsed()].map(|at| at.as_millis())
        };
        let (steps, ()) = tokio::join!(steps, drain.run());
        assert_eq!(steps, [0, 2_000, 32_000, 32_600]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_abort_takes_every_step_at_once() {
        let drain = Drain::new(Duration::from_secs(2), Duration::from_secs(30));
        let start = Instant::now();
        drain.begin();
        drain.abort();
        drain.run().await;
        drain.aborted().await;
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[test]
    fn a_wait_without_end_is_refused() {
        let config = DrainConfig { pre_stop_delay_ms: 0, grace_ms: u64::MAX };
        let problems = config.build("drain").unwrap_err();
        assert_eq!(problems[0].key, "drain.grace_ms");
    }
}
