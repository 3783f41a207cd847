//! An agent that is killed at any moment of its turns: what it has accepted or told is there once, it is back at once, and
//! whoever connects again goes on. The claim is about a process that dies, not about a machine that loses its power.

mod book;
mod conversation;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::future::{join_all, try_join_all};
use gateway_testkit::Turn;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::replica::{MODEL, config};
use super::row::{Row, Run, Tally};
use super::scale::{Dice, Scale};
use super::upstream::{Asked, Step, Upstream};
use super::vitals::{Course, Look, Process};
use crate::frail;
use crate::home::Home;
use crate::schema::Protocol;
use crate::stack::{Agent, Gateway, usage};
use conversation::Conversation;

const KILLS: u64 = 2_000;
/// Agents that are killed beside each other, each on a machine of its own.
const LANES: u64 = 2;
/// Conversations of one agent.
const CONVERSATIONS: u64 = 3;
/// The latest moment of a kill, after the round's first turn was accepted.
const MOMENT_MAX: Duration = Duration::from_millis(60);
/// How long an agent may take from its start to its first answer.
const RESTART_TIME_MAX: Duration = Duration::from_secs(2);

/// Runs the scenario.
pub async fn run(scale: Scale) -> anyhow::Result<Row> {
    // What clients check messages by takes its time to be fetched, which no start is to count.
    Protocol::pinned().await?;
    let run = Run::begin(["kill", "turns", "kills"], scale);
    let heard = Arc::new(Heard { tally: run.tally.clone(), calls: Mutex::default() });
    let upstream = Upstream::start(play(Arc::clone(&heard))).await?;
    let gateway = Gateway::start(&format!("{}models = [\"{MODEL}\"]\n", config(&upstream))).await?;
    let kills = scale.of(KILLS).div_ceil(LANES);
    let lanes = (0..LANES).map(|number| {
        let lane = Lane {
            number,
            scale,
            tally: run.tally.clone(),
            gateway: &gateway,
            heard: Arc::clone(&heard),
            home: None,
            counts: Counts::default(),
        };
        lane.run(kills)
    });
    let counts = try_join_all(lanes).await?.into_iter().reduce(Counts::with).unwrap_or_default();
    let Counts { running, accepted, told, mut restarts, course } = counts;
    restarts.sort();
    let at = |part: usize| {
        restarts.get(restarts.len().saturating_sub(1) * part / 100).copied().unwrap_or_default()
    };
    run.tally.expect(running > 0 || scale.is_spoiled(), || "no kill hit a running turn".to_owned());
    let facts = vec![
        format!("{running} kills hit a running turn"),
        format!("{accepted} messages were accepted and {told} items told before a kill"),
        format!(
            "from start to first answer p50 {} ms, p99 {} ms, longest {} ms",
            at(50).as_millis(),
            at(99).as_millis(),
            at(100).as_millis()
        ),
        "the process dies, the machine does not: nothing here speaks of power loss".to_owned(),
    ];
    Ok(run.end(course, facts))
}

/// What one lane has counted.
#[derive(Debug, Default)]
struct Counts {
    /// Kills that hit a running turn.
    running: u64,
    accepted: u64,
    told: u64,
    restarts: Vec<Duration>,
    course: Course,
}

impl Counts {
    fn with(mut self, other: Self) -> Self {
        self.restarts.extend(other.restarts);
        let (one, two) = (self.course, other.course);
        let peak_kib = one.end.peak_kib.max(two.end.peak_kib);
        Self {
            running: self.running + other.running,
            accepted: self.accepted + other.accepted,
            told: self.told + other.told,
            restarts: self.restarts,
            course: Course { start: one.start, end: Look { peak_kib, ..one.end } },
        }
    }
}

struct Lane<'a> {
    number: u64,
    scale: Scale,
    tally: Tally,
    gateway: &'a Gateway,
    heard: Arc<Heard>,
    home: Option<Home>,
    counts: Counts,
}

impl Lane<'_> {
    async fn run(mut self, kills: u64) -> anyhow::Result<Counts> {
        let home = Home::new()?;
        let mut dice = self.scale.dice(self.number);
        let new = |number| Conversation::new(format!("{}-{number}", self.number), Arc::clone(&self.heard));
        let mut conversations: Vec<Conversation> = (0..CONVERSATIONS).map(new).collect();
        self.home = Some(home);
        for _ in 0..kills {
            let agent = self.start().await?;
            let look = Process::new(agent.service.id())?.look()?;
            if self.counts.restarts.len() == 1 {
                self.counts.course.start = look;
            }
            conversations = self.round(&agent, conversations, &mut dice).await;
            let end = Process::new(agent.service.id())?.look()?;
            let peak_kib = self.counts.course.end.peak_kib.max(end.peak_kib);
            self.counts.course.end = Look { peak_kib, ..end };
            agent.service.kill().await?;
            self.tally.fired();
            conversations = self.after(conversations);
        }
        // What the last kill has left is looked at too.
        let agent = self.start().await?;
        for conversation in &mut conversations {
            conversation.take_up(&agent.url).await?;
        }
        Ok(self.counts)
    }

    async fn start(&mut self) -> anyhow::Result<Agent> {
        let home = self.home.as_ref().context("the lane has begun")?;
        let began = Instant::now();
        let agent = match self.scale.is_spoiled() {
            true => Agent::frail(home, self.gateway, frail::early()).await?,
            false => Agent::start(home, self.gateway).await?,
        };
        crate::rpc::Rpc::connect(&agent.url).await?.initialize().await?;
        let took = began.elapsed();
        self.tally.expect(took < RESTART_TIME_MAX, || format!("a start took {took:?}"));
        self.counts.restarts.push(took);
        Ok(agent)
    }

    /// Lets all conversations go on until some moment after one of them was accepted.
    async fn round(
        &self,
        agent: &Agent,
        mut conversations: Vec<Conversation>,
        dice: &mut Dice,
    ) -> Vec<Conversation> {
        let accepted = Notify::new();
        let moment = Duration::from_micros(dice.below(u64::try_from(MOMENT_MAX.as_micros()).unwrap_or(0)));
        let going = join_all(conversations.iter_mut().map(|each| each.go_on(&agent.url, &accepted)));
        let kill = async {
            accepted.notified().await;
            tokio::time::sleep(moment).await;
        };
        tokio::select! {
            ended = going => ended.into_iter().for_each(|outcome| {
                self.tally.violation(format!("a conversation ended by itself: {outcome:?}"));
            }),
            () = kill => {}
        }
        conversations
    }

    /// Counts what a kill has met.
    fn after(&mut self, mut conversations: Vec<Conversation>) -> Vec<Conversation> {
        let mut running = false;
        for conversation in &mut conversations {
            let met = conversation.killed();
            running |= met.running;
            self.counts.accepted += met.accepted;
            self.counts.told += met.told;
        }
        self.counts.running += u64::from(running);
        conversations
    }
}

/// What the model has heard, over all conversations.
struct Heard {
    tally: Tally,
    /// The messages of each thread's last call.
    calls: Mutex<std::collections::HashMap<String, Vec<String>>>,
}

impl Heard {
    /// The user's messages in the last call of a thread.
    fn last_of(&self, thread: &str) -> Vec<String> {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.get(thread).cloned().unwrap_or_default()
    }

    fn note(&self, body: &Value) {
        let texts = said(body);
        for (n, text) in texts.iter().enumerate() {
            self.tally.expect(!texts.iter().take(n).any(|before| before == text), || {
                format!("the model is told {text} twice")
            });
        }
        let thread = body.get("prompt_cache_key").and_then(Value::as_str).unwrap_or_default();
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).insert(thread.to_owned(), texts);
    }
}

fn items(body: &Value) -> &[Value] {
    body.get("input").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn said(body: &Value) -> Vec<String> {
    let of_user = |item: &&Value| item.get("role").is_some_and(|role| role == "user");
    let text = |item: &Value| Some(item.pointer("/content/0/text")?.as_str()?.to_owned());
    items(body).iter().filter(of_user).filter_map(text).collect()
}

/// Some turns answer at once, some think before, some call a tool.
fn play(heard: Arc<Heard>) -> impl Fn(&Asked) -> Vec<Step> + Send + Sync + 'static {
    let count = std::sync::atomic::AtomicU64::new(0);
    move |asked| {
        heard.note(&asked.body);
        let number = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let turn = Turn::new(&format!("resp_{number}")).model(MODEL);
        let after_tool = items(&asked.body)
            .last()
            .is_some_and(|item| item.get("type").is_some_and(|kind| kind == "function_call_output"));
        let turn = match number % 3 {
            0 => turn.reasoning(&["Let me ", "think."], "sealed"),
            1 if !after_tool => {
                let turn = turn.text(&["Looking."]);
                return paced(turn.function_call(&format!("call_{number}"), "look", &json!({})));
            }
            _ => turn,
        };
        paced(turn.text(&["An ", "answer ", "in ", "pieces."]))
    }
}

/// The frames of an answer a few milliseconds apart.
fn paced(turn: Turn) -> Vec<Step> {
    let frames: Vec<Bytes> = turn.completed(usage());
    let steps =
        frames.into_iter().flat_map(|frame| [Step::Pause(Duration::from_millis(1)), Step::Send(frame)]);
    std::iter::once(Step::Head).chain(steps).collect()
}
