//! One thread's turns: their order, commits, steering, stopping, retrying, and what the model is sent.

use std::{collections::BTreeMap, num::NonZeroUsize, sync::Arc, sync::atomic::Ordering, time::Duration};

use agent_session::{
    ClientMetadata, Error, Event, NewThread, Next, Options, StartTurn, SteerTurn, TurnStatus,
};
use agent_threads::{PageQuery, TurnErrorKind, TurnId};
use tokio::{sync::Notify, time::Instant};

use crate::{
    gateway::{Step, added, answer, completed, delta, done, event, failure, head, message},
    support::{DEADLINE, Desk, next, steering, turn, until, word, words},
};

#[tokio::test(start_paused = true)]
async fn a_minimal_turn_is_told_in_order_with_two_commits() {
    let desk = Desk::new();
    let (id, mut events) = desk.watched().await;
    let gate = Arc::new(Notify::new());
    let mut steps = answer("msg_1", "Hi");
    steps.insert(0, Step::Wait(Arc::clone(&gate)));
    desk.gateway.answers(steps);
    let turn = desk.say(id, "hello").await;
    assert_eq!(turn.status, TurnStatus::InProgress);
    assert_eq!(desk.store.commits(), 1);
    gate.notify_one();
    let all = until(&mut events, "turn-").await;
    let all = [all, until(&mut events, "turn-Completed").await].concat();
    assert_eq!(
        words(&all),
        [
            "Active",
            "turn-started",
            "started-user",
            "completed-user",
            "started-agent",
            "delta-Hi",
            "completed-agent",
            "tokens",
            "unread",
            "Idle",
            "turn-Completed"
        ]
    );
    assert_eq!(desk.store.commits(), 2);
    let sequences: Vec<u64> = all.iter().filter_map(|published| published.sequence).collect();
    assert_eq!(sequences, [1, 2, 4, 6, 7]);
    let Event::TurnCompleted { turn: ended } = &all.last().unwrap().event else { panic!() };
    assert_eq!((ended.id, ended.final_message()), (turn.id, Some("Hi")));
    assert_eq!(ended.items[0].sequence, 4);
}

#[tokio::test(start_paused = true)]
async fn reasoning_makes_it_three_commits() {
    let desk = Desk::new();
    let (id, mut events) = desk.watched().await;
    let reasoning = r#"{"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"hm"}],"encrypted_content":"gAAA"}"#;
    let mut steps = vec![head(), done(reasoning)];
    steps.extend(answer("msg_1", "Hi"));
    desk.gateway.answers(steps);
    desk.say(id, "hello").await;
    let all = [until(&mut events, "turn-").await, until(&mut events, "turn-").await].concat();
    let all = words(&all);
    assert_eq!(all[4..8], ["started-reasoning", "completed-reasoning", "started-agent", "delta-Hi"]);
    assert_eq!(desk.store.commits(), 3);
    desk.say(id, "again").await;
    until(&mut events, "turn-Completed").await;
    assert!(desk.gateway.bodies()[1].contains(reasoning));
}

#[tokio::test(start_paused = true)]
async fn each_call_begins_with_the_bytes_of_the_one_before() {
    let desk = Desk::new();
    let (id, mut events) = desk.watched().await;
    for text in ["one", "two", "three"] {
        desk.gateway.answers(answer("msg_1", text));
        desk.say(id, text).await;
        until(&mut events, "turn-Completed").await;
    }
    // A process that reads the thread from the store sends the same.
    let other = Desk::over(Arc::clone(&desk.store), Options::default());
    let mut events = other.sessions.subscribe(&other.tenant, id, None).await.unwrap();
    other.say(id, "four").await;
    until(&mut events, "turn-Completed").await;
    let bodies = [desk.gateway.bodies(), other.gateway.bodies()].concat();
    for pair in bodies.windows(2) {
        let (input, _) = pair[0].split_once("],\"tools\"").unwrap();
        assert!(pair[1].starts_with(input), "{}\n{}", pair[0], pair[1]);
    }
    assert!(bodies[3].contains(&message("msg_1", "three")));
    let first: serde_json::Value = serde_json::from_str(&bodies[0]).unwrap();
    assert_eq!(
        first,
        serde_json::json!({
            "model": "m1", "stream": true,
            "input": [
                {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "be \"brief\""}]},
                {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "one"}]},
            ],
            "tools": [], "tool_choice": "auto", "parallel_tool_calls": false, "store": false,
            "include": ["reasoning.encrypted_content"], "prompt_cache_key": id.to_string(),
        })
    );
}

#[tokio::test(start_paused = true)]
async fn a_message_during_a_turn_steers_it() {
    let desk = Desk::new();
    let (id, mut events) = desk.watched().await;
    desk.gateway.answers(vec![head(), added("msg_1"), delta("msg_1", "long story"), Step::Hang]);
    let started = desk.say(id, "tell").await;
    until(&mut events, "delta").await;
    desk.gateway.answers(answer("msg_2", "short"));
    let joined = desk.say(id, "shorter").await;
    assert_eq!(joined.id, started.id);
    let all = words(&until(&mut events, "turn-").await);
    assert_eq!(
        all,
        [
            "completed-agent",
            "started-user",
            "completed-user",
            "started-agent",
            "delta-short",
            "completed-agent",
            "tokens",
            "unread",
            "Idle",
            "turn-Completed"
        ]
    );
    let body = &desk.gateway.bodies()[1];
    let (said, asked) = (body.find("long story").unwrap(), body.find("shorter").unwrap());
    assert!(said < asked);
    // The second call of a turn echoes what the first one's provider gave it.
    assert_eq!(desk.gateway.calls()[1].turn_state.as_deref(), Some("sticky"));
}

#[tokio::test(start_paused = true)]
async fn what_a_client_wants_told_changes_with_its_messages() {
    let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let whole =
        |pairs: &[(&str, &str)]| ClientMetadata { whole: Some(map(pairs)), ..ClientMetadata::default() };
    let patch = |pairs: &[(&str, &str)]| ClientMetadata { patch: map(pairs), ..ClientMetadata::default() };
    let desk = Desk::new();
    let (id, mut events) = desk.watched().await;
    let Desk { sessions, tenant, .. } = &desk;
    let start = |said: &str, client_metadata| StartTurn {
        overrides: agent_session::Overrides { client_metadata, ..Default::default() },
        ..turn(said, None)
    };
    let steer = |expected, message: &str, client_metadata| SteerTurn {
        client_message_id: Some(message.to_owned()),
        client_metadata,
        ..steering(expected, message)
    };
    for _ in 0..3 {
        desk.gateway.answers(vec![head(), Step::Hang]);
    }
    let running = sessions.start_turn(tenant, id, start("one", whole(&[("a", "1"), ("b", "1")]))).await;
    let running = running.unwrap().id;
    sessions.steer(tenant, id, steer(running, "two", patch(&[("b", "2"), ("c", "2")]))).await.unwrap();
    // The same message once more, and one that is too much, leave it as it is.
    sessions.steer(tenant, id, steer(running, "two", patch(&[("b", "3")]))).await.unwrap();
    let large = "x".repeat(4090);
    let refused = sessions.steer(tenant, id, steer(running, "three", patch(&[("d", &large)]))).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("over 64 keys or 4096 bytes, what was given before included"), "{refused}");
    // A turn that is started while another runs is a message to that one.
    sessions.start_turn(tenant, id, start("four", patch(&[("d", "4")]))).await.unwrap();
    sessions.interrupt(tenant, id, None).await.unwrap();
    until(&mut events, "turn-Interrupted").await;
    let refused = sessions.start_turn(tenant, id, start("five", patch(&[("e", &large)]))).await;
    assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
    sessions.start_turn(tenant, id, start("six", ClientMetadata::default())).await.unwrap();
    until(&mut events, "turn-Completed").await;
    sessions.start_turn(tenant, id, start("seven", whole(&[]))).await.unwrap();
    until(&mut events, "turn-Completed").await;
    let told: Vec<_> = desk.gateway.calls().into_iter().map(|call| call.envelope.extra).collect();
    let all = map(&[("a", "1"), ("b", "2"), ("c", "2"), ("d", "4")]);
    assert_eq!(
        told,
        [
            map(&[("a", "1"), ("b", "1")]),
            map(&[("a", "1"), ("b", "2"), ("c", "2")]),
            all.clone(),
            all,
            map(&[])
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn steering_and_stopping_name_their_turn() {
    let desk = Desk::new();
    let (id, mut events) = desk.watched().await;
    let Desk { sessions, tenant, .. } = &desk;
    let other = TurnId::generate();
    assert!(matches!(sessions.interrupt(tenant, id, None).await, Err(Error::NoActiveTurn)));
    desk.gateway.answers(vec![head(), Step::Hang]);
    let running = desk.say(id, "hello").await.id;
    let steered = sessions.steer(tenant, id, steering(other, "x")).await;
    assert!(
        matches!(steered, Err(Error::OtherTurn { expected, found }) if expected == other && found == running)
    );
    assert!(matches!(sessions.interrupt(tenant, id, Some(other)).await, Err(Error::OtherTurn { .. })));
    desk.gateway.answers(vec![head(), Step::Hang]);
    assert_eq!(sessions.steer(tenant, id, steering(running, "x")).await.unwrap(), running);
    sessions.interrupt(tenant, id, Some(running)).await.unwrap();
    let calls = desk.gateway.calls().len();
    assert_eq!(sessions.read(tenant, id).await.unwrap().active_turn, None);
    until(&mut events, "turn-Interrupted").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(desk.gateway.calls().len(), calls);
    desk.say(id, "go on").await;
    until(&mut events, "turn-Completed").await;
}

#[tokio::test(start_paused = true)]
async fn an_interrupt_at_any_moment_ends_the_turn_once() {
    // Wherever the interrupt falls between the steps of the response, the turn has one end.
    for steps in 0..6 {
        let desk = Desk::new();
        let (id, mut events) = desk.watched().await;
        let gate = Arc::new(Notify::new());
        let mut script = answer("msg_1", "Hi");
        script.insert(steps.min(script.len()), Step::Wait(Arc::clone(&gate)));
        desk.gateway.answers(script);
        desk.say(id, "hello").await;
        gate.notify_one();
        match desk.sessions.interrupt(&desk.tenant, id, None).await {
            Ok(()) | Err(Error::NoActiveTurn) => {}
            Err(error) => panic!("{error}"),
        }
        until(&mut events, "turn-started").await;
        let end = word(&until(&mut events, "turn-").await.last().unwrap().event);
        let page = desk.sessions.turns(&desk.tenant, id, PageQuery::default()).await.unwrap();
        assert_eq!(format!("turn-{:?}", page.elements[0].status), end);
        assert_eq!(page.elements.len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_is_down_fails_the_turn_after_all_retries() {
    let desk = Desk::new();
    let (id, mut events) = desk.watched().await;
    desk.gateway.0.lock().unwrap().responses =
        (0..6).map(|_| vec![Step::Break(failure("gateway_unavailable"))]).collect();
    let began = Instant::now();
    desk.say(id, "hello").await;
    until(&mut events, "turn-started").await;
    let all = until(&mut events, "turn-").await;
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(5580) && took <= Duration::from_millis(6820), "{took:?}");
    assert_eq!(
        words(&all)[2..],
        [
            "Reconnecting... 1/5",
            "Reconnecting... 2/5",
            "Reconnecting... 3/5",
            "Reconnecting... 4/5",
            "Reconnecting... 5/5",
            "unread",
            "SystemError",
            "error-ConnectionFailed",
            "turn-Failed"
        ]
    );
    let Event::TurnCompleted { turn } = &all.last().unwrap().event else { panic!() };
    assert_eq!(turn.error.as_ref().unwrap().kind, TurnErrorKind::ConnectionFailed);
    let page = desk.sessions.turns(&desk.tenant, id, PageQuery::default()).await.unwrap();
    assert_eq!(page.elements[0].error, turn.error);
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_begun_again_as_often_as_its_provider_allows() {
    let desk = Desk::new();
    {
        let mut script = desk.gateway.0.lock().unwrap();
        script.stream_max_retries = Some(1);
        script.responses =
            (0..3).map(|_| vec![head(), Step::Break(failure("gateway_unavailable"))]).collect();
    }
    let (id, mut events) = desk.watched().await;
    desk.say(id, "hello").await;
    until(&mut events, "turn-started").await;
    let all = words(&until(&mut events, "turn-").await);
    let retries: Vec<_> = all.iter().filter(|word| word.starts_with("Reconnecting")).collect();
    assert_eq!(retries, ["Reconnecting... 1/1"]);
    assert_eq!(desk.gateway.calls().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_silent_stream_is_broken_and_a_closed_one_is_tried_again() {
    let desk = Desk::new();
    let (id, mut events) = desk.watched().await;
    desk.gateway.answers(vec![head(), Step::Hang]);
    desk.gateway.answers(vec![head(), added("m"), delta("m", "x"), Step::End]);
    desk.gateway.answers(answer("msg_3", "Hi"));
    let began = Instant::now();
    desk.say(id, "hello").await;
    let all = words(&until(&mut events, "turn-Completed").await);
    assert!(began.elapsed() >= Duration::from_secs(300));
    assert!(all.contains(&"Reconnecting... 2/5".to_owned()), "{all:?}");
    assert_eq!(desk.gateway.calls()[0].body, desk.gateway.calls()[2].body);
}

#[tokio::test(start_paused = true)]
async fn a_providers_delay_is_waited_for_exactly() {
    let desk = Desk::new();
    let (id, mut events) = desk.watched().await;
    let mut limited = failure("upstream_refused");
    limited.retry_delay = Some(Duration::from_secs(7));
    desk.gateway.answers(vec![Step::Break(limited)]);
    let began = Instant::now();
    desk.say(id, "hello").await;
    until(&mut events, "turn-Completed").await;
    assert_eq!(began.elapsed().as_secs(), 7);
}

#[tokio::test(start_paused = true)]
async fn models_that_cannot_be_asked_for_are_a_failed_turn_too() {
    let desk = Desk::new();
    let new = NewThread { provider: Some("p".to_owned()), ..NewThread::default() };
    let overrides = agent_session::Overrides { model: Some("m1".to_owned()), ..Default::default() };
    desk.gateway.0.lock().unwrap().down = true;
    assert!(matches!(desk.sessions.start(&desk.tenant, NewThread::default()).await, Err(Error::Gateway(_))));
    let id = desk.sessions.start(&desk.tenant, NewThread { overrides, ..new }).await.unwrap().thread.id;
    let mut events = desk.sessions.subscribe(&desk.tenant, id, None).await.unwrap();
    desk.say(id, "hello").await;
    until(&mut events, "turn-Failed").await;
    assert!(desk.gateway.calls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_lags_is_told_so_and_the_turn_goes_on() {
    let desk = Desk::with(Options { event_queue: NonZeroUsize::new(8).unwrap(), ..Options::default() });
    let (id, mut slow) = desk.watched().await;
    let mut steps = vec![head(), added("msg_1")];
    steps.extend((0..100).map(|_| delta("msg_1", "x")));
    steps.extend([done(&message("msg_1", "x")), completed()]);
    desk.gateway.answers(steps);
    desk.say(id, "hello").await;
    while desk.sessions.read(&desk.tenant, id).await.unwrap().active_turn.is_some() {
        tokio::task::yield_now().await;
    }
    let mut seen = 0;
    let end = loop {
        match tokio::time::timeout(DEADLINE, slow.next()).await.unwrap() {
            Next::Event(_) => seen += 1,
            end => break end,
        }
    };
    assert!(matches!(end, Next::Lagged));
    assert_eq!(seen, 8);
    // What it has missed is stored.
    let mut again = desk.sessions.subscribe(&desk.tenant, id, Some(0)).await.unwrap();
    let all = words(&until(&mut again, "turn-Completed").await);
    assert_eq!(all, ["turn-started", "completed-user", "completed-agent", "tokens", "turn-Completed"]);
}

#[tokio::test(start_paused = true)]
async fn stored_events_come_first_and_none_comes_twice() {
    let desk = Desk::new();
    let (id, mut live) = desk.watched().await;
    let gate = Arc::new(Notify::new());
    let mut steps = answer("msg_1", "Hi");
    steps.insert(2, Step::Wait(Arc::clone(&gate)));
    desk.gateway.answers(steps);
    desk.say(id, "hello").await;
    let mut late = desk.sessions.subscribe(&desk.tenant, id, Some(1)).await.unwrap();
    gate.notify_one();
    until(&mut live, "turn-Completed").await;
    let all = until(&mut late, "turn-Completed").await;
    let sequences: Vec<u64> = all.iter().filter_map(|published| published.sequence).collect();
    assert_eq!(sequences, [2, 4, 6, 7]);
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_nobody_has_is_answered_truthfully() {
    let desk = Desk::new();
    let (id, mut events) = desk.watched().await;
    let call = r#"{"type":"function_call","id":"fc_1","call_id":"c1","name":"shell","arguments":"{}"}"#;
    desk.gateway.answers(vec![head(), done(call), completed()]);
    desk.gateway.answers(answer("msg_1", "I cannot"));
    desk.say(id, "run").await;
    until(&mut events, "turn-Completed").await;
    let output = r#"{"type":"function_call_output","call_id":"c1","output":"unsupported tool: shell"}"#;
    assert!(desk.gateway.bodies()[1].contains(&format!("{call},{output}")));
    // Both calls went over one stream.
    assert_eq!(desk.gateway.0.lock().unwrap().streams, 1);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_grew_old_between_two_calls_is_replaced_unseen() {
    let desk = Desk::new();
    let (id, mut events) = desk.watched().await;
    let call = r#"{"type":"function_call","id":"fc_1","call_id":"c1","name":"shell","arguments":"{}"}"#;
    desk.gateway.answers(vec![head(), done(call), completed()]);
    desk.gateway.answers(vec![Step::End]);
    desk.gateway.answers(answer("msg_1", "Hi"));
    desk.say(id, "run").await;
    let all = words(&until(&mut events, "turn-Completed").await);
    assert!(!all.iter().any(|word| word.starts_with("Reconnecting")), "{all:?}");
    assert_eq!(desk.gateway.0.lock().unwrap().streams, 2);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_comes_twice_is_one_message() {
    let desk = Desk::new();
    let Desk { sessions, tenant, .. } = &desk;
    let (id, mut events) = desk.watched().await;
    let gate = Arc::new(Notify::new());
    let mut steps = answer("msg_1", "Hi");
    steps.insert(1, Step::Wait(Arc::clone(&gate)));
    desk.gateway.answers(steps);
    let first = sessions.start_turn(tenant, id, turn("hello", Some("c-1"))).await.unwrap();
    let again = sessions.start_turn(tenant, id, turn("hello", Some("c-1"))).await.unwrap();
    assert_eq!((again.id, again.status), (first.id, TurnStatus::InProgress));
    gate.notify_one();
    until(&mut events, "turn-Completed").await;
    let later = sessions.start_turn(tenant, id, turn("hello", Some("c-1"))).await.unwrap();
    assert_eq!((later.id, later.status), (first.id, TurnStatus::Completed));
    assert_eq!(desk.gateway.calls().len(), 1);
    let items = sessions.items(tenant, id, None, PageQuery::default()).await.unwrap();
    assert_eq!(items.elements.len(), 2);
    // The thread is none the worse for it.
    sessions.start_turn(tenant, id, turn("more", Some("c-2"))).await.unwrap();
    until(&mut events, "turn-Completed").await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_is_told_and_the_thread_recovers() {
    let desk = Desk::new();
    let (id, mut events) = desk.watched().await;
    let gate = Arc::new(Notify::new());
    let mut steps = answer("msg_1", "Hi");
    steps.insert(1, Step::Wait(Arc::clone(&gate)));
    desk.gateway.answers(steps);
    desk.say(id, "hello").await;
    desk.store.fails.store(true, Ordering::SeqCst);
    gate.notify_one();
    until(&mut events, "turn-started").await;
    let all = words(&until(&mut events, "turn-").await);
    // Nothing was told complete that is not stored.
    assert!(!all.contains(&"completed-agent".to_owned()), "{all:?}");
    assert_eq!(all.last().unwrap(), "turn-Failed");
    assert!(matches!(
        desk.sessions.start_turn(&desk.tenant, id, turn("x", None)).await,
        Err(Error::Store(_))
    ));
    desk.store.fails.store(false, Ordering::SeqCst);
    desk.say(id, "better?").await;
    assert_eq!(word(&next(&mut events).await.event), "Active");
    until(&mut events, "turn-Completed").await;
    let turns = desk.sessions.turns(&desk.tenant, id, PageQuery::default()).await.unwrap().elements;
    let statuses: Vec<TurnStatus> = turns.iter().map(|turn| turn.status).collect();
    assert_eq!(statuses, [TurnStatus::Interrupted, TurnStatus::Completed]);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_does_not_stop_the_turn() {
    let desk = Desk::new();
    let (id, mut events) = desk.watched().await;
    let start = desk.sessions.start_turn(&desk.tenant, id, turn("hello", None));
    // Polled once, then dropped.
    assert!(tokio::time::timeout(Duration::ZERO, start).await.is_err());
    until(&mut events, "turn-Completed").await;
}

#[tokio::test(start_paused = true)]
async fn an_event_nobody_knows_changes_nothing() {
    let desk = Desk::new();
    let (id, mut events) = desk.watched().await;
    let mut steps = answer("msg_1", "Hi");
    steps.insert(1, event(r#"{"type":"response.novelty","x":1}"#));
    steps.insert(2, event(r#"{"type":"response.output_item.done","item":7}"#));
    desk.gateway.answers(steps);
    desk.say(id, "hello").await;
    until(&mut events, "turn-Completed").await;
}
