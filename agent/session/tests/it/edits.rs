//! Changes of a thread that are no turn: reverts, injected items, marks, metadata; and what resuming restores.

use agent_session::{Error, Event, Lifecycle, MetadataChange, NewThread, Options, Overrides};
use agent_threads::{Git, Mark, Metadata, PageQuery, ReadState, ServiceTier, ThreadId, TurnId, Unread};
use serde_json::value::RawValue;

use crate::{
    gateway::{Step, added, answer, delta, head},
    support::{Desk, next, turn, until, words},
};

async fn grown(desk: &Desk, turns: usize) -> (ThreadId, Vec<TurnId>, agent_session::Subscription) {
    let (id, mut events) = desk.watched().await;
    let mut ids = Vec::new();
    for n in 0..turns {
        desk.gateway.answers(answer(&format!("m{n}"), &format!("answer {n}")));
        ids.push(desk.say(id, &format!("question {n}")).await.id);
        until(&mut events, "turn-Completed").await;
    }
    (id, ids, events)
}

fn item(text: &str) -> Vec<Box<RawValue>> {
    let json =
        format!(r#"{{"type":"message","role":"user","content":[{{"type":"input_text","text":"{text}"}}]}}"#);
    vec![RawValue::from_string(json).unwrap()]
}

#[tokio::test(start_paused = true)]
async fn a_revert_takes_turns_out_of_history_and_of_what_the_model_is_told() {
    let desk = Desk::new();
    let Desk { sessions, tenant, gateway, .. } = &desk;
    let (id, turns, mut events) = grown(&desk, 3).await;
    let mut told = sessions.tenant_events(tenant);
    let unknown = sessions.revert(tenant, id, TurnId::generate()).await;
    assert!(matches!(unknown, Err(Error::TurnNotFound(_))), "{unknown:?}");
    let view = sessions.revert(tenant, id, turns[1]).await.unwrap();
    assert_eq!(view.tokens.unwrap().1.total.total_tokens, 13, "what was taken out counts no more");
    assert_eq!(view.thread.read_state.first_unread, None);
    let published = next(&mut events).await;
    assert!(
        matches!(published.event, Event::Reverted { turn_id, .. } if turn_id == turns[1]),
        "{published:?}"
    );
    assert!(matches!(
        tokio::time::timeout(crate::support::DEADLINE, told.next()).await.unwrap(),
        agent_session::Next::Event(event) if matches!(&*event, Lifecycle::Reverted(reverted) if *reverted == id)
    ));
    let shown = sessions.turns(tenant, id, PageQuery::default()).await.unwrap().elements;
    assert_eq!(shown.iter().map(|turn| turn.id).collect::<Vec<_>>(), turns[..1]);
    desk.say(id, "instead").await;
    until(&mut events, "turn-Completed").await;
    let body = gateway.bodies().pop().unwrap();
    assert!(
        body.contains("question 0") && body.contains("instead") && !body.contains("question 1"),
        "{body}"
    );

    // Who comes back from a place that is gone learns of it.
    let mut late = sessions.subscribe(tenant, id, Some(20)).await.unwrap();
    let first = next(&mut late).await;
    assert!(matches!(first.event, Event::Reverted { .. }) && first.sequence > Some(20), "{first:?}");
}

#[tokio::test(start_paused = true)]
async fn a_revert_stops_the_turn_that_is_running() {
    let desk = Desk::new();
    let Desk { sessions, tenant, gateway, .. } = &desk;
    let (id, turns, mut events) = grown(&desk, 1).await;
    gateway.answers(vec![head(), added("x"), delta("x", "half"), Step::Hang]);
    let running = desk.say(id, "never ends").await.id;
    until(&mut events, "delta-half").await;
    let view = sessions.revert(tenant, id, running).await.unwrap();
    assert_eq!((view.active_turn, view.materialized), (None, true));
    let seen = words(&until(&mut events, "Reverted").await);
    assert!(seen.contains(&"turn-Interrupted".to_owned()), "{seen:?}");
    let shown = sessions.turns(tenant, id, PageQuery::default()).await.unwrap().elements;
    assert_eq!(shown.iter().map(|turn| turn.id).collect::<Vec<_>>(), turns);
    // Nothing is left, and it goes on all the same.
    sessions.revert(tenant, id, turns[0]).await.unwrap();
    desk.say(id, "anew").await;
    until(&mut events, "turn-Completed").await;
    let fresh = desk.thread().await;
    let refused = sessions.revert(tenant, fresh, TurnId::generate()).await;
    assert!(matches!(refused, Err(Error::NotMaterialized(_))), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn injected_items_are_told_to_the_model_from_the_next_call_on() {
    let desk = Desk::new();
    let Desk { sessions, tenant, gateway, store, .. } = &desk;
    // Into a thread without history: they are accepted, so they are written.
    let (id, mut events) = desk.watched().await;
    sessions.inject(tenant, id, item("before all")).await.unwrap();
    assert_eq!(store.commits(), 1);
    assert!(sessions.read(tenant, id).await.unwrap().materialized);
    desk.say(id, "first").await;
    until(&mut events, "turn-Completed").await;
    let facts = sessions.read(tenant, id).await.unwrap().thread;
    assert_eq!(facts.preview, "first");
    // Into a thread that rests, once with what it knows in memory and once read anew.
    sessions.inject(tenant, id, item("in between")).await.unwrap();
    let other = Desk::over(std::sync::Arc::clone(store), Options::default());
    other.sessions.inject(tenant, id, item("from elsewhere")).await.unwrap();
    sessions.inject(tenant, id, item("taken back")).await.unwrap();
    // Into a running turn: the call that is under way goes on.
    gateway.answers(vec![head(), added("x"), delta("x", "half"), Step::Hang]);
    desk.say(id, "second").await;
    until(&mut events, "delta-half").await;
    sessions.inject(tenant, id, item("meanwhile")).await.unwrap();
    sessions.interrupt(tenant, id, None).await.unwrap();
    until(&mut events, "turn-Interrupted").await;
    desk.say(id, "third").await;
    until(&mut events, "turn-Completed").await;
    let body = gateway.bodies().pop().unwrap();
    let all =
        ["before all", "first", "in between", "from elsewhere", "taken back", "second", "meanwhile", "third"];
    let places: Vec<usize> = all.iter().map(|text| body.find(text).unwrap()).collect();
    assert!(places.is_sorted(), "{body}");
    let shown = sessions.items(tenant, id, None, PageQuery::default()).await.unwrap().elements;
    assert_eq!(shown.len(), 6, "people do not see them: {shown:?}");
    let large = item(&"x".repeat(20 << 20));
    assert!(matches!(sessions.inject(tenant, id, large).await, Err(Error::Invalid(_))));
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_ends_leaves_its_thread_unread_until_somebody_says_otherwise() {
    let desk = Desk::new();
    let Desk { sessions, tenant, gateway, .. } = &desk;
    let (id, mut events) = desk.watched().await;
    let unkept = sessions.mark(tenant, id, Mark::Read, 0).await;
    assert!(matches!(unkept, Err(Error::NotMaterialized(_))), "{unkept:?}");
    let turn_id = desk.say(id, "hello").await.id;
    let seen = until(&mut events, "turn-Completed").await;
    let words = words(&seen);
    let [.., state, idle, ended] = &words[..] else { panic!("{words:?}") };
    assert!(state == "unread" && idle == "Idle" && ended.starts_with("turn-"), "{words:?}");
    let unread = ReadState { first_unread: Some(Unread::Turn(turn_id)), revision: 1 };
    assert_eq!(sessions.read(tenant, id).await.unwrap().thread.read_state, unread);
    let late = sessions.mark(tenant, id, Mark::Read, 0).await;
    assert!(matches!(late, Err(Error::ReadStateChanged(now)) if now == unread), "{late:?}");
    let read = sessions.mark(tenant, id, Mark::Read, 1).await.unwrap();
    assert_eq!(read, ReadState { first_unread: None, revision: 2 });
    assert!(matches!(next(&mut events).await.event, Event::ReadStateChanged(state) if state == read));
    // Who stops a turn knows that it ended.
    gateway.answers(vec![head(), Step::Hang]);
    desk.say(id, "stop it").await;
    sessions.interrupt(tenant, id, None).await.unwrap();
    let seen = crate::support::words(&until(&mut events, "turn-Interrupted").await);
    assert!(!seen.iter().any(|word| *word == "unread"), "{seen:?}");
    assert_eq!(sessions.read(tenant, id).await.unwrap().thread.read_state, read);
}

#[tokio::test(start_paused = true)]
async fn metadata_is_kept_field_by_field() {
    let desk = Desk::new();
    let Desk { sessions, tenant, .. } = &desk;
    let (id, mut events) = desk.watched().await;
    let text = |text: &str| Some(Some(text.to_owned()));
    let change = MetadataChange { sha: text("abc"), branch: text("main"), ..MetadataChange::default() };
    sessions.update_metadata(tenant, id, change).await.unwrap();
    desk.say(id, "hello").await;
    until(&mut events, "turn-Completed").await;
    let change =
        MetadataChange { branch: Some(None), daybreak_enabled: Some(true), ..MetadataChange::default() };
    let view = sessions.update_metadata(tenant, id, change).await.unwrap();
    let git = Git { sha: Some("abc".to_owned()), branch: None, origin_url: None };
    let expected = Metadata { git: Some(git), daybreak_enabled: Some(true) };
    assert_eq!(view.thread.metadata, expected);
    let elsewhere = Desk::over(std::sync::Arc::clone(&desk.store), Options::default());
    assert_eq!(elsewhere.sessions.read(tenant, id).await.unwrap().thread.metadata, expected);
    assert!(matches!(sessions.item_cursor(tenant, id, TurnId::generate(), "x").await, Ok(None)));
}

#[tokio::test(start_paused = true)]
async fn resuming_restores_what_was_in_force() {
    let before = Desk::new();
    let new = NewThread {
        originator: "codex-tui".to_owned(),
        client_version: "0.169.0".to_owned(),
        source: "vscode".to_owned(),
        thread_source: Some("user".to_owned()),
        provider: Some("provider-a".to_owned()),
        overrides: Overrides { model: Some("model-a".to_owned()), ..Overrides::default() },
        ..NewThread::default()
    };
    let started = before.sessions.start(&before.tenant, new).await.unwrap().thread;
    let id = started.id;
    let mut events = before.sessions.subscribe(&before.tenant, id, None).await.unwrap();
    let mut first = turn("hello", None);
    first.overrides = Overrides {
        effort: Some("low".to_owned()),
        summary: Some("concise".to_owned()),
        service_tier: ServiceTier::Named("flex".to_owned()),
        sandbox: Some(serde_json::json!({"type": "readOnly"})),
        permission_profile: Some(":read-only".to_owned()),
        cwd: Some("/srv".to_owned()),
        ..Overrides::default()
    };
    before.sessions.start_turn(&before.tenant, id, first).await.unwrap();
    until(&mut events, "turn-Completed").await;
    let settled = before.sessions.read(&before.tenant, id).await.unwrap().thread;

    let after = Desk::over(std::sync::Arc::clone(&before.store), Options::default());
    let Desk { sessions, tenant, gateway, .. } = &after;
    let resumed = sessions.resume(tenant, id, None, Overrides::default()).await.unwrap();
    assert_eq!((resumed.view.thread, resumed.model_before), (settled.clone(), None));
    assert_eq!((settled.origin.clone(), settled.settings.effort.as_deref()), (started.origin, Some("low")));
    let refused = sessions.resume(tenant, id, Some("provider-b"), Overrides::default()).await;
    let Err(Error::Invalid(text)) = refused else { panic!("{refused:?}") };
    assert_eq!(
        text,
        "Cannot change this thread's model provider from `provider-a` to `provider-b` on resume."
    );
    sessions.resume(tenant, id, Some("provider-a"), Overrides::default()).await.unwrap();

    // Another model is told that it is one, with the first message and not again.
    let other = Overrides { model: Some("model-b".to_owned()), ..Overrides::default() };
    let resumed = sessions.resume(tenant, id, None, other).await.unwrap();
    assert_eq!(resumed.model_before.as_deref(), Some("model-a"));
    let settings = &resumed.view.thread.settings;
    assert_eq!((settings.effort.as_deref(), settings.summary.as_deref()), (None, Some("concise")));
    let mut events = sessions.subscribe(tenant, id, None).await.unwrap();
    for said in ["go on", "and on"] {
        after.say(id, said).await;
        until(&mut events, "turn-Completed").await;
        let body = gateway.bodies().pop().unwrap();
        assert_eq!(body.matches("<model_change>").count(), 1, "{body}");
        assert!(body.find("<model_change>") < body.find("go on"), "{body}");
    }
}
