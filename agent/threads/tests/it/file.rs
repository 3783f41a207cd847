//! What only a file can do: be reopened, be damaged, be busy, belong to somebody.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use agent_threads::{
    Entry, Error, ListQuery, Metadata, PageQuery, SqliteStore, TenantId, ThreadStore, TurnId, TurnRecords,
};
use futures_util::FutureExt;
use rusqlite::{Connection, TransactionBehavior};
use tokio::time::{Instant, timeout};

use crate::{
    fixture::{DEADLINE, answer, file, message, no_update, owner, stranger, tenant, thread, turn},
    suite::{created, log},
};

/// A connection past the store.
pub(crate) fn aside(path: &Path) -> Connection {
    Connection::open(path).unwrap()
}

fn run(path: &Path, sql: &str) {
    aside(path).execute_batch(sql).unwrap();
}

async fn refusal(path: &Path) -> String {
    match timeout(DEADLINE, SqliteStore::open(path)).await.unwrap() {
        Err(error @ Error::Corrupt { .. }) => {
            assert!(!error.is_retryable());
            format!("{error}: {}", std::error::Error::source(&error).unwrap())
        }
        Err(error) => panic!("{error:?}"),
        Ok(_) => panic!("opened"),
    }
}

#[tokio::test]
async fn reopened_it_holds_everything() {
    let directory = tempfile::tempdir().unwrap();
    let mut kept = Vec::new();
    for round in 0..4_u64 {
        let store = SqliteStore::open(&file(&directory)).await.unwrap();
        for (lease, entries) in &mut kept {
            let log = log(&store, &tenant(), agent_threads::Lease::clone(lease).thread_id).await;
            assert_eq!(log.len(), *entries);
            store.append(lease, turn(TurnId::generate()), no_update()).await.unwrap();
            *entries += 7;
        }
        kept.push((created(&store, &owner()).await, 0));
        assert_eq!(store.list(&tenant(), ListQuery::default()).await.unwrap().elements.len(), kept.len());
        if round % 2 == 0 {
            store.close().await;
            assert!(!fs::exists(directory.path().join("threads.db-wal")).unwrap());
            let refused = store.append(&kept[0].0, vec![], no_update()).await;
            assert!(matches!(&refused, Err(error) if error.is_retryable()), "{refused:?}");
            assert!(store.thread(&tenant(), kept[0].0.thread_id).await.is_err());
            store.close().await;
        }
    }
}

#[tokio::test]
async fn closing_writes_what_was_accepted() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&file(&directory)).await.unwrap();
    let lease = created(&store, &owner()).await;
    for _ in 0..100 {
        let _ = store.append(&lease, vec![answer(TurnId::generate(), "x")], no_update()).now_or_never();
    }
    timeout(DEADLINE, store.close()).await.unwrap();
    let store = SqliteStore::open(&file(&directory)).await.unwrap();
    assert_eq!(log(&store, &tenant(), lease.thread_id).await.len(), 100);
}

#[tokio::test]
async fn only_its_user_can_read_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state/deep/threads.db");
    let store = SqliteStore::open(&path).await.unwrap();
    created(&store, &owner()).await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&directory.path().join("state")), mode(path.parent().unwrap())), (0o700, 0o700));
    for name in ["threads.db", "threads.db-wal", "threads.db-shm"] {
        assert_eq!(mode(&path.with_file_name(name)), 0o600, "{name}");
    }
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory);
    SqliteStore::open(&path).await.unwrap().close().await;
    run(&path, "PRAGMA user_version = 7");
    let text = refusal(&path).await;
    assert!(text.contains("schema version 7") && text.contains("newer"), "{text}");
}

#[tokio::test]
async fn a_file_of_the_first_schema_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory);
    run(&path, concat!("PRAGMA foreign_keys = OFF;", include_str!("../data/store-1.sql")));

    let local = TenantId::new("local");
    let check = async |store: &SqliteStore, grown: usize| {
        let listed = store.list(&local, ListQuery::default()).await.unwrap().elements;
        let named: Vec<_> = listed.iter().map(|thread| thread.preview.as_str()).collect();
        assert_eq!(named, ["hello", "rehearse: cut", "remember the tide"]);
        let thread = listed[2].clone();
        assert_eq!(thread.name.as_deref(), Some("Tides"));
        assert_eq!(
            (thread.origin.originator.as_str(), thread.origin.client_version.as_str()),
            ("codex-tui", "1")
        );
        assert_eq!(thread.settings.effort.as_deref(), Some("high"));
        assert_eq!((thread.metadata.clone(), thread.read_state.first_unread), (Metadata::default(), None));
        let entries = log(store, &local, thread.id).await;
        assert_eq!(entries.len(), 12 + grown);
        let turns = store.turns(&local, thread.id, PageQuery::default()).await.unwrap().elements;
        let ended = |turn: &TurnRecords| {
            turn.records.iter().any(|record| matches!(record.entry, Entry::TurnEnded { .. }))
        };
        assert_eq!(turns.iter().map(ended).collect::<Vec<_>>(), [true, false], "the second was killed");
        (thread, turns[1].turn_id)
    };
    let store = SqliteStore::open(&path).await.unwrap();
    let (thread, open) = check(&store, 0).await;
    // The message of the killed turn is known, and the thread goes on.
    let (lease, _) = store.acquire(&local, thread.id, &owner()).await.unwrap();
    assert_eq!(lease.epoch, 2);
    let again =
        store.append(&lease, vec![message(open, Some("message-2"), "rehearse: slow")], no_update()).await;
    assert!(matches!(again, Err(Error::DuplicateMessage { turn_id }) if turn_id == open), "{again:?}");
    store.append(&lease, vec![answer(open, "late")], no_update()).await.unwrap();
    store.close().await;
    // A second start finds nothing left to bring up to date.
    check(&SqliteStore::open(&path).await.unwrap(), 1).await;
}

#[tokio::test]
async fn what_is_no_store_is_refused_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    let text = directory.path().join("text");
    fs::write(&text, "these are my notes, not a database\n".repeat(100)).unwrap();
    assert!(refusal(&text).await.contains("text"));
    assert!(fs::read_to_string(&text).unwrap().starts_with("these are my notes"));

    let folder = directory.path().join("folder");
    fs::create_dir(&folder).unwrap();
    assert!(refusal(&folder).await.contains("not a file"));

    let foreign = directory.path().join("foreign");
    run(&foreign, "CREATE TABLE cats (name TEXT); INSERT INTO cats VALUES ('Tom')");
    assert!(refusal(&foreign).await.contains("not a thread store"));
    let tables: i64 =
        aside(&foreign).query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0)).unwrap();
    assert_eq!(tables, 1);

    let lost = directory.path().join("lost");
    fs::write(directory.path().join("lost-wal"), "the log of a file that is gone").unwrap();
    assert!(refusal(&lost).await.contains("lost"));
    assert!(!fs::exists(&lost).unwrap());
}

#[tokio::test]
async fn a_directory_without_permission_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("file"), "").unwrap();
    let refused = SqliteStore::open(&directory.path().join("file/threads.db")).await.map(drop);
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
}

#[tokio::test]
async fn damage_is_told_with_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory);
    let store = SqliteStore::open(&path).await.unwrap();
    let (whole, broken) = (created(&store, &owner()).await, created(&store, &owner()).await);
    for lease in [&whole, &broken] {
        store.append(lease, turn(TurnId::generate()), no_update()).await.unwrap();
    }
    let connection = aside(&path);
    let id: uuid::Uuid = broken.thread_id.to_string().parse().unwrap();
    connection
        .execute(
            r#"UPDATE entries SET payload = '{"from_the_future":{}}' WHERE thread_id = ?1 AND sequence = 4"#,
            [id],
        )
        .unwrap();
    let refused = store.records(&tenant(), broken.thread_id, 0, 0).await;
    let Err(Error::Corrupt { place, .. }) = &refused else { panic!("{refused:?}") };
    assert_eq!(*place, format!("entry 4 of thread {}", broken.thread_id));
    assert!(matches!(
        store.turns(&tenant(), broken.thread_id, Default::default()).await,
        Err(Error::Corrupt { .. })
    ));
    assert_eq!(store.records(&tenant(), broken.thread_id, 0, 3).await.unwrap().len(), 3);
    assert_eq!(log(&store, &tenant(), whole.thread_id).await.len(), 7);
    // Unreadable settings stop what needs them, and neighbours in the same transaction go on.
    connection.execute("UPDATE thread_settings SET settings = '[' WHERE thread_id = ?1", [id]).unwrap();
    let rename = agent_threads::ThreadUpdate { name: Some("x".to_owned()), ..no_update() };
    let (bad, good) = tokio::join!(
        store.append(&broken, vec![answer(TurnId::generate(), "x")], rename),
        store.append(&whole, vec![answer(TurnId::generate(), "x")], no_update()),
    );
    assert!(matches!(bad, Err(Error::Corrupt { .. })), "{bad:?}");
    assert_eq!(good.unwrap().last_sequence, 8);
    let count: i64 = connection
        .query_row("SELECT count(*) FROM entries WHERE thread_id = ?1", [id], |row| row.get(0))
        .unwrap();
    assert_eq!(count, 7);
}

#[tokio::test]
async fn a_truncated_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory);
    let store = SqliteStore::open(&path).await.unwrap();
    let lease = created(&store, &owner()).await;
    for _ in 0..20 {
        store.append(&lease, turn(TurnId::generate()), no_update()).await.unwrap();
    }
    store.close().await;
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() / 8]).unwrap();
    let text = refusal(&path).await;
    assert!(text.contains("malformed"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_process_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory);
    let store = SqliteStore::open(&path).await.unwrap();
    let lease = created(&store, &owner()).await;
    let mut outside = aside(&path);
    let entry = || vec![answer(TurnId::generate(), "x")];

    let held = outside.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    let write = store.append(&lease, entry(), no_update());
    let release = async {
        // Reads go on meanwhile.
        assert_eq!(log(&store, &tenant(), lease.thread_id).await.len(), 0);
        held.rollback().unwrap();
    };
    let (written, ()) = tokio::join!(write, release);
    assert_eq!(written.unwrap().last_sequence, 1);

    let held = outside.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    let began = Instant::now();
    let refused = timeout(DEADLINE, store.append(&lease, entry(), no_update())).await.unwrap();
    assert!(matches!(&refused, Err(error @ Error::Unavailable(_)) if error.is_retryable()), "{refused:?}");
    assert!(began.elapsed() < Duration::from_secs(30));
    held.rollback().unwrap();
    assert_eq!(store.append(&lease, entry(), no_update()).await.unwrap().last_sequence, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_open_a_new_file_at_once() {
    for _ in 0..5 {
        let directory = tempfile::tempdir().unwrap();
        let path = file(&directory);
        let stores = futures_util::future::join_all((0..6).map(|_| SqliteStore::open(&path))).await;
        for store in stores {
            store.unwrap().create(thread(&tenant()), &owner(), turn(TurnId::generate())).await.unwrap();
        }
        let store = SqliteStore::open(&path).await.unwrap();
        assert_eq!(store.list(&tenant(), ListQuery::default()).await.unwrap().elements.len(), 6);
        assert!(store.list(&stranger(), ListQuery::default()).await.unwrap().elements.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_transaction_is_survived() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory);
    let store = SqliteStore::open(&path).await.unwrap();
    let lease = created(&store, &owner()).await;
    // SQLite gives the transaction up by itself, as it does when the disk is full.
    run(
        &path,
        "CREATE TRIGGER full BEFORE INSERT ON entries WHEN NEW.kind = 'item' BEGIN SELECT RAISE(ROLLBACK, 'disk full'); END",
    );
    let appends = (0..10).map(|_| store.append(&lease, turn(TurnId::generate()), no_update()));
    for refused in futures_util::future::join_all(appends).await {
        assert!(matches!(&refused, Err(error) if error.is_retryable()), "{refused:?}");
    }
    assert_eq!(log(&store, &tenant(), lease.thread_id).await.len(), 0);
    run(&path, "DROP TRIGGER full");
    assert_eq!(store.append(&lease, turn(TurnId::generate()), no_update()).await.unwrap().last_sequence, 7);
}
