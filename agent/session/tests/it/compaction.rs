//! Condensing what the model is told: on demand and when it grows too long, and what is left of it after a restart.

use std::sync::Arc;

use agent_session::{Event, Options, RequestKind};
use agent_threads::{Entry, ThreadStore as _};
use serde_json::Value;
use tokio::sync::Notify;

use crate::{
    gateway::{Step, added, answer, completed, done, ended, failure, head, message},
    support::{Desk, over, until, word, words},
};

fn inputs(desk: &Desk) -> Vec<Vec<String>> {
    let text = |item: &Value| match item["content"].as_array() {
        Some(parts) => parts.last().unwrap()["text"].as_str().unwrap().to_owned(),
        None => item["type"].as_str().unwrap().to_owned(),
    };
    let input = |body: &String| {
        let body: Value = serde_json::from_str(body).unwrap();
        // Without the base instructions, which are in every call.
        body["input"].as_array().unwrap().iter().skip(1).map(text).collect()
    };
    desk.gateway.bodies().iter().map(input).collect()
}

#[tokio::test(start_paused = true)]
async fn on_demand_a_turn_of_its_own_condenses_and_the_conversation_goes_on() {
    let desk = Desk::new();
    let (id, mut events) = desk.watched().await;
    let error = desk.sessions.compact(&desk.tenant, id).await.unwrap_err();
    assert!(error.to_string().contains("nothing to compact"), "{error}");
    desk.gateway.answers(answer("a", "first answer"));
    desk.say(id, "first").await;
    over(&mut events).await;
    desk.gateway.answers(answer("s", "what happened"));
    desk.sessions.compact(&desk.tenant, id).await.unwrap();
    let told = over(&mut events).await;
    assert_eq!(
        words(&told),
        [
            "Active",
            "turn-started",
            "started-compaction",
            "tokens",
            "completed-compaction",
            "Idle",
            "turn-Completed"
        ]
    );
    let Event::TokenUsage { tokens, .. } = &told[3].event else { panic!() };
    // As long as the input is now, by its bytes, and not what was used.
    assert!((60..250).contains(&tokens.last.total_tokens) && tokens.last.input_tokens == 0, "{tokens:?}");
    assert_eq!(tokens.total.total_tokens, 26, "the call that condensed counts");
    desk.say(id, "second").await;
    over(&mut events).await;
    let inputs = inputs(&desk);
    assert_eq!(inputs[1][..2], ["first", "first answer"]);
    assert!(inputs[1][2].starts_with("The conversation has to be condensed"), "{:?}", inputs[1]);
    assert_eq!(inputs[2], ["first", "what happened", "second"]);
    let calls = desk.gateway.calls();
    let envelopes: Vec<_> = calls.iter().map(|call| (call.envelope.kind, call.envelope.window)).collect();
    assert_eq!(envelopes, [(RequestKind::Turn, 0), (RequestKind::Compaction, 0), (RequestKind::Turn, 1)]);

    // After a restart the model is told the same, and the window has its number.
    let restarted = Desk::over(Arc::clone(&desk.store), Options::default());
    let mut events = restarted.sessions.subscribe(&desk.tenant, id, None).await.unwrap();
    restarted.say(id, "third").await;
    over(&mut events).await;
    let after = &restarted.gateway.bodies()[0];
    let before = &desk.gateway.bodies()[2];
    let common = before.find("\"second\"").unwrap();
    assert_eq!(after[..common], before[..common], "the beginning is the same to the byte");
    assert_eq!(restarted.gateway.calls()[0].envelope.window, 1);
}

#[tokio::test(start_paused = true)]
async fn an_input_that_has_grown_too_long_is_condensed_before_the_next_answer() {
    let desk = Desk::new();
    let (id, mut events) = desk.watched().await;
    desk.gateway.answers(vec![head(), added("a"), done(&message("a", "one")), ended("r", 950)]);
    desk.say(id, "first").await;
    over(&mut events).await;
    desk.gateway.answers(answer("s", "summary"));
    desk.gateway.answers(answer("b", "two"));
    desk.say(id, "second").await;
    let told = over(&mut events).await;
    assert_eq!(
        words(&told),
        [
            "read",
            "Active",
            "turn-started",
            "started-user",
            "completed-user",
            "started-compaction",
            "tokens",
            "completed-compaction",
            "started-agent",
            "delta-two",
            "completed-agent",
            "tokens",
            "unread",
            "Idle",
            "turn-Completed"
        ][1..]
    );
    let inputs = inputs(&desk);
    assert!(
        inputs[1].len() == 3 && inputs[1][..2] == ["first", "one"],
        "not what has no answer: {:?}",
        inputs[1]
    );
    assert_eq!(inputs[2], ["first", "summary", "second"]);
    // It fits now.
    desk.say(id, "third").await;
    over(&mut events).await;
    assert_eq!(desk.gateway.calls().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_thread_s_own_limit_rules_and_a_provider_that_can_condenses_itself() {
    let desk = Desk::with(Options { compact_at_percent: None, ..Options::default() });
    desk.gateway.0.lock().unwrap().compacts = true;
    let (id, mut events) = desk.watched().await;
    desk.gateway.answers(vec![head(), done(&message("a", "one")), ended("r", 100_000)]);
    desk.say(id, "first").await;
    over(&mut events).await;
    desk.say(id, "unlimited").await;
    over(&mut events).await;
    assert_eq!(desk.gateway.calls().len(), 2);
    let item = r#"{"type":"compaction","id":"cmp_1",  "encrypted_content":"opaque"}"#;
    desk.gateway.answers(vec![head(), done(item), completed()]);
    let overrides = agent_session::Overrides { compact_at_tokens: Some(10), ..Default::default() };
    let turn = agent_session::StartTurn { overrides, ..crate::support::turn("second", None) };
    desk.sessions.start_turn(&desk.tenant, id, turn).await.unwrap();
    over(&mut events).await;
    let inputs = inputs(&desk);
    assert_eq!(inputs[2].last().unwrap(), "compaction_trigger");
    assert_eq!(inputs[3], ["first", "unlimited", "compaction", "second"]);
    assert!(desk.gateway.bodies()[3].contains(item), "the item stands as it came");
}

#[tokio::test(start_paused = true)]
async fn a_compaction_that_fails_or_is_stopped_leaves_the_input_as_it_was() {
    let desk = Desk::new();
    let (id, mut events) = desk.watched().await;
    desk.say(id, "first").await;
    over(&mut events).await;
    let refused = agent_session::Failure { retryable: false, ..failure("invalid_request") };
    desk.gateway.answers(vec![Step::Break(refused)]);
    desk.sessions.compact(&desk.tenant, id).await.unwrap();
    let told = over(&mut events).await;
    assert_eq!(word(&told.last().unwrap().event), "turn-Failed");
    let hold = Arc::new(Notify::new());
    desk.gateway.answers(vec![head(), done(&message("s", "half a summary")), Step::Wait(Arc::clone(&hold))]);
    desk.sessions.compact(&desk.tenant, id).await.unwrap();
    until(&mut events, "started-compaction").await;
    desk.sessions.interrupt(&desk.tenant, id, None).await.unwrap();
    let told = over(&mut events).await;
    assert_eq!(words(&told), ["Idle", "turn-Interrupted"]);
    desk.say(id, "second").await;
    over(&mut events).await;
    assert_eq!(inputs(&desk).last().unwrap()[..], ["first", "ok", "second"]);
    let log = desk.store.records(&desk.tenant, id, 0, 0).await.unwrap();
    assert!(!log.iter().any(|record| matches!(record.entry, Entry::Compacted { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_compaction_stops_the_turn_that_is_running_and_a_message_to_it_is_answered() {
    let desk = Desk::new();
    let (id, mut events) = desk.watched().await;
    desk.gateway.answers(vec![head(), added("a"), done(&message("a", "said")), Step::Hang]);
    desk.say(id, "first").await;
    until(&mut events, "completed-user").await;
    let hold = Arc::new(Notify::new());
    desk.gateway.answers(vec![
        head(),
        Step::Wait(Arc::clone(&hold)),
        done(&message("s", "summary")),
        completed(),
    ]);
    desk.sessions.compact(&desk.tenant, id).await.unwrap();
    let told = until(&mut events, "started-compaction").await;
    assert!(words(&told).contains(&"turn-Interrupted".to_owned()), "{:?}", words(&told));
    desk.say(id, "meanwhile").await;
    hold.notify_one();
    let told = over(&mut events).await;
    assert_eq!(word(&told.last().unwrap().event), "turn-Completed");
    let inputs = inputs(&desk);
    assert_eq!(inputs.last().unwrap().last().unwrap(), "meanwhile");
    assert!(inputs.last().unwrap().contains(&"summary".to_owned()), "{inputs:?}");
}

#[tokio::test(start_paused = true)]
async fn an_input_below_the_threshold_or_without_any_answer_is_left_alone() {
    let desk = Desk::new();
    let (id, mut events) = desk.watched().await;
    // Nothing of it could be made shorter.
    desk.gateway.answers(vec![head(), added("a"), done(&message("a", "one")), ended("r", 820)]);
    desk.say(id, &"long ".repeat(1_000)).await;
    over(&mut events).await;
    desk.gateway.answers(vec![head(), added("b"), done(&message("b", "two")), ended("r", 900)]);
    desk.say(id, "short").await;
    over(&mut events).await;
    let kinds = |desk: &Desk| desk.gateway.calls().iter().map(|call| call.envelope.kind).collect::<Vec<_>>();
    assert_eq!(kinds(&desk), [RequestKind::Turn; 2]);
    desk.say(id, "now").await;
    over(&mut events).await;
    assert_eq!(kinds(&desk)[2..], [RequestKind::Compaction, RequestKind::Turn]);
}

#[tokio::test(start_paused = true)]
async fn what_an_answer_has_to_look_like_is_not_asked_of_a_summary() {
    let desk = Desk::new();
    let (id, mut events) = desk.watched().await;
    desk.gateway.answers(vec![head(), added("a"), done(&message("a", "one")), ended("r", 950)]);
    desk.say(id, "first").await;
    over(&mut events).await;
    let output_schema = Some(serde_json::json!({"type": "object"}));
    let turn = agent_session::StartTurn { output_schema, ..crate::support::turn("second", None) };
    desk.sessions.start_turn(&desk.tenant, id, turn).await.unwrap();
    over(&mut events).await;
    let asked: Vec<bool> = desk.gateway.bodies().iter().map(|body| body.contains("json_schema")).collect();
    assert_eq!(asked, [false, false, true]);
}

#[tokio::test(start_paused = true)]
async fn an_input_that_reaches_the_limit_is_condensed_and_one_a_token_short_of_it_is_not() {
    let said = r#"{"type":"message","role":"user","content":[{"type":"input_text","text":"second"}]},"#;
    let limit = 100 + u64::try_from(said.len() / 4).unwrap();
    for (limit, calls) in [(limit, 3), (limit + 1, 2)] {
        let desk = Desk::new();
        let (id, mut events) = desk.watched().await;
        desk.gateway.answers(vec![head(), added("a"), done(&message("a", "one")), ended("r", 100)]);
        desk.say(id, "first").await;
        over(&mut events).await;
        let overrides = agent_session::Overrides { compact_at_tokens: Some(limit), ..Default::default() };
        let turn = agent_session::StartTurn { overrides, ..crate::support::turn("second", None) };
        desk.sessions.start_turn(&desk.tenant, id, turn).await.unwrap();
        over(&mut events).await;
        assert_eq!(desk.gateway.calls().len(), calls, "{limit}");
    }
}
