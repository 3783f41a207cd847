//! Callers that leave their sockets at any moment and in any manner: the provider's call is given up at once, and its socket
//! goes with the caller's.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::super::answer::End;
use super::super::gauges;
use super::super::replica::MODEL;
use super::super::row::{Row, Run, Tally};
use super::super::scale::{Dice, Scale};
use super::super::spoiler::{Spoil, Spoiler};
use super::super::upstream::{Asked, Step, Story, Upstream, socket};
use super::super::vitals::Course;
use super::caller::Talker;
use super::{WIRED, gateway};

const HANG_UPS: u64 = 5_000;
const AT_ONCE: usize = 40;
/// How long the provider may be kept busy for a caller that is gone. At once means microseconds; this machine is shared.
const GONE_TIME_MAX: Duration = Duration::from_secs(2);
const SPARE_FDS: u64 = 80;
const DELTA: &str = r#"{"type":"response.output_text.delta","delta":"x"}"#;
const LAST: &str = r#"{"type":"response.completed","response":{"id":"r","status":"completed","output":[]}}"#;

/// When a caller leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// While the provider thinks.
    Head,
    /// While the answer streams.
    Stream,
    /// Whatever the call is at.
    Any,
    /// After a whole answer.
    Idle,
}

/// How a caller leaves.
#[derive(Debug, Clone, Copy)]
enum Manner {
    Politely,
    Silently,
    Reset,
}

/// Runs the scenario.
pub async fn run(scale: Scale) -> anyhow::Result<Row> {
    let run = Run::begin(["socket-cancel", "calls", "hang-ups"], scale);
    let upstream = Upstream::start(play).await?;
    let gateway = gateway(&upstream, "").await?;
    let spoiler = Spoiler::before(gateway.at, Spoil::StayOpen).await?;
    let at = if scale.is_spoiled() { spoiler.at() } else { gateway.at };
    let house = House { upstream: &upstream, at, tally: &run.tally, waits: Mutex::default() };
    let process = gateway.process()?;
    let count = scale.of(HANG_UPS);
    let warm = count.min(200);
    stream::iter(0..warm).for_each_concurrent(AT_ONCE, |number| house.hang_up(number, scale)).await;
    process.forget_peak()?;
    let start = process.look()?;
    stream::iter(warm..count).for_each_concurrent(AT_ONCE, |number| house.hang_up(number, scale)).await;
    if scale.is_spoiled() {
        return Ok(run.end(Course { start, end: start }, Vec::new()));
    }
    gauges::comes_to_rest(gateway.at, &run.tally).await?;
    let end = process.settled(start, SPARE_FDS).await?;
    run.tally
        .expect(upstream.running() == 0, || format!("{} answers still run upstream", upstream.running()));
    run.tally
        .expect(upstream.sockets() == 0, || format!("{} sockets stay open upstream", upstream.sockets()));
    run.tally.expect(end.fds <= start.fds + SPARE_FDS, || {
        format!("{} descriptors stayed open", end.fds - start.fds)
    });
    let facts = house.facts().await;
    Ok(run.end(Course { start, end }, facts))
}

fn play(asked: &Asked) -> Vec<Step> {
    let on_socket = asked.head.starts_with("GET ");
    let message = |text: &str| {
        if !on_socket {
            return Step::Send(format!("data: {text}\n\n").into());
        }
        let mut bytes = Vec::new();
        socket::frame(&mut bytes, socket::TEXT, true, text.as_bytes());
        Step::Send(bytes.into())
    };
    match asked.order().split(' ').next() {
        Some("head") => vec![Step::Hold],
        Some("stream") => vec![Step::Head, message(DELTA), message(DELTA), Step::Hold],
        Some("idle") => vec![Step::Head, message(DELTA), message(LAST)],
        _ => {
            let slowly = (0..20).flat_map(|_| [message(DELTA), Step::Pause(Duration::from_millis(1))]);
            std::iter::once(Step::Head).chain(slowly).chain([Step::Hold]).collect()
        }
    }
}

struct House<'a> {
    upstream: &'a Upstream,
    at: SocketAddr,
    tally: &'a Tally,
    /// How long the provider was kept busy after each hang-up.
    waits: Mutex<Vec<Duration>>,
}

impl House<'_> {
    async fn hang_up(&self, number: u64, scale: Scale) {
        let mut dice = scale.dice(number);
        let moment = match dice.below(4) {
            0 => Moment::Head,
            1 => Moment::Stream,
            2 => Moment::Idle,
            _ => Moment::Any,
        };
        let manner = match dice.below(3) {
            0 => Manner::Politely,
            1 => Manner::Silently,
            _ => Manner::Reset,
        };
        self.tally.attempted();
        let outcome =
            tokio::time::timeout(Duration::from_secs(30), self.one(number, moment, manner, &mut dice)).await;
        let problem = match outcome {
            Ok(Ok(())) => return,
            Ok(Err(problem)) => format!("{problem:#}"),
            Err(_) => "took too long".to_owned(),
        };
        self.tally.violation(format!("call {number}, left {manner:?} at {moment:?}: {problem}"));
    }

    async fn one(&self, number: u64, moment: Moment, manner: Manner, dice: &mut Dice) -> anyhow::Result<()> {
        let word = match moment {
            Moment::Head => "head",
            Moment::Stream => "stream",
            Moment::Any => "any",
            Moment::Idle => "idle",
        };
        let order = format!("{word} {number}");
        let model = if dice.once_in(2) { WIRED } else { MODEL };
        let mut talker = Talker::connect(self.at).await?;
        talker.ask(model, &order).await?;
        match moment {
            Moment::Stream => drop(talker.event().await?),
            Moment::Idle => {
                let told = talker.told(Vec::new()).await;
                anyhow::ensure!(told.end == End::Completed, "an ordinary call was told {:?}", told.end);
            }
            Moment::Head => {
                let begun = self.upstream.story(&order, GONE_TIME_MAX * 5, |story| story.begun > 0).await;
                anyhow::ensure!(begun.is_some(), "the call did not reach the provider");
            }
            Moment::Any => {}
        }
        tokio::time::sleep(Duration::from_micros(dice.below(15_000))).await;
        let left = Instant::now();
        match manner {
            Manner::Politely => talker.leave_politely().await,
            Manner::Silently => drop(talker),
            Manner::Reset => talker.leave_with_a_reset(),
        }
        self.tally.fired();
        self.after(moment, &order, left).await
    }

    /// What must follow.
    async fn after(&self, moment: Moment, order: &str, left: Instant) -> anyhow::Result<()> {
        if moment == Moment::Idle {
            // Its socket is counted at the end.
            self.upstream.forget(order);
            return Ok(());
        }
        let gone = |story: &Story| story.gone.is_some();
        let Some(story) = self.upstream.story(order, GONE_TIME_MAX, gone).await else {
            // A caller that was very fast is gone before its call has left.
            let reached = self.upstream.forget(order);
            anyhow::ensure!(moment == Moment::Any && reached.is_none(), "the provider was kept busy");
            return Ok(());
        };
        self.upstream.forget(order);
        anyhow::ensure!(story.begun == 1, "the provider was called {} times", story.begun);
        let wait = story.gone.map(|gone| gone.saturating_duration_since(left)).unwrap_or_default();
        self.waits.lock().await.push(wait);
        Ok(())
    }

    async fn facts(&self) -> Vec<String> {
        let mut waits = self.waits.lock().await;
        waits.sort_unstable();
        let at = |percent: usize| {
            waits.get(waits.len().saturating_sub(1) * percent / 100).copied().unwrap_or_default().as_millis()
        };
        vec![format!(
            "callers closed, ended or reset their sockets; the provider's call was given up within {} ms (p50), {} ms (p99), {} ms (all \
             {}), and no socket to a provider stayed",
            at(50),
            at(99),
            at(100),
            waits.len()
        )]
    }
}
