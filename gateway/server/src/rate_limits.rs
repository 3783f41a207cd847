//! The usage limits of the gateway's own credentials, as each provider last reported them.
//!
//! One snapshot a provider, replaced as a whole; whoever watches sees the latest and may miss those between. What a
//! caller's own credential is told stays with that caller's answer and is not kept.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use http::HeaderMap;
use tidegate_responses::rate_limit::RateLimit;
use tokio::sync::watch;

/// What one provider reported.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    /// Grows with each report of any provider.
    pub(crate) version: u64,
    pub(crate) limits: Arc<[RateLimit]>,
    pub(crate) reported_at: SystemTime,
}

/// All snapshots by provider.
pub(crate) type Board = Arc<BTreeMap<String, Snapshot>>;

/// Keeps and shows the latest snapshots.
#[derive(Debug)]
pub(crate) struct RateLimits {
    board: watch::Sender<Option<Board>>,
}

impl RateLimits {
    pub(crate) fn new() -> Self {
        Self { board: watch::Sender::new(Some(Board::default())) }
    }

    /// Takes what an answer's headers say; `own` when they speak of the gateway's credential.
    pub(crate) fn report(&self, provider: &str, limits: Vec<RateLimit>) {
        if limits.is_empty() {
            return;
        }
        self.board.send_if_modified(|board| {
            let Some(board) = board else { return false };
            let known = board.get(provider).map(|snapshot| &*snapshot.limits);
            let changed = known != Some(limits.as_slice());
            let version = board.values().map(|snapshot| snapshot.version).max().unwrap_or_default() + 1;
            let snapshot = Snapshot { version, limits: limits.into(), reported_at: SystemTime::now() };
            Arc::make_mut(board).insert(provider.to_owned(), snapshot);
            changed
        });
    }

    /// The board and its changes, until [`RateLimits::close`].
    pub(crate) fn watch(&self) -> watch::Receiver<Option<Board>> {
        let mut receiver = self.board.subscribe();
        receiver.mark_changed();
        receiver
    }

    /// Ends all watching.
    pub(crate) fn close(&self) {
        self.board.send_replace(None);
    }
}

/// The limits that an answer reports.
pub(crate) fn of_headers(headers: &HeaderMap) -> Vec<RateLimit> {
    let pairs = headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    RateLimit::from_headers(pairs)
}
