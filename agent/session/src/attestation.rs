//! Who can attest for a thread's model calls, and what comes of asking them.
//!
//! A token is passed on once: nothing here keeps or prints it. How a client is asked is its server's business.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use futures_util::{FutureExt as _, future::BoxFuture};
use secrecy::SecretString;

/// How long a client may take. The gateway waits little longer and then sends the call without.
const ANSWER_WITHIN: Duration = Duration::from_millis(100);

/// A subscriber of a thread that can attest for its calls.
pub trait Attester: Send + Sync + 'static {
    /// Asks for an attestation, which has to be there within `limit`. Dropping the future withdraws the question.
    fn attest(&self, limit: Duration) -> BoxFuture<'static, Attestation>;
}

/// An attestation, or why there is none.
#[derive(Debug, Clone)]
pub enum Attestation {
    /// Opaque; passed on byte for byte.
    Token(SecretString),
    /// There is none.
    Problem(AttestationProblem),
}

/// Why there is no attestation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttestationProblem {
    /// The client did not answer in time.
    Timeout,
    /// The client answered with an error, or could not be asked.
    RequestFailed,
    /// The client has left.
    Cancelled,
    /// What the client answered is no token.
    Malformed,
}

/// Those who can attest for a thread, in the order in which they came. A clone is another handle to the same.
#[derive(Debug, Clone, Default)]
pub struct Attesters {
    /// Subscribers own what they offer; one that has left is found dead here. There are no more than subscribers.
    offers: Arc<Mutex<Vec<Weak<dyn Attester>>>>,
}

impl Attesters {
    /// Whether there is somebody to ask.
    #[must_use]
    pub fn can_attest(&self) -> bool {
        self.first().is_some()
    }

    /// Asks the first one, who has 100 ms. Dropping the future withdraws the question.
    #[must_use]
    pub fn attest(&self) -> BoxFuture<'static, Attestation> {
        match self.first() {
            Some(attester) => attester.attest(ANSWER_WITHIN),
            // There was one when the call began.
            None => std::future::ready(Attestation::Problem(AttestationProblem::Cancelled)).boxed(),
        }
    }

    pub(crate) fn offer(&self, attester: &Arc<dyn Attester>) {
        let mut offers = self.lock();
        offers.retain(|offer| offer.strong_count() > 0);
        offers.push(Arc::downgrade(attester));
    }

    fn first(&self) -> Option<Arc<dyn Attester>> {
        self.lock().iter().find_map(Weak::upgrade)
    }

    /// A panic elsewhere cannot leave a half-done change.
    fn lock(&self) -> MutexGuard<'_, Vec<Weak<dyn Attester>>> {
        self.offers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    struct Named(&'static str);

    impl Attester for Named {
        fn attest(&self, limit: Duration) -> BoxFuture<'static, Attestation> {
            assert_eq!(limit, Duration::from_millis(100));
            std::future::ready(Attestation::Token(self.0.into())).boxed()
        }
    }

    fn token(attesters: &Attesters) -> Option<String> {
        match attesters.attest().now_or_never().unwrap() {
            Attestation::Token(token) => Some(token.expose_secret().to_owned()),
            Attestation::Problem(problem) => {
                assert_eq!(problem, AttestationProblem::Cancelled);
                None
            }
        }
    }

    #[test]
    fn the_first_that_is_still_there_is_asked() {
        let attesters = Attesters::default();
        assert!(!attesters.can_attest());
        let (first, second): (Arc<dyn Attester>, Arc<dyn Attester>) =
            (Arc::new(Named("one")), Arc::new(Named("two")));
        attesters.offer(&first);
        attesters.offer(&second);
        assert_eq!(token(&attesters).as_deref(), Some("one"));
        drop(first);
        assert!(attesters.can_attest());
        assert_eq!(token(&attesters).as_deref(), Some("two"));
        drop(second);
        assert!(!attesters.can_attest());
        assert_eq!(token(&attesters), None);
    }

    #[test]
    fn a_token_is_not_printed() {
        let printed = format!("{:?}", Attestation::Token("opaque-token".into()));
        assert!(!printed.contains("opaque"), "{printed}");
    }
}
