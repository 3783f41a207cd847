//! A tenant sees its own threads and no other's; and what it can do with its own.

use std::time::Duration;

use agent_session::{
    Error, ForkPoint, ForkThread, Lifecycle, MetadataChange, NewThread, Next, Options, Overrides, RateLimit,
    RateLimitWindow, Report, TenantLimits, TenantSubscription,
};
use agent_threads::{ListQuery, Mark, PageQuery, TenantId, ThreadId, TurnId};
use serde_json::value::RawValue;
use tokio::sync::mpsc::UnboundedSender;

use crate::{
    gateway::{Step, head},
    support::{DEADLINE, Desk, next, steering, turn, until, word},
};

/// Calls every method with a foreign tenant's thread.
async fn all_refused(desk: &Desk, id: ThreadId, active: TurnId) {
    let (sessions, spy) = (&desk.sessions, &TenantId::new("spy"));
    let (page, settings, fork) = (PageQuery::default, Overrides::default, ForkThread::default);
    let refusals = [
        sessions.resume(spy, id, None, settings()).await.err(),
        sessions.compact(spy, id).await.err(),
        sessions.fork(spy, id, ForkThread::default()).await.err(),
        sessions.fork(spy, id, ForkThread { until: ForkPoint::Before(active), ..fork() }).await.err(),
        sessions.revert(spy, id, active).await.err(),
        sessions.inject(spy, id, vec![RawValue::from_string("{}".to_owned()).unwrap()]).await.err(),
        sessions.update_metadata(spy, id, MetadataChange::default()).await.err(),
        sessions.mark(spy, id, Mark::Read, 0).await.err(),
        sessions.item_cursor(spy, id, active, "x").await.err(),
        sessions.start(spy, NewThread { parent_id: Some(id), ..NewThread::default() }).await.err(),
        sessions.read(spy, id).await.err(),
        sessions.turns(spy, id, page()).await.err(),
        sessions.items(spy, id, None, page()).await.err(),
        sessions.start_turn(spy, id, turn("x", None)).await.err(),
        sessions.steer(spy, id, steering(active, "x")).await.err(),
        sessions.interrupt(spy, id, None).await.err(),
        sessions.interrupt(spy, id, Some(active)).await.err(),
        sessions.subscribe(spy, id, None).await.err(),
        sessions.subscribe(spy, id, Some(0)).await.err(),
        sessions.set_name(spy, id, "x".to_owned()).await.err(),
        sessions.archive(spy, id).await.err(),
        sessions.unarchive(spy, id).await.err(),
        sessions.delete(spy, id).await.err(),
        sessions.update_settings(spy, id, settings()).await.err(),
    ];
    for (index, refusal) in refusals.into_iter().enumerate() {
        assert!(
            matches!(refusal, Some(Error::NotFound(found)) if found == id),
            "method {index}: {refusal:?}"
        );
    }
    assert!(sessions.loaded(spy).is_empty());
    assert!(sessions.list(spy, ListQuery::default()).await.unwrap().elements.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_foreign_thread_is_not_found_by_any_method() {
    let desk = Desk::new();
    let mut spied = desk.sessions.tenant_events(&TenantId::new("spy"));
    let (id, mut events) = desk.watched().await;
    all_refused(&desk, id, TurnId::generate()).await;
    desk.gateway.answers(vec![head(), Step::Hang]);
    let active = desk.say(id, "secret").await.id;
    all_refused(&desk, id, active).await;
    desk.sessions.interrupt(&desk.tenant, id, Some(active)).await.unwrap();
    until(&mut events, "turn-Interrupted").await;
    all_refused(&desk, id, active).await;
    let told = tokio::time::timeout(std::time::Duration::from_secs(1), spied.next()).await;
    assert!(told.is_err(), "{told:?}");
}

async fn lifecycle(events: &mut TenantSubscription) -> std::sync::Arc<Lifecycle> {
    loop {
        match tokio::time::timeout(DEADLINE, events.next()).await.unwrap() {
            Next::Event(event) if matches!(&*event, Lifecycle::StatusChanged { .. }) => {}
            Next::Event(event) => return event,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_thread_is_named_archived_changed_and_deleted() {
    let desk = Desk::new();
    let Desk { sessions, tenant, .. } = &desk;
    let mut tenant_events = sessions.tenant_events(tenant);
    let (id, mut events) = desk.watched().await;
    assert!(
        matches!(&*lifecycle(&mut tenant_events).await, Lifecycle::Started(view) if view.thread.id == id)
    );
    assert!(matches!(sessions.archive(tenant, id).await, Err(Error::NotMaterialized(_))));

    // A name given before the first message is stored with it.
    sessions.set_name(tenant, id, "plan".to_owned()).await.unwrap();
    assert_eq!(word(&next(&mut events).await.event), "name");
    assert!(matches!(&*lifecycle(&mut tenant_events).await, Lifecycle::NameChanged { .. }));
    let overrides = Overrides { effort: Some("high".to_owned()), ..Overrides::default() };
    let mut first = turn("hello", None);
    first.overrides = overrides;
    sessions.start_turn(tenant, id, first).await.unwrap();
    assert_eq!(word(&next(&mut events).await.event), "settings");
    until(&mut events, "turn-Completed").await;
    assert!(desk.gateway.bodies()[0].contains(r#""reasoning":{"effort":"high"}"#));
    let listed = sessions.list(tenant, ListQuery::default()).await.unwrap().elements;
    assert_eq!(listed[0].thread.name.as_deref(), Some("plan"));
    assert_eq!(listed[0].thread.preview, "hello");

    let overrides =
        Overrides { effort: Some(String::new()), cwd: Some("/srv".to_owned()), ..Overrides::default() };
    let view = sessions.update_settings(tenant, id, overrides).await.unwrap();
    assert_eq!((view.thread.settings.effort, view.thread.settings.cwd.as_str()), (None, "/srv"));
    assert_eq!(word(&next(&mut events).await.event), "settings");

    sessions.archive(tenant, id).await.unwrap();
    assert!(matches!(&*lifecycle(&mut tenant_events).await, Lifecycle::Archived(_)));
    assert!(sessions.list(tenant, ListQuery::default()).await.unwrap().elements.is_empty());
    until(&mut events, "closed").await;
    assert!(sessions.loaded(tenant).is_empty());
    for refused in [
        sessions.start_turn(tenant, id, turn("x", None)).await.err(),
        sessions.resume(tenant, id, None, Overrides::default()).await.err(),
        sessions.fork(tenant, id, ForkThread::default()).await.err(),
    ] {
        assert!(matches!(refused, Some(Error::Archived(_))), "{refused:?}");
    }
    assert!(matches!(sessions.archive(tenant, id).await, Err(Error::Invalid(_))));
    assert!(sessions.read(tenant, id).await.unwrap().thread.archived);
    assert!(!sessions.unarchive(tenant, id).await.unwrap().thread.archived);
    assert!(matches!(&*lifecycle(&mut tenant_events).await, Lifecycle::Unarchived(_)));

    assert!(matches!(sessions.unarchive(tenant, id).await, Err(Error::Invalid(_))));

    let mut events = sessions.subscribe(tenant, id, None).await.unwrap();
    desk.gateway.answers(vec![head(), Step::Hang]);
    desk.say(id, "never ends").await;
    sessions.delete(tenant, id).await.unwrap();
    assert!(matches!(&*lifecycle(&mut tenant_events).await, Lifecycle::Deleted(_)));
    until(&mut events, "closed").await;
    assert!(matches!(sessions.read(tenant, id).await, Err(Error::NotFound(_))));
}

#[tokio::test(start_paused = true)]
async fn what_one_tenant_has_too_much_of_is_no_other_s_concern() {
    let (acme, other) = (TenantId::new("acme"), TenantId::new("other"));
    let narrow = TenantLimits { loaded_threads_max: 2, running_turns_max: 1 };
    let options = Options { tenants: [(acme.clone(), narrow)].into(), ..Options::default() };
    let desk = Desk::with(options);
    let sessions = &desk.sessions;
    let (first, _first_events) = desk.watched().await;
    let (second, _second_events) = desk.watched().await;
    let refused = |what: &'static str, limit| move |error: &Error| matches!(error, Error::Overloaded { what: told, limit: most } if (*told, *most) == (what, limit));
    let third = sessions.start(&acme, NewThread::default()).await.unwrap_err();
    assert!(refused("loaded threads of this tenant", 2)(&third) && third.is_retryable(), "{third:?}");
    // Others have their own room, and theirs is not taken for it.
    let theirs = sessions.start(&other, NewThread::default()).await.unwrap().thread.id;
    assert_eq!(sessions.loaded(&other), [theirs]);

    desk.gateway.answers(vec![head(), Step::Hang]);
    desk.say(first, "hello").await;
    let error = sessions.start_turn(&acme, second, turn("x", None)).await.unwrap_err();
    assert!(refused("running turns", 1)(&error), "{error:?}");
    sessions.start_turn(&other, theirs, turn("x", None)).await.unwrap();

    // Room comes back with a thread that goes, also one that goes to make room.
    sessions.delete(&acme, second).await.unwrap();
    let idle = sessions.start(&acme, NewThread::default()).await.unwrap().thread.id;
    let newest = sessions.start(&acme, NewThread::default()).await.unwrap().thread.id;
    let mut loaded = [first, newest];
    loaded.sort_unstable();
    assert_eq!(sessions.loaded(&acme), loaded, "{idle} made room");
    assert_eq!(sessions.loaded(&other), [theirs]);
}

#[tokio::test(start_paused = true)]
async fn those_who_follow_keep_up_when_many_threads_leave() {
    const LOADED: usize = 600;
    let limits = TenantLimits { loaded_threads_max: LOADED, running_turns_max: 1 };
    let event_queue = std::num::NonZeroUsize::new(300).unwrap();
    let desk = Desk::with(Options { tenant: limits, event_queue, ..Options::default() });
    let Desk { sessions, tenant, .. } = &desk;
    let mut ids = Vec::new();
    for _ in 0..LOADED {
        ids.push(sessions.start(tenant, NewThread::default()).await.unwrap().thread.id);
        tokio::time::advance(Duration::from_millis(1)).await;
    }
    let mut events = sessions.tenant_events(tenant);
    ids.push(sessions.start(tenant, NewThread::default()).await.unwrap().thread.id);
    let mut closed = Vec::new();
    while closed.len() < LOADED + 1 {
        if closed.len() == 256 {
            assert_eq!(sessions.loaded(tenant), ids[256..], "the oldest made way, and no more than that");
        }
        match tokio::time::timeout(DEADLINE, events.next()).await.unwrap() {
            Next::Event(event) => match &*event {
                Lifecycle::Closed(id) => closed.push(*id),
                Lifecycle::Started(_) => {}
                other => panic!("{other:?}"),
            },
            other => panic!("after {}: {other:?}", closed.len()),
        }
    }
    assert_eq!(closed, ids, "each is told once, the oldest first");
}

fn report(provider: &str, used_percent: f64) -> Report {
    let limit = RateLimit {
        id: "codex".to_owned(),
        name: None,
        primary: Some(RateLimitWindow { used_percent, window_minutes: None, resets_at: None }),
        secondary: None,
        reached_type: None,
    };
    Report { provider: provider.to_owned(), limits: vec![limit] }
}

/// How much is used, by the next that somebody is told.
async fn used(events: &mut TenantSubscription) -> f64 {
    match tokio::time::timeout(DEADLINE, events.next()).await.unwrap() {
        Next::Event(event) => match &*event {
            Lifecycle::RateLimits(limits) => limits[0].primary.as_ref().unwrap().used_percent,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// Where the gateway reports to, once somebody asks it.
async fn watch(desk: &Desk) -> UnboundedSender<Report> {
    loop {
        if let Some(watch) = desk.gateway.0.lock().unwrap().watches.pop() {
            return watch;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn usage_limits_are_told_to_everybody_now_and_then_and_again_after_the_gateway_was_away() {
    let desk = Desk::new();
    let mut acme = desk.sessions.tenant_events(&desk.tenant);
    let mut other = desk.sessions.tenant_events(&TenantId::new("other"));
    let reports = watch(&desk).await;
    reports.send(report("elsewhere", 99.0)).unwrap();
    assert!(tokio::time::timeout(Duration::from_secs(60), acme.next()).await.is_err(), "nobody begins there");
    reports.send(report("rehearsal", 1.0)).unwrap();
    assert_eq!((used(&mut acme).await, used(&mut other).await), (1.0, 1.0));
    let began = tokio::time::Instant::now();
    for percent in 2..50_u8 {
        reports.send(report("rehearsal", percent.into())).unwrap();
    }
    reports.send(report("elsewhere", 99.0)).unwrap();
    assert_eq!(used(&mut acme).await, 49.0, "what came meanwhile is told once");
    assert!(began.elapsed() >= Duration::from_secs(9));
    reports.send(report("rehearsal", 49.0)).unwrap();
    drop(reports);
    let reports = watch(&desk).await;
    reports.send(report("rehearsal", 49.0)).unwrap();
    reports.send(report("rehearsal", 50.0)).unwrap();
    assert_eq!(used(&mut acme).await, 50.0, "the same is not told again");
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_is_away_is_asked_ever_later_and_soon_again_once_it_was_back() {
    let desk = Desk::new();
    let mut events = desk.sessions.tenant_events(&desk.tenant);
    let mut reports = watch(&desk).await;
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let began = tokio::time::Instant::now();
        drop(reports);
        reports = watch(&desk).await;
        pauses.push(began.elapsed().as_secs());
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
    reports.send(report("rehearsal", 1.0)).unwrap();
    assert_eq!(used(&mut events).await, 1.0);
    let began = tokio::time::Instant::now();
    drop(reports);
    let reports = watch(&desk).await;
    assert_eq!(began.elapsed().as_secs(), 1);
    // Nobody is told more often for that.
    reports.send(report("rehearsal", 2.0)).unwrap();
    assert_eq!(used(&mut events).await, 2.0);
    assert!(began.elapsed() >= Duration::from_secs(9), "{:?}", began.elapsed());
}
