//! Kills a writing process at random moments: what it was told is written is there, once.
//!
//! The writer is this test binary, started again. A kill leaves the page cache alone, so nothing here speaks of power loss.

use std::{
    collections::{HashMap, HashSet},
    io::{BufRead, BufReader, Write},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::Duration,
};

use agent_threads::{Entry, Item, SqliteStore, ThreadId, ThreadStore, TurnId};
use rand::RngExt;
use tokio::{runtime::Runtime, task::JoinSet};

use crate::{
    file::aside,
    fixture::{answer, file, message, model_item, no_update, owner, tenant},
    suite::{created, log},
};

const PATH: &str = "THREADS_TEST_WRITER_PATH";
const EARLY: &str = "THREADS_TEST_WRITER_EARLY";
const SIGKILL: i32 = 9;
const ENTRIES: usize = 3;

/// What a writer said: these messages are in these threads.
type Acks = HashMap<ThreadId, Vec<String>>;

/// The killed process. Does nothing in an ordinary run, where nobody tells it a path.
#[test]
fn writer() {
    let Some(path) = std::env::var_os(PATH).map(PathBuf::from) else { return };
    let early = std::env::var_os(EARLY).is_some();
    Runtime::new().unwrap().block_on(async {
        let store = std::sync::Arc::new(SqliteStore::open(&path).await.unwrap());
        let mut tasks = JoinSet::new();
        for _ in 0..4 {
            let store = std::sync::Arc::clone(&store);
            tasks.spawn(async move {
                let lease = created(&*store, &owner()).await;
                for n in 0.. {
                    let (turn, client_id) = (TurnId::generate(), format!("{}-{n}", lease.thread_id));
                    let entries = vec![
                        message(turn, Some(&client_id), "question"),
                        model_item(turn, r#"{"role":"user"}"#),
                        answer(turn, "reply"),
                    ];
                    if early {
                        acknowledge(lease.thread_id, &client_id);
                    }
                    store.append(&lease, entries, no_update()).await.unwrap();
                    if !early {
                        acknowledge(lease.thread_id, &client_id);
                    }
                }
            });
        }
        tasks.join_all().await;
    });
}

fn acknowledge(id: ThreadId, client_id: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("ack {id} {client_id}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

struct Killed {
    acks: Acks,
    by_signal: bool,
}

/// Starts a writer, kills it at a random moment after its start or after its first word, and says what it had said.
fn kill_one(path: &Path, early: bool, after_first: bool) -> Killed {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "kill::writer", "--nocapture"]).env(PATH, path).stdout(Stdio::piped());
    if early {
        command.env(EARLY, "1");
    }
    let mut child: Child = command.spawn().unwrap();
    let (sender, lines) = channel();
    let out = BufReader::new(child.stdout.take().unwrap());
    let reader =
        thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));

    let mut acks = Acks::new();
    if after_first {
        collect(&lines, &mut acks, Duration::from_secs(30), 1);
    }
    let moment = Duration::from_micros(rand::rng().random_range(0..40_000));
    collect(&lines, &mut acks, moment, usize::MAX);
    child.kill().unwrap();
    let status = child.wait().unwrap();
    reader.join().unwrap().ok();
    collect(&lines, &mut acks, Duration::from_secs(30), usize::MAX);
    Killed { acks, by_signal: status.signal() == Some(SIGKILL) }
}

fn collect(lines: &Receiver<String>, acks: &mut Acks, during: Duration, wanted: usize) {
    let until = tokio::time::Instant::now() + during;
    let mut count = 0;
    while count < wanted {
        match lines.recv_timeout(until.saturating_duration_since(tokio::time::Instant::now())) {
            Ok(line) => {
                let mut words = line.split(' ');
                if words.next() == Some("ack") {
                    let id: ThreadId = words.next().unwrap().parse().unwrap();
                    acks.entry(id).or_default().push(words.next().unwrap().to_owned());
                    count += 1;
                }
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Compares the file with what was said; the messages that are missing.
async fn check(path: &Path, acks: &Acks, tidy: bool) -> Vec<String> {
    let store = SqliteStore::open(path).await.unwrap();
    let mut lost = Vec::new();
    for (id, acked) in acks {
        let log = log(&store, &tenant(), *id).await;
        assert!(log.iter().zip(1..).all(|(record, sequence)| record.sequence == sequence));
        assert_eq!(log.len() % ENTRIES, 0, "an append is there in part");
        let found: Vec<String> = log.iter().filter_map(|record| client_id(&record.entry)).collect();
        let once: HashSet<&String> = found.iter().collect();
        assert_eq!(once.len(), found.len(), "a message is there twice");
        assert!(found.is_sorted_by_key(|client_id| number(client_id)), "the order is not kept");
        lost.extend(acked.iter().filter(|client_id| !once.contains(client_id)).cloned());
    }
    let health: String = aside(path).query_row("PRAGMA integrity_check", (), |row| row.get(0)).unwrap();
    assert_eq!(health, "ok");
    // The next writer finds a tidy file or one with a log to recover.
    if tidy {
        store.close().await;
    }
    lost
}

fn client_id(entry: &Entry) -> Option<String> {
    match entry {
        Entry::Item { item: Item::UserMessage { client_id, .. }, .. } => client_id.clone(),
        _ => None,
    }
}

fn number(client_id: &str) -> u64 {
    client_id.rsplit('-').next().unwrap().parse().unwrap()
}

#[test]
fn what_was_acknowledged_survives_kills() {
    const KILLS: usize = 32;
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory);
    let (mut all, mut fired) = (Acks::new(), 0);
    let runtime = Runtime::new().unwrap();
    for round in 0..KILLS {
        let killed = kill_one(&path, false, round % 2 == 0);
        fired += usize::from(killed.by_signal);
        assert_eq!(runtime.block_on(check(&path, &killed.acks, round % 3 == 0)), Vec::<String>::new());
        all.extend(killed.acks);
    }
    // What earlier writers wrote outlives the later kills.
    assert_eq!(runtime.block_on(check(&path, &all, true)), Vec::<String>::new());
    let acked: usize = all.values().map(Vec::len).sum();
    assert_eq!(fired, KILLS);
    assert!(acked >= KILLS, "only {acked} acknowledged appends");
}

#[test]
fn the_check_catches_an_early_acknowledgement() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory);
    let runtime = Runtime::new().unwrap();
    let caught = (0..30).any(|_| {
        let killed = kill_one(&path, true, true);
        !runtime.block_on(check(&path, &killed.acks, true)).is_empty()
    });
    assert!(caught);
}
