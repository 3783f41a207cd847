//! Requests that two servers could cut differently, through the whole chain: none hides another.

use std::net::SocketAddr;

use futures_util::StreamExt as _;
use gateway_testkit::Upstream;
use service_e2e::attacks::smuggling::{self, Verdict};
use service_e2e::http;
use service_e2e::stack::{self, Gateway, MODEL};

/// A connection on which nothing more is asked is closed soon, so that its end can be waited for.
const LIMITS: &str = "\n[limits]\nbody_timeout_ms = 1000\n\n\
    [connections]\nheader_read_timeout_ms = 1000\nidle_timeout_ms = 1000\n";

fn call(mark: &str) -> Vec<u8> {
    format!(r#"{{"model":"{MODEL}","stream":true,"input":"{mark}"}}"#).into_bytes()
}

/// The sum of a metric over all its labels.
async fn count(at: SocketAddr, metric: &str) -> anyhow::Result<u64> {
    let text = http::get(at, "/metrics").await?.text;
    let lines = text.lines().filter(|line| line.starts_with(metric));
    Ok(lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum())
}

#[tokio::test]
async fn no_request_hides_in_another() -> anyhow::Result<()> {
    const AT_ONCE: usize = 16;
    let upstream = Upstream::start().await?;
    upstream.set_default(stack::says("resp_well", &["All ", "is well."]));
    let gateway = Gateway::start(&format!("{}{LIMITS}", stack::provider(&upstream))).await?;
    let at = gateway.at;
    let payloads = smuggling::payloads(at);
    assert!(payloads.len() >= 300, "{}", payloads.len());
    let mut fates = Vec::new();
    let mut good = 0;
    for several in payloads.chunks(AT_ONCE) {
        let played: Vec<_> = futures_util::stream::iter(several)
            .map(|payload| async move { (payload, smuggling::play(at, payload).await) })
            .buffered(AT_ONCE)
            .collect()
            .await;
        fates.extend(played);
        // Whatever was said before on other connections, this one's answer is its own.
        let request = http::post(at, "/v1/responses", "", &call("good"));
        let answer = http::send(at, &request).await?;
        assert_eq!(answer.status, 200, "{answer:?}");
        good += 1;
    }
    let seen = upstream.requests();
    let (mut passed, mut refused, mut holes) = (0, 0, Vec::new());
    for (payload, fate) in fates {
        match fate.and_then(|fate| smuggling::judge(payload, &fate, &upstream, &seen)) {
            Ok(Verdict::Passed) => passed += 1,
            Ok(Verdict::Refused) => refused += 1,
            Err(error) => holes.push(format!("{error:#}")),
        }
    }
    println!(
        "{} payloads: {passed} passed as one request, {refused} refused, {good} good calls between",
        payloads.len()
    );
    assert!(holes.is_empty(), "{} holes\n{}", holes.len(), holes.join("\n"));
    assert!(passed >= 20 && refused >= 200, "{passed} passed, {refused} refused");
    assert_eq!(seen.len(), passed + good, "every request at the upstream is somebody's");
    assert_eq!(count(at, "tidegate_gateway_calls_total").await?, u64::try_from(seen.len())?);
    Ok(())
}
