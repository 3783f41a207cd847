//! A mint that a test scripts, on a paused clock.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use futures_util::future::{BoxFuture, FutureExt as _, join_all};
use secrecy::SecretString;
use tokio::sync::Semaphore;

use super::*;
use crate::credential::Proof;

/// What a run of the mint does.
#[derive(Clone)]
enum Act {
    Give(&'static str),
    /// A token that nobody has seen before.
    GiveNew,
    GiveFor(&'static str, Duration),
    Refresh(&'static str, Duration),
    Fail,
    FailForGood,
    Panic,
    Hang,
}

struct Scripted {
    acts: Mutex<VecDeque<Act>>,
    then: Act,
    runs: AtomicUsize,
    inputs: AtomicU64,
    /// A run takes a permit; closed gates have none.
    gate: Semaphore,
}

impl Mint for Scripted {
    fn mint(&self) -> BoxFuture<'_, Result<Minted, MintError>> {
        let run = self.runs.fetch_add(1, Ordering::SeqCst);
        let act = self.acts.lock().unwrap().pop_front().unwrap_or_else(|| self.then.clone());
        Box::pin(async move {
            let _permit = self.gate.acquire().await.unwrap();
            let minted = |token: &str, life: Option<Duration>, refresh_after| {
                let proof = Proof::bearer(&SecretString::from(token)).unwrap();
                let expires_at = life.map(|life| SystemTime::now() + life);
                Ok(Minted { proof, expires_at, refresh_after })
            };
            match act {
                Act::Give(token) => minted(token, None, None),
                Act::GiveNew => minted(&format!("token-{run}"), None, None),
                Act::GiveFor(token, life) => minted(token, Some(life), None),
                Act::Refresh(token, after) => minted(token, None, Some(after)),
                Act::Fail => Err(MintError::passing("script", "fails now")),
                Act::FailForGood => Err(MintError::permanent("script", "fails for good")),
                Act::Panic => panic!("scripted"),
                Act::Hang => std::future::pending().await,
            }
        })
    }

    fn inputs(&self) -> u64 {
        self.inputs.load(Ordering::SeqCst)
    }
}

/// The acts in order, then the last one for ever.
fn source(acts: &[Act]) -> (Arc<Scripted>, Renewing) {
    let scripted = Arc::new(Scripted {
        acts: Mutex::new(acts.iter().cloned().collect()),
        then: acts.last().unwrap().clone(),
        runs: AtomicUsize::new(0),
        inputs: AtomicU64::new(0),
        gate: Semaphore::new(1),
    });
    let policy = Policy { what: "script".to_owned(), mint_max: Duration::from_secs(5) };
    (Arc::clone(&scripted), Renewing::new(scripted, AccountKind::ApiKey, policy))
}

impl Scripted {
    fn runs(&self) -> usize {
        self.runs.load(Ordering::SeqCst)
    }

    fn close(&self) {
        assert_eq!(self.gate.forget_permits(1), 1);
    }
}

fn token(credential: &Credential) -> String {
    match &credential.proof {
        Proof::Bearer(value) => value.to_str().unwrap().trim_start_matches("Bearer ").to_owned(),
        _ => String::new(),
    }
}

fn why(error: &CredentialError) -> String {
    match error {
        CredentialError::Mint { source } => source.to_string(),
        CredentialError::CallerBringsNone => error.to_string(),
    }
}

async fn now(source: &Renewing) -> String {
    token(&in_time(source.current()).await.unwrap())
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(3600), future).await.unwrap()
}

/// Lets tasks run until nothing is left to do at this time.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn a_thousand_callers_meet_one_first_mint_and_one_recovery() {
    let (script, source) = source(&[Act::GiveNew]);
    let all = in_time(join_all((0..1000).map(|_| source.current()))).await;
    assert!(all.iter().all(|it| token(it.as_ref().unwrap()) == "token-0"));
    let old = all[0].as_ref().unwrap().generation;
    let all = in_time(join_all((0..1000).map(|_| source.recover(old)))).await;
    assert!(all.iter().all(|it| token(it.as_ref().unwrap()) == "token-1"));
    assert!(all.iter().all(|it| it.as_ref().unwrap().generation > old));
    assert_eq!(token(&source.recover(old).await.unwrap()), "token-1", "one that comes late gets it at once");
    assert_eq!(script.runs(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_caller_that_asked_first_may_go_away() {
    let (script, source) = source(&[Act::GiveNew]);
    let mut old = source.current().await.unwrap().generation;
    for round in 1..=200 {
        source.accepted(old);
        script.close();
        let mut first = Box::pin(source.recover(old));
        assert!((&mut first).now_or_never().is_none());
        let others = join_all((0..5).map(|_| source.recover(old)));
        let mut others = Box::pin(others);
        assert!((&mut others).now_or_never().is_none());
        drop(first);
        settle().await;
        script.gate.add_permits(1);
        let others = in_time(others).await;
        let newer = others[0].as_ref().unwrap().generation;
        assert!(newer > old && others.iter().all(|it| it.as_ref().unwrap().generation == newer));
        assert_eq!(script.runs(), round + 1);
        old = newer;
    }
}

#[tokio::test(start_paused = true)]
async fn callers_go_on_with_the_good_one_while_it_is_renewed() {
    let (script, source) = source(&[Act::Refresh("a", 5 * MINUTE), Act::Give("b")]);
    assert_eq!(now(&source).await, "a");
    tokio::time::sleep(5 * MINUTE - Duration::from_secs(1)).await;
    assert_eq!((now(&source).await, script.runs()), ("a".to_owned(), 1));
    tokio::time::sleep(Duration::from_secs(1)).await;
    script.close();
    let began = Instant::now();
    for _ in 0..100 {
        assert_eq!(now(&source).await, "a");
    }
    assert_eq!(began.elapsed(), Duration::ZERO, "nobody waited");
    settle().await;
    assert_eq!(script.runs(), 2);
    script.gate.add_permits(1);
    settle().await;
    assert_eq!((now(&source).await, script.runs()), ("b".to_owned(), 2));
}

#[tokio::test(start_paused = true)]
async fn a_credential_is_renewed_before_it_ends_and_never_used_after() {
    // Ten minutes: the margin is a third of them. An hour: it is five minutes.
    for (life, margin) in [(10 * MINUTE, 200), (60 * MINUTE, 300)] {
        let (script, source) = source(&[Act::GiveFor("a", life), Act::Hang, Act::Give("b")]);
        assert_eq!(now(&source).await, "a");
        tokio::time::sleep(life - Duration::from_secs(margin + 1)).await;
        assert_eq!((now(&source).await, script.runs()), ("a".to_owned(), 1));
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(now(&source).await, "a");
        settle().await;
        assert_eq!(script.runs(), 2, "renewed within the margin, in the background");
        tokio::time::sleep(Duration::from_secs(margin)).await;
        assert_eq!((now(&source).await, script.runs()), ("b".to_owned(), 3), "the old one has ended");
    }
}

#[tokio::test(start_paused = true)]
async fn what_has_ended_before_it_was_made_is_an_error() {
    let (_, source) = source(&[Act::GiveFor("a", Duration::ZERO)]);
    let error = source.current().await.unwrap_err();
    assert!(why(&error).contains("expired 0 s ago"), "{error}");
    assert!(error.is_retryable());
}

#[tokio::test(start_paused = true)]
async fn a_failed_renewal_keeps_the_good_one_and_backs_off() {
    let (script, source) = source(&[Act::Refresh("a", MINUTE), Act::Fail]);
    now(&source).await;
    tokio::time::sleep(MINUTE).await;
    for _ in 0..3600 {
        assert_eq!(now(&source).await, "a");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    // 1, 2, 4, 8, 16, 32 s and then a minute each, a tenth more or less.
    assert!((55..80).contains(&script.runs()), "{}", script.runs());
}

#[tokio::test(start_paused = true)]
async fn one_failure_is_told_to_all_and_to_those_after_until_the_wait_is_over() {
    let (script, source) = source(&[Act::Give("a"), Act::Fail, Act::Give("b")]);
    let old = source.current().await.unwrap().generation;
    let all = in_time(join_all((0..1000).map(|_| source.recover(old)))).await;
    assert!(all.iter().all(|it| it.as_ref().is_err_and(|error| why(error).contains("fails now"))));
    assert!(source.current().await.is_err(), "the rejected one is not used while there is no other");
    assert!(source.recover(old).await.is_err());
    assert_eq!(script.runs(), 2);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!((now(&source).await, script.runs()), ("b".to_owned(), 3));
}

#[tokio::test(start_paused = true)]
async fn a_permanent_failure_lasts_until_the_inputs_change() {
    let (script, source) = source(&[Act::Give("a"), Act::FailForGood, Act::Give("b")]);
    let old = source.current().await.unwrap().generation;
    for _ in 0..1000 {
        let error = source.recover(old).await.unwrap_err();
        assert!(!error.is_retryable() && why(&error).contains("for good"), "{error}");
        assert!(source.current().await.is_err());
        tokio::time::sleep(MINUTE).await;
    }
    assert_eq!(script.runs(), 2);
    script.inputs.store(1, Ordering::SeqCst);
    assert_eq!((now(&source).await, script.runs()), ("b".to_owned(), 3));
}

#[tokio::test(start_paused = true)]
async fn changed_inputs_renew_at_once_after_a_rejection_and_within_a_second_in_use() {
    let (script, source) = source(&[Act::GiveNew]);
    let old = source.current().await.unwrap().generation;
    script.inputs.store(1, Ordering::SeqCst);
    assert_eq!(now(&source).await, "token-0", "looked a moment ago");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(now(&source).await, "token-0", "renewed in the background");
    settle().await;
    assert_eq!(now(&source).await, "token-1");
    let newer = source.recover(old).await.unwrap().generation;
    assert_eq!(token(&source.recover(newer).await.unwrap()), "token-2");
    let newer = source.current().await.unwrap().generation;
    assert_eq!(token(&source.recover(newer).await.unwrap()), "token-2", "it was never good");
    script.inputs.store(2, Ordering::SeqCst);
    let rejected = source.current().await.unwrap().generation;
    assert_eq!(token(&source.recover(rejected).await.unwrap()), "token-3", "no back-off for other inputs");
    assert_eq!(script.runs(), 4);
}

/// Rejects whatever is given, once a second for an hour.
async fn storm(source: &Renewing) {
    for _ in 0..3600 {
        let credential = source.current().await.unwrap();
        let again = in_time(source.recover(credential.generation)).await.unwrap();
        assert!(again.generation >= credential.generation);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_mint_that_insists_on_a_rejected_token_is_not_asked_per_call() {
    let (script, source) = source(&[Act::Give("bad")]);
    let first = source.current().await.unwrap().generation;
    assert_eq!(source.recover(first).await.unwrap().generation, first, "a repeat would be rejected too");
    storm(&source).await;
    assert!((55..80).contains(&script.runs()), "{}", script.runs());
}

#[tokio::test(start_paused = true)]
async fn a_mint_whose_tokens_are_all_rejected_is_not_asked_per_call() {
    let (script, source) = source(&[Act::GiveNew]);
    storm(&source).await;
    assert!((55..80).contains(&script.runs()), "{}", script.runs());
    let (runs, generation) = (script.runs(), source.current().await.unwrap().generation);
    tokio::time::sleep(2 * MINUTE).await;
    source.accepted(generation);
    let second = source.recover(generation).await.unwrap().generation;
    let third = source.recover(second).await.unwrap().generation;
    assert!(generation < second && second < third, "what was good once is replaced at once");
    assert_eq!(source.recover(third).await.unwrap().generation, third, "two were never good");
    assert_eq!(script.runs(), runs + 2);
}

#[tokio::test(start_paused = true)]
async fn a_mint_that_panics_or_hangs_is_an_error_and_not_the_end() {
    let (script, source) = source(&[Act::Panic, Act::Hang, Act::Give("a")]);
    let error = in_time(source.current()).await.unwrap_err();
    assert!(why(&error).contains("broken off"), "{error}");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let began = Instant::now();
    let error = in_time(source.current()).await.unwrap_err();
    assert!(why(&error).contains("nothing within 5000 ms"), "{error}");
    assert_eq!(began.elapsed().as_secs(), 5);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!((now(&source).await, script.runs()), ("a".to_owned(), 3));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_dropped_stops_its_mint() {
    let (script, source) = source(&[Act::Hang]);
    let mut waiting = Box::pin(source.current());
    assert!((&mut waiting).now_or_never().is_none());
    settle().await;
    assert_eq!((script.runs(), Arc::strong_count(&script)), (1, 2));
    drop(waiting);
    drop(source);
    settle().await;
    assert_eq!(Arc::strong_count(&script), 1, "the task has let go of it");
}
