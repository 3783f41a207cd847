//! Tells clients how far the account's usage limits are used up, whoever uses them up.
//!
//! A thread's own subscribers hear of it with each call; this is for all others, and no more often than anybody needs it.

use std::{sync::Weak, time::Duration};

use futures_util::StreamExt as _;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Inner;
use crate::{event::Lifecycle, gateway::Report, model::RateLimit};

/// How often clients are told at most.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// How long a gateway is left alone that could not be asked, at first and at most.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Follows what the gateway reports until the sessions end.
pub(super) async fn tell(inner: Weak<Inner>, shutdown: CancellationToken) {
    tokio::select! {
        () = follow(inner) => {}
        () = shutdown.cancelled() => {}
    }
}

async fn follow(inner: Weak<Inner>) {
    let mut pause = PAUSE_MIN;
    let mut told = Vec::new();
    let mut due = Instant::now();
    loop {
        let Some(gateway) = inner.upgrade().map(|inner| inner.shared.gateway.clone()) else { return };
        let mut reports = gateway.watch_rate_limits();
        drop(gateway);
        let mut latest = None;
        loop {
            // What came meanwhile is told when it is time, and then only the latest of it.
            let report = tokio::select! {
                report = reports.next() => report,
                () = sleep_until(due), if latest.is_some() => {
                    let limits = latest.take().unwrap_or_default();
                    if limits != told {
                        let Some(inner) = inner.upgrade() else { return };
                        inner.tell_all(Lifecycle::RateLimits(Vec::clone(&limits)));
                        told = limits;
                        due = Instant::now() + TELL_EVERY;
                    }
                    continue;
                }
            };
            let Some(Ok(report)) = report else { break };
            pause = PAUSE_MIN;
            latest = of_default(&inner, report).await.or(latest);
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// The limits, if they are those of the provider that threads begin with.
async fn of_default(inner: &Weak<Inner>, report: Report) -> Option<Vec<RateLimit>> {
    let catalogue = inner.upgrade()?.shared.catalogue.clone();
    let facts = catalogue.facts().await.ok()?;
    let ours = facts.providers.iter().find(|provider| provider.is_default)?.id == report.provider;
    ours.then_some(report.limits)
}
