//! Streams of every form, cut anywhere on their way: the caller gets the provider's bytes, or its events, unchanged.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

use super::answer::{End, Told};
use super::caller::{Grpc, Surface, call};
use super::cut::turn;
use super::replica::Replica;
use super::row::{Row, Run};
use super::scale::{Dice, Scale};
use super::spoiler::{Spoil, Spoiler};
use super::upstream::{Asked, Step, Upstream};
use super::vitals::Course;

const STREAMS: u64 = 2_000;
const AT_ONCE: usize = 16;
const EVENTS_MAX: u64 = 60;
/// More would measure system calls.
const PIECES_MAX: usize = 120;
const SPARE_FDS: u64 = 64;

/// A stream, what it says, and how it is cut.
#[derive(Debug, Clone, Default)]
struct Script {
    bytes: Vec<u8>,
    events: Vec<(String, Bytes)>,
    cuts: Vec<usize>,
}

/// Runs the scenario.
pub async fn run(scale: Scale) -> anyhow::Result<Row> {
    let run = Run::begin(["relay", "streams", "cuts between two writes"], scale);
    let scripts: Arc<Vec<Script>> = Arc::new(scripts(scale));
    let upstream = Upstream::start(play(Arc::clone(&scripts))).await?;
    let gateway = Replica::before(&upstream, "", "").await?;
    let spoiler = Spoiler::before(gateway.at, Spoil::Replace(b"delta", b"atled")).await?;
    let at = if scale.is_spoiled() { spoiler.at() } else { gateway.at };
    let grpc = Grpc::connect(at).await?;
    let process = gateway.process()?;
    let start = process.look()?;
    let mut calls = stream::iter(0_u64..)
        .zip(stream::iter(scripts.iter()))
        .flat_map(|(number, script)| {
            stream::iter([Surface::Http, Surface::Grpc].map(|way| (number, script, way)))
        })
        .map(|(number, script, way)| {
            let grpc = &grpc;
            async move { (number, script, way, call(at, grpc, way, &number.to_string()).await) }
        })
        .buffer_unordered(AT_ONCE);
    while let Some((number, script, way, told)) = calls.next().await {
        run.tally.attempted();
        script.cuts.iter().for_each(|_| run.tally.fired());
        upstream.forget(&number.to_string());
        if let Err(problem) = script.verdict(way, &told) {
            run.tally.violation(format!("stream {number} over {way:?}: {problem}"));
        }
    }
    drop(calls);
    let end = process.settled(start, SPARE_FDS).await?;
    let splits = turn("resp_split").concat().len() - 1;
    let facts = vec![format!(
        "{} streams, each over both surfaces: a turn split at {} of its {splits} inner offsets, the others made by dice with \
         LF or CRLF, comments, several data lines, unknown fields, a byte order mark, pieces from one byte up",
        scripts.len(),
        scale.of(u64::try_from(splits)?),
    )];
    Ok(run.end(Course { start, end }, facts))
}

fn play(scripts: Arc<Vec<Script>>) -> impl Fn(&Asked) -> Vec<Step> + Send + Sync + 'static {
    move |asked| {
        let script = asked.order().parse().ok().and_then(|number: usize| scripts.get(number));
        let Some(script) = script else { return vec![Step::Close] };
        let ends = script.cuts.iter().copied().chain([script.bytes.len()]);
        let mut from = 0;
        let pieces = ends.filter_map(|end| {
            let piece = script.bytes.get(from..end).filter(|piece| !piece.is_empty());
            from = end;
            piece.map(|piece| Step::Send(Bytes::copy_from_slice(piece)))
        });
        std::iter::once(Step::Head).chain(pieces).collect()
    }
}

fn scripts(scale: Scale) -> Vec<Script> {
    let turn = turn("resp_split").concat();
    let events = Told::events_of(&turn);
    let inner = u64::try_from(turn.len() - 1).unwrap_or(0);
    let count = scale.of(inner);
    let offset = |index: u64| usize::try_from(1 + index * inner / count).unwrap_or(1);
    let split = |index| Script { bytes: turn.clone(), events: events.clone(), cuts: vec![offset(index)] };
    let made = (0..scale.of(STREAMS)).map(|number| Script::made(&mut scale.dice(number)));
    (0..count).map(split).chain(made).collect()
}

impl Script {
    fn made(dice: &mut Dice) -> Self {
        let mut script = Self::default();
        if dice.once_in(10) {
            script.bytes.extend_from_slice("\u{feff}".as_bytes());
        }
        let end = if dice.once_in(3) { "\r\n" } else { "\n" };
        for number in 0..=dice.below(EVENTS_MAX) {
            script.event(number, end, dice);
        }
        let data = r#"{"type":"response.completed","response":{"id":"resp_made","status":"completed","output":[],"usage":null}}"#;
        script.add("response.completed", &[data], end, dice);
        script.cut(dice);
        script
    }

    fn event(&mut self, number: u64, end: &str, dice: &mut Dice) {
        let letters = ["a", "\u{e4}", "\u{6f6e}", "\u{1f30a}", "\\n", "\\\"", "data: ", "event: x", " "];
        let text: String =
            (0..dice.below(200)).filter_map(|_| letters.get(dice.size(letters.len())).copied()).collect();
        let kinds = ["response.output_text.delta", "response.unheard_of", "response.output_item.done"];
        let kind = kinds.get(dice.size(kinds.len())).copied().unwrap_or_default();
        let begin = format!(r#"{{"type":"{kind}","sequence_number":{number},"#);
        let rest = format!(r#""delta":"{text}"}}"#);
        if dice.once_in(5) {
            self.bytes.extend_from_slice(format!(": keep alive{end}{end}").as_bytes());
        }
        if dice.once_in(4) {
            self.add(kind, &[&begin, &rest], end, dice);
        } else {
            self.add(kind, &[&format!("{begin}{rest}")], end, dice);
        }
    }

    fn add(&mut self, kind: &str, data: &[&str], end: &str, dice: &mut Dice) {
        let space = if dice.once_in(3) { "" } else { " " };
        let mut frame = String::new();
        if !dice.once_in(4) {
            frame.push_str(&format!("event:{space}{kind}{end}"));
        }
        if dice.once_in(6) {
            frame.push_str(&format!("id: 7{end}retry: 10{end}: a comment{end}"));
        }
        for line in data {
            frame.push_str(&format!("data:{space}{line}{end}"));
        }
        self.bytes.extend_from_slice(format!("{frame}{end}").as_bytes());
        self.events.push((kind.to_owned(), data.join("\n").into()));
    }

    fn cut(&mut self, dice: &mut Dice) {
        let widest = [1, 7, 100, 2_000].get(dice.size(4)).copied().unwrap_or(1);
        let mut at = dice.size(self.bytes.len());
        // From a place of its own, so that pieces of one byte meet every part of a stream.
        while self.cuts.len() < PIECES_MAX {
            at += 1 + dice.size(widest);
            if at >= self.bytes.len() {
                break;
            }
            self.cuts.push(at);
        }
    }

    fn verdict(&self, way: Surface, told: &Told) -> Result<(), String> {
        if told.end != End::Completed {
            return Err(format!("told as {:?}", told.end));
        }
        let same = match way {
            Surface::Http => told.body == self.bytes,
            Surface::Grpc => told.events == self.events,
        };
        let differs = || {
            let at = self.events.iter().zip(&told.events).position(|(is, was)| is != was);
            format!("{} bytes became {}, first other event: {at:?}", self.bytes.len(), told.body.len())
        };
        if same { Ok(()) } else { Err(differs()) }
    }
}
