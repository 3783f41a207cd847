//! Builds providers from configuration text and makes calls.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gateway_providers::{
    Answer, Call, Operation, Problem, Providers, ProvidersConfig, Repeats, SendError, Upstream,
};
use http::HeaderMap;

/// No test takes longer that waits for processes, which follow no paused clock.
const DEADLINE_OF_PROCESSES: Duration = Duration::from_secs(60);
/// No test takes longer, on whatever clock it runs.
const DEADLINE: Duration = Duration::from_secs(3600);
/// More than any body of these tests.
pub(crate) const BODY_MAX: usize = 16 * 1024 * 1024;
/// The canary: every key and token of these tests holds it.
pub(crate) const SECRET: &str = "sk-canary-3f9a";

pub(crate) fn env(name: &str) -> Option<String> {
    match name {
        "TEST_KEY" | "OPENAI_API_KEY" => Some(format!("{SECRET}\n")),
        "TEST_TENANT" => Some("blue".to_owned()),
        "TEST_EMPTY" => Some("  ".to_owned()),
        _ => None,
    }
}

/// An environment without keys.
pub(crate) fn bare(_: &str) -> Option<String> {
    None
}

pub(crate) fn parse(text: &str) -> ProvidersConfig {
    toml::from_str(text).unwrap()
}

pub(crate) fn build(text: &str) -> Result<Providers, Vec<Problem>> {
    Providers::build(&parse(text), &env)
}

/// The provider `up`, which is the upstream of a test, with more keys.
pub(crate) fn provider(base_url: &str, keys: &str) -> Arc<Upstream> {
    let text = format!("[model_providers.up]\nbase_url = {base_url:?}\n{keys}");
    let providers = Providers::build(&parse(&text), &|name| env(name).filter(|_| name != "OPENAI_API_KEY"));
    providers.unwrap().route("any", None).unwrap().upstream
}

pub(crate) fn call(body: &str) -> Call {
    Call {
        operation: Operation::Responses,
        model: "any".to_owned(),
        body: Bytes::copy_from_slice(body.as_bytes()),
        stream: true,
        headers: HeaderMap::new(),
        caller: None,
        over_http: false,
        attestation: None,
        repeats: Repeats::AsConfigured,
    }
}

pub(crate) async fn send(upstream: &Upstream) -> Result<Answer, SendError> {
    in_time(upstream.send(call(r#"{"model":"any","stream":true}"#), None)).await
}

/// For tests with processes.
pub(crate) async fn in_real_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE_OF_PROCESSES, future).await.unwrap()
}

pub(crate) async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.unwrap()
}
