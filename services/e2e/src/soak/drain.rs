//! A gateway that is told to stop while two hundred answers stream: readiness goes first, what can end in time ends whole,
//! what cannot ends with a typed event, and the process is gone soon after.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{StreamExt as _, future, stream};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;

use super::answer::{End, Told};
use super::caller::{ANSWER_TIME_MAX, Events, Grpc, Head, Http, told};
use super::gauges;
use super::replica::Replica;
use super::row::{Row, Run, Tally};
use super::scale::Scale;
use super::spoiler::{Spoil, Spoiler};
use super::upstream::{Asked, Step, Upstream};
use super::vitals::{Course, Look};

const DRAINS: u64 = 1_000;
/// Processes that go down at the same time.
const AT_ONCE: usize = 2;
/// Streams on each surface; every second one ends within the grace period.
const STREAMS: u64 = 100;
const GRPC_CONNECTIONS: u64 = 4;
const PRE_STOP_MS: u64 = 150;
const GRACE_MS: u64 = 500;
/// What a stream that can end takes at most after the signal.
const SHORT_MS_MAX: u64 = 200;
/// The pieces of such a stream.
const PIECES: u32 = 8;
const EXIT_SLACK: Duration = Duration::from_secs(1);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const GOAWAY: u8 = 7;

/// What one process saw.
struct Drained {
    exit: Duration,
    /// Calls that began after readiness was off and before the listener closed.
    late: u64,
    look: Look,
}

/// Runs the scenario.
pub async fn run(scale: Scale) -> anyhow::Result<Row> {
    let run = Run::begin(["drain", "streams", "SIGTERMs with 200 live streams"], scale);
    let tally = &run.tally;
    let drains: Vec<anyhow::Result<Drained>> = stream::iter(0..scale.of(DRAINS))
        .map(|number| drain(number, scale, tally))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let mut course = Course::default();
    let (mut slowest, mut late) = (Duration::ZERO, 0);
    for drained in drains {
        let Drained { exit, late: one, look } = drained?;
        slowest = slowest.max(exit);
        late += one;
        course.start = look;
        course.end = Look { peak_kib: course.end.peak_kib.max(look.peak_kib), ..look };
    }
    let facts = vec![format!(
        "pre-stop delay {PRE_STOP_MS} ms, grace period {GRACE_MS} ms; the slowest exit came {} ms after its signal; {late} calls \
         that began after readiness was off were served",
        slowest.as_millis()
    )];
    Ok(run.end(course, facts))
}

fn frame(number: u32) -> Step {
    let data = format!(r#"{{"type":"response.output_text.delta","delta":"{number}"}}"#);
    Step::Send(format!("event: response.output_text.delta\ndata: {data}\n\n").into())
}

fn play(asked: &Asked, gate: &watch::Receiver<bool>) -> Vec<Step> {
    let event = r#"{"type":"response.completed","response":{"id":"r","status":"completed","output":[]}}"#;
    let last = Step::Send(format!("event: response.completed\ndata: {event}\n\n").into());
    let mut words = asked.order().split(' ');
    let kind = words.next();
    let wait = Duration::from_millis(words.next().and_then(|wait| wait.parse().ok()).unwrap_or(0));
    match kind {
        Some("short") => {
            let rest = (1..PIECES).flat_map(|number| [frame(number), Step::Pause(wait / PIECES)]);
            let begin = [Step::Head, frame(0), Step::Until(gate.clone())];
            begin.into_iter().chain(rest).chain([last]).collect()
        }
        Some("long") => vec![Step::Head, frame(0), Step::Hold],
        _ => vec![Step::Head, frame(0), last],
    }
}

/// One stream that has begun.
struct Live {
    /// What the provider was asked for.
    order: String,
    line: Line,
}

enum Line {
    Http(Box<Http>, Head, Vec<u8>),
    Grpc(Box<Events>),
}

async fn drain(number: u64, scale: Scale, tally: &Tally) -> anyhow::Result<Drained> {
    let (open, gate) = watch::channel(false);
    let upstream = Upstream::start(move |asked| play(asked, &gate)).await?;
    let table = format!("[drain]\npre_stop_delay_ms = {PRE_STOP_MS}\ngrace_ms = {GRACE_MS}\n");
    let mut gateway = Replica::before(&upstream, "", &table).await?;
    let at = gateway.at;
    let spoiler = Spoiler::before(at, Spoil::Swallow(b"response.failed")).await?;
    let calls_at = if scale.is_spoiled() { spoiler.at() } else { at };
    let lives = begin(calls_at, number, scale).await?;
    let mut idle = Http::connect(at).await?;
    anyhow::ensure!(idle.call("once").await.end == End::Completed, "an ordinary call failed");
    let mut frames = TcpStream::connect(at).await?;
    frames.write_all(PREFACE).await?;
    let look = gateway.process()?.look()?;

    let signalled = Instant::now();
    gateway.service.signal(Signal::TERM)?;
    tally.fired();
    open.send_replace(true);
    let streams = future::join_all(lives.into_iter().map(|live| ended(live, &upstream, signalled, tally)));
    let others = async {
        let late = readiness(at, signalled, tally).await;
        tally.expect(is_sent_away(&mut frames).await, || "an HTTP/2 connection got no GOAWAY".to_owned());
        let closed = idle.is_ended(ANSWER_TIME_MAX).await;
        tally.expect(closed, || "an idle HTTP/1 connection was not closed in order".to_owned());
        late
    };
    let exit = async {
        let status = gateway.service.ended(ANSWER_TIME_MAX).await?;
        tally.expect(status.code() == Some(0), || format!("the process ended with {status}"));
        anyhow::Ok(signalled.elapsed())
    };
    let (_, late, exit) = future::join3(streams, others, exit).await;
    let exit = exit?;
    let limit = Duration::from_millis(PRE_STOP_MS + GRACE_MS) + EXIT_SLACK;
    tally.expect(exit <= limit, || format!("the process ended after {exit:?}"));
    Ok(Drained { exit, late, look })
}

/// Streams on both surfaces, each with its first event read.
async fn begin(at: SocketAddr, number: u64, scale: Scale) -> anyhow::Result<Vec<Live>> {
    let mut channels = Vec::new();
    for _ in 0..GRPC_CONNECTIONS {
        channels.push(Grpc::connect(at).await?);
    }
    let mut dice = scale.dice(number);
    let mut orders = |surface: &str| -> Vec<String> {
        let order = |stream: u64| match stream.is_multiple_of(2) {
            true => format!("short {} {surface} {stream}", dice.below(SHORT_MS_MAX)),
            false => format!("long 0 {surface} {stream}"),
        };
        (0..STREAMS).map(order).collect()
    };
    let (over_http, over_grpc) = (orders("http"), orders("grpc"));
    let http = stream::iter(over_http).map(async |order| {
        let mut http = Box::new(Http::connect(at).await?);
        http.ask(&order).await?;
        let head = http.head().await?;
        let first = http.piece().await?.unwrap_or_default().to_vec();
        anyhow::Ok(Live { order, line: Line::Http(http, head, first) })
    });
    let grpc =
        stream::iter(over_grpc.into_iter().zip(channels.iter().cycle())).map(async |(order, channel)| {
            let mut events = Box::new(channel.ask(&order).await?);
            // The head; the first event may wait.
            anyhow::ensure!(events.message().await?.is_some(), "the stream ended at once");
            anyhow::Ok(Live { order, line: Line::Grpc(events) })
        });
    let begun = async {
        let http: Vec<_> = http.buffer_unordered(50).collect().await;
        let grpc: Vec<_> = grpc.buffer_unordered(50).collect().await;
        http.into_iter().chain(grpc).collect()
    };
    tokio::time::timeout(ANSWER_TIME_MAX, begun).await?
}

/// How a stream must end: whole, if its provider has written all of it; else with a typed event, and not before its time.
async fn ended(live: Live, upstream: &Upstream, signalled: Instant, tally: &Tally) {
    tally.attempted();
    let Live { order, line } = live;
    let told = async {
        match line {
            Line::Http(mut http, head, first) => http.told_after(head, first).await,
            Line::Grpc(events) => told(*events).await,
        }
    };
    let Ok(Told { end, events, .. }) = tokio::time::timeout(ANSWER_TIME_MAX, told).await else {
        return tally.violation(format!("{order} did not end"));
    };
    let after = signalled.elapsed();
    let whole = upstream.forget(&order).is_some_and(|story| story.whole);
    if end == End::Completed || whole {
        let pieces = usize::try_from(PIECES).unwrap_or(0) + 1;
        let all = end == End::Completed && events.len() == pieces;
        tally.expect(all, || format!("{order} was told {end:?} after {} of {pieces} events", events.len()));
    } else {
        let typed = end == End::Failed("gateway_stopping".to_owned());
        tally.expect(typed, || format!("{order} was told {end:?}"));
        let early = after < Duration::from_millis(PRE_STOP_MS + GRACE_MS);
        tally.expect(!early, || format!("{order} was cut {after:?} after the signal"));
    }
}

/// Readiness goes off while the listener still takes calls; a call that comes then is served. Tells how many there were.
async fn readiness(at: SocketAddr, signalled: Instant, tally: &Tally) -> u64 {
    let open = Duration::from_millis(PRE_STOP_MS);
    loop {
        let told = gauges::readiness(at).await;
        let asked = signalled.elapsed();
        match told {
            Ok((503, report)) => {
                let draining = report.get("status").is_some_and(|status| status == "draining");
                tally.expect(draining, || format!("a draining gateway reports {report}"));
                break;
            }
            Ok((200, _)) if asked < open => tokio::time::sleep(Duration::from_millis(2)).await,
            other => {
                tally.violation(format!("readiness after {asked:?}: {other:?}"));
                return 0;
            }
        }
    }
    if signalled.elapsed() > open / 2 {
        // Too late to be sure that the listener is still there.
        return 0;
    }
    let late = match Http::connect(at).await {
        Ok(mut http) => http.call("late").await.end,
        Err(why) => End::Silent(format!("{why:#}")),
    };
    tally.attempted();
    tally.expect(late == End::Completed, || format!("a call before the listener closed was told {late:?}"));
    1
}

/// Whether an idle HTTP/2 connection is told to go before it ends.
async fn is_sent_away(frames: &mut TcpStream) -> bool {
    let told = async {
        loop {
            let mut head = [0; 9];
            frames.read_exact(&mut head).await.ok()?;
            let [a, b, c, kind, ..] = head;
            if kind == GOAWAY {
                return Some(());
            }
            let mut rest = vec![0; usize::try_from(u32::from_be_bytes([0, a, b, c])).ok()?];
            frames.read_exact(&mut rest).await.ok()?;
        }
    };
    matches!(tokio::time::timeout(ANSWER_TIME_MAX, told).await, Ok(Some(())))
}
