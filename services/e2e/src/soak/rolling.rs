//! Two replicas behind one address, restarted in turn while people call: nobody is refused, and nobody's answer breaks.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future;
use rustix::process::Signal;
use tokio::time::Instant;

use super::answer::{End, Told};
use super::balancer::{ASK_EVERY, Balancer};
use super::caller::{ANSWER_TIME_MAX, Grpc, Http, Surface};
use super::replica::Replica;
use super::row::{Row, Run, Tally};
use super::scale::Scale;
use super::upstream::{Asked, Step, Upstream};
use super::vitals::Course;

const RESTARTS: u64 = 200;
const CALLERS: u64 = 8;
/// Longer than the balancer takes to notice, on a machine that others use too.
const PRE_STOP_MS: u64 = 500;
const GRACE_MS: u64 = 5_000;
/// A caller's pause between two calls.
const PAUSE: Duration = Duration::from_millis(10);

/// Runs the scenario.
pub async fn run(scale: Scale) -> anyhow::Result<Row> {
    let run = Run::begin(["rolling", "calls on fresh connections", "restarts"], scale);
    let upstream = Upstream::start(play).await?;
    let replicas = [start(&upstream).await?, start(&upstream).await?];
    let addresses = replicas.each_ref().map(|replica| replica.at);
    let balancer = Balancer::before(&addresses, scale.is_spoiled()).await?;
    let over = AtomicBool::new(false);
    let callers = future::join_all((0..CALLERS).map(|caller| calls(caller, &balancer, &over, &run.tally)));
    let restarts = async {
        let outcome = restart(scale, &upstream, replicas, &balancer, &run.tally).await;
        over.store(true, Ordering::Relaxed);
        outcome
    };
    let (_, outcome) = future::join(callers, restarts).await;
    let (course, _running) = outcome?;
    let (taken, refused) = balancer.counts();
    run.tally.expect(refused == 0, || format!("{refused} connections were refused"));
    let facts = vec![format!(
        "{taken} connections, {refused} refused; pre-stop delay {PRE_STOP_MS} ms, readiness asked every {} ms",
        ASK_EVERY.as_millis()
    )];
    Ok(run.end(course, facts))
}

/// An answer that takes a while.
fn play(_: &Asked) -> Vec<Step> {
    let piece = || Step::Send("event: a\ndata: {\"type\":\"a\"}\n\n".into());
    let event = r#"{"type":"response.completed","response":{"id":"r","status":"completed","output":[]}}"#;
    let last = Step::Send(format!("event: response.completed\ndata: {event}\n\n").into());
    vec![Step::Head, piece(), Step::Pause(Duration::from_millis(20)), piece(), last]
}

async fn start(upstream: &Upstream) -> anyhow::Result<Replica> {
    let drain = format!("[drain]\npre_stop_delay_ms = {PRE_STOP_MS}\ngrace_ms = {GRACE_MS}\n");
    Replica::before(upstream, "", &drain).await
}

/// Restarts one replica after the other, and hands back those that run at the end: callers may still be at them.
async fn restart(
    scale: Scale,
    upstream: &Upstream,
    replicas: [Replica; 2],
    balancer: &Balancer,
    tally: &Tally,
) -> anyhow::Result<(Course, [Option<Replica>; 2])> {
    let mut replicas = replicas.map(Some);
    let mut course = Course::default();
    for (number, index) in (0..scale.of(RESTARTS)).zip([0, 1].into_iter().cycle()) {
        let Some(slot) = replicas.get_mut(index) else { continue };
        if let Some(mut old) = slot.take() {
            let look = old.process()?.look()?;
            if number == 0 {
                course.start = look;
            }
            course.end = look;
            let told = Instant::now();
            old.service.signal(Signal::TERM)?;
            let status = old.service.ended(ANSWER_TIME_MAX).await?;
            let limit = Duration::from_millis(PRE_STOP_MS + GRACE_MS) + Duration::from_secs(1);
            tally.expect(status.code() == Some(0), || format!("a replica ended with {status}"));
            tally.expect(told.elapsed() < limit, || format!("a replica took {:?} to end", told.elapsed()));
            tally.fired();
        }
        let new = start(upstream).await?;
        balancer.replace(index, new.at);
        *slot = Some(new);
        // Both are there for a while before the other one goes.
        tokio::time::sleep(ASK_EVERY * 4).await;
    }
    Ok((course, replicas))
}

/// One caller's calls, each on a fresh connection.
async fn calls(caller: u64, balancer: &Balancer, over: &AtomicBool, tally: &Tally) {
    let mut number = 0_u64;
    while !over.load(Ordering::Relaxed) {
        let order = format!("{caller} {number}");
        tally.attempted();
        let told = tokio::time::timeout(ANSWER_TIME_MAX, call(Surface::of(caller), balancer, &order)).await;
        match told {
            Ok(Told { end: End::Completed, .. }) => {}
            Ok(Told { end, .. }) => tally.violation(format!("call {order} was told {end:?}")),
            Err(_) => tally.violation(format!("call {order} took too long")),
        }
        number += 1;
        tokio::time::sleep(PAUSE).await;
    }
}

async fn call(surface: Surface, balancer: &Balancer, order: &str) -> Told {
    match surface {
        Surface::Http => match Http::connect(balancer.at()).await {
            Ok(mut http) => http.call(order).await,
            Err(why) => Told::silent(format!("{why:#}")),
        },
        Surface::Grpc => match Grpc::connect(balancer.at()).await {
            Ok(grpc) => grpc.call(order).await,
            Err(why) => Told::silent(format!("{why:#}")),
        },
    }
}
