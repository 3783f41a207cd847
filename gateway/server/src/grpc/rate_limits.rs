//! Rate-limit snapshots as a stream: what is known, then what changes.

use std::{collections::VecDeque, sync::Arc};

use futures_util::{Stream, stream};
use gateway_policy::Rules;
use tidegate_proto::gateway::v1::WatchRateLimitsResponse;
use tokio::sync::watch::Receiver;
use tonic::Status;

use super::respond;
use crate::rate_limits::{Board, Snapshot};

/// Snapshots of one provider, or of all if `provider` is empty. Ends when the gateway does.
pub(crate) fn stream(
    board: Receiver<Option<Board>>,
    provider: String,
    rules: Arc<Rules>,
) -> impl Stream<Item = Result<WatchRateLimitsResponse, Status>> {
    let watch = Watch { board, provider, rules, told: 0, out: VecDeque::new() };
    stream::unfold(watch, |mut watch| async move { watch.next().await.map(|item| (Ok(item), watch)) })
}

struct Watch {
    board: Receiver<Option<Board>>,
    provider: String,
    /// What the caller may know of.
    rules: Arc<Rules>,
    /// The newest version that was told.
    told: u64,
    out: VecDeque<WatchRateLimitsResponse>,
}

impl Watch {
    async fn next(&mut self) -> Option<WatchRateLimitsResponse> {
        loop {
            if let Some(response) = self.out.pop_front() {
                return Some(response);
            }
            self.board.changed().await.ok()?;
            let board = self.board.borrow_and_update().clone()?;
            let asked = |provider: &str| {
                (self.provider.is_empty() || self.provider == provider)
                    && self.rules.visible_provider(provider)
            };
            let news = board.iter().filter(|(id, snapshot)| snapshot.version > self.told && asked(id));
            self.out.extend(news.map(|(id, snapshot)| response(id, snapshot)));
            self.told = board.values().map(|snapshot| snapshot.version).max().unwrap_or(self.told);
        }
    }
}

fn response(provider: &str, snapshot: &Snapshot) -> WatchRateLimitsResponse {
    WatchRateLimitsResponse {
        provider: provider.to_owned(),
        rate_limits: respond::rate_limits(&snapshot.limits),
        reported_at: Some(snapshot.reported_at.into()),
    }
}
