//! More than the gateway may carry, and providers that fall silent: who is too much is told at once, who was there first
//! is served, and nothing stays behind.

use std::time::Duration;

use futures_util::{StreamExt as _, future, stream};
use tokio::sync::watch;
use tokio::time::Instant;

use super::answer::{End, Told};
use super::caller::{ANSWER_TIME_MAX, Grpc, Http, Surface, call};
use super::gauges;
use super::replica::{MODEL, Replica};
use super::row::{Row, Run, Tally};
use super::scale::Scale;
use super::upstream::{Asked, Step, Upstream};
use super::vitals::Course;

const CALLS_MAX: u64 = 40;
const TOO_MANY: u64 = 10_000;
const AT_ONCE: usize = 32;
/// Eight bodies of a mebibyte, and small ones beside them.
const HELD_BYTES_MAX: usize = (8 << 20) + (512 << 10);
const BODY_BYTES: usize = 1 << 20;
const BODIES_HELD: usize = 8;
const TOO_MUCH: u64 = 1_000;
const SILENT: u64 = 1_000;
const SILENCE_MS: u64 = 500;
/// What "at once" means on a machine that others use too.
const REFUSAL_TIME_MAX: Duration = Duration::from_secs(1);
const SPARE_FDS: u64 = 120;

/// Runs the scenario.
pub async fn run(scale: Scale) -> anyhow::Result<Row> {
    let run = Run::begin(["overload", "calls", "calls too many, bodies too much, silent providers"], scale);
    let (open, gate) = watch::channel(false);
    let upstream = Upstream::start(move |asked| play(asked, &gate)).await?;
    let limits = if scale.is_spoiled() {
        String::new()
    } else {
        format!("[limits]\nconcurrent_calls_max = {CALLS_MAX}\nheld_bytes_max = {HELD_BYTES_MAX}\n")
    };
    let gateway = Replica::before(&upstream, "", &limits).await?;
    let process = gateway.process()?;
    let start = process.look()?;
    let house = House {
        upstream: &upstream,
        gateway: &gateway,
        grpc: Grpc::connect(gateway.at).await?,
        tally: &run.tally,
    };
    let mut facts = vec![house.too_many(scale, &open).await?];
    if !scale.is_spoiled() {
        gauges::comes_to_rest(gateway.at, &run.tally).await?;
        facts.push(house.too_much(scale).await?);
        gauges::comes_to_rest(gateway.at, &run.tally).await?;
        facts.push(silence(scale, &run.tally).await?);
    }
    let end = process.settled(start, SPARE_FDS).await?;
    run.tally.expect(end.fds <= start.fds + SPARE_FDS, || {
        format!("{} descriptors stayed open", end.fds - start.fds)
    });
    Ok(run.end(Course { start, end }, facts))
}

fn play(asked: &Asked, gate: &watch::Receiver<bool>) -> Vec<Step> {
    let piece = || Step::Send("event: a\ndata: {\"type\":\"a\"}\n\n".into());
    let last = || {
        let event = r#"{"type":"response.completed","response":{"id":"r","status":"completed","output":[]}}"#;
        Step::Send(format!("event: response.completed\ndata: {event}\n\n").into())
    };
    match asked.order().split(' ').next() {
        Some("held") => vec![Step::Head, piece(), Step::Until(gate.clone()), last()],
        Some("silent") => vec![Step::Head, piece(), Step::Hold],
        Some("mute") => vec![Step::Hold],
        _ => vec![Step::Head, piece(), last()],
    }
}

struct House<'a> {
    upstream: &'a Upstream,
    gateway: &'a Replica,
    grpc: Grpc,
    tally: &'a Tally,
}

impl House<'_> {
    /// As many calls as may run, and many more.
    async fn too_many(&self, scale: Scale, open: &watch::Sender<bool>) -> anyhow::Result<String> {
        let at = self.gateway.at;
        let held = future::join_all((0..CALLS_MAX).map(|number| async move {
            call(at, &self.grpc, Surface::of(number), &format!("held {number}")).await
        }));
        let extra = async {
            for number in 0..CALLS_MAX {
                let order = format!("held {number}");
                let begun = self.upstream.story(&order, ANSWER_TIME_MAX, |story| story.begun > 0).await;
                self.tally.expect(begun.is_some(), || format!("{order} did not begin"));
            }
            let waits: Vec<Duration> = stream::iter(0..scale.of(TOO_MANY))
                .map(|number| self.refused(number))
                .buffer_unordered(AT_ONCE)
                .collect()
                .await;
            open.send_replace(true);
            waits
        };
        let (held, waits) = future::join(held, extra).await;
        for told in held {
            self.tally.attempted();
            self.tally.expect(told.end == End::Completed, || {
                format!("who was there first was told {:?}", told.end)
            });
        }
        let after = call(at, &self.grpc, Surface::Http, "after").await;
        self.tally.expect(after.end == End::Completed, || format!("afterwards: {:?}", after.end));
        Ok(format!("{} calls beyond {CALLS_MAX} were refused, {}", waits.len(), told_within(waits)))
    }

    async fn refused(&self, number: u64) -> Duration {
        self.tally.attempted();
        let (began, surface, order) = (Instant::now(), Surface::of(number), format!("extra {number}"));
        let told = call(self.gateway.at, &self.grpc, surface, &order).await;
        let status = if surface == Surface::Http { "503" } else { "ResourceExhausted" };
        let expected =
            End::Refused { status: status.to_owned(), reason: "gateway_busy".to_owned(), retry: true };
        if told.end == expected && self.upstream.forget(&order).is_none() {
            self.tally.fired();
        } else {
            self.tally.violation(format!("one too many over {surface:?} was told {:?}", told.end));
        }
        let wait = began.elapsed();
        self.tally.expect(wait < REFUSAL_TIME_MAX, || format!("a refusal took {wait:?}"));
        wait
    }

    /// As many bytes as may be held, and more.
    async fn too_much(&self, scale: Scale) -> anyhow::Result<String> {
        let at = self.gateway.at;
        let body = large_body();
        let mut holders = Vec::new();
        for _ in 0..BODIES_HELD {
            let mut http = Http::connect(at).await?;
            http.ask_in_part(&body, BODY_BYTES / 2).await?;
            holders.push(http);
        }
        let expected = i64::try_from(BODIES_HELD * body.len())?;
        let began = Instant::now();
        while gauges::metric(at, "tidegate_gateway_held_bytes", &[]).await? < expected {
            anyhow::ensure!(began.elapsed() < ANSWER_TIME_MAX, "the bodies are not counted");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let waits: Vec<Duration> = stream::iter(0..scale.of(TOO_MUCH))
            .map(|number| self.too_large_for_now(number, &body))
            .buffer_unordered(4)
            .collect()
            .await;
        for mut http in holders {
            self.tally.attempted();
            http.ask_rest(&body, BODY_BYTES / 2).await?;
            let told = tokio::time::timeout(ANSWER_TIME_MAX, http.told()).await?;
            self.tally.expect(told.end == End::Completed, || {
                format!("whose body was first was told {:?}", told.end)
            });
        }
        Ok(format!(
            "{} bodies beyond {HELD_BYTES_MAX} bytes were refused, {}",
            waits.len(),
            told_within(waits)
        ))
    }

    async fn too_large_for_now(&self, number: u64, body: &str) -> Duration {
        let at = self.gateway.at;
        let small = call(at, &self.grpc, Surface::of(number), &format!("small {number}")).await;
        self.tally.attempted();
        self.tally
            .expect(small.end == End::Completed, || format!("a small call beside was told {:?}", small.end));
        self.upstream.forget(&format!("small {number}"));
        self.tally.attempted();
        let began = Instant::now();
        let told = async {
            let mut http = Http::connect(at).await?;
            // A caller that sends on while it is refused.
            let sent = http.ask_in_part(body, body.len()).await;
            anyhow::Ok((sent, http.told().await))
        };
        let end = match tokio::time::timeout(ANSWER_TIME_MAX, told).await {
            Ok(Ok((_, Told { end, .. }))) => end,
            other => End::Silent(format!("{other:?}")),
        };
        let full = End::Refused { status: "503".to_owned(), reason: "gateway_full".to_owned(), retry: true };
        if end == full {
            self.tally.fired();
        } else {
            self.tally.violation(format!("a body too much was told {end:?}"));
        }
        began.elapsed()
    }
}

fn large_body() -> String {
    let text = "x".repeat(BODY_BYTES - 100);
    format!(r#"{{"model":"{MODEL}","stream":true,"instructions":"{text}","input":"large"}}"#)
}

fn told_within(mut waits: Vec<Duration>) -> String {
    waits.sort_unstable();
    let at = |percent: usize| {
        waits.get(waits.len().saturating_sub(1) * percent / 100).copied().unwrap_or_default().as_millis()
    };
    format!("within {} ms (p50), {} ms (p99), {} ms (all)", at(50), at(99), at(100))
}

/// Providers that stop in the middle, or never begin.
async fn silence(scale: Scale, tally: &Tally) -> anyhow::Result<String> {
    let (_never, gate) = watch::channel(false);
    let upstream = Upstream::start(move |asked| play(asked, &gate)).await?;
    let patience = format!("stream_idle_timeout_ms = {SILENCE_MS}\nrequest_max_retries = 0\n");
    let gateway = Replica::before(&upstream, &patience, "").await?;
    let grpc = Grpc::connect(gateway.at).await?;
    let (at, grpc, count) = (gateway.at, &grpc, scale.of(SILENT));
    let waits: Vec<Duration> = stream::iter(0..count)
        .map(|number| async move {
            let began = Instant::now();
            let told = call(at, grpc, Surface::of(number), &format!("silent {number}")).await;
            tally.attempted();
            if told.end == End::Failed("upstream_silent".to_owned()) {
                tally.fired();
            } else {
                tally.violation(format!("a provider's silence was told as {:?}", told.end));
            }
            began.elapsed()
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    gauges::comes_to_rest(at, tally).await?;
    tally.expect(upstream.running() == 0, || "silent providers are still waited for".to_owned());
    Ok(format!(
        "{count} providers that fell silent for {SILENCE_MS} ms were given up, {}",
        told_within(waits)
    ))
}
