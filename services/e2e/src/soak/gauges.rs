//! Reads what a gateway tells of itself: metrics and readiness.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::row::Tally;
use crate::http;

/// How long an idle gateway may count calls that have ended.
const SETTLE_TIME_MAX: Duration = Duration::from_secs(10);

/// The sum of a metric's samples whose line has every one of `labels`; 0 when there is none.
pub(super) async fn metric(at: SocketAddr, name: &str, labels: &[&str]) -> anyhow::Result<i64> {
    Ok(sum(&http::get(at, "/metrics").await?.text, name, labels))
}

/// The same in metrics that were read already.
pub(super) fn sum(text: &str, name: &str, labels: &[&str]) -> i64 {
    let samples = text.lines().filter(|line| {
        let named = line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
        named && labels.iter().all(|label| line.contains(label))
    });
    samples.filter_map(|line| line.rsplit(' ').next()?.split('.').next()?.parse::<i64>().ok()).sum()
}

/// The status of `/readyz`, and what it tells of its parts.
pub(super) async fn readiness(at: SocketAddr) -> anyhow::Result<(u16, Value)> {
    let answer = http::get(at, "/readyz").await?;
    Ok((answer.status, answer.json()?))
}

/// An idle gateway counts no call and holds no byte, soon.
pub(super) async fn comes_to_rest(at: SocketAddr, tally: &Tally) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        let running = metric(at, "tidegate_gateway_calls_running", &[]).await?;
        let held = metric(at, "tidegate_gateway_held_bytes", &[]).await?;
        if (running, held) == (0, 0) {
            return Ok(());
        }
        if began.elapsed() > SETTLE_TIME_MAX {
            tally.violation(format!("an idle gateway counts {running} calls and {held} bytes"));
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
