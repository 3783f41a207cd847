//! A gateway that is told to stop while a hundred sockets are open: idle ones are closed, answers that can end in time end
//! whole, the others end with a typed event, and each socket ends with a close frame that says why.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, future, stream};
use rustix::process::Signal;
use tokio::sync::watch;
use tokio::time::Instant;

use super::super::answer::{End, Told};
use super::super::caller::ANSWER_TIME_MAX;
use super::super::replica::MODEL;
use super::super::row::{Row, Run, Tally};
use super::super::scale::Scale;
use super::super::spoiler::{Spoil, Spoiler};
use super::super::upstream::{Asked, Step, Upstream, socket};
use super::super::vitals::{Course, Look};
use super::caller::Talker;
use super::{WIRED, gateway};

const DRAINS: u64 = 500;
/// Processes that go down at the same time.
const AT_ONCE: usize = 2;
/// Of five sockets one is idle, two can end in time and two cannot; half of them lead to a provider's socket.
const SOCKETS: u64 = 100;
const PRE_STOP_MS: u64 = 150;
const GRACE_MS: u64 = 500;
/// What a stream that can end takes at most after the signal.
const SHORT_MS_MAX: u64 = 200;
/// The pieces of such a stream.
const PIECES: u32 = 8;
const EXIT_SLACK: Duration = Duration::from_secs(1);
/// The close code of a server that restarts.
const RESTART: u16 = 1012;

/// Runs the scenario.
pub async fn run(scale: Scale) -> anyhow::Result<Row> {
    let run = Run::begin(["socket-drain", "sockets", "SIGTERMs with 100 open sockets"], scale);
    let tally = &run.tally;
    let drains: Vec<anyhow::Result<(Duration, Look)>> = stream::iter(0..scale.of(DRAINS))
        .map(|number| drain(number, scale, tally))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let mut course = Course::default();
    let mut slowest = Duration::ZERO;
    for drained in drains {
        let (exit, look) = drained?;
        slowest = slowest.max(exit);
        course.start = look;
        course.end = Look { peak_kib: course.end.peak_kib.max(look.peak_kib), ..look };
    }
    let facts = vec![format!(
        "pre-stop delay {PRE_STOP_MS} ms, grace period {GRACE_MS} ms; the slowest exit came {} ms after its signal",
        slowest.as_millis()
    )];
    Ok(run.end(course, facts))
}

/// What becomes of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Idle,
    Short,
    Long,
}

fn play(asked: &Asked, gate: &watch::Receiver<bool>) -> Vec<Step> {
    let on_socket = asked.head.starts_with("GET ");
    let message = |text: String| {
        if !on_socket {
            return Step::Send(format!("data: {text}\n\n").into());
        }
        let mut bytes = Vec::new();
        socket::frame(&mut bytes, socket::TEXT, true, text.as_bytes());
        Step::Send(bytes.into())
    };
    let delta =
        |number: u32| message(format!(r#"{{"type":"response.output_text.delta","delta":"{number}"}}"#));
    let last = r#"{"type":"response.completed","response":{"id":"r","status":"completed","output":[]}}"#;
    let mut words = asked.order().split(' ');
    let kind = words.next();
    let wait = Duration::from_millis(words.next().and_then(|wait| wait.parse().ok()).unwrap_or(0));
    match kind {
        Some("short") => {
            let rest = (1..PIECES).flat_map(|number| [delta(number), Step::Pause(wait / PIECES)]);
            let begin = [Step::Head, delta(0), Step::Until(gate.clone())];
            begin.into_iter().chain(rest).chain([message(last.to_owned())]).collect()
        }
        Some("long") => vec![Step::Head, delta(0), Step::Hold],
        _ => vec![Step::Head, delta(0), message(last.to_owned())],
    }
}

/// A socket whose first event was read.
struct Live {
    kind: Kind,
    order: String,
    talker: Talker,
    first: Vec<Bytes>,
}

async fn drain(number: u64, scale: Scale, tally: &Tally) -> anyhow::Result<(Duration, Look)> {
    let (open, gate) = watch::channel(false);
    let upstream = Upstream::start(move |asked| play(asked, &gate)).await?;
    let table = format!("[drain]\npre_stop_delay_ms = {PRE_STOP_MS}\ngrace_ms = {GRACE_MS}\n");
    let mut gateway = gateway(&upstream, &table).await?;
    let spoiler = Spoiler::before(gateway.at, Spoil::Swallow(b"response.failed")).await?;
    let at = if scale.is_spoiled() { spoiler.at() } else { gateway.at };
    let mut dice = scale.dice(number);
    let waits: Vec<u64> = (0..SOCKETS).map(|_| dice.below(SHORT_MS_MAX)).collect();
    let opened = stream::iter((0..SOCKETS).zip(waits)).map(|(number, wait)| begin(at, number, wait));
    let opened: Vec<anyhow::Result<Live>> =
        tokio::time::timeout(ANSWER_TIME_MAX, opened.buffer_unordered(50).collect()).await?;
    let lives: Vec<Live> = opened.into_iter().collect::<anyhow::Result<_>>()?;
    let look = gateway.process()?.look()?;

    let signalled = Instant::now();
    gateway.service.signal(Signal::TERM)?;
    tally.fired();
    open.send_replace(true);
    let sockets = future::join_all(lives.into_iter().map(|live| ended(live, &upstream, signalled, tally)));
    let exit = async {
        let status = gateway.service.ended(ANSWER_TIME_MAX).await?;
        tally.expect(status.code() == Some(0), || format!("the process ended with {status}"));
        anyhow::Ok(signalled.elapsed())
    };
    let (_, exit) = future::join(sockets, exit).await;
    let exit = exit?;
    let limit = Duration::from_millis(PRE_STOP_MS + GRACE_MS) + EXIT_SLACK;
    tally.expect(exit <= limit, || format!("the process ended after {exit:?}"));
    Ok((exit, look))
}

async fn begin(at: SocketAddr, number: u64, wait: u64) -> anyhow::Result<Live> {
    let (kind, word) = match number % 5 {
        0 => (Kind::Idle, "idle"),
        1 | 2 => (Kind::Short, "short"),
        _ => (Kind::Long, "long"),
    };
    let model = if number.is_multiple_of(2) { WIRED } else { MODEL };
    let order = format!("{word} {wait} {number}");
    let mut talker = Talker::connect(at).await?;
    if kind == Kind::Idle {
        let told = talker.call(model, &order).await;
        anyhow::ensure!(told.end == End::Completed, "an ordinary call was told {:?}", told.end);
        return Ok(Live { kind, order, talker, first: Vec::new() });
    }
    talker.ask(model, &order).await?;
    let first = vec![talker.event().await?];
    Ok(Live { kind, order, talker, first })
}

/// How a socket must end.
async fn ended(live: Live, upstream: &Upstream, signalled: Instant, tally: &Tally) {
    tally.attempted();
    let Live { kind, order, mut talker, first } = live;
    if kind != Kind::Idle {
        let told = tokio::time::timeout(ANSWER_TIME_MAX, talker.told(first)).await;
        let Ok(told) = told else { return tally.violation(format!("{order} did not end")) };
        let after = signalled.elapsed();
        let whole = upstream.forget(&order).is_some_and(|story| story.whole);
        judge(&order, &told, (after, whole), tally);
    }
    let code = talker.closed().await;
    tally.expect(code == Some(RESTART), || format!("the socket of {order} was closed with {code:?}"));
}

/// An answer is whole if its provider has written all of it; else it ends with a typed event, and not before its time.
fn judge(order: &str, told: &Told, (after, whole): (Duration, bool), tally: &Tally) {
    let (end, events) = (&told.end, told.events.len());
    if *end == End::Completed || whole {
        let pieces = usize::try_from(PIECES).unwrap_or(0) + 1;
        let all = *end == End::Completed && events == pieces;
        tally.expect(all, || format!("{order} was told {end:?} after {events} of {pieces} events"));
    } else {
        let typed = *end == End::Failed("gateway_stopping".to_owned());
        tally.expect(typed, || format!("{order} was told {end:?}"));
        let early = after < Duration::from_millis(PRE_STOP_MS + GRACE_MS);
        tally.expect(!early, || format!("{order} was cut {after:?} after the signal"));
    }
}
