//! When a call is repeated before its answer begins, and when that stops.
//!
//! Pure apart from a random jitter. The budget is shared by all calls to a provider: a repeat takes from it and
//! good answers fill it, so that repeats stop when everything fails and a broken provider does not get a
//! multiple of its load.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use http::StatusCode;
use http::header::{HeaderMap, RETRY_AFTER};
use tidegate_responses::retry_after;

/// The wait before the first repeat; it doubles with each further one.
const BACKOFF: Duration = Duration::from_millis(200);
/// The longest wait between two attempts, however many there are.
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// How much of a wait is random, in both directions.
const JITTER: f64 = 0.1;
/// The longest `Retry-After` that is waited for here; with a longer one the answer is handed on.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(5);
/// What a repeat takes from a provider's budget. A good answer gives 1.
const REPEAT_COSTS: u32 = 5;
/// The size of a budget: 32 repeats.
const BUDGET_MAX: u32 = 32 * REPEAT_COSTS;

/// How many repeats all calls to one provider have left together.
pub(crate) struct Budget(AtomicU32);

impl Budget {
    pub(crate) fn new() -> Budget {
        Budget(AtomicU32::new(BUDGET_MAX))
    }

    /// Notes a good answer.
    pub(crate) fn refill(&self) {
        // The common case, a full budget, must not write to memory that all calls share.
        if self.0.load(Ordering::Relaxed) < BUDGET_MAX {
            self.change(|left| Some((left + 1).min(BUDGET_MAX)));
        }
    }

    /// Takes a repeat, if one is left.
    fn take(&self) -> bool {
        self.change(|left| left.checked_sub(REPEAT_COSTS))
    }

    fn change(&self, step: impl FnMut(u32) -> Option<u32>) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step).is_ok()
    }
}

/// How often one call may still be repeated.
pub(crate) struct Retries<'a> {
    budget: &'a Budget,
    left: u32,
    backoff: Duration,
}

impl<'a> Retries<'a> {
    pub(crate) fn new(budget: &'a Budget, most: u32) -> Retries<'a> {
        Retries { budget, left: most, backoff: BACKOFF }
    }

    /// How long to wait before repeating a call that got this answer; none if it is not to be repeated.
    pub(crate) fn after_status(&mut self, status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
        if !matches!(status.as_u16(), 500 | 502 | 503 | 504) {
            return None;
        }
        let header = |name: &str| headers.get(name)?.to_str().ok();
        let Some(asked) = retry_after::from_headers(header, SystemTime::now()) else {
            // A delay that cannot be read is for the caller to keep.
            return if headers.contains_key(RETRY_AFTER) { None } else { self.next() };
        };
        if asked > RETRY_AFTER_MAX {
            return None;
        }
        self.next().map(|_| asked)
    }

    /// How long to wait before repeating a call that got no answer; none if it is not to be repeated.
    pub(crate) fn after_failure(&mut self) -> Option<Duration> {
        self.next()
    }

    fn next(&mut self) -> Option<Duration> {
        self.left = self.left.checked_sub(1)?;
        if !self.budget.take() {
            return None;
        }
        let wait = self.backoff.mul_f64(1.0 + JITTER * rand::random_range(-1.0..=1.0));
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
        Some(wait)
    }
}
