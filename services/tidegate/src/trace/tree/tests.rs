//! How a trace looks.

use super::*;

const START: i64 = 1_795_819_200;

fn at(ms: i64) -> Option<Timestamp> {
    let nanos = i32::try_from(ms % 1_000).unwrap() * 1_000_000;
    Some(Timestamp { seconds: START + ms / 1_000, nanos })
}

fn record(number: u64, ms: i64, turn: &str, record: Record) -> TraceRecord {
    let turn_id =
        if turn.is_empty() { String::new() } else { format!("019ac000-0000-7000-8000-{turn:0>12}") };
    TraceRecord { number, at: at(ms), turn_id, record: Some(record) }
}

fn lifecycle(event: LifecycleEvent) -> Record {
    let other_thread_id = "019abfff-0000-7000-8000-000000000001".to_owned();
    Record::Lifecycle(LifecycleTrace { event: event.into(), other_thread_id })
}

fn call(from: i64, (number, attempt): (u32, u32), outcome: TraceOutcome, input: u64) -> ModelCallTrace {
    let used = TraceTokens {
        input_tokens: input,
        cached_input_tokens: input / 2,
        output_tokens: 1_234,
        reasoning_output_tokens: 1_000,
    };
    ModelCallTrace {
        started_at: at(from),
        first_event_ms: (outcome != TraceOutcome::Failed).then_some(412),
        purpose: CallPurpose::Turn.into(),
        call: number,
        attempt,
        provider: "amazon-bedrock".to_owned(),
        model: "openai.gpt-6-sol".to_owned(),
        outcome: outcome.into(),
        reason: if outcome == TraceOutcome::Failed { "stream_closed".to_owned() } else { String::new() },
        tokens: (outcome == TraceOutcome::Completed).then_some(used),
    }
}

fn turn(from: i64, outcome: TraceOutcome) -> Record {
    Record::Turn(TurnTrace {
        started_at: at(from),
        model: "openai.gpt-6-sol".to_owned(),
        outcome: outcome.into(),
        reason: if outcome == TraceOutcome::Failed {
            "usage_limit_reached".to_owned()
        } else {
            String::new()
        },
        commits: 4,
        commits_us: 8_900,
    })
}

fn thread() -> Thread {
    Thread {
        id: "019abfff-0000-7000-8000-000000000000".to_owned(),
        provider: "amazon-bedrock".to_owned(),
        model: "openai.gpt-6-sol".to_owned(),
        ..Thread::default()
    }
}

#[test]
fn a_thread_s_life_is_a_tree() {
    use TraceOutcome::{Completed, Failed, Interrupted};
    let condensing = ModelCallTrace {
        purpose: CallPurpose::Compaction.into(),
        ..call(200_000, (1, 1), Completed, 1_234_567)
    };
    let condensed = CompactionTrace {
        started_at: at(200_000),
        asked_for: true,
        remote: false,
        outcome: Completed.into(),
        reason: String::new(),
    };
    let records = [
        record(1, 0, "", lifecycle(LifecycleEvent::Started)),
        record(2, 3_000, "1", Record::ModelCall(call(1_000, (1, 1), Failed, 0))),
        record(3, 9_870, "1", Record::ModelCall(call(3_200, (1, 2), Completed, 52_000))),
        record(4, 140_000, "1", Record::ModelCall(call(10_000, (2, 1), Completed, 60_500))),
        record(5, 140_020, "1", turn(900, Completed)),
        record(6, 150_000, "", lifecycle(LifecycleEvent::Unloaded)),
        record(7, 160_000, "", lifecycle(LifecycleEvent::Loaded)),
        record(8, 160_000, "", lifecycle(LifecycleEvent::Resumed)),
        record(9, 205_000, "2", Record::ModelCall(condensing)),
        record(10, 205_010, "2", Record::Compaction(condensed)),
        record(11, 205_020, "2", turn(199_990, Completed)),
        record(12, 4_000_000, "3", Record::ModelCall(call(300_000, (1, 1), Interrupted, 0))),
        record(13, 4_000_010, "3", turn(299_000, Interrupted)),
        record(14, 4_100_050, "4", turn(4_100_000, Failed)),
        record(15, 4_200_000, "", lifecycle(LifecycleEvent::CrashFound)),
        record(16, 4_300_000, "5", Record::ModelCall(call(4_290_000, (1, 1), Completed, 10))),
    ];
    let tree = of(&thread(), &records);
    insta::assert_snapshot!(tree);
    for line in tree.lines() {
        assert!(line.chars().count() <= 100, "{} columns: {line}", line.chars().count());
    }
}

#[test]
fn a_fork_without_turns_and_odd_names_are_shown() {
    let forked = record(1, 0, "", lifecycle(LifecycleEvent::Forked));
    let unknown = TraceRecord { number: 2, at: None, turn_id: String::new(), record: None };
    let odd = Thread { model: "a\u{1b}[31m".repeat(20), provider: String::new(), ..thread() };
    insta::assert_snapshot!(of(&odd, &[forked, unknown]));
    insta::assert_snapshot!(of(&thread(), &[]));
}

#[test]
fn a_name_that_is_cut_says_so() {
    let long = "x".repeat(NAME_CHARS_MAX);
    assert_eq!(name(&long), long);
    assert_eq!(name(&format!("{long}y")), format!("{long}…"));
    // What a terminal would act on takes more room when it is shown.
    assert_eq!(name(&"\n".repeat(12)), "\\n".repeat(12));
    assert_eq!(name(&"\n".repeat(13)), format!("{}…", "\\n".repeat(12)));
}

#[test]
fn no_number_that_a_provider_reports_is_too_large() {
    let calls: Vec<TraceRecord> = (0..2)
        .map(|number| {
            record(number, 1, "1", Record::ModelCall(call(0, (1, 1), TraceOutcome::Completed, u64::MAX)))
        })
        .collect();
    assert!(of(&thread(), &calls).contains("in 18,446,744,073,709,551,615 "));
}

#[test]
fn times_and_numbers_are_readable() {
    for (ms, told) in [
        (0, "0 ms"),
        (999, "999 ms"),
        (1_000, "1.00 s"),
        (59_999, "59.99 s"),
        (61_000, "1 min 01 s"),
        (3_600_000, "1 h 00 min"),
    ] {
        assert_eq!(millis(ms), told);
    }
    for (number, told) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
        assert_eq!(count(number), told);
    }
    for (seconds, told) in [
        (0, "1970-01-01 UTC"),
        (951_782_400, "2000-02-29 UTC"),
        (951_868_800, "2000-03-01 UTC"),
        (START, "2026-11-27 UTC"),
        (4_107_542_400, "2100-03-01 UTC"),
    ] {
        assert_eq!(day(&Timestamp { seconds, nanos: 0 }), told);
    }
    assert_eq!(clock(Some(&Timestamp { seconds: -1, nanos: 0 })), "23:59:59");
}
