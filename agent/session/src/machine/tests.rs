//! The machine's transitions as tables, and what holds for any order of inputs.

use std::time::Duration;

use agent_threads::{ItemId, Settings, UserInput};
use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::context::{Outcome, Trim};

fn limits() -> Limits {
    Limits { model_calls_max: 4, retries: Retries { max: 2, ..Retries::default() } }
}

fn said(text: &str) -> UserMessage {
    let content = vec![UserInput::Text { text: text.to_owned(), text_elements: Vec::new() }];
    UserMessage { id: ItemId::generate(), client_id: None, content, images: Vec::new() }
}

fn begin() -> (Turn, Vec<Effect>) {
    let start = TurnStart { turn_id: TurnId::generate(), settings: Settings::default() };
    Turn::begin(start, Opener::Message(said("hello")), Opening::default(), (Usage::default(), limits()), 1)
}

fn event(json: &str) -> Input {
    let kind = serde_json::from_str::<serde_json::Value>(json).unwrap()["type"].as_str().unwrap().to_owned();
    Input::Call(CallEvent::Event { kind, data: Bytes::copy_from_slice(json.as_bytes()) })
}

fn added(id: &str) -> Input {
    event(&format!(
        r#"{{"type":"response.output_item.added","output_index":0,"item":{{"type":"message","role":"assistant","id":"{id}","content":[]}}}}"#
    ))
}

fn delta(id: &str) -> Input {
    event(&format!(
        r#"{{"type":"response.output_text.delta","item_id":"{id}","output_index":0,"delta":"Hi"}}"#
    ))
}

fn done(id: &str) -> Input {
    event(&format!(
        r#"{{"type":"response.output_item.done","output_index":0,"item":{{"type":"message","role":"assistant","id":"{id}","content":[{{"type":"output_text","text":"Hi"}}]}}}}"#
    ))
}

fn reasoning_done() -> Input {
    event(
        r#"{"type":"response.output_item.done","output_index":1,"item":{"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"hm"}],"encrypted_content":"e"}}"#,
    )
}

fn call_done() -> Input {
    event(
        r#"{"type":"response.output_item.done","output_index":2,"item":{"type":"function_call","id":"fc_1","call_id":"c1","name":"shell","arguments":"{}"}}"#,
    )
}

fn completed() -> Input {
    let usage = Usage { input_tokens: 5, output_tokens: 2, total_tokens: 7, ..Usage::default() };
    Input::Call(CallEvent::Completed { response_id: "resp".to_owned(), usage: Some(usage) })
}

fn failure() -> Failure {
    unfinished()
}

/// What effects look like, one word each.
fn words(effects: &[Effect]) -> String {
    let words: Vec<String> = effects.iter().map(word).collect();
    words.join(" ")
}

fn word(effect: &Effect) -> String {
    match effect {
        Effect::Commit(entries) => {
            format!("commit[{}]", entries.iter().map(entry_word).collect::<Vec<_>>().join(","))
        }
        Effect::Accepted => "accepted".to_owned(),
        Effect::Tell(told) => told_word(told),
        Effect::CallModel(Purpose::Answer) => "call".to_owned(),
        Effect::CallModel(Purpose::Compaction(Trim(halvings))) => format!("condense/{halvings}"),
        Effect::BeginAnew { outcome, entries, .. } => {
            let outcome = match outcome {
                Outcome::Summary(text) => text,
                Outcome::Item(json) => json.get(),
            };
            format!("anew({outcome})[{}]", entries.iter().map(entry_word).collect::<Vec<_>>().join(","))
        }
        Effect::CancelCall => "cancel".to_owned(),
        Effect::Pause(Pause::Exact(pause)) => format!("pause={}", pause.as_millis()),
        Effect::Pause(Pause::About(pause)) => format!("pause~{}", pause.as_millis()),
        Effect::RunTool(call) => format!("run({})", call.name),
        Effect::CancelTools => "cancel-tools".to_owned(),
        Effect::End(status, told) => {
            format!("end({status:?}:{})", told.iter().map(told_word).collect::<Vec<_>>().join(","))
        }
    }
}

fn entry_word(entry: &Entry) -> &'static str {
    match entry {
        Entry::TurnStarted(_) => "start",
        Entry::Item { .. } => "item",
        Entry::ModelItem { .. } => "model",
        Entry::ContextItem { .. } => "context",
        Entry::Compacted { .. } => "compacted",
        Entry::Usage { .. } => "usage",
        Entry::TurnEnded { .. } => "ended",
        Entry::Reverted { .. } => "reverted",
    }
}

fn told_word(told: &Told) -> String {
    match &told.event {
        Event::StatusChanged(status) => format!("{status:?}"),
        Event::TurnStarted { .. } => "turn-started".to_owned(),
        Event::ItemStarted { .. } => "item-started".to_owned(),
        Event::ItemCompleted { .. } => "item-completed".to_owned(),
        Event::AgentMessageDelta { .. } => "delta".to_owned(),
        Event::TokenUsage { .. } => "tokens".to_owned(),
        Event::RateLimits(_) => "limits".to_owned(),
        Event::Error { will_retry: true, error, .. } => format!("retry({})", error.message),
        Event::Error { error, .. } => format!("error({:?})", error.kind),
        Event::TurnCompleted { turn } => format!("turn-{:?}", turn.status),
        other => format!("{other:?}"),
    }
}

/// Feeds inputs into a new turn; the effects of each have to look as told.
fn check(steps: Vec<(Input, &str)>) -> Turn {
    let (mut turn, _) = begin();
    for (index, (input, expected)) in steps.into_iter().enumerate() {
        let effects = turn.apply(input, 2);
        assert_eq!(words(&effects), expected, "step {index}");
    }
    turn
}

const DONE: &str = "commit[item,model,usage,ended] item-completed tokens end(Idle:turn-Completed)";

#[test]
fn a_turn_begins_with_one_commit_and_then_tells_and_calls() {
    let (_, effects) = begin();
    assert_eq!(
        words(&effects),
        "commit[start,item,model] accepted Active turn-started item-started item-completed call"
    );
}

#[test]
fn a_minimal_turn_needs_one_more_commit() {
    let turn = check(vec![
        (added("m"), ""),
        (delta("m"), "item-started delta"),
        (delta("m"), "delta"),
        (done("m"), ""),
        (completed(), DONE),
    ]);
    assert!(turn.has_ended());
}

#[test]
fn an_item_that_comes_all_at_once_is_told_whole() {
    check(vec![
        (done("m"), ""),
        (
            completed(),
            "commit[item,model,usage,ended] item-started item-completed tokens end(Idle:turn-Completed)",
        ),
    ]);
}

#[test]
fn reasoning_is_told_when_the_answer_begins_and_enters_the_input_with_it() {
    check(vec![
        (reasoning_done(), ""),
        (added("m"), "commit[item] item-started item-completed"),
        (delta("m"), "item-started delta"),
        (done("m"), ""),
        (completed(), "commit[item,model,model,usage,ended] item-completed tokens end(Idle:turn-Completed)"),
    ]);
}

#[test]
fn a_broken_stream_is_tried_again_from_the_start_and_then_given_up() {
    check(vec![
        (added("m"), ""),
        (delta("m"), "item-started delta"),
        (Input::CallFailed(failure()), "retry(Reconnecting... 1/2) pause~200"),
        (delta("m"), ""),
        (Input::RetryDue, "call"),
        (Input::CallFailed(failure()), "retry(Reconnecting... 2/2) pause~400"),
        (Input::RetryDue, "call"),
        (
            Input::CallFailed(failure()),
            "cancel commit[ended] end(SystemError:error(StreamDisconnected),turn-Failed)",
        ),
    ]);
}

#[test]
fn a_provider_that_says_when_is_waited_for_but_not_forever() {
    let asks = |seconds| Failure { retry_delay: Some(Duration::from_secs(seconds)), ..failure() };
    check(vec![
        (Input::CallFailed(asks(3)), "retry(Reconnecting... 1/2) pause=3000"),
        (Input::RetryDue, "call"),
        (
            Input::CallFailed(asks(86_400)),
            "cancel commit[ended] end(SystemError:error(StreamDisconnected),turn-Failed)",
        ),
    ]);
}

#[test]
fn retries_are_counted_for_each_call() {
    check(vec![
        (Input::CallFailed(failure()), "retry(Reconnecting... 1/2) pause~200"),
        (Input::RetryDue, "call"),
        (call_done(), ""),
        (completed(), "commit[model,usage] tokens run(shell)"),
        (Input::ToolFinished { call_id: "c1".to_owned(), output: "no".to_owned() }, "commit[model] call"),
        (Input::CallFailed(failure()), "retry(Reconnecting... 1/2) pause~200"),
    ]);
}

#[test]
fn a_turn_makes_no_more_calls_than_it_may() {
    let (mut turn, _) = begin();
    let mut last = String::new();
    for _ in 0..4 {
        turn.apply(call_done(), 2);
        turn.apply(completed(), 2);
        last = words(&turn.apply(Input::ToolFinished { call_id: "c1".to_owned(), output: String::new() }, 2));
    }
    assert_eq!(last, "commit[model] commit[ended] end(SystemError:error(Other),turn-Failed)");
}

#[test]
fn an_interrupt_keeps_what_was_seen() {
    check(vec![
        (added("m"), ""),
        (delta("m"), "item-started delta"),
        (Input::Interrupt, "cancel commit[model,item,ended] item-completed end(Idle:turn-Interrupted)"),
        (done("m"), ""),
        (Input::Interrupt, ""),
    ]);
    check(vec![(Input::Interrupt, "cancel commit[ended] end(Idle:turn-Interrupted)")]);
}

#[test]
fn an_interrupt_leaves_no_tool_call_without_an_output() {
    check(vec![
        (call_done(), ""),
        (completed(), "commit[model,usage] tokens run(shell)"),
        (Input::Interrupt, "cancel-tools commit[model,ended] end(Idle:turn-Interrupted)"),
    ]);
    // A call whose response did not come to its end was never made.
    check(vec![(call_done(), ""), (Input::Interrupt, "cancel commit[ended] end(Idle:turn-Interrupted)")]);
}

#[test]
fn steering_replaces_the_response_in_flight() {
    check(vec![
        (added("m"), ""),
        (delta("m"), "item-started delta"),
        (
            Input::Steer(said("shorter")),
            "commit[model,item,item,model] accepted cancel item-completed item-started item-completed call",
        ),
        (done("n"), ""),
        (
            completed(),
            "commit[item,model,usage,ended] item-started item-completed tokens end(Idle:turn-Completed)",
        ),
    ]);
}

#[test]
fn steering_during_a_pause_waits_for_the_retry() {
    check(vec![
        (Input::CallFailed(failure()), "retry(Reconnecting... 1/2) pause~200"),
        (Input::Steer(said("also")), "commit[item,model] accepted item-started item-completed"),
        (Input::RetryDue, "call"),
    ]);
}

#[test]
fn a_store_that_fails_ends_the_turn_even_at_its_last_commit() {
    let error = TurnError {
        kind: TurnErrorKind::InternalServerError,
        reason: "store_failed".to_owned(),
        message: "disk".to_owned(),
        http_status: None,
    };
    let turn = check(vec![
        (done("m"), ""),
        (
            completed(),
            "commit[item,model,usage,ended] item-started item-completed tokens end(Idle:turn-Completed)",
        ),
        (Input::StoreFailed(error), "end(SystemError:error(InternalServerError),turn-Failed)"),
    ]);
    assert!(turn.has_ended());
}

#[test]
fn an_incomplete_response_is_final_and_its_words_stay() {
    let cut = r#"{"type":"response.incomplete","response":{"id":"r","status":"incomplete","incomplete_details":{"reason":"max_output_tokens"}}}"#;
    check(vec![
        (done("m"), ""),
        (event(cut), ""),
        (
            Input::Call(CallEvent::Failed { failure: failure(), usage: Some(Usage::default()) }),
            "cancel commit[item,model,usage,ended] item-started item-completed tokens end(SystemError:error(Other),turn-Failed)",
        ),
    ]);
}

fn any_input() -> impl Strategy<Value = Input> {
    prop_oneof![
        3 => prop_oneof!["a", "b"].prop_map(|id| added(&id)),
        5 => prop_oneof!["a", "b"].prop_map(|id| delta(&id)),
        3 => prop_oneof!["a", "b"].prop_map(|id| done(&id)),
        1 => Just(()).prop_map(|()| reasoning_done()),
        1 => Just(()).prop_map(|()| call_done()),
        2 => Just(()).prop_map(|()| completed()),
        1 => Just(()).prop_map(|()| Input::Call(CallEvent::Failed { failure: failure(), usage: None })),
        1 => Just(()).prop_map(|()| Input::CallFailed(failure())),
        2 => Just(Input::RetryDue),
        1 => Just(()).prop_map(|()| Input::Steer(said("more"))),
        2 => Just(()).prop_map(|()| Input::ToolFinished { call_id: "c1".to_owned(), output: "out".to_owned() }),
        1 => Just(Input::Interrupt),
    ]
}

/// What any run of the machine must look like; a list so that a broken one can be shown to be caught.
fn violations(effects: &[Effect]) -> Vec<&'static str> {
    let mut found = Vec::new();
    let (mut ended, mut ends) = (false, 0);
    let (mut started, mut completed): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    let mut retried: Vec<String> = Vec::new();
    let (mut calls, mut outputs) = (0_i32, 0_i32);
    for effect in effects {
        if ended {
            found.push("an effect after the end");
        }
        match effect {
            Effect::Commit(entries) => {
                if entries.is_empty() {
                    found.push("an empty commit");
                }
                for entry in entries {
                    match entry {
                        Entry::TurnEnded { .. } => ends += 1,
                        Entry::ModelItem { json, .. } if json.get().contains("function_call_output") => {
                            outputs += 1
                        }
                        Entry::ModelItem { json, .. } if json.get().contains("function_call") => calls += 1,
                        _ if ends > 0 => found.push("an entry after the turn's end"),
                        _ => {}
                    }
                }
            }
            Effect::Tell(Told { event: Event::ItemStarted { item, .. }, .. }) => {
                started.push(item.id().to_string())
            }
            Effect::Tell(Told { event: Event::ItemCompleted { item, .. }, entry }) => {
                if entry.is_none() {
                    found.push("an item told complete without being stored");
                }
                completed.push(item.id().to_string());
            }
            Effect::Tell(Told { event: Event::Error { will_retry: true, .. }, .. }) => {
                retried.append(&mut started)
            }
            Effect::End(..) => ended = true,
            _ => {}
        }
    }
    started.retain(|id| match completed.iter().position(|other| other == id) {
        Some(index) => {
            completed.remove(index);
            false
        }
        None => true,
    });
    // A retry lets go of what its broken response had begun; what was complete by then is complete.
    completed.retain(|id| !retried.contains(id));
    if ended && !started.is_empty() {
        found.push("an item was started and not completed");
    }
    if !completed.is_empty() {
        found.push("an item was completed and not started");
    }
    if ended && ends != 1 {
        found.push("not exactly one end");
    }
    if ended && calls != outputs {
        found.push("a tool call without output, or the other way round");
    }
    found
}

proptest! {
    #[test]
    fn any_order_of_inputs_keeps_the_rules(inputs in prop::collection::vec(any_input(), 0..60)) {
        let (mut turn, mut effects) = begin();
        for input in inputs {
            let interrupted = matches!(input, Input::Interrupt);
            let step = turn.apply(input, 2);
            if interrupted {
                prop_assert!(!words(&step).contains("call"), "a model call after an interrupt");
                prop_assert!(turn.has_ended());
            }
            effects.extend(step);
        }
        effects.extend(turn.apply(Input::Interrupt, 3));
        prop_assert_eq!(violations(&effects), Vec::<&str>::new(), "{}", words(&effects));
    }
}

#[test]
fn the_rules_catch_a_broken_run() {
    let (mut turn, mut effects) = begin();
    effects.extend(turn.apply(added("m"), 2));
    effects.extend(turn.apply(delta("m"), 2));
    let end = turn.apply(Input::Interrupt, 3);
    let without_completion = end.iter().filter(|effect| !word(effect).contains("item-completed"));
    let broken: Vec<Effect> = effects.iter().chain(without_completion).cloned().collect();
    assert_eq!(violations(&broken), ["an item was started and not completed"]);
    let twice: Vec<Effect> = effects.iter().chain(&end).chain(&end).cloned().collect();
    assert!(violations(&twice).contains(&"not exactly one end"));
}

fn summed(text: &str) -> Input {
    event(&format!(
        r#"{{"type":"response.output_item.done","output_index":0,"item":{{"type":"message","role":"assistant","id":"s","content":[{{"type":"output_text","text":"{text}"}}]}}}}"#
    ))
}

fn full() -> Input {
    Input::ContextFull(ItemId::from_provider("c"))
}

fn too_long() -> Input {
    Input::CallFailed(Failure { reason: "context_length_exceeded".to_owned(), retryable: false, ..failure() })
}

#[test]
fn an_input_that_is_too_long_is_condensed_before_the_answer_and_nobody_is_told_how() {
    let turn = check(vec![
        (full(), "item-started condense/0"),
        (added("s"), ""),
        (event(r#"{"type":"response.output_text.delta","item_id":"s","output_index":0,"delta":"sum"}"#), ""),
        (summed("sum"), ""),
        (completed(), "anew(sum)[item] item-completed call"),
        (summed("answer"), ""),
        (
            completed(),
            "commit[item,model,usage,ended] item-started item-completed tokens end(Idle:turn-Completed)",
        ),
    ]);
    assert_eq!(turn.calls, 2);
}

#[test]
fn a_compaction_is_retried_shortened_interrupted_and_failed_like_other_calls() {
    check(vec![
        (full(), "item-started condense/0"),
        (Input::CallFailed(failure()), "retry(Reconnecting... 1/2) pause~200"),
        (Input::RetryDue, "condense/0"),
        // A response without a summary is none.
        (completed(), "retry(Reconnecting... 2/2) pause~400"),
        (Input::RetryDue, "condense/0"),
        (too_long(), "condense/1"),
        (too_long(), "condense/2"),
        (too_long(), "condense/3"),
        (summed("half"), ""),
        (Input::Interrupt, "cancel commit[usage,ended] tokens end(Idle:turn-Interrupted)"),
    ]);
}

#[test]
fn a_model_that_writes_no_summary_is_not_asked_for_ever() {
    check(vec![
        (full(), "item-started condense/0"),
        (completed(), "retry(Reconnecting... 1/2) pause~200"),
        (Input::RetryDue, "condense/0"),
        (completed(), "retry(Reconnecting... 2/2) pause~400"),
        (Input::RetryDue, "condense/0"),
        (
            completed(),
            "cancel commit[usage,ended] tokens end(SystemError:error(StreamDisconnected),turn-Failed)",
        ),
    ]);
}

#[test]
fn an_input_that_cannot_be_made_short_enough_fails_the_turn() {
    let mut turn = check(vec![(full(), "item-started condense/0")]);
    // Each of these is a call, and the turn may make four.
    turn.limits.model_calls_max = 100;
    for halvings in 1..=4 {
        assert_eq!(words(&turn.apply(too_long(), 3)), format!("condense/{halvings}"));
    }
    assert_eq!(
        words(&turn.apply(too_long(), 3)),
        "cancel commit[ended] end(SystemError:error(ContextWindowExceeded),turn-Failed)"
    );
}

#[test]
fn what_is_said_while_the_input_is_condensed_is_answered_after_it() {
    let start = TurnStart { turn_id: TurnId::generate(), settings: Settings::default() };
    let opener = Opener::Compaction(ItemId::from_provider("c"));
    let begin =
        || Turn::begin(start.clone(), opener.clone(), Opening::default(), (Usage::default(), limits()), 1);
    let (mut turn, effects) = begin();
    assert_eq!(words(&effects), "commit[start] accepted Active turn-started item-started condense/0");
    turn.apply(summed("sum"), 2);
    assert_eq!(
        words(&turn.apply(completed(), 2)),
        "anew(sum)[item,ended] item-completed end(Idle:turn-Completed)"
    );
    assert!(turn.has_ended());

    let (mut turn, _) = begin();
    assert_eq!(
        words(&turn.apply(Input::Steer(said("and?")), 2)),
        "commit[item,model] accepted item-started item-completed"
    );
    turn.apply(summed("sum"), 2);
    assert_eq!(words(&turn.apply(completed(), 2)), "anew(sum)[item] item-completed call");
}

#[test]
fn condensing_that_does_not_help_is_not_repeated() {
    let (mut turn, _) = begin();
    assert!(turn.may_condense());
    turn.apply(full(), 2);
    assert!(!turn.may_condense(), "it is being done");
    turn.apply(summed("sum"), 2);
    turn.apply(completed(), 2);
    assert!(!turn.may_condense(), "it was done just now");
    for may in [false, false, true] {
        assert_eq!(turn.may_condense(), may);
        turn.apply(event(r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"function_call","call_id":"a","name":"x","arguments":""}}"#), 2);
        turn.apply(completed(), 2);
        turn.apply(Input::ToolFinished { call_id: "a".to_owned(), output: String::new() }, 2);
    }
}

#[test]
fn a_provider_s_own_compaction_is_kept_as_it_came() {
    let item = r#"{"type":"compaction",  "encrypted_content":"x"}"#;
    let done = event(&format!(r#"{{"type":"response.output_item.done","output_index":0,"item":{item}}}"#));
    check(vec![
        (full(), "item-started condense/0"),
        (done, ""),
        (completed(), &format!("anew({item})[item] item-completed call")),
    ]);
}
