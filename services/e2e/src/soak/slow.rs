//! Callers that read slowly or not at all: their provider is held back, the gateway keeps little for them, and whoever
//! reads beside them notices nothing.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::answer::End;
use super::caller::{Events, Grpc, Http, Surface, call};
use super::gauges;
use super::kernel::Queues;
use super::replica::Replica;
use super::row::{Row, Run, Tally};
use super::scale::Scale;
use super::upstream::{Asked, Step, Upstream};
use super::vitals::{Course, Look, Process};

const READERS: u64 = 2_000;
const AT_ONCE: usize = 50;
/// Readers that share a gRPC connection.
const SHARED_BY: u64 = 50;
/// What a provider would send to each: 64 mebibytes.
const PIECE_BYTES: usize = 16 * 1024;
const PIECES: u64 = 4_096;
/// What may be under way to a reader that has stopped: in the queues of four sockets, of which the gateway bounds one
/// and the harness two, and in the gateway.
const UNDER_WAY_BYTES_MAX: u64 = 4 << 20;
/// What the gateway's own memory may be for each, and how much it may move while nobody comes or goes.
const READER_KIB_MAX: u64 = 192;
const FLAT_KIB_MAX: u64 = 8 * 1024;
/// The room in a slow reader's socket, or on its stream.
const READER_ROOM_BYTES: u32 = 16 * 1024;
/// When nothing more was written for so long, the buffers are full; how long that may take.
const FILL_STEADY: Duration = Duration::from_millis(500);
const FILL_TIME_MAX: Duration = Duration::from_secs(60);
const READ_EVERY: Duration = Duration::from_millis(200);
/// The first crowds settle the allocator, whose free pieces are not yet where the next crowd needs them.
const ROUNDS: usize = 4;
const HOLD_SECONDS: u64 = 30;
const GOOD_CALLS: u64 = 500;
/// How long a good call may take beside two thousand slow ones, on a machine that others use too.
const GOOD_TIME_MAX: Duration = Duration::from_secs(1);
const SPARE_FDS: u64 = 40;

/// Runs the scenario.
pub async fn run(scale: Scale) -> anyhow::Result<Row> {
    let run = Run::begin(["slow", "streams and calls beside them", "readers that stopped or crept"], scale);
    let upstream = Upstream::start(play).await?;
    let gateway = Replica::before(&upstream, "", "").await?;
    let house =
        House { upstream: &upstream, at: gateway.at, process: gateway.process()?, tally: &run.tally, scale };
    let alone = house.good_calls().await?;
    house.process.forget_peak()?;
    let start = house.process.look()?;
    let mut facts = vec![format!("a good call's p99 was {} ms alone", alone.as_millis())];
    let mut peaks = Vec::new();
    for round in 0..ROUNDS {
        let (peak, fact) = house.round(round, start).await?;
        peaks.push(peak);
        facts.push(fact);
        gauges::comes_to_rest(gateway.at, &run.tally).await?;
    }
    let end = house.process.settled(start, SPARE_FDS).await?;
    run.tally.expect(end.fds <= start.fds + SPARE_FDS, || {
        format!("{} descriptors stayed open", end.fds - start.fds)
    });
    if let [.., before, last] = peaks.as_slice() {
        // What was given back is used again, so that a crowd costs no more than the one before it.
        let grown = last.saturating_sub(*before);
        run.tally.expect(grown <= FLAT_KIB_MAX, || {
            format!("the last crowd took {grown} KiB more than the one before it")
        });
    }
    Ok(run.end(Course { start, end }, facts))
}

fn play(asked: &Asked) -> Vec<Step> {
    let event = r#"{"type":"response.completed","response":{"id":"r","status":"completed","output":[]}}"#;
    let last = Step::Send(format!("event: response.completed\ndata: {event}\n\n").into());
    let frame = |bytes: usize| {
        let data = format!(r#"{{"type":"response.output_text.delta","delta":"{}"}}"#, "x".repeat(bytes));
        format!("event: response.output_text.delta\ndata: {data}\n\n").into()
    };
    match asked.order().split(' ').next() {
        Some("good") => vec![Step::Head, Step::Send(frame(100)), last],
        _ => vec![Step::Head, Step::Flood(frame(PIECE_BYTES), PIECES), last],
    }
}

/// How a reader reads.
#[derive(Debug, Clone, Copy)]
enum Pace {
    Never,
    Creeping,
    /// As fast as it can: what a spoiled run has instead of slow ones.
    Fast,
}

struct House<'a> {
    upstream: &'a Upstream,
    at: SocketAddr,
    process: Process,
    tally: &'a Tally,
    scale: Scale,
}

impl House<'_> {
    /// A crowd comes, stays, and goes. Tells the most memory, and what it was like.
    async fn round(&self, round: usize, start: Look) -> anyhow::Result<(u64, String)> {
        let count = self.scale.of(READERS);
        let empty = Queues::of(self.process)?;
        let mut crowd = JoinSet::new();
        let mut channels = Vec::new();
        for _ in 0..count.div_ceil(SHARED_BY) {
            channels.push(Grpc::connect_narrow(self.at, READER_ROOM_BYTES).await?);
        }
        let readers = stream::iter((0..count).zip(channels.iter().cycle()))
            .map(|(number, channel)| self.reader(round, number, channel))
            .buffer_unordered(AT_ONCE)
            .collect::<Vec<_>>()
            .await;
        for reader in readers {
            let (pace, reader) = reader?;
            self.tally.attempted();
            self.tally.fired();
            crowd.spawn(reader.read(pace));
        }
        self.filled(round).await?;
        let began = Instant::now();
        let before = self.process.look()?;
        let beside = self.good_calls().await?;
        let hold = Duration::from_secs(self.scale.of(HOLD_SECONDS).max(2));
        tokio::time::sleep(hold.saturating_sub(began.elapsed())).await;
        let after = self.process.look()?;
        let under_way = self.under_way(round);
        let full = Queues::of(self.process)?;
        crowd.shutdown().await;
        drop(channels);
        let moved = after.rss_kib.abs_diff(before.rss_kib);
        let each = after.rss_kib.saturating_sub(start.rss_kib) / count;
        self.tally.expect(moved <= FLAT_KIB_MAX, || {
            format!("memory moved by {moved} KiB while nobody came or went")
        });
        self.tally.expect(each <= READER_KIB_MAX, || format!("each reader cost {each} KiB"));
        let fact = format!(
            "crowd {}: {count} readers, {} KiB of memory ({each} KiB each), moved by {moved} KiB in {} s; in the kernel {} KiB each in \
             the queues of the gateway's sockets, {} KiB each in all TCP sockets with their other ends; at most {} KiB under way to \
             one of 64 MiB; a good call's p99 was {} ms beside them",
            round + 1,
            after.rss_kib,
            began.elapsed().as_secs(),
            full.own_kib.saturating_sub(empty.own_kib) / count,
            full.all_kib.saturating_sub(empty.all_kib) / count,
            under_way / 1024,
            beside.as_millis(),
        );
        Ok((after.rss_kib, fact))
    }

    /// A reader that has its head.
    async fn reader(&self, round: usize, number: u64, channel: &Grpc) -> anyhow::Result<(Pace, Reader)> {
        let pace = match number % 4 {
            _ if self.scale.is_spoiled() => Pace::Fast,
            0 | 1 => Pace::Never,
            _ => Pace::Creeping,
        };
        let word = if matches!(pace, Pace::Creeping) { "creeping" } else { "stopped" };
        let order = format!("{word} {round} {number}");
        let reader = match Surface::of(number) {
            Surface::Http => {
                let mut http = Box::new(Http::connect_narrow(self.at, READER_ROOM_BYTES).await?);
                http.ask(&order).await?;
                http.head().await?;
                Reader::Http(http)
            }
            Surface::Grpc => {
                let mut events = Box::new(channel.ask(&order).await?);
                events.message().await?;
                Reader::Grpc(events)
            }
        };
        Ok((pace, reader))
    }

    /// Waits until every buffer on the way to those who read nothing is full.
    async fn filled(&self, round: usize) -> anyhow::Result<()> {
        let began = Instant::now();
        let mut before = 0_u64;
        let limit = if self.scale.is_spoiled() { FILL_STEADY * 4 } else { FILL_TIME_MAX };
        while began.elapsed() < limit {
            tokio::time::sleep(FILL_STEADY).await;
            let now: u64 = self.stopped(round).iter().sum();
            if now == before && now > 0 {
                return Ok(());
            }
            before = now;
        }
        // A spoiled run never fills a buffer.
        anyhow::ensure!(self.scale.is_spoiled(), "the provider was not held back");
        Ok(())
    }

    /// What the provider has written to each reader that reads nothing.
    fn stopped(&self, round: usize) -> Vec<u64> {
        let prefix = format!("stopped {round} ");
        let written = self.upstream.written();
        written.into_iter().filter(|(order, _)| order.starts_with(&prefix)).map(|(_, bytes)| bytes).collect()
    }

    /// The most bytes that the provider has written to a reader that reads nothing.
    fn under_way(&self, round: usize) -> u64 {
        let most = self.stopped(round).into_iter().max().unwrap_or(0);
        self.tally.expect(most > 0, || "nothing was under way".to_owned());
        self.tally
            .expect(most <= UNDER_WAY_BYTES_MAX, || format!("{most} bytes were under way to one reader"));
        most
    }

    /// Calls of somebody who reads; tells their p99.
    async fn good_calls(&self) -> anyhow::Result<Duration> {
        let grpc = Grpc::connect(self.at).await?;
        let mut times = Vec::new();
        for number in 0..self.scale.of(GOOD_CALLS) {
            let began = Instant::now();
            let told = call(self.at, &grpc, Surface::of(number), &format!("good {number}")).await;
            self.tally.attempted();
            self.tally.expect(told.end == End::Completed, || format!("a good call was told {:?}", told.end));
            times.push(began.elapsed());
        }
        times.sort_unstable();
        let p99 = times.get(times.len().saturating_sub(1) * 99 / 100).copied().unwrap_or_default();
        self.tally.expect(p99 <= GOOD_TIME_MAX, || format!("a good call took {p99:?}"));
        Ok(p99)
    }
}

/// An answer that somebody reads at a pace; dropping it is leaving.
enum Reader {
    Http(Box<Http>),
    Grpc(Box<Events>),
}

impl Reader {
    async fn read(mut self, pace: Pace) {
        let pause = match pace {
            Pace::Never => return std::future::pending().await,
            Pace::Creeping => READ_EVERY,
            Pace::Fast => Duration::ZERO,
        };
        loop {
            tokio::time::sleep(pause).await;
            let more = match &mut self {
                Self::Http(http) => matches!(http.piece().await, Ok(Some(_))),
                Self::Grpc(events) => matches!(events.message().await, Ok(Some(_))),
            };
            if !more {
                // Stays, so that a crowd is one until it is sent away.
                return std::future::pending().await;
            }
        }
    }
}
