//! A provider that breaks its answer at every byte: the caller is told, in words that its client understands, and nothing
//! is repeated of which it has seen a part.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use gateway_testkit::Turn;
use serde_json::json;

use super::answer::{End, Told};
use super::caller::{Grpc, Surface, call};
use super::gauges;
use super::replica::Replica;
use super::row::{Row, Run, Tally};
use super::scale::Scale;
use super::spoiler::{Spoil, Spoiler};
use super::upstream::{Asked, Step, Upstream};
use super::vitals::Course;
use crate::stack;

const AT_ONCE: usize = 16;
/// File descriptors that an idle gateway may have more than before: connections to its provider.
const SPARE_FDS: u64 = 64;
/// The last event's blank line, without which it is still whole.
const BLANK: usize = 2;

/// How the provider breaks its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Break {
    Reset,
    Close,
    /// The end of the HTTP message, as if that were all.
    End,
}

const BREAKS: [Break; 3] = [Break::Reset, Break::Close, Break::End];

/// One answer that breaks.
#[derive(Debug, Clone, Copy)]
struct Cut {
    at: usize,
    how: Break,
    surface: Surface,
}

/// A turn as a coding client sees it: reasoning, a tool call, text.
pub(super) fn turn(id: &str) -> Vec<Bytes> {
    let words = ["The tide ", "turns at noon", ", they say: ", "\u{6f6e}\u{6c34}."];
    Turn::new(id)
        .reasoning(&["Look at ", "the moon."], "c2VjcmV0")
        .function_call("call_1", "shell", &json!({"command": ["ls", "-l"]}))
        .text(&words)
        .completed(stack::usage())
}

/// Runs the scenario.
pub async fn run(scale: Scale) -> anyhow::Result<Row> {
    let run = Run::begin(["cut", "calls", "broken answers"], scale);
    let first: Bytes = turn("resp_first").concat().into();
    let second: Bytes = turn("resp_second").concat().into();
    let cuts = cuts(first.len(), scale);
    let upstream = Upstream::start(play(first.clone(), second.clone(), Arc::clone(&cuts))).await?;
    let gateway = Replica::before(&upstream, "", "").await?;
    let spoiler = Spoiler::before(gateway.at, Spoil::Swallow(b"event: response.failed")).await?;
    let at = if scale.is_spoiled() { spoiler.at() } else { gateway.at };
    let grpc = Grpc::connect(at).await?;
    let process = gateway.process()?;
    let start = process.look()?;
    let mut repeated = 0_u64;
    let mut calls = stream::iter(cuts.iter().enumerate())
        .map(|(number, cut)| {
            let grpc = &grpc;
            async move { (number, cut, call(at, grpc, cut.surface, &number.to_string()).await) }
        })
        .buffer_unordered(AT_ONCE);
    while let Some((number, cut, told)) = calls.next().await {
        run.tally.attempted();
        let story =
            upstream.story(&number.to_string(), Duration::from_secs(2), |story| story.begun > 0).await;
        upstream.forget(&number.to_string());
        let begun = story.map_or(0, |story| story.begun);
        run.tally.fired();
        repeated += u64::from(begun.saturating_sub(1));
        let judged = Judge { cut: *cut, first: &first, second: &second, begun };
        judged.look_at(&told, &run.tally);
    }
    drop(calls);
    gauges::comes_to_rest(gateway.at, &run.tally).await?;
    let end = process.settled(start, SPARE_FDS).await?;
    let facts = vec![
        format!(
            "{} of the {} ways to break an answer of {} bytes: reset, close, early end on each surface",
            cuts.len(),
            (first.len() + 1) * BREAKS.len() * 2,
            first.len()
        ),
        format!("{repeated} answers broke before anything was passed on, and were repeated unseen"),
    ];
    Ok(run.end(Course { start, end }, facts))
}

/// Every way, or as many as the scale says, spread evenly.
fn cuts(length: usize, scale: Scale) -> Arc<Vec<Cut>> {
    let surfaces = [Surface::Http, Surface::Grpc];
    let all = (0..=length).flat_map(|at| {
        BREAKS.into_iter().flat_map(move |how| surfaces.map(|surface| Cut { at, how, surface }))
    });
    let all: Vec<Cut> = all.collect();
    let count = scale.of(u64::try_from(all.len()).unwrap_or(0));
    let count = usize::try_from(count).unwrap_or(usize::MAX).min(all.len());
    // An odd offset, so that a small count still meets each surface.
    let first = scale.dice(0).size(all.len());
    let stride = (all.len() / count).max(1) | 1;
    let picked = (0..count).filter_map(|index| all.get((first + index * stride) % all.len()).copied());
    Arc::new(if count == all.len() { all } else { picked.collect() })
}

/// The first time an answer breaks; if the call comes again, it gets another one, whole.
fn play(
    first: Bytes,
    second: Bytes,
    cuts: Arc<Vec<Cut>>,
) -> impl Fn(&Asked) -> Vec<Step> + Send + Sync + 'static {
    let seen = std::sync::Mutex::new(std::collections::HashSet::new());
    move |asked| {
        let number = asked.order().parse::<usize>().unwrap_or(usize::MAX);
        let again = !seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(number);
        let Some(cut) = cuts.get(number).filter(|_| !again) else {
            return vec![Step::Head, Step::Send(second.clone())];
        };
        let mut steps = vec![Step::Head];
        if cut.at > 0 {
            steps.push(Step::Send(first.slice(..cut.at)));
        }
        match cut.how {
            Break::Reset => steps.push(Step::Reset),
            Break::Close => steps.push(Step::Close),
            Break::End => {}
        }
        steps
    }
}

struct Judge<'a> {
    cut: Cut,
    first: &'a [u8],
    second: &'a [u8],
    /// How often the provider was called.
    begun: u32,
}

impl Judge<'_> {
    fn look_at(&self, told: &Told, tally: &Tally) {
        if let Err(problem) = self.verdict(told) {
            tally.violation(format!("{:?}: {problem}", self.cut));
        }
    }

    fn verdict(&self, told: &Told) -> Result<(), String> {
        match self.begun {
            1 => {}
            2 => {
                let whole =
                    told.end == End::Completed && self.is_part(told, self.second)? == self.second.len();
                return whole.then_some(()).ok_or_else(|| format!("repeated, and told as {:?}", told.end));
            }
            times => return Err(format!("the provider was called {times} times")),
        }
        let forwarded = self.is_part(told, self.first)?;
        let rest = self.first.len() - self.cut.at;
        match &told.end {
            End::Completed if rest <= BLANK => Ok(()),
            End::Completed => Err("told as completed".to_owned()),
            End::Failed(_) if rest == 0 && self.cut.how != Break::Reset => {
                Err("all was there, and it was told as failed".to_owned())
            }
            End::Failed(reason) if reason.starts_with("upstream_") && forwarded <= self.cut.at => Ok(()),
            other => Err(format!("{other:?}, with {forwarded} bytes before")),
        }
    }

    /// How many bytes of `whole` were told, if what was told is its beginning, up to a frame's border.
    fn is_part(&self, told: &Told, whole: &[u8]) -> Result<usize, String> {
        if self.cut.surface == Surface::Grpc {
            let expected = Told::events_of(whole);
            let told_all = told.events.len();
            let same = expected.get(..told_all).is_some_and(|expected| expected == told.events);
            // Bytes are not told on this surface; all events are all bytes.
            let all = if told_all == expected.len() { whole.len() } else { 0 };
            return same
                .then_some(all.min(self.cut_or_all(whole)))
                .ok_or_else(|| "other events were told".to_owned());
        }
        let bytes = told.without_failure();
        let border = bytes.is_empty() || bytes.ends_with(b"\n\n") || bytes.len() + BLANK >= whole.len();
        if whole.starts_with(bytes) && border {
            Ok(bytes.len())
        } else {
            Err(format!("other bytes were told, {} of {}", bytes.len(), whole.len()))
        }
    }

    /// As many bytes as this answer had.
    fn cut_or_all(&self, whole: &[u8]) -> usize {
        if std::ptr::eq(whole, self.first) { self.cut.at } else { whole.len() }
    }
}
