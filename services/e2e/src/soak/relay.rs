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
use super::upstream::{Asked, Step, Upstream, socket};
use super::vitals::Course;

const STREAMS: u64 = 2_000;
const AT_ONCE: usize = 16;
const EVENTS_MAX: u64 = 60;
/// More would measure system calls.
const PIECES_MAX: usize = 120;
const SPARE_FDS: u64 = 64;

/// A stream, what it says, and how it is cut.
#[derive(Debug, Clone, Default)]
pub(super) struct Script {
    bytes: Vec<u8>,
    pub(super) events: Vec<(String, Bytes)>,
    pub(super) cuts: Vec<usize>,
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

/// What is asked for by its number.
pub(super) fn play(scripts: Arc<Vec<Script>>) -> impl Fn(&Asked) -> Vec<Step> + Send + Sync + 'static {
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
    let made = (0..scale.of(STREAMS)).map(|number| Script::over_http(&mut scale.dice(number)));
    (0..count).map(split).chain(made).collect()
}

/// The event that ends a stream.
const LAST: (&str, &str) = (
    "response.completed",
    r#"{"type":"response.completed","response":{"id":"resp_made","status":"completed","output":[],"usage":null}}"#,
);

/// An event made by dice: its type, and its two halves.
fn event(number: u64, dice: &mut Dice) -> (&'static str, [String; 2]) {
    let letters = ["a", "\u{e4}", "\u{6f6e}", "\u{1f30a}", "\\n", "\\\"", "data: ", "event: x", " "];
    let text: String =
        (0..dice.below(200)).filter_map(|_| letters.get(dice.size(letters.len())).copied()).collect();
    let kinds = ["response.output_text.delta", "response.unheard_of", "response.output_item.done"];
    let kind = kinds.get(dice.size(kinds.len())).copied().unwrap_or_default();
    let begin = format!(r#"{{"type":"{kind}","sequence_number":{number},"#);
    (kind, [begin, format!(r#""delta":"{text}"}}"#)])
}

impl Script {
    /// An event stream made by dice.
    pub(super) fn over_http(dice: &mut Dice) -> Self {
        let mut script = Self::default();
        if dice.once_in(10) {
            script.bytes.extend_from_slice("\u{feff}".as_bytes());
        }
        let end = if dice.once_in(3) { "\r\n" } else { "\n" };
        for number in 0..=dice.below(EVENTS_MAX) {
            if dice.once_in(5) {
                script.bytes.extend_from_slice(format!(": keep alive{end}{end}").as_bytes());
            }
            let (kind, [begin, rest]) = event(number, dice);
            if dice.once_in(4) {
                script.add(kind, &[&begin, &rest], end, dice);
            } else {
                script.add(kind, &[&format!("{begin}{rest}")], end, dice);
            }
        }
        script.add(LAST.0, &[LAST.1], end, dice);
        script.cut(dice);
        script
    }

    /// The same on a WebSocket.
    pub(super) fn on_socket(dice: &mut Dice) -> Self {
        let mut script = Self::default();
        for number in 0..=dice.below(EVENTS_MAX) {
            let (_, [begin, rest]) = event(number, dice);
            let space = if dice.once_in(4) { "\n " } else { "" };
            script.message(format!("{begin}{space}{rest}").into(), dice);
        }
        script.message(LAST.1.into(), dice);
        script.cut(dice);
        script
    }

    /// A message in one frame or in several; a ping may come before each.
    fn message(&mut self, text: Bytes, dice: &mut Dice) {
        let parts = if dice.once_in(3) { 2 + dice.size(4) } else { 1 };
        let mut ends: Vec<usize> = (1..parts).map(|_| dice.size(text.len())).collect();
        ends.sort_unstable();
        ends.push(text.len());
        let mut from = 0;
        for (part, end) in ends.into_iter().enumerate() {
            if dice.once_in(8) {
                socket::frame(&mut self.bytes, socket::PING, true, b"there?");
            }
            let opcode = if part == 0 { socket::TEXT } else { socket::CONTINUATION };
            let payload = text.get(from..end).unwrap_or_default();
            socket::frame(&mut self.bytes, opcode, part + 1 == parts, payload);
            from = end;
        }
        self.events.push((String::new(), text));
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
