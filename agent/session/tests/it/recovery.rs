//! What is left when a process dies, a thread leaves memory, or the service stops.

use std::{sync::Arc, time::Duration};

use agent_session::{
    Error, Lifecycle, NewThread, Next, Options, Overrides, Status, TenantLimits, TurnStatus,
};
use agent_threads::PageQuery;
use tokio::sync::Notify;

use crate::{
    gateway::{Step, added, delta, done, head, message},
    support::{DEADLINE, Desk, turn, until, words},
};

#[tokio::test(start_paused = true)]
async fn a_turn_whose_process_died_is_interrupted_and_its_items_are_there_once() {
    let dead = Desk::new();
    let (id, mut events) = dead.watched().await;
    let gate = Arc::new(Notify::new());
    let call = r#"{"type":"message","role":"assistant","id":"m0","content":[{"type":"output_text","text":"first"}]}"#;
    dead.gateway.answers(vec![
        head(),
        done(call),
        added("m1"),
        delta("m1", "half"),
        Step::Wait(Arc::clone(&gate)),
        done(&message("m1", "half and more")),
        Step::Hang,
    ]);
    dead.say(id, "hello").await;
    until(&mut events, "delta-half").await;

    let alive = Desk::over(Arc::clone(&dead.store), Options::default());
    let view = alive.sessions.resume(&alive.tenant, id, None, Overrides::default()).await.unwrap().view;
    assert_eq!((view.status, view.active_turn), (Status::Idle, None));
    let turns = alive.sessions.turns(&alive.tenant, id, PageQuery::default()).await.unwrap().elements;
    assert_eq!((turns[0].status, turns[0].items.len()), (TurnStatus::Interrupted, 2));
    let mut new_events = alive.sessions.subscribe(&alive.tenant, id, None).await.unwrap();
    alive.say(id, "go on").await;
    until(&mut new_events, "turn-Completed").await;
    let turns = alive.sessions.turns(&alive.tenant, id, PageQuery::default()).await.unwrap().elements;
    assert_eq!(
        turns.iter().map(|turn| turn.status).collect::<Vec<_>>(),
        [TurnStatus::Interrupted, TurnStatus::Completed]
    );

    // The process was not dead but slow: it cannot write any more, and says so.
    gate.notify_one();
    dead.sessions.interrupt(&dead.tenant, id, None).await.unwrap();
    let all = words(&until(&mut events, "turn-").await);
    assert!(all.contains(&"SystemError".to_owned()), "{all:?}");
    let items = alive.sessions.items(&alive.tenant, id, None, PageQuery::default()).await.unwrap().elements;
    assert_eq!(items.len(), 4);
    // Its user comes back to it: it takes the thread, with all that happened elsewhere.
    dead.say(id, "and here").await;
    until(&mut events, "turn-Completed").await;
    assert!(dead.gateway.bodies().last().unwrap().contains("go on"));
}

#[tokio::test(start_paused = true)]
async fn a_thread_has_no_history_before_its_first_message_and_an_ephemeral_one_never() {
    let desk = Desk::new();
    let Desk { sessions, tenant, .. } = &desk;
    let id = desk.thread().await;
    let page = PageQuery::default;
    assert!(matches!(sessions.turns(tenant, id, page()).await, Err(Error::NotMaterialized(_))));
    assert!(matches!(sessions.items(tenant, id, None, page()).await, Err(Error::NotMaterialized(_))));
    assert_eq!(desk.store.commits(), 0);
    assert!(sessions.list(tenant, agent_threads::ListQuery::default()).await.unwrap().elements.is_empty());

    let new = NewThread { ephemeral: true, ..NewThread::default() };
    let id = sessions.start(tenant, new).await.unwrap().thread.id;
    let mut events = sessions.subscribe(tenant, id, None).await.unwrap();
    desk.say(id, "title?").await;
    until(&mut events, "turn-Completed").await;
    desk.say(id, "another?").await;
    until(&mut events, "turn-Completed").await;
    assert!(desk.gateway.bodies()[1].contains("title?"));
    assert!(matches!(sessions.turns(tenant, id, page()).await, Err(Error::Ephemeral(_))));
    assert_eq!(desk.store.commits(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_idle_thread_leaves_memory_and_comes_back_on_demand() {
    let desk = Desk::with(Options { idle_unload_after: Duration::from_secs(60), ..Options::default() });
    let Desk { sessions, tenant, .. } = &desk;
    let mut lifecycle = sessions.tenant_events(tenant);
    let (id, mut events) = desk.watched().await;
    desk.say(id, "hello").await;
    until(&mut events, "turn-Completed").await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    // It has a subscriber.
    assert_eq!(sessions.loaded(tenant), [id]);
    drop(events);
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert!(sessions.loaded(tenant).is_empty());
    let mut seen = Vec::new();
    while let Ok(Next::Event(event)) = tokio::time::timeout(Duration::from_secs(1), lifecycle.next()).await {
        if !matches!(&*event, Lifecycle::StatusChanged { .. }) {
            seen.push(event);
        }
    }
    assert!(matches!(&*seen[0], Lifecycle::Started(_)));
    assert!(matches!(&*seen[1], Lifecycle::Closed(closed) if *closed == id));
    assert_eq!(sessions.read(tenant, id).await.unwrap().status, Status::NotLoaded);
    let view = sessions.resume(tenant, id, None, Overrides::default()).await.unwrap().view;
    assert_eq!(view.tokens.unwrap().1.total.total_tokens, 13);
    let mut events = sessions.subscribe(tenant, id, None).await.unwrap();
    desk.say(id, "again").await;
    until(&mut events, "turn-Completed").await;
    assert_eq!(sessions.read(tenant, id).await.unwrap().tokens.unwrap().1.total.total_tokens, 26);
}

#[tokio::test(start_paused = true)]
async fn idle_threads_are_bounded_and_one_that_nobody_keeps_goes_soon() {
    let day = Duration::from_secs(24 * 3_600);
    let options = Options { idle_unload_after: day, idle_threads_max: 2, ..Options::default() };
    let desk = Desk::with(options);
    let Desk { sessions, tenant, .. } = &desk;
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(desk.thread().await);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (followed, _events) = desk.watched().await;
    // The one that was needed least lately is the second now.
    drop(sessions.subscribe(tenant, ids[0], None).await.unwrap());
    assert_eq!(sessions.loaded(tenant).len(), 5);
    tokio::time::sleep(Duration::from_secs(61)).await;
    let mut left = vec![ids[0], ids[3], followed];
    left.sort_unstable();
    assert_eq!(sessions.loaded(tenant), left);

    let ephemeral = NewThread { ephemeral: true, ..NewThread::default() };
    let unkept = sessions.start(tenant, ephemeral).await.unwrap().thread.id;
    assert_eq!(sessions.loaded(tenant).len(), 4);
    tokio::time::sleep(Duration::from_secs(121)).await;
    assert!(!sessions.loaded(tenant).contains(&unkept));
    assert!(matches!(sessions.read(tenant, unkept).await, Err(Error::NotFound(_))));
}

#[tokio::test(start_paused = true)]
async fn limits_refuse_and_say_so() {
    let tenant = TenantLimits { running_turns_max: 1, ..TenantLimits::default() };
    let options = Options { loaded_threads_max: 2, tenant, message_bytes_max: 10, ..Options::default() };
    let desk = Desk::with(options);
    let Desk { sessions, tenant, .. } = &desk;
    let (a, _events_a) = desk.watched().await;
    let (b, _events_b) = desk.watched().await;
    let third = sessions.start(tenant, NewThread::default()).await;
    assert!(matches!(third, Err(Error::Overloaded { what: "loaded threads", .. })));
    desk.gateway.answers(vec![head(), Step::Hang]);
    desk.say(a, "hello").await;
    let second = sessions.start_turn(tenant, b, turn("hello", None)).await;
    assert!(matches!(second, Err(Error::Overloaded { what: "running turns", .. })));
    // Steering needs no further turn.
    desk.gateway.answers(vec![head(), Step::Hang]);
    desk.say(a, "steer").await;
    assert!(matches!(sessions.start_turn(tenant, b, turn("", None)).await, Err(Error::Overloaded { .. })));
    assert!(matches!(
        sessions.start_turn(tenant, b, turn("01234567890", None)).await,
        Err(Error::Invalid(_))
    ));
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_turns_and_interrupts_what_remains() {
    let desk = Desk::new();
    let (quick, mut quick_events) = desk.watched().await;
    let (stuck, mut stuck_events) = desk.watched().await;
    let gate = Arc::new(Notify::new());
    desk.gateway.answers(vec![
        head(),
        Step::Wait(Arc::clone(&gate)),
        done(&message("m", "Hi")),
        crate::gateway::completed(),
    ]);
    desk.say(quick, "hello").await;
    until(&mut quick_events, "completed-user").await;
    desk.gateway.answers(vec![head(), added("m"), delta("m", "half"), Step::Hang]);
    desk.say(stuck, "hello").await;
    until(&mut stuck_events, "delta-half").await;
    let began = tokio::time::Instant::now();
    let sessions = desk.sessions.clone();
    let drain = sessions.drain(Duration::from_secs(20));
    let watch = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let refused = desk.sessions.start_turn(&desk.tenant, quick, turn("x", None)).await;
        gate.notify_one();
        until(&mut quick_events, "turn-Completed").await;
        refused
    };
    let ((), refused) = tokio::time::timeout(DEADLINE, async { tokio::join!(drain, watch) }).await.unwrap();
    // The message met a running turn, so it steered it or came too late; nothing new is started after that.
    assert!(refused.is_ok() || matches!(refused, Err(Error::Stopping)));
    assert_eq!(began.elapsed().as_secs(), 20);
    until(&mut stuck_events, "turn-Interrupted").await;
    let items = desk.sessions.items(&desk.tenant, stuck, None, PageQuery::default()).await.unwrap().elements;
    assert_eq!(items.len(), 2);
    assert!(matches!(
        desk.sessions.start_turn(&desk.tenant, quick, turn("x", None)).await,
        Err(Error::Stopping)
    ));
}
