//! What agentd writes, and how much it needs: nothing outside its store, and figures for many and for long threads.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use agent_threads::{
    Entry, Item, ItemId, Metadata, Origin, OwnerId, ReadState, Settings, SqliteStore, TenantId, Thread,
    ThreadId, ThreadStore, ThreadUpdate, TurnEnd, TurnId, TurnStart, UserInput,
};
use anyhow::Context as _;
use gateway_testkit::{Gate, Upstream};
use serde_json::{Value, json};
use service_e2e::home::Home;
use service_e2e::rpc::Rpc;
use service_e2e::stack::{self, Agent, Gateway};
use tokio::time::Instant;

use super::{Desk, start_thread, start_turn};

type Files = BTreeMap<PathBuf, (u64, SystemTime)>;

/// Every file below a directory, with what a write would change.
fn files(root: &Path) -> anyhow::Result<Files> {
    let (mut all, mut open) = (Files::new(), vec![root.to_path_buf()]);
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            let found = entry.metadata()?;
            match found.is_dir() {
                true => open.push(entry.path()),
                false => drop(all.insert(entry.path(), (found.len(), found.modified()?))),
            }
        }
    }
    Ok(all)
}

/// The regular files that a process has open.
fn open_files(process: u32) -> anyhow::Result<Vec<PathBuf>> {
    let mut open = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{process}/fd"))? {
        // A descriptor may be closed while it is looked at.
        let Ok(path) = std::fs::read_link(entry?.path()) else { continue };
        if path.is_file() {
            open.push(path);
        }
    }
    Ok(open)
}

#[tokio::test]
async fn nothing_is_written_outside_the_store() -> anyhow::Result<()> {
    let desk = Desk::start().await?;
    let root = desk.home.path("");
    let of_ours = desk.home.path("tidegate");
    let before = files(&root)?;
    let mut rpc = desk.client().await?;
    let thread = start_thread(&mut rpc).await?;
    rpc.notified("thread/started").await?;
    let stored = std::fs::read(of_ours.join("agent/threads.sqlite-wal"))?;
    assert!(
        !contains(&stored, thread.replace('-', "").as_str()),
        "nothing is stored before the first message"
    );
    for text in ["first", "second"] {
        start_turn(&mut rpc, &thread, text).await?;
        rpc.notified("turn/completed").await?;
    }
    let forked = rpc.call("thread/fork", json!({"threadId": thread, "excludeTurns": true})).await?;
    let turns = rpc.call("thread/turns/list", json!({"threadId": thread, "limit": 1})).await?;
    let before_turn = &turns["data"][0]["id"];
    rpc.call("thread/revert", json!({"threadId": thread, "beforeTurnId": before_turn})).await?;
    rpc.call("thread/name/set", json!({"threadId": thread, "name": "named"})).await?;
    rpc.call("thread/archive", json!({"threadId": thread})).await?;
    rpc.call("thread/delete", json!({"threadId": forked["thread"]["id"]})).await?;
    let process = desk.agent.service.id().expect("it runs");
    for path in open_files(process)? {
        assert!(path.starts_with(&of_ours), "{} is open", path.display());
    }
    desk.agent.service.stop(stack::STOP_TIME_MAX).await?;

    let after = files(&root)?;
    let changed: Vec<&PathBuf> = after
        .iter()
        .filter(|(path, state)| before.get(*path) != Some(*state))
        .map(|(path, _)| path)
        .collect();
    let store = of_ours.join("agent/threads.sqlite");
    assert!(changed.contains(&&store), "{changed:?}");
    let allowed = |path: &Path| path.to_string_lossy().starts_with(store.to_string_lossy().as_ref());
    let outside: Vec<_> = changed.into_iter().filter(|path| !allowed(path)).collect();
    assert!(outside.is_empty(), "written outside the store: {outside:?}");
    let gone: Vec<_> = before.keys().filter(|path| !after.contains_key(*path) && !allowed(path)).collect();
    assert!(gone.is_empty(), "removed outside the store: {gone:?}");
    Ok(())
}

/// Whether the bytes hold the id that this hexadecimal text stands for.
fn contains(bytes: &[u8], hex: &str) -> bool {
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    let id: Vec<u8> = (0..hex.len()).step_by(2).map(digit).collect();
    bytes.windows(id.len()).any(|window| window == id)
}

const THREADS: usize = 10_000;
const ITEMS: usize = 2_000;
const LOADED: u64 = 2_000;
const RUNNING: usize = 200;

fn facts(preview: String) -> Thread {
    let id = ThreadId::generate();
    Thread {
        tenant: TenantId::new("local"),
        id,
        session_id: id,
        parent_id: None,
        forked_from_id: None,
        created_at_ms: 1,
        updated_at_ms: 1,
        name: None,
        preview,
        archived: false,
        origin: Origin { source: "vscode".to_owned(), provider: "scripted".to_owned(), ..Origin::default() },
        settings: Settings { model: stack::MODEL.to_owned(), cwd: "/work".to_owned(), ..Settings::default() },
        metadata: Metadata::default(),
        read_state: ReadState::default(),
    }
}

fn turn(items: usize) -> Vec<Entry> {
    let turn_id = TurnId::generate();
    let content =
        vec![UserInput::Text { text: "What is the tide like today?".to_owned(), text_elements: vec![] }];
    let said = Item::UserMessage { id: ItemId::generate(), client_id: None, content };
    let answer = |n: usize| Item::AgentMessage {
        id: ItemId::generate(),
        text: format!("Answer {n}: {}", "high water at noon, low water at dusk. ".repeat(10)),
        phase: None,
    };
    let settings = facts(String::new()).settings;
    let mut entries = vec![Entry::TurnStarted(Box::new(TurnStart { turn_id, settings }))];
    entries.push(Entry::Item { turn_id, item: said });
    entries.extend((1..items).map(|n| Entry::Item { turn_id, item: answer(n) }));
    entries.push(Entry::TurnEnded { turn_id, end: TurnEnd::Completed });
    entries
}

/// Ten thousand small threads, one with 2,000 items in 100 turns, and one with as many in one turn.
async fn filled(home: &Home) -> anyhow::Result<[ThreadId; 2]> {
    let store = SqliteStore::open(&home.path("tidegate/agent/threads.sqlite")).await?;
    let owner = OwnerId::generate();
    let small = (0..THREADS).map(|n| store.create(facts(format!("thread {n}")), &owner, turn(2)));
    let mut small: Vec<_> = small.collect();
    while !small.is_empty() {
        let some = small.split_off(small.len().saturating_sub(200));
        futures_util::future::try_join_all(some).await?;
    }
    let mut long = Vec::new();
    for (turns, items) in [(100, ITEMS / 100), (1, ITEMS)] {
        let (lease, _) = store.create(facts("long".to_owned()), &owner, vec![]).await?;
        for _ in 0..turns {
            store.append(&lease, turn(items), ThreadUpdate::default()).await?;
        }
        long.push(lease.thread_id);
    }
    store.close().await;
    Ok([long[0], long[1]])
}

async fn measured(rpc: &mut Rpc, what: &str, method: &str, params: Value) -> anyhow::Result<Duration> {
    let mut times = Vec::new();
    for _ in 0..100 {
        let began = Instant::now();
        rpc.call(method, params.clone()).await?;
        times.push(began.elapsed());
    }
    times.sort();
    println(&format!("{what}: p50 {:?}, p95 {:?}, longest {:?}", times[50], times[95], times[99]));
    Ok(times[95])
}

fn println(text: &str) {
    use std::io::Write as _;
    std::io::stderr().write_all(format!("{text}\n").as_bytes()).unwrap();
}

fn rss_kib(agent: &Agent) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.service.id().unwrap())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Prints figures; run it in a release build on a quiet machine. Times are those of a client that checks each answer against
/// the protocol's schema.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "figures are for a quiet machine and a release build"]
async fn figures_of_many_and_of_long_threads() -> anyhow::Result<()> {
    let upstream = Upstream::start().await?;
    let gateway = Gateway::before(&upstream).await?;
    let home = Home::new()?;
    let [long, one_turn] = filled(&home).await?;
    let agent = Agent::start(&home, &gateway).await?;
    let mut rpc = Rpc::connect(&agent.url).await?;
    rpc.initialize().await?;
    let list = Duration::from_millis(10);
    let page = Duration::from_millis(30);
    let mut slow = Vec::new();
    for (what, method, params, limit) in [
        ("list, 25 of 10,000", "thread/list", json!({"limit": 25, "sortKey": "updated_at"}), list),
        ("list, 100 of 10,000", "thread/list", json!({"limit": 100}), list),
        ("list by directory", "thread/list", json!({"limit": 25, "cwd": "/work"}), list),
        ("list by a directory without threads", "thread/list", json!({"limit": 25, "cwd": "/none"}), page),
        ("list by a rare word", "thread/list", json!({"limit": 25, "searchTerm": "thread 77"}), page),
        ("turns of 100 turns", "thread/turns/list", json!({"threadId": long, "limit": 25}), page),
        (
            "turns of 100 turns, whole",
            "thread/turns/list",
            json!({"threadId": long, "limit": 25, "itemsView": "full"}),
            page,
        ),
        (
            "items of 100 turns",
            "thread/items/list",
            json!({"threadId": long, "limit": 100, "sortDirection": "desc"}),
            page,
        ),
        ("turns of one turn", "thread/turns/list", json!({"threadId": one_turn, "limit": 25}), page),
        ("items of one turn", "thread/items/list", json!({"threadId": one_turn, "limit": 100}), page),
        ("resume without turns", "thread/resume", json!({"threadId": long, "excludeTurns": true}), page),
    ] {
        if measured(&mut rpc, what, method, params).await? > limit {
            slow.push(what);
        }
    }

    let before = rss_kib(&agent);
    let mut threads = Vec::new();
    for _ in 0..LOADED {
        threads.push(start_thread(&mut rpc).await?);
    }
    let started = rss_kib(&agent);
    for (n, thread) in threads.iter().enumerate() {
        upstream.push(stack::says(&format!("resp_{n}"), &["It ", "is ", "high."]));
        start_turn(&mut rpc, thread, "How is the tide?").await?;
        rpc.notified("turn/completed").await?;
    }
    let talked = rss_kib(&agent);
    let each = |now: u64| (now.saturating_sub(before) * 10).div_ceil(LOADED);
    println(&format!("{before} KiB at rest"));
    println(&format!("{started} KiB with {LOADED} loaded threads: {} tenths of a KiB each", each(started)));
    println(&format!("{talked} KiB after a turn in each: {} tenths of a KiB each", each(talked)));
    assert!(each(talked) <= 640, "more than 64 KiB a thread");
    running(&upstream, &agent, &mut rpc, &threads).await?;
    context(&upstream, &agent, &mut rpc).await?;
    assert!(slow.is_empty(), "too slow: {slow:?}");
    Ok(())
}

/// What the process needs while many turns run at once, each in the middle of its answer.
async fn running(
    upstream: &Upstream,
    agent: &Agent,
    rpc: &mut Rpc,
    threads: &[String],
) -> anyhow::Result<()> {
    let gate = Gate::closed();
    let reply = stack::says("resp_held", &["It ", "is ", "high."]);
    let half = reply.body().len() / 2;
    upstream.set_default(reply.stall_after(half, &gate));
    for thread in threads.iter().take(RUNNING) {
        let turn = start_turn(rpc, thread, "How is the tide?").await?;
        // Pieces of turns before were not asked for.
        while rpc.notified("item/agentMessage/delta").await?["turnId"] != json!(turn) {}
    }
    let most = rss_kib(agent);
    println(&format!("{most} KiB with {} loaded threads and {RUNNING} running turns", threads.len()));
    gate.open();
    for _ in 0..RUNNING {
        rpc.notified("turn/completed").await?;
    }
    assert!(most <= 512 * 1024, "more than 512 MiB");
    Ok(())
}

/// What a turn costs the agent's processor as its context grows. Printed, and judged by whoever reads it.
async fn context(upstream: &Upstream, agent: &Agent, rpc: &mut Rpc) -> anyhow::Result<()> {
    const ROUNDS: u32 = 50;
    upstream.set_default(stack::says("resp_said", &["High."]));
    let mut points = Vec::new();
    for kib in [0_usize, 256, 1_024] {
        let thread = start_thread(rpc).await?;
        // Messages of 64 KiB, or one of a few bytes.
        let text = "tide ".repeat(if kib == 0 { 1 } else { 13_107 });
        for _ in 0..(kib / 64).max(1) {
            start_turn(rpc, &thread, &text).await?;
            rpc.notified("turn/completed").await?;
        }
        let before = cpu(agent)?;
        for _ in 0..ROUNDS {
            start_turn(rpc, &thread, "And now?").await?;
            rpc.notified("turn/completed").await?;
        }
        let each = (cpu(agent)? - before) / ROUNDS;
        let sent = upstream.requests().last().map_or(0, |call| call.body.len()) / 1_024;
        println(&format!(
            "a turn over {sent} KiB of context: {} us of the agent's processor",
            each.as_micros()
        ));
        points.push((each, sent));
    }
    if let [(small, few), .., (large, many)] = points.as_slice() {
        let slope = large.saturating_sub(*small).as_micros() / u128::try_from((many - few).max(1))?;
        println(&format!("{slope} us for each KiB sent"));
    }
    Ok(())
}

/// The processor time that the agent has used.
fn cpu(agent: &Agent) -> anyhow::Result<Duration> {
    let process = agent.service.id().context("it runs")?;
    let tasks = std::fs::read_dir(format!("/proc/{process}/task"))?;
    let mut all = Duration::ZERO;
    for task in tasks {
        // Nanoseconds on a processor, of each thread that still runs.
        let Ok(text) = std::fs::read_to_string(task?.path().join("schedstat")) else { continue };
        all += Duration::from_nanos(text.split_whitespace().next().context("a number")?.parse()?);
    }
    Ok(all)
}
