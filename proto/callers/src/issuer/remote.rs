//! Keys that are fetched: kept fresh, asked for again when a token names an unknown one, and kept when a fetch fails.
//!
//! One task follows an issuer, so there is never more than one fetch, and it does not end with the caller that wanted it.
//! Callers cannot make it fetch more than once a minute. Nothing is fetched unless somebody runs [`Remote::follow`].

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use tokio::{
    sync::{Mutex, watch},
    time::{Instant, sleep_until, timeout},
};

use super::fetch::{FETCH_MAX, FetchError, Spec, with_causes};
use crate::{file::Trouble, refusal::Refusal, token::KeySet};

/// How old keys get before they are fetched again.
const REFRESH_AFTER: Duration = Duration::from_secs(5 * 60);
/// How old keys may get while fetching fails.
const STALE_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// How often unknown key ids can make it fetch.
const ASK_EVERY: Duration = Duration::from_secs(60);
/// How soon a failed fetch is tried again: doubled each time, up to the second figure.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// How long a caller waits for a fetch.
const WAIT_MAX: Duration = FETCH_MAX.saturating_add(Duration::from_secs(1));

/// The keys of one issuer.
pub(crate) struct Remote {
    spec: Spec,
    held: ArcSwapOption<Held>,
    status: watch::Sender<Status>,
    /// Held by the one task that follows; generations of a configuration hand it on.
    following: Mutex<()>,
    trouble: RwLock<Option<Trouble>>,
}

struct Held {
    keys: Arc<KeySet>,
    fetched: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Status {
    /// Whether a fetch is wanted or on its way.
    pending: bool,
    /// How many fetches have ended.
    ended: u64,
    /// How many of the last ones have failed in a row.
    failed: u32,
    /// When the next one starts unasked.
    due: Option<Instant>,
    /// When a caller last asked for one.
    asked: Option<Instant>,
}

impl Remote {
    pub(crate) fn new(spec: Spec) -> Self {
        // The first fetch is wanted from the start.
        let status = Status { pending: true, ended: 0, failed: 0, due: None, asked: None };
        Self {
            spec,
            held: ArcSwapOption::empty(),
            status: watch::Sender::new(status),
            following: Mutex::new(()),
            trouble: RwLock::default(),
        }
    }

    pub(crate) fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The keys that are known, unless they are too old to be believed.
    pub(crate) fn keys(&self) -> Option<Arc<KeySet>> {
        let held = self.held.load();
        held.as_ref().filter(|held| held.fetched.elapsed() < STALE_MAX).map(|held| held.keys.clone())
    }

    /// The keys after a fetch, for a caller who needs one that is not known. Waits for the fetch that is on its way or that
    /// this call may ask for; answers at once if it may not.
    pub(crate) async fn newer(&self) -> Result<Arc<KeySet>, Refusal> {
        let mut status = self.status.subscribe();
        let ended = status.borrow_and_update().ended;
        let now = Instant::now();
        self.status.send_if_modified(|status| {
            let may_ask = !status.pending
                && (self.held.load().is_some())
                && status.asked.is_none_or(|asked| now.duration_since(asked) >= ASK_EVERY);
            if may_ask {
                status.pending = true;
                status.asked = Some(now);
            }
            may_ask
        });
        // Copied, because two guards of one channel at once can block each other.
        let current = *status.borrow();
        if current.pending || current.ended != ended {
            let over = status.wait_for(|status| status.ended != ended);
            if timeout(WAIT_MAX, over).await.is_err() {
                return Err(Refusal::KeysUnavailable);
            }
        }
        let failed = status.borrow().failed > 0;
        match self.keys() {
            Some(keys) if !failed => Ok(keys),
            // The key may be a new one that could not be fetched.
            Some(_) | None => Err(Refusal::KeysUnavailable),
        }
    }

    /// What a caller is told whose token names a key that the issuer has not published.
    pub(crate) fn unpublished(&self) -> Refusal {
        let asked = self.status.borrow().asked;
        let wait = asked.map(|asked| ASK_EVERY.saturating_sub(asked.elapsed())).unwrap_or_default();
        Refusal::UnpublishedSigningKey { seconds: wait.as_secs() + u64::from(wait.subsec_nanos() > 0) }
    }

    /// Fetches now, whenever it is time and whenever a caller asks, for ever.
    pub(crate) async fn follow(&self) {
        let _only = self.following.lock().await;
        let mut status = self.status.subscribe();
        loop {
            let due = status.borrow_and_update().due;
            let timer = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = timer => {}
                _ = status.wait_for(|status| status.pending) => {}
            }
            self.status.send_modify(|status| status.pending = true);
            let fetched = self.spec.fetch().await;
            let failed = fetched.is_err();
            match fetched {
                Ok(keys) => self.hold(keys),
                Err(error) => self.keep(&error),
            }
            self.status.send_modify(|status| status.end(failed));
        }
    }

    pub(crate) fn trouble(&self) -> Option<Trouble> {
        self.trouble.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn hold(&self, keys: KeySet) {
        let before = self.held.load();
        let keys = Arc::new(keys.succeeding(before.as_ref().map(|held| &*held.keys)));
        self.held.store(Some(Arc::new(Held { keys, fetched: Instant::now() })));
        *self.trouble.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn keep(&self, error: &FetchError) {
        let of_file = matches!(error, FetchError::Client(_));
        let error = with_causes(error);
        tracing::warn!(issuer = %self.spec.name, error, "signing keys cannot be fetched; the ones before stay");
        let trouble = Trouble { source: self.spec.name.clone(), message: error, of_file };
        *self.trouble.write().unwrap_or_else(PoisonError::into_inner) = Some(trouble);
    }
}

impl Status {
    fn end(&mut self, failed: bool) {
        self.pending = false;
        self.ended += 1;
        self.failed = if failed { self.failed.saturating_add(1) } else { 0 };
        let wait = match self.failed {
            0 => REFRESH_AFTER,
            failures => RETRY_FIRST.saturating_mul(1 << (failures - 1).min(6)).min(RETRY_MAX),
        };
        self.due = Some(Instant::now() + wait);
    }
}
