//! Builds callers from a configuration's text, with a clock that stands still, and asks them.

use std::{
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::{HeaderMap, HeaderName};
use tempfile::TempDir;
use tidegate_callers::{Caller, Callers, CallersConfig, Host, PeerCertificate, Presented, Problem, Refusal};
use tokio::{sync::oneshot, task::JoinSet};

/// What time it is in every test, in seconds of the epoch.
pub(crate) const NOW: u64 = 1_800_000_000;
/// How long a test may take.
const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

fn environment(name: &str) -> Option<String> {
    (name == "SHARED_SECRET").then(|| "a secret that is at least 32 bytes long".to_owned())
}

pub(crate) fn try_build(
    previous: Option<&Callers>,
    text: &str,
    directory: &Path,
) -> Result<Callers, Vec<Problem>> {
    let config: CallersConfig = toml::from_str(text).unwrap();
    let host = Host { directory, environment: &environment, clock: now };
    Callers::build_from(previous, &config, &host)
}

/// Callers of a configuration in an empty directory, which lives as long as they are needed.
pub(crate) fn build(text: &str) -> (Callers, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    (try_build(None, text, directory.path()).unwrap(), directory)
}

/// Runs the task that an owner runs; dropping it stops it.
pub(crate) fn watch(callers: &Callers) -> JoinSet<()> {
    let callers = callers.clone();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { callers.watch().await });
    tasks
}

pub(crate) fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let pairs = pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(name, value);
    }
    headers
}

pub(crate) async fn ask(
    callers: &Callers,
    pairs: &[(&'static str, &str)],
    certificate: Option<&PeerCertificate>,
    trusted_listener: bool,
) -> Result<Caller, Refusal> {
    let headers = headers(pairs);
    callers.authenticate(Presented { headers: &headers, certificate, trusted_listener }).await
}

/// Shows one token in `Authorization`, from another machine.
pub(crate) async fn show(callers: &Callers, token: &str) -> Result<Caller, Refusal> {
    ask(callers, &[("authorization", &format!("Bearer {token}"))], None, false).await
}

pub(crate) fn who(caller: Result<Caller, Refusal>) -> Result<(String, String), Refusal> {
    caller.map(|caller| (caller.principal.tenant.to_string(), caller.principal.subject.to_string()))
}

pub(crate) fn named(tenant: &str, subject: &str) -> Result<(String, String), Refusal> {
    Ok((tenant.to_owned(), subject.to_owned()))
}

pub(crate) fn certificate(uris: &[&str]) -> PeerCertificate {
    PeerCertificate { uris: uris.iter().map(|uri| Box::from(*uri)).collect() }
}

/// Fails a test that hangs. On a clock of its own, because tests advance the runtime's.
pub(crate) async fn in_time<T>(test: impl Future<Output = T>) -> T {
    let (late, over) = oneshot::channel();
    std::thread::spawn(move || {
        std::thread::sleep(DEADLINE);
        let _ = late.send(());
    });
    tokio::select! {
        done = test => done,
        _ = over => unreachable!("the test hangs"),
    }
}

/// Waits until something is so.
pub(crate) async fn until(mut reached: impl FnMut() -> bool) {
    while !reached() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
