//! Callers that hang up at any moment: the provider's call is given up at once, and nothing of theirs stays behind.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tidegate_proto::gateway::v1::respond_request::Message as Ask;
use tidegate_proto::gateway::v1::{BodyChunk, RespondRequest};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::caller::{Events, Grpc, Http, Surface, body};
use super::gauges;
use super::replica::Replica;
use super::row::{Row, Run, Tally};
use super::scale::{Dice, Scale};
use super::spoiler::{Spoil, Spoiler};
use super::upstream::{Asked, Step, Story, Upstream};
use super::vitals::Course;

const HANG_UPS: u64 = 10_000;
const AT_ONCE: usize = 40;
/// How long the provider may be kept busy for a caller that is gone. At once means microseconds; this machine is shared.
const GONE_TIME_MAX: Duration = Duration::from_secs(2);
/// File descriptors that an idle gateway may have more than before: connections to its provider.
const SPARE_FDS: u64 = 80;
const FRAME: &[u8] =
    b"event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"x\"}\n\n";

/// When a caller leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// With half of its body sent.
    Body,
    /// While the provider thinks.
    Head,
    /// While the answer streams.
    Stream,
    /// Whatever the call is at.
    Any,
}

impl Moment {
    fn of(dice: &mut Dice) -> Self {
        match dice.below(4) {
            0 => Self::Body,
            1 => Self::Head,
            2 => Self::Stream,
            _ => Self::Any,
        }
    }
}

/// Runs the scenario.
pub async fn run(scale: Scale) -> anyhow::Result<Row> {
    let run = Run::begin(["cancel", "calls", "hang-ups"], scale);
    let upstream = Upstream::start(play).await?;
    let gateway = Replica::before(&upstream, "", "").await?;
    let spoiler = Spoiler::before(gateway.at, Spoil::StayOpen).await?;
    let at = if scale.is_spoiled() { spoiler.at() } else { gateway.at };
    let house = House {
        upstream: &upstream,
        at,
        grpc: Grpc::connect(at).await?,
        tally: &run.tally,
        waits: Mutex::default(),
    };
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
    run.tally
        .expect(upstream.running() == 0, || format!("{} answers still run upstream", upstream.running()));
    let end = process.settled(start, SPARE_FDS).await?;
    run.tally.expect(end.fds <= start.fds + SPARE_FDS, || {
        format!("{} descriptors stayed open", end.fds - start.fds)
    });
    let facts = house.facts().await;
    Ok(run.end(Course { start, end }, facts))
}

fn play(asked: &Asked) -> Vec<Step> {
    let piece = || Step::Send(FRAME.into());
    match asked.order().split(' ').next() {
        Some("head") => vec![Step::Hold],
        Some("stream") => vec![Step::Head, piece(), piece(), Step::Hold],
        _ => {
            let slowly = (0..20).flat_map(|_| [piece(), Step::Pause(Duration::from_millis(1))]);
            std::iter::once(Step::Head).chain(slowly).chain([Step::Hold]).collect()
        }
    }
}

struct House<'a> {
    upstream: &'a Upstream,
    at: std::net::SocketAddr,
    grpc: Grpc,
    tally: &'a Tally,
    /// How long the provider was kept busy after each hang-up.
    waits: Mutex<Vec<Duration>>,
}

/// A call under way; dropping it is hanging up.
enum Line {
    Http { _line: Box<Http> },
    Grpc { _line: Box<Events>, _cable: Option<Spoiler> },
}

impl House<'_> {
    async fn hang_up(&self, number: u64, scale: Scale) {
        let mut dice = scale.dice(number);
        let (surface, moment) = (Surface::of(number), Moment::of(&mut dice));
        self.tally.attempted();
        let outcome =
            tokio::time::timeout(Duration::from_secs(30), self.one(number, surface, moment, &mut dice)).await;
        let problem = match outcome {
            Ok(Ok(())) => return,
            Ok(Err(problem)) => format!("{problem:#}"),
            Err(_) => "took too long".to_owned(),
        };
        self.tally.violation(format!("call {number} on {surface:?}, left at {moment:?}: {problem}"));
    }

    async fn one(
        &self,
        number: u64,
        surface: Surface,
        moment: Moment,
        dice: &mut Dice,
    ) -> anyhow::Result<()> {
        let word = match moment {
            Moment::Body => "body",
            Moment::Head => "head",
            Moment::Stream => "stream",
            Moment::Any => "any",
        };
        let order = format!("{word} {number}");
        let line = self.dial(surface, moment, &order).await?;
        if matches!(moment, Moment::Head | Moment::Stream) {
            let begun = self.upstream.story(&order, GONE_TIME_MAX * 5, |story| story.begun > 0).await;
            anyhow::ensure!(begun.is_some(), "the call did not reach the provider");
        }
        tokio::time::sleep(Duration::from_micros(dice.below(15_000))).await;
        let left = Instant::now();
        drop(line);
        self.tally.fired();
        self.after(moment, &order, left).await
    }

    /// A call that has come to its moment.
    async fn dial(&self, surface: Surface, moment: Moment, order: &str) -> anyhow::Result<Line> {
        let body = body(order);
        let half = body.len() / 2;
        if surface == Surface::Http {
            let mut http = Http::connect(self.at).await?;
            http.ask_in_part(&body, if moment == Moment::Body { half } else { body.len() }).await?;
            if moment == Moment::Stream {
                http.head().await?;
                http.piece().await?;
            }
            return Ok(Line::Http { _line: Box::new(http) });
        }
        let mut cable = None;
        let mut events = if moment == Moment::Body {
            // The client's library does not give up a stream whose body it still sends, so this caller loses its connection.
            let own = cable.insert(Spoiler::before(self.at, Spoil::Nothing).await?);
            let grpc = Grpc::connect(own.at()).await?;
            let part =
                BodyChunk { data: body.get(..half).unwrap_or_default().to_owned().into(), last: false };
            let sent = [Ask::Start(Box::default()), Ask::BodyChunk(part)];
            let sent = sent.map(|message| RespondRequest { message: Some(message) });
            grpc.stream(tokio_stream::iter(sent).chain(stream::pending())).await?
        } else {
            self.grpc.ask(order).await?
        };
        if moment == Moment::Stream {
            events.message().await?;
        }
        Ok(Line::Grpc { _line: Box::new(events), _cable: cable })
    }

    /// What must follow.
    async fn after(&self, moment: Moment, order: &str, left: Instant) -> anyhow::Result<()> {
        if moment == Moment::Body {
            let reached = self.upstream.forget(order);
            anyhow::ensure!(reached.is_none(), "half a body reached the provider");
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
            waits.get(waits.len().saturating_sub(1) * percent / 100).copied().unwrap_or_default()
        };
        vec![format!(
            "the provider's call was given up within {} ms (p50), {} ms (p99), {} ms (all {})",
            at(50).as_millis(),
            at(99).as_millis(),
            at(100).as_millis(),
            waits.len()
        )]
    }
}
