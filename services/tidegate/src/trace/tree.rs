//! A thread's trace as a tree for people: turns, under each what it did, and totals. At most 100 columns wide.

use std::fmt::Write as _;

use prost_types::Timestamp;
use tidegate_proto::agent::v1::{
    CallPurpose, CompactionTrace, LifecycleEvent, LifecycleTrace, ModelCallTrace, Thread, TraceOutcome,
    TraceRecord, TraceTokens, TurnTrace, trace_record::Record,
};

/// How wide the tree is at most.
const COLUMNS_MAX: usize = 100;
/// The longest name of a model, a provider or a reason that is shown whole.
const NAME_CHARS_MAX: usize = 24;

/// What stands on one level of the tree.
enum Branch<'a> {
    Turn(Turn<'a>),
    Event(&'a TraceRecord),
}

/// A turn with what is known of it.
struct Turn<'a> {
    id: &'a str,
    /// `None` while it is running, or if its process died.
    end: Option<(&'a TraceRecord, &'a TurnTrace)>,
    parts: Vec<&'a TraceRecord>,
}

/// Sums over calls.
#[derive(Default)]
struct Sums {
    calls: usize,
    failed: usize,
    ms: i64,
    tokens: TraceTokens,
}

/// The tree.
pub(super) fn of(thread: &Thread, records: &[TraceRecord]) -> String {
    let branches = branches(records);
    let mut tree = String::new();
    let day = records.first().and_then(|record| record.at.as_ref()).map(day).unwrap_or_default();
    let model = names(&thread.provider, &thread.model);
    line(&mut tree, &format!("thread {}  {model}  {day}", thread.id));
    let mut all = Sums::default();
    let turns = branches.iter().filter(|branch| matches!(branch, Branch::Turn(_))).count();
    for branch in &branches {
        match branch {
            Branch::Event(record) => line(&mut tree, &format!("├─ {}", event(record))),
            Branch::Turn(turn) => {
                all.add_all(&turn.parts);
                turn.draw(&mut tree);
            }
        }
    }
    let turns = if turns == 1 { "1 turn".to_owned() } else { format!("{turns} turns") };
    line(&mut tree, &format!("└─ {turns}, {}", all.told()));
    line(&mut tree, &format!("   {}", tokens(&all.tokens)));
    tree
}

/// The records by turn, in the order in which the turns' first ones came.
fn branches(records: &[TraceRecord]) -> Vec<Branch<'_>> {
    let mut branches: Vec<Branch<'_>> = Vec::new();
    for record in records {
        if record.turn_id.is_empty() {
            branches.push(Branch::Event(record));
            continue;
        }
        let known = branches.iter_mut().rev().find_map(|branch| match branch {
            Branch::Turn(turn) if turn.id == record.turn_id => Some(turn),
            _ => None,
        });
        match known {
            Some(turn) => turn.add(record),
            None => {
                let mut turn = Turn { id: &record.turn_id, end: None, parts: Vec::new() };
                turn.add(record);
                branches.push(Branch::Turn(turn));
            }
        }
    }
    branches
}

impl<'a> Turn<'a> {
    fn add(&mut self, record: &'a TraceRecord) {
        match &record.record {
            Some(Record::Turn(turn)) => self.end = Some((record, turn)),
            _ => self.parts.push(record),
        }
    }

    fn draw(&self, tree: &mut String) {
        let mut sums = Sums::default();
        sums.add_all(&self.parts);
        let head = match self.end {
            Some((record, turn)) => {
                let took = span(turn.started_at.as_ref(), record.at.as_ref());
                let end = ended(turn.outcome(), &turn.reason);
                format!("{}  turn {}  {}  {end}", clock(turn.started_at.as_ref()), self.id, millis(took))
            }
            None => {
                let first = self.parts.first().and_then(|record| started(record));
                format!("{}  turn {}  has not ended", clock(first), self.id)
            }
        };
        line(tree, &format!("├─ {head}"));
        for part in &self.parts {
            line(tree, &format!("│  ├─ {}", event(part)));
            if let Some(Record::ModelCall(call)) = &part.record {
                answer(call).iter().for_each(|told| line(tree, &format!("│  │    {told}")));
            }
        }
        let store = self.end.map(|(_, turn)| {
            let ms = turn.commits_us / 1_000;
            format!(", {} commits in {}", turn.commits, millis(i64::try_from(ms).unwrap_or(i64::MAX)))
        });
        line(tree, &format!("│  └─ {}{}", sums.told(), store.unwrap_or_default()));
    }
}

impl Sums {
    fn add_all(&mut self, parts: &[&TraceRecord]) {
        for part in parts {
            let Some(Record::ModelCall(call)) = &part.record else { continue };
            self.calls += 1;
            self.failed += usize::from(call.outcome() == TraceOutcome::Failed);
            self.ms = self.ms.saturating_add(span(call.started_at.as_ref(), part.at.as_ref()));
            let Some(used) = &call.tokens else { continue };
            // A provider may report any number.
            let sum = |a: &mut u64, b: u64| *a = a.saturating_add(b);
            sum(&mut self.tokens.input_tokens, used.input_tokens);
            sum(&mut self.tokens.cached_input_tokens, used.cached_input_tokens);
            sum(&mut self.tokens.output_tokens, used.output_tokens);
            sum(&mut self.tokens.reasoning_output_tokens, used.reasoning_output_tokens);
        }
    }

    fn told(&self) -> String {
        let calls =
            if self.calls == 1 { "1 model call".to_owned() } else { format!("{} model calls", self.calls) };
        let failed = if self.failed == 0 { String::new() } else { format!(" ({} failed)", self.failed) };
        format!("{calls}{failed} in {}", millis(self.ms))
    }
}

/// A record in a line.
fn event(record: &TraceRecord) -> String {
    let at = record.at.as_ref();
    match &record.record {
        Some(Record::ModelCall(call)) => model_call(call, at),
        Some(Record::Compaction(compaction)) => compacted(compaction, at),
        Some(Record::Lifecycle(lifecycle)) => format!("{}  {}", clock(at), became(lifecycle)),
        Some(Record::Turn(turn)) => format!("{}  turn {}", clock(at), ended(turn.outcome(), &turn.reason)),
        None => format!("{}  something that this version does not know", clock(at)),
    }
}

fn model_call(call: &ModelCallTrace, at: Option<&Timestamp>) -> String {
    let attempt = if call.attempt > 1 { format!(" again ({})", call.attempt) } else { String::new() };
    let purpose = if call.purpose() == CallPurpose::Compaction { " to condense" } else { "" };
    let took = millis(span(call.started_at.as_ref(), at));
    let (from, end) = (clock(call.started_at.as_ref()), ended(call.outcome(), &call.reason));
    let whom = names(&call.provider, &call.model);
    format!("{from}  call {}{attempt}{purpose}  {whom}  {took}  {end}", call.call)
}

/// What a call brought, if it brought anything.
fn answer(call: &ModelCallTrace) -> Option<String> {
    let first = call.first_event_ms.map(|ms| i64::try_from(ms).unwrap_or(i64::MAX));
    let first = first.map(|ms| format!("first event after {}", millis(ms)));
    let parts = first.into_iter().chain(call.tokens.as_ref().map(tokens));
    Some(parts.collect::<Vec<_>>().join("; ")).filter(|parts| !parts.is_empty())
}

fn compacted(compaction: &CompactionTrace, at: Option<&Timestamp>) -> String {
    let why = if compaction.asked_for { "as asked" } else { "because it was long" };
    // Who would have done it is not known of one that failed.
    let whom = match (compaction.outcome(), compaction.remote) {
        (TraceOutcome::Completed, true) => ", by the provider",
        (TraceOutcome::Completed, false) => ", by the model",
        _ => "",
    };
    let took = millis(span(compaction.started_at.as_ref(), at));
    let end = ended(compaction.outcome(), &compaction.reason);
    format!("{}  condensed {why}{whom}  {took}  {end}", clock(compaction.started_at.as_ref()))
}

fn became(lifecycle: &LifecycleTrace) -> String {
    match lifecycle.event() {
        LifecycleEvent::Started => "started".to_owned(),
        LifecycleEvent::Forked => format!("forked from {}", lifecycle.other_thread_id),
        LifecycleEvent::Loaded => "loaded into memory".to_owned(),
        LifecycleEvent::Unloaded => "left memory".to_owned(),
        LifecycleEvent::Resumed => "taken up again".to_owned(),
        LifecycleEvent::Reverted => "its end was taken back".to_owned(),
        LifecycleEvent::CrashFound => {
            "found with an open turn: its process had died, or another one took the thread".to_owned()
        }
        LifecycleEvent::Unspecified => "something that this version does not know".to_owned(),
    }
}

fn ended(outcome: TraceOutcome, reason: &str) -> String {
    match outcome {
        TraceOutcome::Completed => "completed".to_owned(),
        TraceOutcome::Interrupted => "interrupted".to_owned(),
        TraceOutcome::Failed => format!("failed: {}", name(reason)),
        TraceOutcome::Unspecified => "ended".to_owned(),
    }
}

fn tokens(tokens: &TraceTokens) -> String {
    format!(
        "in {} ({} cached), out {} ({} reasoning)",
        count(tokens.input_tokens),
        count(tokens.cached_input_tokens),
        count(tokens.output_tokens),
        count(tokens.reasoning_output_tokens)
    )
}

/// When a record's event began.
fn started(record: &TraceRecord) -> Option<&Timestamp> {
    match &record.record {
        Some(Record::ModelCall(call)) => call.started_at.as_ref(),
        Some(Record::Compaction(compaction)) => compaction.started_at.as_ref(),
        _ => record.at.as_ref(),
    }
}

fn names(provider: &str, model: &str) -> String {
    match provider {
        "" => name(model),
        provider => format!("{}/{}", name(provider), name(model)),
    }
}

/// A name on one line, without anything that a terminal would act on.
fn name(text: &str) -> String {
    let mut shown = text.chars().flat_map(char::escape_debug);
    let mut name: String = shown.by_ref().take(NAME_CHARS_MAX).collect();
    if shown.next().is_some() {
        name.push('…');
    }
    name
}

/// A number with its thousands apart.
fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut apart = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            apart.push(',');
        }
        apart.push(digit);
    }
    apart
}

fn ms_of(at: &Timestamp) -> i64 {
    at.seconds.saturating_mul(1_000).saturating_add(i64::from(at.nanos) / 1_000_000)
}

fn span(from: Option<&Timestamp>, to: Option<&Timestamp>) -> i64 {
    from.zip(to).map_or(0, |(from, to)| ms_of(to).saturating_sub(ms_of(from)).max(0))
}

/// A time span as people say it.
fn millis(ms: i64) -> String {
    match ms {
        ..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{:02} s", ms / 1_000, ms % 1_000 / 10),
        60_000..3_600_000 => format!("{} min {:02} s", ms / 60_000, ms % 60_000 / 1_000),
        _ => format!("{} h {:02} min", ms / 3_600_000, ms % 3_600_000 / 60_000),
    }
}

/// The time of day, in UTC.
fn clock(at: Option<&Timestamp>) -> String {
    let Some(at) = at else { return "--:--:--".to_owned() };
    let second = at.seconds.rem_euclid(86_400);
    format!("{:02}:{:02}:{:02}", second / 3_600, second / 60 % 60, second % 60)
}

/// The day on which it began, in UTC. Years begin in March here, so that a leap day is the last of its year.
fn day(at: &Timestamp) -> String {
    let days = at.seconds.div_euclid(86_400) + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} UTC")
}

/// A line, cut where a terminal of a usual width would break it.
fn line(tree: &mut String, text: &str) {
    let end = match text.chars().count() {
        ..=COLUMNS_MAX => "",
        _ => "…",
    };
    let kept: String =
        text.chars().take(if end.is_empty() { COLUMNS_MAX } else { COLUMNS_MAX - 1 }).collect();
    // Writing into a text cannot fail.
    let _ = writeln!(tree, "{kept}{end}");
}

#[cfg(test)]
mod tests;
