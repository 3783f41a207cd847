//! Credentials that end or are revoked while calls are made: one renewal for all, and nobody stuck.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use gateway_providers::{Answer, CallerCredential, Fault, SendError, Upstream};
use gateway_testkit::{Gate, Reply};
use http::{HeaderValue, StatusCode};
use serde_json::json;
use tempfile::TempDir;
use test_clock::paused;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::harness::{self, BODY_MAX, build, call, in_real_time, provider};

/// How many calls meet a revoked token at once.
const CALLS: usize = 1000;

/// A command that gives the token of a file and notes each run, and the provider that wants one.
struct Scene {
    dir: TempDir,
    upstream: gateway_testkit::Upstream,
    provider: Arc<Upstream>,
}

impl Scene {
    /// The command runs `script` after it has noted its run.
    async fn new(script: &str) -> Scene {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("script"), format!("echo run >> runs\n{script}\n")).unwrap();
        let upstream = gateway_testkit::Upstream::start().await.unwrap();
        upstream.set_default(Reply::json(200, &json!({"ok": true})));
        let provider = provider(&upstream.base_url(), &command(dir.path()));
        Scene { dir, upstream, provider }
    }

    /// The token of the next run, and the only one that the provider takes.
    fn rotate(&self, token: &str) {
        self.next(token);
        self.upstream.accept_only(&format!("Bearer {token}"));
    }

    fn next(&self, token: &str) {
        replace(&self.dir.path().join("token"), token);
    }

    fn runs(&self) -> usize {
        let runs = std::fs::read_to_string(self.dir.path().join("runs")).unwrap_or_default();
        runs.lines().count()
    }

    async fn all(&self, calls: usize) -> Vec<Result<StatusCode, SendError>> {
        let all = join_all((0..calls).map(|_| async { send(&self.provider).await.map(|it| it.status) }));
        in_real_time(all).await
    }
}

fn command(dir: &Path) -> String {
    format!(
        "auth = {{ command = \"/bin/sh\", args = [\"script\"], cwd = {dir:?}, refresh_interval_ms = 0 }}\n"
    )
}

/// As a careful writer does it: no reader sees half a file.
fn replace(path: &Path, text: &str) {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(PathBuf::from(new), path).unwrap();
}

async fn send(provider: &Upstream) -> Result<Answer, SendError> {
    in_real_time(harness::send(provider)).await
}

/// How often a command may be run again: after one second, two, four, and so on, a tenth less each.
fn waits_within(began: Instant) -> usize {
    let mut left = began.elapsed().as_secs_f64() / 0.9 + 1.0;
    std::iter::from_fn(|| {
        left /= 2.0;
        (left >= 1.0).then_some(())
    })
    .count()
}

fn told(error: &SendError) -> String {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    format!("{error}: {}", cause.unwrap_or_default())
}

#[tokio::test]
async fn a_thousand_calls_that_meet_a_revoked_token_cost_one_run() {
    let scene = Scene::new("cat token").await;
    scene.rotate("old");
    assert_eq!(send(&scene.provider).await.unwrap().status, 200);
    scene.rotate("new");
    let answers = scene.all(CALLS).await;
    assert!(answers.iter().all(|it| it.as_ref().is_ok_and(|status| *status == 200)));
    assert_eq!(scene.upstream.faults().unauthorized, CALLS, "each call met the revoked token");
    assert_eq!(scene.upstream.requests().len(), 1 + 2 * CALLS);
    assert_eq!(scene.runs(), 2);
}

#[tokio::test]
async fn a_refresh_that_fails_is_one_failure_for_all_and_no_loop() {
    let scene = Scene::new("cat token 2>/dev/null || exit 3").await;
    scene.rotate("old");
    send(&scene.provider).await.unwrap();
    scene.upstream.accept_only("Bearer new");
    std::fs::remove_file(scene.dir.path().join("token")).unwrap();
    let began = Instant::now();
    for error in scene.all(CALLS).await.into_iter().chain(scene.all(CALLS).await) {
        let error = error.unwrap_err();
        assert!(told(&error).contains("command /bin/sh: exited with code 3"), "{}", told(&error));
        assert_eq!((error.fault(), error.is_retryable()), (Fault::Credential, true));
    }
    assert_eq!(scene.upstream.faults().unauthorized, CALLS, "later calls are not made without a credential");
    assert_eq!(scene.upstream.requests().len(), 1 + CALLS);
    assert!(
        (2..=2 + waits_within(began)).contains(&scene.runs()),
        "{} in {:?}",
        scene.runs(),
        began.elapsed()
    );
    scene.next("new");
    let mut answered = None;
    while answered != Some(StatusCode::OK) {
        assert!(began.elapsed() < Duration::from_secs(60), "it is not tried again");
        tokio::time::sleep(Duration::from_millis(100)).await;
        answered = send(&scene.provider).await.map(|it| it.status).ok();
    }
    assert_eq!(scene.upstream.requests().len(), 2 + CALLS, "tried again after the wait");
}

#[tokio::test]
async fn a_command_that_insists_on_a_revoked_token_is_not_run_per_call() {
    let scene = Scene::new("cat token").await;
    scene.rotate("old");
    send(&scene.provider).await.unwrap();
    scene.upstream.accept_only("Bearer new");
    let began = Instant::now();
    for _ in 0..2 {
        let answers = scene.all(CALLS).await;
        assert!(answers.iter().all(|it| it.as_ref().is_ok_and(|status| *status == 401)));
    }
    assert!(
        (2..=2 + waits_within(began)).contains(&scene.runs()),
        "{} in {:?}",
        scene.runs(),
        began.elapsed()
    );
    assert_eq!(scene.upstream.requests().len(), 1 + 2 * CALLS, "the same token is not sent twice");
}

#[tokio::test]
async fn the_caller_that_met_the_401_first_may_hang_up() {
    const ROUNDS: usize = 200;
    let scene = Scene::new("[ -e slow ] && sleep 0.01; cat token").await;
    scene.rotate("token");
    send(&scene.provider).await.unwrap();
    std::fs::write(scene.dir.path().join("slow"), "").unwrap();
    for round in 1..=ROUNDS {
        scene.rotate(&format!("token-{round}"));
        let mut calls = JoinSet::new();
        let one = |provider: Arc<Upstream>| async move { send(&provider).await.map(|it| it.status) };
        let leader = calls.spawn(one(Arc::clone(&scene.provider)));
        in_real_time(async {
            while scene.runs() <= round {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        for _ in 0..4 {
            calls.spawn(one(Arc::clone(&scene.provider)));
        }
        tokio::task::yield_now().await;
        leader.abort();
        let mut answered = 0;
        while let Some(ended) =
            tokio::time::timeout(Duration::from_secs(20), calls.join_next()).await.unwrap()
        {
            match ended {
                Ok(status) => {
                    assert_eq!(status.unwrap(), 200);
                    answered += 1;
                }
                Err(aborted) => assert!(aborted.is_cancelled()),
            }
        }
        assert_eq!(answered, 4, "the leader was in the middle of it");
        assert_eq!(scene.runs(), round + 1);
    }
    assert_eq!(scene.upstream.faults().unauthorized, ROUNDS);
}

#[tokio::test]
async fn a_stream_in_flight_is_not_cut_by_a_renewal() {
    let scene = Scene::new("cat token").await;
    scene.rotate("old");
    let gate = Gate::closed();
    let frames = [&b"data: {\"type\":\"one\"}\n\n"[..], b"data: {\"type\":\"two\"}\n\n"];
    let reply = Reply::sse(frames.map(bytes::Bytes::from_static));
    let (whole, first) = (reply.body().clone(), frames[0].len());
    scene.upstream.push(reply.stall_after(first, &gate));
    let stream = send(&scene.provider).await.unwrap();
    scene.upstream.wait_faults(|faults| faults.stalls == 1).await.unwrap();
    scene.rotate("new");
    let answers = scene.all(10).await;
    assert!(answers.iter().all(|it| it.as_ref().is_ok_and(|status| *status == 200)));
    assert_eq!(scene.runs(), 2);
    gate.open();
    assert_eq!(in_real_time(stream.body.collect(BODY_MAX)).await.unwrap(), whole);
    assert!(scene.upstream.requests().iter().all(|request| !request.cancelled));
}

#[tokio::test]
async fn the_model_list_recovers_as_calls_do() {
    let dir = tempfile::tempdir().unwrap();
    let upstream = gateway_testkit::Upstream::start().await.unwrap();
    let base_url = upstream.base_url();
    std::fs::write(dir.path().join("script"), "echo run >> runs; wc -l < runs").unwrap();
    let text = format!("[model_providers.up]\nbase_url = {base_url:?}\n{}", command(dir.path()));
    let providers = build(&format!("model_provider = \"up\"\n{text}")).unwrap();
    upstream.accept_only("Bearer 2");
    let models = in_real_time(providers.models()).await;
    assert!(models.iter().any(|model| model.slug == "gpt-6-sol"), "{models:?}");
    assert_eq!((upstream.faults().unauthorized, upstream.all_requests().len()), (1, 2));
}

#[tokio::test]
async fn a_key_file_is_read_again_when_it_changes() {
    // As a mounted secret: `key` -> `..data/key`, and `..data` is moved from one directory to the next.
    let dir = tempfile::tempdir().unwrap();
    let (key, data) = (dir.path().join("key"), dir.path().join("..data"));
    let mount = |version: &str, text: &str| {
        std::fs::create_dir(dir.path().join(version)).unwrap();
        std::fs::write(dir.path().join(version).join("key"), text).unwrap();
        let link = dir.path().join("..tmp");
        std::os::unix::fs::symlink(version, &link).unwrap();
        std::fs::rename(link, &data).unwrap();
    };
    let upstream = gateway_testkit::Upstream::start().await.unwrap();
    upstream.set_default(Reply::json(200, &json!({})));
    let provider = provider(&upstream.base_url(), &format!("key_file = {key:?}"));
    let error = send(&provider).await.unwrap_err();
    assert!(told(&error).contains("cannot be read: entity not found"), "{}", told(&error));
    assert!(!error.is_retryable() && upstream.requests().is_empty());

    std::os::unix::fs::symlink("..data/key", &key).unwrap();
    mount("1", "one\n");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(send(&provider).await.unwrap().status, 200, "looked again within a second");
    mount("2", "  two\r\n");
    upstream.accept_only("Bearer two");
    assert_eq!(send(&provider).await.unwrap().status, 200, "read at once after the refusal");
    let sent: Vec<_> =
        upstream.requests().iter().map(|it| it.header("authorization").unwrap().to_owned()).collect();
    assert_eq!(sent, ["Bearer one", "Bearer one", "Bearer two"]);

    mount("3", "");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    for _ in 0..3 {
        assert_eq!(send(&provider).await.unwrap().status, 200, "an empty file is no reason to stop");
    }
    upstream.accept_only("Bearer four");
    let error = send(&provider).await.unwrap_err();
    assert!(told(&error).contains("gave nothing where a token should be"), "{}", told(&error));
    mount("4", "four");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(send(&provider).await.unwrap().status, 200);
    assert_eq!(upstream.faults().unauthorized, 2);
}

#[test]
fn the_callers_own_credential_goes_on_untouched() {
    paused(async {
        let upstream = gateway_testkit::Upstream::start().await.unwrap();
        upstream.set_default(Reply::json(200, &json!({})));
        let provider =
            provider(&upstream.base_url(), "pass_through = true\nenv_http_headers = { a = \"TEST_TENANT\" }");
        let error = send(&provider).await.unwrap_err();
        assert_eq!((error.fault(), error.is_retryable()), (Fault::Caller, false));
        let caller = CallerCredential {
            authorization: HeaderValue::from_static("Bearer mine"),
            account: Some(HeaderValue::from_static("acc-1")),
        };
        let own = gateway_providers::Call { caller: Some(caller), ..call("{}") };
        assert_eq!(in_real_time(provider.send(own, None)).await.unwrap().status, 200);
        let requests = upstream.requests();
        assert_eq!(requests.len(), 1, "nothing was sent without a credential");
        let header = |name| requests[0].header(name);
        assert_eq!(
            (header("authorization"), header("chatgpt-account-id")),
            (Some("Bearer mine"), Some("acc-1"))
        );
    })
    .unwrap();
}
