//! Clients that send nonsense to an app-server: requests with one thing changed into another, cut, flipped, deep, huge. Each is
//! answered, passed over or ends its own connection; the service stays well and keeps nothing.

use std::net::SocketAddr;

use anyhow::Context as _;
use gateway_testkit::Upstream;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::row::{Row, Run, Tally};
use super::scale::{Dice, Scale};
use super::vitals::{Course, Process};
use crate::frames::{Client, Frame, Opcode, Outcome, table};
use crate::home::Home;
use crate::rpc::Rpc;
use crate::stack::{self, Agent, Gateway};

const FRAMES: u64 = 100_000;
const CLIENTS: u64 = 8;
/// How much memory may have grown at the end, and how many descriptors.
const FLAT_KIB_MAX: u64 = 16 * 1024;
const SPARE_FDS: u64 = 16;
/// How large a frame becomes by repeating a part of it.
const REPEATED_BYTES_MAX: usize = 1 << 20;
/// A spoiled run forgets to ask whether the server is well once in so many frames.
const FORGOTTEN: u64 = 20;

/// Runs the scenario.
pub async fn run(scale: Scale) -> anyhow::Result<Row> {
    let run = Run::begin(["frames", "frames", "frames that no client sends"], scale);
    let upstream = Upstream::start().await?;
    let (gateway, home) = (Gateway::before(&upstream).await?, Home::new()?);
    let mut agent = Agent::start(&home, &gateway).await?;
    let at = agent.at()?;
    let process = Process::new(agent.service.id())?;
    let mut counts = [0; 4];
    // Other frames come first, and as many: the rare ones that need the most memory have come then, and what grows on is lost.
    storm(at, (scale.of(FRAMES) + CLIENTS, scale), &run.tally, &mut counts).await?;
    let start = process.look()?;
    process.forget_peak()?;
    storm(at, (scale.of(FRAMES), scale), &run.tally, &mut counts).await?;
    let end = process.settled(start, SPARE_FDS).await?;
    run.tally.expect(end.rss_kib <= start.rss_kib + FLAT_KIB_MAX, || {
        format!("memory grew from {} to {} KiB", start.rss_kib, end.rss_kib)
    });
    run.tally.expect(end.fds <= start.fds + SPARE_FDS, || {
        format!("{} descriptors stayed open", end.fds - start.fds)
    });
    run.tally.expect(agent.service.is_running().unwrap_or(false), || "the agent is gone".to_owned());
    works(&agent, &upstream).await?;
    let panics = agent.service.output().lines().filter(|line| line.contains("panicked")).count();
    run.tally.expect(panics == 0, || format!("{panics} panics"));
    let [answered, refused, silent, closed] = counts;
    let fact = format!(
        "{answered} were answered, {refused} refused, {silent} passed over, {closed} ended their connection"
    );
    Ok(run.end(Course { start, end }, vec![fact]))
}

/// Several clients at once, each with its own dice.
async fn storm(
    at: SocketAddr,
    (frames, scale): (u64, Scale),
    tally: &Tally,
    counts: &mut [u64; 4],
) -> anyhow::Result<()> {
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let (tally, dice) = (tally.clone(), scale.dice(frames + number));
        clients.spawn(client(at, frames / CLIENTS, dice, tally, scale.is_spoiled()));
    }
    while let Some(seen) = clients.join_next().await {
        for (count, more) in counts.iter_mut().zip(seen??) {
            *count += more;
        }
    }
    Ok(())
}

async fn client(
    at: SocketAddr,
    frames: u64,
    mut dice: Dice,
    tally: Tally,
    spoiled: bool,
) -> anyhow::Result<[u64; 4]> {
    let fixed: Vec<Frame> =
        table().into_iter().map(|(_, _, frame)| frame).filter(|frame| !is_large(frame)).collect();
    let mut counts = [0; 4];
    let mut connection = Client::connect(at).await?;
    for number in 0..frames {
        tally.attempted();
        let frame = match fixed.get(dice.size(fixed.len() * 8)) {
            Some(frame) => frame.clone(),
            None => made_up(&mut dice),
        };
        tally.fired();
        let outcome = if spoiled && number % FORGOTTEN == 0 {
            Err(anyhow::anyhow!("nobody asked whether the server is well"))
        } else {
            connection.outcome(&frame, false).await
        };
        match &outcome {
            Ok(outcome) => counts.iter_mut().skip(place(*outcome)).take(1).for_each(|count| *count += 1),
            Err(error) => tally.violation(format!("{error:#} after {}", shown(&frame))),
        }
        if !matches!(outcome, Ok(Outcome::Answer | Outcome::Error | Outcome::Silence)) {
            connection = Client::connect(at).await.context("a server that is well takes the next client")?;
        }
    }
    Ok(counts)
}

const fn place(outcome: Outcome) -> usize {
    match outcome {
        Outcome::Answer => 0,
        Outcome::Error => 1,
        Outcome::Silence => 2,
        Outcome::Closed => 3,
    }
}

/// Frames of many MiB take their time and are tried elsewhere.
fn is_large(frame: &Frame) -> bool {
    matches!(frame, Frame::Whole(_, payload) if payload.len() > 1 << 20)
}

fn shown(frame: &Frame) -> String {
    let (Frame::Whole(_, bytes) | Frame::Bytes(bytes)) = frame;
    String::from_utf8_lossy(bytes).chars().take(300).collect()
}

/// A request in which something is wrong.
fn made_up(dice: &mut Dice) -> Frame {
    let mut request = request(dice);
    for _ in 0..1 + dice.below(3) {
        change(&mut request, dice);
    }
    let mut bytes = request.to_string().into_bytes();
    match dice.below(6) {
        0 => bytes.truncate(dice.size(bytes.len())),
        1 => {
            let at = dice.size(bytes.len().max(1));
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << dice.below(8);
            }
        }
        2 => {
            let at = dice.size(bytes.len() + 1);
            let inserted: Vec<u8> =
                (0..dice.below(8)).map(|_| u8::try_from(dice.below(256)).unwrap_or(0)).collect();
            bytes.splice(at..at, inserted);
        }
        _ => {}
    }
    match dice.below(20) {
        0 => Frame::Whole(Opcode::Binary, bytes),
        1 => Frame::Whole(Opcode::Other(u8::try_from(dice.below(16)).unwrap_or(3)), bytes),
        _ => Frame::text(bytes),
    }
}

/// A good request that starts nothing.
fn request(dice: &mut Dice) -> Value {
    let thread = "01a1f863-0000-7f93-9710-f7d10b25b017";
    let input = json!([{"type": "text", "text": "x", "text_elements": []}]);
    let requests = [
        ("thread/list", json!({"limit": 5, "sortKey": "created_at", "cwd": "/x", "sourceKinds": ["cli"]})),
        ("thread/read", json!({"threadId": thread, "includeTurns": true})),
        ("thread/resume", json!({"threadId": thread, "excludeTurns": true})),
        (
            "thread/turns/list",
            json!({"threadId": thread, "cursor": null, "limit": 3, "sortDirection": "asc"}),
        ),
        ("thread/items/list", json!({"threadId": thread, "turnId": thread})),
        ("thread/name/set", json!({"threadId": thread, "name": "x"})),
        (
            "thread/settings/update",
            json!({"threadId": thread, "effort": "low", "sandboxPolicy": {"type": "readOnly"}}),
        ),
        ("turn/start", json!({"threadId": thread, "input": input})),
        ("turn/steer", json!({"threadId": thread, "input": input, "expectedTurnId": thread})),
        ("turn/interrupt", json!({"threadId": thread, "turnId": thread})),
        ("config/read", json!({"includeLayers": true, "cwd": "."})),
        (
            "config/batchWrite",
            json!({"edits": [{"keyPath": "tui.x", "value": 1, "mergeStrategy": "replace"}]}),
        ),
        ("skills/list", json!({"cwds": ["/x"]})),
        ("model/list", json!({"limit": 2, "cursor": null})),
        ("initialize", json!({"clientInfo": {"name": "x", "version": "1"}, "capabilities": null})),
        ("fs/readFile", json!({"path": "/etc/passwd"})),
    ];
    let (method, params) = requests.get(dice.size(requests.len())).cloned().unwrap_or_default();
    json!({"id": dice.below(1_000), "method": method, "params": params})
}

/// Changes something somewhere inside.
fn change(value: &mut Value, dice: &mut Dice) {
    match value {
        Value::Object(members) if !members.is_empty() && !dice.once_in(6) => {
            let at = dice.size(members.len());
            let key = members.keys().nth(at).cloned().unwrap_or_default();
            if dice.once_in(8) {
                members.remove(&key);
            } else if let Some(member) = members.get_mut(&key) {
                change(member, dice);
            }
        }
        Value::Array(elements) if !elements.is_empty() && !dice.once_in(4) => {
            let at = dice.size(elements.len());
            if dice.once_in(8) {
                let again = elements.get(at).cloned().unwrap_or_default();
                // A change may meet what the one before has made large.
                let most = REPEATED_BYTES_MAX / again.to_string().len().max(1);
                elements.resize(dice.size(most.clamp(1, 2_000)), again);
            } else if let Some(element) = elements.get_mut(at) {
                change(element, dice);
            }
        }
        other => *other = something(dice),
    }
}

fn something(dice: &mut Dice) -> Value {
    match dice.below(14) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(-1),
        3 => json!(u64::MAX),
        4 => json!(i64::MIN),
        5 => json!(1e308),
        6 => json!(""),
        7 => json!("\u{0}\u{202e}\u{feff}\u{1f30a}"),
        8 => json!("x".repeat(dice.size(200_000))),
        9 => json!([]),
        10 => json!({}),
        11 => (0..dice.below(300)).fold(json!(1), |inner, _| json!([inner])),
        12 => (0..dice.below(300)).fold(json!(1), |inner, _| json!({"a": inner})),
        _ => json!({"type": "text", "threadId": 5, "": [null]}),
    }
}

/// Somebody who behaves is served as ever.
async fn works(agent: &Agent, upstream: &Upstream) -> anyhow::Result<()> {
    let mut rpc = Rpc::connect(&agent.url).await?;
    rpc.initialize().await?;
    upstream.push(stack::says("resp_well", &["All ", "is well."]));
    let started = rpc.call("thread/start", json!({})).await?;
    let input = json!([{"type": "text", "text": "Well?", "text_elements": []}]);
    let thread = started.pointer("/thread/id").cloned().context("a thread")?;
    rpc.call("turn/start", json!({"threadId": thread, "input": input})).await?;
    let ended = rpc.notified("turn/completed").await?;
    let status = ended.pointer("/turn/status");
    anyhow::ensure!(status == Some(&json!("completed")), "a turn ended {ended}");
    Ok(())
}
