//! Threads that begin with another one's history.

use agent_session::{
    Error, ForkPoint, ForkThread, Lifecycle, NewThread, Next, Overrides, TurnStatus, TurnView,
};
use agent_threads::{PageQuery, ThreadId, TurnId};

use crate::{
    gateway::{Step, added, answer, delta, head},
    support::{DEADLINE, Desk, until},
};

/// A thread with three turns of a question and an answer each.
async fn grown(desk: &Desk) -> (ThreadId, Vec<TurnId>) {
    let (id, mut events) = desk.watched().await;
    let mut turns = Vec::new();
    for n in 0..3 {
        desk.gateway.answers(answer(&format!("m{n}"), &format!("answer {n}")));
        turns.push(desk.say(id, &format!("question {n}")).await.id);
        until(&mut events, "turn-Completed").await;
    }
    (id, turns)
}

async fn turns_of(desk: &Desk, id: ThreadId) -> Vec<TurnView> {
    desk.sessions.turns(&desk.tenant, id, PageQuery::default()).await.unwrap().elements
}

fn at(until: ForkPoint) -> ForkThread {
    ForkThread { until, originator: "forker".to_owned(), ..ForkThread::default() }
}

#[tokio::test(start_paused = true)]
async fn a_fork_begins_with_as_much_history_as_was_asked_for() {
    let desk = Desk::new();
    let Desk { sessions, tenant, gateway, .. } = &desk;
    let (source, turns) = grown(&desk).await;
    sessions.set_name(tenant, source, "original".to_owned()).await.unwrap();
    for (until_turn, kept) in [
        (ForkPoint::Whole, 3),
        (ForkPoint::Through(turns[2]), 3),
        (ForkPoint::Through(turns[0]), 1),
        (ForkPoint::Before(turns[2]), 2),
        (ForkPoint::Before(turns[0]), 0),
    ] {
        let view = sessions.fork(tenant, source, at(until_turn)).await.unwrap();
        let fork = &view.thread;
        assert_eq!((fork.forked_from_id, fork.parent_id, fork.session_id), (Some(source), None, fork.id));
        assert_eq!((fork.name.as_deref(), fork.origin.originator.as_str()), (Some("original"), "forker"));
        assert_eq!(view.materialized, kept > 0, "{until_turn:?}");
        let mut events = sessions.subscribe(tenant, fork.id, None).await.unwrap();
        gateway.answers(answer(&format!("fork-{kept}-{}", fork.id), "forked answer"));
        desk.say(fork.id, "forked question").await;
        until(&mut events, "turn-Completed").await;
        let body = gateway.bodies().pop().unwrap();
        for n in 0..3 {
            assert_eq!(body.contains(&format!("question {n}")), n < kept, "{until_turn:?}: {body}");
        }
        let shown = turns_of(&desk, fork.id).await;
        assert_eq!(shown.len(), kept + 1);
        assert_eq!(shown.iter().take(kept).map(|turn| turn.id).collect::<Vec<_>>(), turns[..kept]);
        assert_eq!(
            sessions.read(tenant, fork.id).await.unwrap().tokens.unwrap().1.total.total_tokens,
            13 * (u64::try_from(kept).unwrap() + 1)
        );
    }
    assert_eq!(turns_of(&desk, source).await.len(), 3);
    for unknown in [ForkPoint::Through(TurnId::generate()), ForkPoint::Before(TurnId::generate())] {
        let refused = sessions.fork(tenant, source, at(unknown)).await;
        assert!(matches!(refused, Err(Error::TurnNotFound(_))), "{refused:?}");
    }
    let other_provider = ForkThread { provider: Some("elsewhere".to_owned()), ..ForkThread::default() };
    assert!(matches!(sessions.fork(tenant, source, other_provider).await, Err(Error::Invalid(_))));
}

#[tokio::test(start_paused = true)]
async fn a_fork_of_a_running_thread_shows_the_turn_as_interrupted() {
    let desk = Desk::new();
    let Desk { sessions, tenant, gateway, .. } = &desk;
    let (source, mut events) = desk.watched().await;
    gateway.answers(vec![head(), added("m"), delta("m", "half"), Step::Hang]);
    let running = desk.say(source, "hello").await.id;
    until(&mut events, "delta-half").await;
    let refused = sessions.fork(tenant, source, at(ForkPoint::Through(running))).await;
    assert!(matches!(&refused, Err(Error::Invalid(text)) if text.contains("in-progress")), "{refused:?}");
    let mut told = sessions.tenant_events(tenant);
    let fork = sessions.fork(tenant, source, at(ForkPoint::Whole)).await.unwrap().thread.id;
    let Next::Event(started) = tokio::time::timeout(DEADLINE, told.next()).await.unwrap() else { panic!() };
    assert!(matches!(&*started, Lifecycle::Started(view) if view.thread.id == fork));
    let shown = turns_of(&desk, fork).await;
    assert_eq!((shown[0].id, shown[0].status, shown[0].items.len()), (running, TurnStatus::Interrupted, 1));
    let mut fork_events = sessions.subscribe(tenant, fork, None).await.unwrap();
    desk.say(fork, "go on").await;
    until(&mut fork_events, "turn-Completed").await;
    // The source goes on by itself.
    assert_eq!(sessions.read(tenant, source).await.unwrap().active_turn, Some(running));
    sessions.interrupt(tenant, source, None).await.unwrap();
    sessions.delete(tenant, source).await.unwrap();
    assert_eq!(turns_of(&desk, fork).await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_fork_may_have_other_settings_and_need_not_be_kept() {
    let desk = Desk::new();
    let Desk { sessions, tenant, gateway, store, .. } = &desk;
    let (source, _) = grown(&desk).await;
    let settings = Overrides { effort: Some("high".to_owned()), ..Overrides::default() };
    sessions.update_settings(tenant, source, settings).await.unwrap();
    let commits = store.commits();
    let other = Overrides { model: Some("model-x".to_owned()), ..Overrides::default() };
    let side = ForkThread { ephemeral: true, overrides: other, ..ForkThread::default() };
    let view = sessions.fork(tenant, source, side).await.unwrap();
    assert!(view.ephemeral && view.materialized);
    // An effort belongs to the model that it was chosen for.
    assert_eq!((view.thread.settings.model.as_str(), view.thread.settings.effort), ("model-x", None));
    let id = view.thread.id;
    let mut events = sessions.subscribe(tenant, id, None).await.unwrap();
    desk.say(id, "aside").await;
    until(&mut events, "turn-Completed").await;
    let body = gateway.bodies().pop().unwrap();
    assert!(
        body.contains("question 2") && body.contains("<model_change>") && body.contains("model-x"),
        "{body}"
    );
    assert_eq!(store.commits(), commits, "nothing of it is stored");
    assert!(matches!(sessions.fork(tenant, id, ForkThread::default()).await, Err(Error::Ephemeral(_))));
    // A thread without history forks into one without history.
    let fresh = sessions.start(tenant, NewThread::default()).await.unwrap().thread.id;
    let view = sessions.fork(tenant, fresh, ForkThread::default()).await.unwrap();
    assert_eq!((view.materialized, view.thread.forked_from_id), (false, Some(fresh)));
    let refused = sessions.fork(tenant, fresh, at(ForkPoint::Before(TurnId::generate()))).await;
    assert!(matches!(refused, Err(Error::TurnNotFound(_))), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn a_tree_of_threads_shares_its_session() {
    let desk = Desk::new();
    let Desk { sessions, tenant, .. } = &desk;
    let root = desk.thread().await;
    let of = |parent_id| NewThread { parent_id: Some(parent_id), ..NewThread::default() };
    let child = sessions.start(tenant, of(root)).await.unwrap().thread;
    let grandchild = sessions.start(tenant, of(child.id)).await.unwrap().thread;
    assert_eq!((child.session_id, grandchild.session_id), (root, root));
    assert_eq!((child.parent_id, grandchild.parent_id), (Some(root), Some(child.id)));
}
