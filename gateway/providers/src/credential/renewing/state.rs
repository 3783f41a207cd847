//! What is known of a renewed credential, and what follows from it.
//!
//! Pure: takes the time and what the mint says of its inputs, starts nothing and waits for nothing. At most one
//! flight, that is one run of the mint, is under way at a time.

use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::Instant;

use crate::credential::{Credential, Generation, MintError, Minted};

/// How long before its end a credential is renewed, if it lives long enough.
const MARGIN: Duration = Duration::from_secs(5 * 60);
/// The most of its life that the margin may take is one part in this many.
const MARGIN_PARTS: u32 = 3;
/// The wait after a mint that did not help; it doubles with each further one.
const BACKOFF: Duration = Duration::from_secs(1);
/// The longest such wait.
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// How much of such a wait is random, in both directions.
const JITTER: f64 = 0.1;
/// How often callers make us look whether the mint's inputs have changed.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The longest life that is believed, so that no date overflows.
const LIFE_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// The result of a flight, once it is there.
pub(super) type Flight = watch::Receiver<Option<Result<Credential, MintError>>>;

/// When a question is asked, and what the mint's inputs are then.
pub(super) struct Moment<'a> {
    pub(super) now: Instant,
    pub(super) inputs: &'a dyn Fn() -> u64,
}

/// The answer to a caller, and the flight that has to be started for it or beside it.
pub(super) struct Decision {
    pub(super) step: Step,
    pub(super) takeoff: Option<Takeoff>,
}

/// The answer to a caller.
pub(super) enum Step {
    Use(Credential),
    Fail(MintError),
    Wait(Flight),
}

/// A flight that is to be started.
pub(super) struct Takeoff {
    pub(super) result: watch::Sender<Option<Result<Credential, MintError>>>,
    /// Read before the mint runs, so that a change while it runs is seen later.
    inputs: u64,
}

/// What a flight has brought.
#[derive(Debug)]
pub(super) enum Landed {
    /// Another credential than before.
    Renewed(Generation),
    /// The same as before.
    Unchanged,
    /// Nothing, but the one at hand can still be used.
    Kept(MintError),
    /// Nothing, and there is none to be used.
    Failed(MintError),
}

#[derive(Default)]
pub(super) struct State {
    held: Option<Held>,
    /// The generation that the provider has rejected, as long as there is no newer one.
    refused: Option<Generation>,
    flight: Option<Flight>,
    pause: Option<Pause>,
    /// Failed flights in a row.
    failures: u32,
    /// Recoveries in a row that brought nothing which the provider has taken.
    recoveries: u32,
    /// The newest generation that the provider has taken.
    accepted: Option<Generation>,
    /// When the inputs were looked at, and what they were.
    looked: Option<(Instant, u64)>,
}

/// The last credential that was made.
struct Held {
    credential: Credential,
    expires: Option<Instant>,
    renew: Option<Instant>,
    /// What it was made of.
    inputs: u64,
}

/// A time in which the mint is not asked, because it would not help.
struct Pause {
    /// Without it: until the inputs change.
    until: Option<Instant>,
    inputs: u64,
    /// Why there is no credential; none if the mint gave one and has nothing better.
    error: Option<MintError>,
}

impl Held {
    fn is_alive(&self, now: Instant) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

impl State {
    /// What a caller gets that needs a credential.
    pub(super) fn current(&mut self, at: &Moment<'_>) -> Decision {
        let Some(held) = self.held.as_ref().filter(|held| held.is_alive(at.now)) else {
            return self.another(at);
        };
        let (credential, inputs) = (held.credential.clone(), held.inputs);
        let late = held.renew.is_some_and(|renew| at.now >= renew);
        let failed = self.pause.as_ref().is_some_and(|pause| pause.error.is_some());
        // A rejected one that the mint insists on is used: the provider may change its mind, and says itself why not.
        if self.refused == Some(credential.generation) && (self.flight.is_some() || failed) {
            return self.another(at);
        }
        let due = self.flight.is_none() && (late || self.inputs(at) != inputs) && !self.pauses(at);
        let takeoff = due.then(|| self.take_off(at).0);
        Decision { step: Step::Use(credential), takeoff }
    }

    /// What a caller gets whose credential was rejected.
    pub(super) fn recover(&mut self, rejected: Generation, at: &Moment<'_>) -> Decision {
        match &self.held {
            Some(held) if held.credential.generation > rejected => self.current(at),
            _ => {
                self.refused = Some(rejected);
                // A change is acted on at once here, not only after `LOOK_EVERY`.
                self.looked = None;
                self.another(at)
            }
        }
    }

    /// What a caller gets that cannot use what is held.
    fn another(&mut self, at: &Moment<'_>) -> Decision {
        if let Some(flight) = &self.flight {
            return Decision { step: Step::Wait(flight.clone()), takeoff: None };
        }
        if self.pauses(at) {
            let error = self.pause.as_ref().and_then(|pause| pause.error.clone());
            let held = self.held.as_ref().filter(|held| held.is_alive(at.now));
            let step = match (error, held) {
                (Some(error), _) => Some(Step::Fail(error)),
                (None, Some(held)) => Some(Step::Use(held.credential.clone())),
                (None, None) => None,
            };
            if let Some(step) = step {
                return Decision { step, takeoff: None };
            }
        }
        let (takeoff, flight) = self.take_off(at);
        Decision { step: Step::Wait(flight), takeoff: Some(takeoff) }
    }

    /// Whether it would not help to ask the mint now.
    fn pauses(&mut self, at: &Moment<'_>) -> bool {
        let Some(pause) = &self.pause else { return false };
        let (until, inputs) = (pause.until, pause.inputs);
        until.is_none_or(|until| at.now < until) && self.inputs(at) == inputs
    }

    fn inputs(&mut self, at: &Moment<'_>) -> u64 {
        match self.looked {
            Some((when, inputs)) if at.now < when + LOOK_EVERY => inputs,
            _ => {
                let inputs = (at.inputs)();
                self.looked = Some((at.now, inputs));
                inputs
            }
        }
    }

    fn take_off(&mut self, at: &Moment<'_>) -> (Takeoff, Flight) {
        let inputs = (at.inputs)();
        self.looked = Some((at.now, inputs));
        let (result, flight) = watch::channel(None);
        self.flight = Some(flight.clone());
        (Takeoff { result, inputs }, flight)
    }

    /// Notes that the provider has taken a credential.
    pub(super) fn accepted(&mut self, generation: Generation) {
        self.accepted = self.accepted.max(Some(generation));
    }

    /// Notes the end of a flight and tells it to those who wait. `clock` is the time of day, for dates of expiry.
    pub(super) fn land(
        &mut self,
        takeoff: Takeoff,
        minted: Result<Minted, MintError>,
        now: Instant,
        clock: SystemTime,
    ) -> Landed {
        self.flight = None;
        let generation = self.held.as_ref().map(|held| held.credential.generation);
        let (result, landed) = match minted {
            Ok(minted) => {
                let credential = self.hold(minted, takeoff.inputs, now, clock);
                let same = generation == Some(credential.generation);
                let recovery = generation.is_some() && self.refused == generation;
                self.failures = 0;
                self.pause = recovery.then(|| self.recovered(same, takeoff.inputs, now)).flatten();
                let landed = if same { Landed::Unchanged } else { Landed::Renewed(credential.generation) };
                (Ok(credential), landed)
            }
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                let until = (!error.is_permanent()).then(|| now + backoff(self.failures));
                self.pause = Some(Pause { until, inputs: takeoff.inputs, error: Some(error.clone()) });
                let usable =
                    |held: &Held| held.is_alive(now) && Some(held.credential.generation) != self.refused;
                let kept = self.held.as_ref().is_some_and(usable);
                (Err(error.clone()), if kept { Landed::Kept(error) } else { Landed::Failed(error) })
            }
        };
        takeoff.result.send_replace(Some(result));
        landed
    }

    /// Keeps what was made. The same proof keeps its generation: a repeat with it would be rejected again.
    fn hold(&mut self, minted: Minted, inputs: u64, now: Instant, clock: SystemTime) -> Credential {
        let Minted { proof, expires_at, refresh_after } = minted;
        let generation = match &self.held {
            Some(held) if held.credential.proof.is_same(&proof) => held.credential.generation,
            Some(held) => Generation(held.credential.generation.0 + 1),
            None => Generation(1),
        };
        let life = expires_at.map(|at| at.duration_since(clock).unwrap_or_default().min(LIFE_MAX));
        let margin = life.map(|life| (life - MARGIN.min(life / MARGIN_PARTS)).max(BACKOFF));
        let renew = [margin, refresh_after].into_iter().flatten().min();
        let credential = Credential { generation, proof };
        let (expires, renew) = (life.map(|life| now + life), renew.map(|after| now + after.min(LIFE_MAX)));
        self.held = Some(Held { credential: credential.clone(), expires, renew, inputs });
        credential
    }

    /// The pause after a recovery. There is none if it has replaced a credential that was good once; it grows while
    /// the provider takes nothing that the mint gives.
    fn recovered(&mut self, same: bool, inputs: u64, now: Instant) -> Option<Pause> {
        if !same && self.accepted >= self.refused {
            self.recoveries = 0;
            return None;
        }
        self.recoveries = self.recoveries.saturating_add(1);
        Some(Pause { until: Some(now + backoff(self.recoveries)), inputs, error: None })
    }
}

/// The wait after so many mints in a row that did not help.
fn backoff(times: u32) -> Duration {
    let doubled = BACKOFF.saturating_mul(2_u32.saturating_pow(times.saturating_sub(1)));
    doubled.min(BACKOFF_MAX).mul_f64(1.0 + JITTER * rand::random_range(-1.0..=1.0))
}
