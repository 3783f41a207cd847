//! The gateway under attack, at a small scale: its memory stays, good callers notice nothing, and afterwards everything is
//! as it was. The soak runs the same attacks at full size.

use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use futures_util::{FutureExt as _, StreamExt as _};
use gateway_testkit::Upstream;
use service_e2e::attacks::smuggling::{self, Verdict};
use service_e2e::attacks::{self, Bomb, Fired, Good, Observed, Pace};
use service_e2e::http;
use service_e2e::stack::{self, Gateway, MODEL};

/// How much the gateway's memory may grow under an attack.
const GROWTH_MAX: u64 = 16 << 20;
/// Open files that come and go with the gateway's own connections to the upstream.
const POOLED_MAX: usize = 2;
const ENHANCE_YOUR_CALM: u32 = 11;
const LIMITS: &str = "\n[limits]\nbody_timeout_ms = 1000\n\n\
    [connections]\nheader_read_timeout_ms = 1000\nidle_timeout_ms = 1000\n";

fn call(mark: &str) -> Vec<u8> {
    format!(r#"{{"model":"{MODEL}","stream":true,"input":"{mark}"}}"#).into_bytes()
}

struct House {
    upstream: Upstream,
    gateway: Gateway,
}

impl House {
    async fn new() -> anyhow::Result<Self> {
        let upstream = Upstream::start().await?;
        upstream.set_default(stack::says("resp_well", &["All ", "is well."]));
        let gateway = Gateway::start(&format!("{}{LIMITS}", stack::provider(&upstream))).await?;
        Ok(Self { upstream, gateway })
    }

    fn good(&self) -> Good {
        let at = self.gateway.at;
        Good {
            process: self.gateway.service.id().unwrap(),
            at,
            request: http::post(at, "/v1/responses", "", &call("good")),
        }
    }

    /// Attacks, and finds the gateway as it should be.
    #[expect(clippy::print_stdout, reason = "figures that depend on the machine are read, not asserted")]
    async fn bears(
        &self,
        name: &str,
        attack: impl Future<Output = anyhow::Result<Fired>>,
    ) -> anyhow::Result<Observed> {
        let seen = attacks::observe(&self.good(), attack).await?;
        println!("{name}: {seen}");
        assert!(seen.calls > 0 && seen.failed == 0, "{name}: {seen}");
        assert!(seen.grown_bytes < GROWTH_MAX, "{name}: {seen}");
        assert!(seen.files.1 <= seen.files.0 + POOLED_MAX, "{name}: {seen}");
        assert_eq!(self.count("tidegate_gateway_calls_running").await?, 0, "{name}");
        Ok(seen)
    }

    /// The sum of a metric over all its labels.
    async fn count(&self, metric: &str) -> anyhow::Result<u64> {
        let text = http::get(self.gateway.at, "/metrics").await?.text;
        let lines = text.lines().filter(|line| line.starts_with(metric));
        Ok(lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum())
    }
}

#[tokio::test]
async fn floods_of_frames_harm_nobody() -> anyhow::Result<()> {
    let house = House::new().await?;
    let at = house.gateway.at;
    let attacks: [(&str, u64, LocalBoxFuture<'_, anyhow::Result<Fired>>); 7] = [
        ("rapid reset", 10_000, attacks::rapid_reset(at, 10_000).boxed_local()),
        ("made you reset", 6_000, attacks::made_you_reset(at, 6_000).boxed_local()),
        ("continuation flood", 10_000, attacks::continuation_flood(at, 10_000).boxed_local()),
        ("settings flood", 10_000, attacks::settings_flood(at, 20_000).boxed_local()),
        ("ping flood", 10_000, attacks::ping_flood(at, 20_000).boxed_local()),
        ("empty data flood", 10_000, attacks::empty_data_flood(at, 10_000).boxed_local()),
        ("header table bomb", 200, attacks::hpack_bomb(at, 200).boxed_local()),
    ];
    for (name, shots, attack) in attacks {
        let seen = house.bears(name, attack).await?;
        assert!(seen.fired.shots >= shots, "{name}: {seen}");
        let sent_away = seen.fired.sent_away.contains_key(&ENHANCE_YOUR_CALM);
        if ["rapid reset", "continuation flood", "empty data flood"].contains(&name) {
            assert!(sent_away, "{name}: {seen}");
        }
    }
    // No frame of these was a whole call.
    let foreign =
        house.upstream.requests().iter().filter(|request| request.json()["input"] != "good").count();
    assert_eq!(foreign, 0);
    Ok(())
}

#[tokio::test]
async fn clients_that_stand_still_hold_nothing() -> anyhow::Result<()> {
    let house = House::new().await?;
    let at = house.gateway.at;
    let pace = Pace { connections: 200, every: Duration::from_millis(100), give_up: Duration::from_secs(60) };
    let seen = house.bears("slow heads", attacks::slow_heads(at, pace)).await?;
    assert_eq!((seen.fired.connections, seen.fired.ended), (200, 200), "{seen}");
    assert!(!seen.fired.statuses.contains_key(&200), "{seen}");

    let seen = house.bears("slow bodies", attacks::slow_bodies(at, pace)).await?;
    assert_eq!((seen.fired.connections, seen.fired.ended), (200, 200), "{seen}");
    assert_eq!(seen.fired.statuses.get(&408), Some(&200), "{seen}");

    let body = call("stalled");
    let seen = house.bears("zero window", attacks::zero_window_stall(at, 200, &body)).await?;
    assert_eq!((seen.fired.shots, seen.fired.statuses.get(&200)), (200, Some(&200)), "{seen}");
    Ok(())
}

#[tokio::test]
async fn heads_that_are_too_much_are_refused() -> anyhow::Result<()> {
    let house = House::new().await?;
    let at = house.gateway.at;
    let bombs = [Bomb::ManyFields(101), Bomb::LongValue(1 << 20), Bomb::LongTarget(100 << 10)];
    let seen = house.bears("header bombs", attacks::header_bombs(at, &bombs, 20)).await?;
    assert_eq!(seen.fired.shots, 60, "{seen}");
    let refused: u64 = [431, 414].iter().filter_map(|status| seen.fired.statuses.get(status)).sum();
    assert_eq!(refused, 60, "{seen}");

    let calls = house.upstream.requests().len();
    let seen = house.bears("lying lengths", attacks::lying_lengths(at, 5)).await?;
    assert_eq!(seen.fired.shots, 50, "{seen}");
    assert!(seen.fired.statuses.keys().all(|status| (400..500).contains(status)), "{seen}");
    // Only the good client's calls went through.
    let through = house.upstream.requests().into_iter().skip(calls);
    assert!(through.into_iter().all(|request| request.json()["input"] == "good"));
    Ok(())
}

#[tokio::test]
async fn no_request_hides_in_another() -> anyhow::Result<()> {
    const AT_ONCE: usize = 16;
    let house = House::new().await?;
    let at = house.gateway.at;
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
    let seen = house.upstream.requests();
    let (mut passed, mut refused, mut holes) = (0, 0, Vec::new());
    for (payload, fate) in fates {
        match fate.and_then(|fate| smuggling::judge(payload, &fate, &house.upstream, &seen)) {
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
    assert_eq!(house.count("tidegate_gateway_calls_total").await?, u64::try_from(seen.len())?);
    Ok(())
}
