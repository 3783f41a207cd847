//! Providers' answers that break at every byte, amid a WebSocket's frames or amid an event stream that a socket is told: the
//! caller is told, and nothing is repeated of which it has seen a part.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

use super::super::answer::{End, Told};
use super::super::caller::{ANSWER_TIME_MAX, Grpc, body_for};
use super::super::cut::turn;
use super::super::gauges;
use super::super::replica::MODEL;
use super::super::row::{Row, Run};
use super::super::scale::Scale;
use super::super::spoiler::{Spoil, Spoiler};
use super::super::upstream::{Asked, Step, Upstream, socket};
use super::super::vitals::Course;
use super::caller::{Talker, data};
use super::{WIRED, gateway};

const AT_ONCE: usize = 16;
const SPARE_FDS: u64 = 64;
/// The blank line of a last event, without which it is still whole.
const BLANK: usize = 2;

/// How the provider breaks its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Break {
    Reset,
    Close,
}

/// From whom to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Sockets,
    ToHttp,
    FromGrpc,
}

/// One answer that breaks.
#[derive(Debug, Clone, Copy)]
struct Cut {
    at: usize,
    how: Break,
    way: Way,
}

/// A turn, as it goes over each kind of connection.
struct Turn {
    events: Vec<(String, Bytes)>,
    /// Each event's end, in frames of a socket and in an event stream.
    ends: [Vec<usize>; 2],
    wires: [Bytes; 2],
}

impl Turn {
    fn new(id: &str) -> Self {
        let pieces = turn(id);
        let stream: Bytes = pieces.concat().into();
        let events = Told::events_of(&stream);
        let mut frames = Vec::new();
        let mut ends = [Vec::new(), Vec::new()];
        let [on_socket, in_stream] = &mut ends;
        for (_, data) in &events {
            socket::frame(&mut frames, socket::TEXT, true, data);
            on_socket.push(frames.len());
        }
        let blanks = stream.windows(BLANK).enumerate().filter(|(_, bytes)| bytes == b"\n\n");
        in_stream.extend(blanks.map(|(at, _)| at + BLANK));
        Self { events, ends, wires: [frames.into(), stream] }
    }

    fn wire(&self, way: Way) -> &Bytes {
        let [on_socket, in_stream] = &self.wires;
        if way == Way::ToHttp { in_stream } else { on_socket }
    }

    /// How many events are whole in so many bytes.
    fn whole(&self, way: Way, bytes: usize) -> usize {
        let [on_socket, in_stream] = &self.ends;
        match way {
            Way::ToHttp => {
                let all = self.wire(way).len();
                // The last event needs no blank line.
                let bytes = if bytes + BLANK >= all { all } else { bytes };
                in_stream.iter().filter(|end| **end <= bytes).count()
            }
            Way::Sockets | Way::FromGrpc => on_socket.iter().filter(|end| **end <= bytes).count(),
        }
    }
}

/// Runs the scenario.
pub async fn run(scale: Scale) -> anyhow::Result<Row> {
    let run = Run::begin(["socket-cut", "calls", "broken answers"], scale);
    let turns = Arc::new([Turn::new("resp_first"), Turn::new("resp_second")]);
    let [first, second] = &*turns;
    let cuts = cuts(first, scale);
    let upstream = Upstream::start(play(Arc::clone(&turns), Arc::clone(&cuts))).await?;
    let gateway = gateway(&upstream, "").await?;
    let spoiler = Spoiler::before(gateway.at, Spoil::Swallow(b"response.failed")).await?;
    let at = if scale.is_spoiled() { spoiler.at() } else { gateway.at };
    let grpc = Grpc::connect(at).await?;
    let process = gateway.process()?;
    let start = process.look()?;
    let (mut repeated, mut refused) = (0_u64, 0_u64);
    let mut calls = stream::iter(cuts.iter().enumerate())
        .map(|(number, cut)| {
            let grpc = &grpc;
            async move { (number, cut, call(at, grpc, cut.way, &number.to_string()).await) }
        })
        .buffer_unordered(AT_ONCE);
    while let Some((number, cut, told)) = calls.next().await {
        run.tally.attempted();
        let order = number.to_string();
        let story = upstream.story(&order, Duration::from_secs(2), |story| story.begun > 0).await;
        upstream.forget(&order);
        let begun = story.map_or(0, |story| story.begun);
        run.tally.fired();
        repeated += u64::from(begun.saturating_sub(1));
        refused += u64::from(matches!(told.end, End::Refused { .. }));
        if let Err(problem) = verdict(*cut, &told, begun, [first, second]) {
            run.tally.violation(format!("{cut:?}: {problem}"));
        }
    }
    drop(calls);
    drop(grpc);
    gauges::comes_to_rest(gateway.at, &run.tally).await?;
    let end = process.settled(start, SPARE_FDS).await?;
    run.tally.expect(upstream.sockets() == 0, || format!("{} sockets stay open", upstream.sockets()));
    let facts = vec![
        format!(
            "{} of the {} ways to break an answer of {} bytes in frames, or of {} bytes in an event stream: reset or end, from socket to \
             socket, from HTTP to a socket, from a socket to gRPC",
            cuts.len(),
            all(first).len(),
            first.wire(Way::Sockets).len(),
            first.wire(Way::ToHttp).len()
        ),
        format!(
            "{repeated} answers broke before their first event and were repeated unseen, {refused} were told as an error of the \
             provider because the budget of repeats was spent"
        ),
    ];
    Ok(run.end(Course { start, end }, facts))
}

fn all(turn: &Turn) -> Vec<Cut> {
    let ways = [Way::Sockets, Way::ToHttp, Way::FromGrpc];
    let of_way = |way: Way| {
        let offsets = 0..=turn.wire(way).len();
        offsets.flat_map(move |at| [Break::Reset, Break::Close].map(|how| Cut { at, how, way }))
    };
    ways.into_iter().flat_map(of_way).collect()
}

/// Every way, or as many as the scale says, spread evenly.
fn cuts(turn: &Turn, scale: Scale) -> Arc<Vec<Cut>> {
    let all = all(turn);
    let count = usize::try_from(scale.of(u64::try_from(all.len()).unwrap_or(0))).unwrap_or(usize::MAX);
    if count >= all.len() {
        return Arc::new(all);
    }
    // An odd stride, so that a small count meets each kind of break.
    let (first, stride) = (scale.dice(0).size(all.len()), (all.len() / count).max(1) | 1);
    let picked = (0..count).filter_map(|index| all.get((first + index * stride) % all.len()).copied());
    Arc::new(picked.collect())
}

/// The first time an answer breaks; if the call comes again, it gets another one, whole.
fn play(turns: Arc<[Turn; 2]>, cuts: Arc<Vec<Cut>>) -> impl Fn(&Asked) -> Vec<Step> + Send + Sync + 'static {
    let seen = Mutex::new(HashSet::new());
    move |asked| {
        let [first, second] = &*turns;
        let number = asked.order().parse::<usize>().unwrap_or(usize::MAX);
        let again = !seen.lock().unwrap_or_else(PoisonError::into_inner).insert(number);
        let Some(cut) = cuts.get(number) else { return vec![Step::Close] };
        if again {
            return vec![Step::Head, Step::Send(second.wire(cut.way).clone())];
        }
        let mut steps = vec![Step::Head];
        if cut.at > 0 {
            steps.push(Step::Send(first.wire(cut.way).slice(..cut.at)));
        }
        steps.push(match cut.how {
            Break::Reset => Step::Reset,
            Break::Close => Step::Close,
        });
        steps
    }
}

async fn call(at: SocketAddr, grpc: &Grpc, way: Way, order: &str) -> Told {
    if way == Way::FromGrpc {
        let body = body_for(WIRED, order);
        let told = grpc.call_with(&body);
        return Box::pin(tokio::time::timeout(ANSWER_TIME_MAX, told))
            .await
            .unwrap_or_else(|_| Told::silent("no end in time"));
    }
    let model = if way == Way::Sockets { WIRED } else { MODEL };
    match Talker::connect(at).await {
        Ok(mut talker) => talker.call(model, order).await,
        Err(why) => Told::silent(format!("connect: {why:#}")),
    }
}

fn verdict(cut: Cut, told: &Told, begun: u32, [first, second]: [&Turn; 2]) -> Result<(), String> {
    let told_data = data(&told.events);
    if begun == 2 {
        let whole = told.end == End::Completed && told_data == data(&second.events);
        return whole.then_some(()).ok_or_else(|| format!("repeated, and told as {:?}", told.end));
    }
    if begun != 1 {
        return Err(format!("the provider was called {begun} times"));
    }
    if !data(&first.events).starts_with(&told_data) {
        return Err("other events were told".to_owned());
    }
    let (whole, count) = (first.whole(cut.way, cut.at), told.events.len());
    if count > whole {
        return Err(format!("{count} events were told, and {whole} had come"));
    }
    let all = whole == first.events.len();
    match &told.end {
        End::Completed if all => Ok(()),
        // A reset may overtake what was sent before it, and an event stream without its last blank line is one that was cut.
        End::Failed(_) | End::Refused { .. }
            if cut.at == first.wire(cut.way).len() && cut.how == Break::Close =>
        {
            Err("all was there, and it was told as failed".to_owned())
        }
        End::Failed(reason) if reason.starts_with("upstream_") => Ok(()),
        End::Refused { reason, .. } if reason.starts_with("upstream_") && count == 0 => Ok(()),
        other => Err(format!("{other:?}, with {count} events before")),
    }
}
