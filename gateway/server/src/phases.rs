//! Where the time of a call went.

use std::time::Duration;

use gateway_providers::Timing;
use tokio::time::Instant;

/// The times of a call. A phase that was not reached is none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Phases {
    began: Instant,
    opened: Instant,
    left: Instant,
    head: Option<Instant>,
    /// From the arrival until it was known who calls.
    pub(crate) auth: Option<Duration>,
    /// From the arrival until the call was admitted.
    pub(crate) queue: Option<Duration>,
    /// What the caller's body took to arrive, inflating included.
    pub(crate) body: Option<Duration>,
    /// What was waited for a credential.
    pub(crate) credential: Option<Duration>,
    /// What making a connection took, if one had to be made.
    pub(crate) connect: Option<Duration>,
    /// From the request's first byte until the head of the provider's answer.
    pub(crate) first_byte: Option<Duration>,
    /// From the arrival until the first event of the stream.
    pub(crate) first_chunk: Option<Duration>,
    /// The gateway's own share of the time until the answer's head could be handed on: without waiting for the caller and
    /// without waiting for the provider.
    pub(crate) overhead: Option<Duration>,
}

impl Phases {
    pub(crate) fn begin() -> Self {
        let began = Instant::now();
        Self {
            began,
            opened: began,
            left: began,
            head: None,
            auth: None,
            queue: None,
            body: None,
            credential: None,
            connect: None,
            first_byte: None,
            first_chunk: None,
            overhead: None,
        }
    }

    pub(crate) fn began(&self) -> Instant {
        self.began
    }

    /// How long the call has been here.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    pub(crate) fn authenticated(&mut self) {
        self.auth = Some(self.elapsed());
    }

    pub(crate) fn admitted(&mut self) {
        self.queue = Some(self.elapsed());
    }

    pub(crate) fn body_arrived(&mut self) {
        self.body = Some(self.elapsed().saturating_sub(self.queue.unwrap_or_default()));
    }

    /// The call's bytes are final.
    pub(crate) fn opened(&mut self) {
        self.opened = Instant::now();
    }

    /// The call is sent; what lies between is the caller's, who was asked for something.
    pub(crate) fn left(&mut self) {
        self.left = Instant::now();
    }

    /// The head of the answer is there.
    pub(crate) fn answered(&mut self, timing: &Timing) {
        let now = Instant::now();
        self.head = Some(now);
        self.credential = Some(timing.credential);
        self.connect = timing.connect;
        self.first_byte = Some(timing.last_attempt.saturating_sub(timing.connect.unwrap_or_default()));
        let callers = self.body.unwrap_or_default() + (self.left - self.opened);
        let providers = timing.total.saturating_sub(timing.own);
        self.overhead = Some((now - self.began).saturating_sub(callers + providers));
    }

    /// An event of the stream passes.
    pub(crate) fn event(&mut self) {
        if self.first_chunk.is_none() {
            self.first_chunk = Some(self.elapsed());
        }
    }

    /// From the answer's head until now.
    pub(crate) fn stream(&self) -> Option<Duration> {
        Some(self.head?.elapsed())
    }

    /// The phases that have a name, with what they took.
    pub(crate) fn named(&self) -> [(&'static str, Option<Duration>); 7] {
        [
            ("auth", self.auth),
            ("queue", self.queue),
            ("body", self.body),
            ("credential", self.credential),
            ("connect", self.connect),
            ("first_byte", self.first_byte),
            ("stream", self.stream()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn overhead_is_what_neither_the_caller_nor_the_provider_took() {
        let mut phases = Phases::begin();
        tokio::time::advance(2 * MS).await;
        phases.authenticated();
        tokio::time::advance(MS).await;
        phases.admitted();
        tokio::time::advance(100 * MS).await;
        phases.body_arrived();
        tokio::time::advance(4 * MS).await;
        phases.opened();
        tokio::time::advance(50 * MS).await;
        phases.left();
        let timing = Timing {
            total: 1000 * MS,
            last_attempt: 700 * MS,
            credential: 200 * MS,
            connect: Some(30 * MS),
            own: 5 * MS,
        };
        tokio::time::advance(timing.total + 3 * MS).await;
        phases.answered(&timing);
        tokio::time::advance(9 * MS).await;
        assert_eq!(phases.overhead, Some((2 + 1 + 4 + 3 + 5) * MS));
        let named = phases.named().map(|(name, took)| (name, took.map(|took| took.as_millis())));
        let expected = [
            ("auth", 2),
            ("queue", 3),
            ("body", 100),
            ("credential", 200),
            ("connect", 30),
            ("first_byte", 670),
            ("stream", 9),
        ];
        assert_eq!(named, expected.map(|(name, took)| (name, Some(took))));
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_event_counts() {
        let mut phases = Phases::begin();
        tokio::time::advance(MS).await;
        phases.event();
        tokio::time::advance(MS).await;
        phases.event();
        assert_eq!((phases.first_chunk, phases.stream()), (Some(MS), None));
    }
}
