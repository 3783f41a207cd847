//! What changes a thread in another way than by growing: forks, reverts, marks, facts that clients keep.

use agent_threads::{
    Entry, Error, Git, Lease, ListQuery, Mark, Metadata, PageQuery, ReadState, Thread, ThreadId, ThreadStore,
    ThreadUpdate, TurnEnd, TurnError, TurnErrorKind, TurnId, TurnPlace, Unread,
};

use crate::{
    fixture::{Place, ended, json, message, no_update, owner, started, stranger, tenant, thread, turn},
    suite::{created, log},
};

/// A thread with so many small turns, each of seven entries and with a message that has an id.
async fn grown(store: &dyn ThreadStore, turns: usize) -> (Lease, Vec<TurnId>) {
    let lease = created(store, &owner()).await;
    let ids: Vec<TurnId> = (0..turns).map(|_| TurnId::generate()).collect();
    for (n, id) in ids.iter().enumerate() {
        let mut entries = turn(*id);
        entries[1] = message(*id, Some(&format!("m{n}")), "question");
        store.append(&lease, entries, no_update()).await.unwrap();
    }
    (lease, ids)
}

async fn turns_of(store: &dyn ThreadStore, id: ThreadId) -> Vec<TurnId> {
    let page = store.turns(&tenant(), id, PageQuery::default()).await.unwrap();
    page.elements.iter().map(|turn| turn.turn_id).collect()
}

pub(crate) async fn turns_have_places(place: Place) {
    let store = place.open().await;
    let (lease, turns) = grown(&*store, 3).await;
    let place_of = async |turn| store.turn_place(&tenant(), lease.thread_id, turn).await.unwrap();
    assert_eq!(place_of(turns[0]).await, Some(TurnPlace { start: 1, next: Some(8) }));
    assert_eq!(place_of(turns[1]).await, Some(TurnPlace { start: 8, next: Some(15) }));
    assert_eq!(place_of(turns[2]).await, Some(TurnPlace { start: 15, next: None }));
    assert_eq!(place_of(TurnId::generate()).await, None);
    let unknown = store.turn_place(&stranger(), lease.thread_id, turns[0]).await;
    assert!(matches!(unknown, Err(Error::NotFound(_))), "{unknown:?}");
}

pub(crate) async fn a_fork_is_a_thread_of_its_own(place: Place) {
    let store = place.open().await;
    let (source, turns) = grown(&*store, 3).await;
    let before = log(&*store, &tenant(), source.thread_id).await;
    for (through, kept) in [(14, 14), (17, 17), (u64::MAX, 21), (0, 0)] {
        let new = Thread {
            forked_from_id: Some(source.thread_id),
            name: Some("copy".to_owned()),
            updated_at_ms: i64::MAX / 2,
            ..thread(&tenant())
        };
        let (lease, appended) = store.fork(source.thread_id, through, new.clone(), &owner()).await.unwrap();
        assert_eq!((lease.epoch, appended.last_sequence), (1, kept));
        let other = place.open().await;
        assert_eq!(other.thread(&tenant(), new.id).await.unwrap(), new);
        let copy = log(&*other, &tenant(), new.id).await;
        assert_eq!(copy.len(), usize::try_from(kept).unwrap());
        for (copied, original) in copy.iter().zip(&before) {
            assert_eq!((copied.sequence, copied.at_ms), (original.sequence, original.at_ms));
            assert_eq!(json(&copied.entry), json(&original.entry));
        }
        // It grows by itself, and knows the messages that it has copied and no others.
        let again = |n: usize| vec![message(TurnId::generate(), Some(&format!("m{n}")), "again")];
        let known = store.append(&lease, again(0), no_update()).await;
        assert_eq!(matches!(known, Err(Error::DuplicateMessage { .. })), kept > 0, "{known:?}");
        let unknown = store.append(&lease, again(9), no_update()).await.unwrap();
        assert_eq!(unknown.last_sequence, if kept > 0 { kept + 1 } else { 2 });
    }
    assert_eq!(log(&*store, &tenant(), source.thread_id).await.len(), 21);
    assert_eq!(turns_of(&*store, source.thread_id).await, turns);

    // What cannot be, leaves nothing.
    let new = thread(&tenant());
    let refused = store.fork(ThreadId::generate(), 5, new.clone(), &owner()).await;
    assert!(matches!(refused, Err(Error::NotFound(_))), "{refused:?}");
    let theirs = Thread { tenant: stranger(), ..new.clone() };
    let refused = store.fork(source.thread_id, 5, theirs, &owner()).await;
    assert!(matches!(refused, Err(Error::NotFound(_))), "{refused:?}");
    let refused =
        store.fork(source.thread_id, 5, Thread { id: source.thread_id, ..new.clone() }, &owner()).await;
    assert!(matches!(refused, Err(Error::Exists(_))), "{refused:?}");
    assert!(matches!(store.thread(&tenant(), new.id).await, Err(Error::NotFound(_))));

    // A fork outlives its source.
    let (lease, _) = store.fork(source.thread_id, 7, new.clone(), &owner()).await.unwrap();
    store.delete(&tenant(), source.thread_id).await.unwrap();
    assert_eq!(log(&*store, &tenant(), lease.thread_id).await.len(), 7);
}

pub(crate) async fn a_revert_takes_the_end_back(place: Place) {
    let store = place.open().await;
    let (lease, turns) = grown(&*store, 3).await;
    let id = lease.thread_id;
    let reverted = |turn_id, keep| Entry::Reverted { turn_id, keep };
    let done = store.revert(&lease, 7, reverted(turns[1], 7)).await.unwrap();
    assert_eq!(done.last_sequence, 22, "numbers are not given out again");
    let other = place.open().await;
    let log_now = log(&*other, &tenant(), id).await;
    let sequences: Vec<u64> = log_now.iter().map(|record| record.sequence).collect();
    assert_eq!(sequences, [1, 2, 3, 4, 5, 6, 7, 22]);
    assert!(matches!(log_now[7].entry, Entry::Reverted { keep: 7, .. }));
    assert_eq!(turns_of(&*other, id).await, turns[..1]);
    let items = other.items(&tenant(), id, None, PageQuery::default()).await.unwrap();
    assert_eq!(items.elements.len(), 2);
    assert_eq!(store.turn_place(&tenant(), id, turns[1]).await.unwrap(), None);

    // What was taken out can be said again, what was kept cannot.
    let say = |n: usize| vec![message(TurnId::generate(), Some(&format!("m{n}")), "again")];
    assert!(matches!(store.append(&lease, say(0), no_update()).await, Err(Error::DuplicateMessage { .. })));
    assert_eq!(store.append(&lease, say(1), no_update()).await.unwrap().last_sequence, 23);

    let stale = Lease { epoch: lease.epoch + 1, ..lease.clone() };
    let refused = store.revert(&stale, 0, reverted(turns[0], 0)).await;
    assert!(matches!(refused, Err(Error::StaleOwner(_))), "{refused:?}");
    let theirs = Lease { tenant: stranger(), ..lease.clone() };
    let refused = store.revert(&theirs, 0, reverted(turns[0], 0)).await;
    assert!(matches!(refused, Err(Error::NotFound(_))), "{refused:?}");
    assert_eq!(log(&*store, &tenant(), id).await.len(), 9);
    store.revert(&lease, 0, reverted(turns[0], 0)).await.unwrap();
    assert_eq!(log(&*store, &tenant(), id).await.len(), 1);
}

pub(crate) async fn ends_of_turns_are_unread(place: Place) {
    let store = place.open().await;
    let lease = created(&*store, &owner()).await;
    let id = lease.thread_id;
    let state = async || place.open().await.thread(&tenant(), id).await.unwrap().read_state;
    assert_eq!(state().await, ReadState::default());
    let end = |turn_id, end| vec![started(turn_id), Entry::TurnEnded { turn_id, end }];
    let [stopped, failed, completed] = [(); 3].map(|()| TurnId::generate());
    store.append(&lease, end(stopped, TurnEnd::Interrupted), no_update()).await.unwrap();
    assert_eq!(state().await, ReadState::default(), "who stops a turn knows that it ended");
    let error = TurnError {
        kind: TurnErrorKind::Other,
        reason: String::new(),
        message: String::new(),
        http_status: None,
    };
    let done = store.append(&lease, end(failed, TurnEnd::Failed { error }), no_update()).await.unwrap();
    let unread = ReadState { first_unread: Some(Unread::Turn(failed)), revision: 1 };
    assert_eq!((done.read_state, state().await), (unread, unread));
    store.append(&lease, end(completed, TurnEnd::Completed), no_update()).await.unwrap();
    assert_eq!(state().await, ReadState { revision: 2, ..unread }, "the earliest counts");

    let late = store.mark(&tenant(), id, Mark::Read, 1).await;
    assert!(
        matches!(late, Err(Error::ReadStateChanged(now)) if now == (ReadState { revision: 2, ..unread })),
        "{late:?}"
    );
    let read = ReadState { first_unread: None, revision: 3 };
    assert_eq!(store.mark(&tenant(), id, Mark::Read, 2).await.unwrap(), read);
    assert_eq!(state().await, read);
    let marked = ReadState { first_unread: Some(Unread::Start), revision: 4 };
    assert_eq!(store.mark(&tenant(), id, Mark::Unread, 3).await.unwrap(), marked);
    assert_eq!(state().await, marked);
    store.append(&lease, vec![ended(completed)], no_update()).await.unwrap();
    assert_eq!(state().await.first_unread, Some(Unread::Start));
    let foreign = store.mark(&stranger(), id, Mark::Read, 5).await;
    assert!(matches!(foreign, Err(Error::NotFound(_))), "{foreign:?}");

    store.revert(&lease, 2, Entry::Reverted { turn_id: failed, keep: 2 }).await.unwrap();
    assert_eq!(state().await.first_unread, None);
    let (_, appended) = store.create(thread(&tenant()), &owner(), turn(completed)).await.unwrap();
    assert_eq!(appended.read_state.first_unread, Some(Unread::Turn(completed)));
    let listed = store.list(&tenant(), ListQuery::default()).await.unwrap().elements;
    assert!(listed.iter().any(|thread| thread.read_state == appended.read_state));
}

pub(crate) async fn clients_keep_facts(place: Place) {
    let store = place.open().await;
    let lease = created(&*store, &owner()).await;
    let id = lease.thread_id;
    let git = Git { sha: Some("abc".to_owned()), branch: Some("main".to_owned()), origin_url: None };
    let metadata = Metadata { git: Some(git), daybreak_enabled: Some(true) };
    let update =
        ThreadUpdate { metadata: Some(metadata.clone()), preview: Some("Später".to_owned()), ..no_update() };
    assert_eq!(store.update(&tenant(), id, update).await.unwrap().metadata, metadata);
    let found = place.open().await.thread(&tenant(), id).await.unwrap();
    assert_eq!((found.metadata, found.preview.as_str()), (metadata.clone(), "Später"));
    let query = ListQuery { search: Some("SPÄTER".to_owned()), ..ListQuery::default() };
    assert_eq!(store.list(&tenant(), query).await.unwrap().elements.len(), 1);
    // Settings and metadata change one without the other.
    let cleared = ThreadUpdate { metadata: Some(Metadata::default()), ..no_update() };
    let settings = store.update(&tenant(), id, cleared).await.unwrap().settings;
    assert_eq!(store.thread(&tenant(), id).await.unwrap().settings, settings);
    let rename = ThreadUpdate { settings: Some(crate::fixture::settings("/x")), ..no_update() };
    store.append(&lease, vec![started(TurnId::generate())], rename).await.unwrap();
    let found = store.thread(&tenant(), id).await.unwrap();
    assert_eq!((found.metadata, found.settings.cwd.as_str()), (Metadata::default(), "/x"));
    let new = Thread { metadata: metadata.clone(), ..thread(&tenant()) };
    store.create(new.clone(), &owner(), vec![]).await.unwrap();
    assert_eq!(store.thread(&tenant(), new.id).await.unwrap().metadata, metadata);
}
