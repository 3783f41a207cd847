//! Streams on WebSockets in frames of every form, cut anywhere on their way: the caller gets the provider's events, unchanged.

use std::sync::Arc;

use futures_util::{StreamExt as _, stream};

use super::super::answer::{End, Told};
use super::super::caller::{self, Grpc};
use super::super::relay::{Script, play};
use super::super::replica::MODEL;
use super::super::row::{Row, Run};
use super::super::scale::Scale;
use super::super::spoiler::{Spoil, Spoiler};
use super::super::upstream::Upstream;
use super::super::vitals::Course;
use super::caller::{Talker, data};
use super::{WIRED, gateway};

const STREAMS: u64 = 2_000;
const AT_ONCE: usize = 16;
/// Answers on one socket, one after the other.
const ANSWERS: usize = 8;
const SPARE_FDS: u64 = 64;

/// From whom to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// A caller's socket, a provider's socket.
    Sockets,
    /// A caller's socket, a provider that streams over HTTP.
    ToHttp,
    /// A caller over gRPC, a provider's socket.
    FromGrpc,
}

/// Runs the scenario.
pub async fn run(scale: Scale) -> anyhow::Result<Row> {
    let run = Run::begin(["socket-relay", "streams", "cuts between two writes"], scale);
    let count = scale.of(STREAMS);
    let on_socket = (0..count).map(|number| Script::on_socket(&mut scale.dice(number)));
    let over_http = (0..count).map(|number| Script::over_http(&mut scale.dice(number)));
    let scripts: Arc<Vec<Script>> = Arc::new(on_socket.chain(over_http).collect());
    let upstream = Upstream::start(play(Arc::clone(&scripts))).await?;
    let gateway = gateway(&upstream, "").await?;
    let spoiler = Spoiler::before(gateway.at, Spoil::Replace(b"delta", b"atled")).await?;
    let at = if scale.is_spoiled() { spoiler.at() } else { gateway.at };
    let grpc = Grpc::connect(at).await?;
    let process = gateway.process()?;
    let start = process.look()?;
    let half = usize::try_from(count)?;
    let numbers = |way, range: std::ops::Range<usize>| range.map(move |number| (way, number));
    let all: Vec<(Way, usize)> = numbers(Way::Sockets, 0..half)
        .chain(numbers(Way::ToHttp, half..2 * half))
        .chain(numbers(Way::FromGrpc, 0..half))
        .collect();
    let mut answers = stream::iter(all.chunks(ANSWERS))
        .map(|several| {
            let grpc = &grpc;
            async move { (several, tell(at, grpc, several).await) }
        })
        .buffer_unordered(AT_ONCE);
    while let Some((several, told)) = answers.next().await {
        for ((way, number), told) in several.iter().zip(told?) {
            run.tally.attempted();
            let Some(script) = scripts.get(*number) else { continue };
            script.cuts.iter().for_each(|_| run.tally.fired());
            upstream.forget(&number.to_string());
            let same = told.end == End::Completed && data(&told.events) == data(&script.events);
            run.tally.expect(same, || {
                let at = told.events.iter().zip(&script.events).position(|(told, said)| told.1 != said.1);
                format!(
                    "stream {number} by {way:?} was told {:?}, {} of {} events, the first other one {at:?}",
                    told.end,
                    told.events.len(),
                    script.events.len()
                )
            });
        }
    }
    drop(answers);
    let end = process.settled(start, SPARE_FDS).await?;
    let facts = vec![format!(
        "{count} streams from socket to socket, {count} from HTTP to a socket, {count} from a socket to gRPC; {ANSWERS} answers on each \
         caller's socket; messages in one frame or in several, with pings between them, line breaks inside, pieces from one \
         byte up"
    )];
    Ok(run.end(Course { start, end }, facts))
}

/// Several answers, on one socket where there is one.
async fn tell(at: std::net::SocketAddr, grpc: &Grpc, several: &[(Way, usize)]) -> anyhow::Result<Vec<Told>> {
    let mut talker = Talker::connect(at).await?;
    let mut all = Vec::new();
    for (way, number) in several {
        let order = number.to_string();
        all.push(match way {
            Way::Sockets => talker.call(WIRED, &order).await,
            Way::ToHttp => talker.call(MODEL, &order).await,
            Way::FromGrpc => {
                let body = caller::body_for(WIRED, &order);
                tokio::time::timeout(caller::ANSWER_TIME_MAX, grpc.call_with(&body)).await?
            }
        });
        if matches!(all.last(), Some(Told { end: End::Silent(_), .. })) {
            // What follows goes on as if nothing had happened.
            talker = Talker::connect(at).await?;
        }
    }
    Ok(all)
}
