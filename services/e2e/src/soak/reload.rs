//! A configuration that changes all the time, every tenth state wrong, under load: each call sees one state, whole, and no
//! call is lost.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::answer::{End, Told};
use super::caller::{ANSWER_TIME_MAX, Grpc, Http, Surface};
use super::configured::{self, Files, Marks, States, Write};
use super::gauges;
use super::replica::{self, Replica};
use super::row::{Row, Run, Tally};
use super::scale::{Dice, Scale};
use super::upstream::{Asked, Step, Upstream};
use super::vitals::{Course, Look};
use crate::home::Home;

const REWRITES: u64 = 10_000;
/// Every so many rewrites are wrong, are left to the watch of the files, or meet a signal half-way.
const WRONG_EVERY: u64 = 10;
const WATCHED_EVERY: u64 = 25;
const RACED_EVERY: u64 = 5;
const REWRITE_EVERY: Duration = Duration::from_millis(40);
/// The promise is a second.
const NOTICED_TIME_MAX: Duration = Duration::from_secs(2);
/// Callers, half on each surface; with their pause about two hundred calls a second.
const CALLERS: u64 = 12;
const PAUSE: Duration = Duration::from_millis(45);
/// What the gateway's memory may grow by in ten thousand states, and its descriptors.
const GROWTH_KIB_MAX: u64 = 16 * 1024;
const SPARE_FDS: u64 = 40;

/// Runs the scenario.
pub async fn run(scale: Scale) -> anyhow::Result<Row> {
    let run = Run::begin(["reload", "calls", "rewritten configurations"], scale);
    let played = AtomicU64::new(0);
    let spoiled = scale.is_spoiled();
    let upstream = Upstream::start(move |asked| {
        let number = played.fetch_add(1, Ordering::Relaxed);
        play(asked, number, spoiled && number.is_multiple_of(50))
    })
    .await?;
    let home = Home::new()?;
    let files = Files::begin(home.path("etc"), replica::config(&upstream))?;
    let states = files.states();
    let gateway = Replica::with_file(home, &files.file()).await?;
    let house = House {
        at: gateway.at,
        gateway: &gateway,
        tally: &run.tally,
        states,
        seen: Mutex::default(),
        over: AtomicBool::new(false),
        scale,
    };
    let callers = future::join_all((0..CALLERS).map(|caller| house.calls(caller)));
    let rewrites = async {
        let outcome = house.rewrite(files).await;
        house.over.store(true, Ordering::Relaxed);
        outcome
    };
    let (_, outcome) = future::join(callers, rewrites).await;
    let (start, mut facts) = outcome?;
    gauges::comes_to_rest(gateway.at, &run.tally).await?;
    let end = gateway.process()?.settled(start, SPARE_FDS).await?;
    let grown = end.rss_kib.saturating_sub(start.rss_kib);
    run.tally.expect(grown <= GROWTH_KIB_MAX, || format!("memory grew by {grown} KiB"));
    run.tally.expect(end.fds <= start.fds + SPARE_FDS, || {
        format!("{} descriptors stayed open", end.fds - start.fds)
    });
    let seen = house.seen.lock().unwrap_or_else(PoisonError::into_inner).len();
    facts.push(format!("calls were answered under {seen} generations"));
    Ok(run.end(Course { start, end }, facts))
}

/// Tells the caller what came, so that it can be held against what the gateway says. A spoiled answer mixes two states.
fn play(asked: &Asked, number: u64, spoiled: bool) -> Vec<Step> {
    let mark = asked.header("x-soak-mark").and_then(|mark| mark.parse::<u64>().ok()).unwrap_or_default();
    let echo = json!({
        "type": "response.created",
        "model": asked.body.get("model"),
        "mark": if spoiled { mark.wrapping_sub(1) } else { mark },
        "tokens": asked.body.get("max_output_tokens"),
    });
    let event = r#"{"type":"response.completed","response":{"id":"r","status":"completed","output":[]}}"#;
    let frame = |kind: &str, data: &str| Step::Send(format!("event: {kind}\ndata: {data}\n\n").into());
    // Longer than a reload takes, so that calls live across them.
    let wait = Step::Pause(Duration::from_millis(number % 50));
    vec![Step::Head, frame("response.created", &echo.to_string()), wait, frame("response.completed", event)]
}

struct House<'a> {
    at: SocketAddr,
    gateway: &'a Replica,
    tally: &'a Tally,
    states: States,
    /// The marks of each generation that an answer named.
    seen: Mutex<HashMap<u64, Marks>>,
    over: AtomicBool,
    scale: Scale,
}

/// How a rewrite is made known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Notice {
    Signal,
    Watch,
    /// By a signal that comes while the files change, and by another one.
    Race,
}

impl House<'_> {
    /// Rewrites the configuration again and again. Tells how the gateway was after a tenth of that, and what was done.
    async fn rewrite(&self, mut files: Files) -> anyhow::Result<(Look, Vec<String>)> {
        let count = self.scale.of(REWRITES);
        let mut dice = self.scale.dice(0);
        let (mut wrong, mut watched, mut swaps) = (0, 0, 0);
        let mut start = self.gateway.process()?.look()?;
        // After a wrong state a single file does not make it right again.
        let mut mended = true;
        for number in 0..count {
            let next = Instant::now() + REWRITE_EVERY;
            if number == count / 10 {
                self.gateway.process()?.forget_peak()?;
                start = self.gateway.process()?.look()?;
            }
            let notice = match number {
                _ if number % WATCHED_EVERY == WATCHED_EVERY - 1 => Notice::Watch,
                _ if number % RACED_EVERY == RACED_EVERY - 1 => Notice::Race,
                _ => Notice::Signal,
            };
            let is_wrong = number % WRONG_EVERY == WRONG_EVERY - 1;
            let how = if mended && dice.once_in(2) { Write::Rename } else { Write::Swap };
            let before = self.changes().await?;
            self.announce(&mut files, notice, (!is_wrong).then_some(how), &mut dice).await?;
            self.tally.fired();
            self.noticed(before, notice).await?;
            if is_wrong {
                self.refused().await?;
            }
            wrong += u64::from(is_wrong);
            watched += u64::from(notice == Notice::Watch);
            swaps += u64::from(is_wrong || how == Write::Swap);
            mended = !is_wrong;
            tokio::time::sleep_until(next).await;
        }
        let refused = gauges::metric(self.at, "tidegate_configuration_changes_total", &["refused"]).await?;
        let least = i64::try_from(wrong)?;
        self.tally.expect(refused >= least, || format!("{wrong} states were wrong, and {refused} counted"));
        let facts = vec![format!(
            "{count} rewrites, {wrong} wrong, {swaps} by swapped links and the others by rename; {watched} found by the watch of the \
             files alone, {} announced by SIGHUP, of which a part came while the link changed; {} loads in all",
            count - watched,
            self.changes().await?,
        )];
        Ok((start, facts))
    }

    /// Writes a state, right or wrong, and makes it known.
    async fn announce(
        &self,
        files: &mut Files,
        notice: Notice,
        how: Option<Write>,
        dice: &mut Dice,
    ) -> anyhow::Result<()> {
        if notice == Notice::Race {
            self.gateway.service.signal(Signal::HUP)?;
            tokio::time::sleep(Duration::from_micros(dice.below(2_000))).await;
        }
        match how {
            Some(how) => files.write(how)?,
            None => files.write_wrong(dice)?,
        }
        if notice != Notice::Watch {
            self.gateway.service.signal(Signal::HUP)?;
        }
        Ok(())
    }

    async fn changes(&self) -> anyhow::Result<i64> {
        gauges::metric(self.at, "tidegate_configuration_changes_total", &[]).await
    }

    /// Waits until the gateway has looked at the files.
    async fn noticed(&self, before: i64, notice: Notice) -> anyhow::Result<()> {
        let began = Instant::now();
        while self.changes().await? <= before {
            if began.elapsed() > NOTICED_TIME_MAX {
                self.tally.violation(format!("a change was not noticed by {notice:?}"));
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// A wrong state shows, and the gateway still wants traffic.
    async fn refused(&self) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let stale = gauges::metric(self.at, "tidegate_configuration_stale", &[]).await?;
            let (status, report) = gauges::readiness(self.at).await?;
            let checks = report.get("checks").and_then(Value::as_array).cloned().unwrap_or_default();
            let shows = checks.iter().any(|check| {
                let detail = check.get("detail").and_then(Value::as_str).unwrap_or_default();
                detail.contains("an older configuration holds")
            });
            if stale == 1 && status == 200 && shows {
                return Ok(());
            }
            if began.elapsed() > NOTICED_TIME_MAX {
                self.tally
                    .violation(format!("a wrong state does not show: {status}, stale {stale}, {report}"));
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// One caller's calls on one connection.
    async fn calls(&self, caller: u64) {
        let outcome = async {
            match Surface::of(caller) {
                Surface::Http => {
                    let mut http = Http::connect(self.at).await?;
                    while !self.over.load(Ordering::Relaxed) {
                        self.judge(tokio::time::timeout(ANSWER_TIME_MAX, http.call("echo")).await?);
                        tokio::time::sleep(PAUSE).await;
                    }
                }
                Surface::Grpc => {
                    let grpc = Grpc::connect(self.at).await?;
                    while !self.over.load(Ordering::Relaxed) {
                        self.judge(tokio::time::timeout(ANSWER_TIME_MAX, grpc.call("echo")).await?);
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
            anyhow::Ok(())
        };
        if let Err(why) = outcome.await {
            self.tally.violation(format!("caller {caller}: {why:#}"));
        }
    }

    fn judge(&self, told: Told) {
        self.tally.attempted();
        if let Err(problem) = self.verdict(&told) {
            self.tally.violation(problem);
        }
    }

    fn verdict(&self, told: &Told) -> Result<(), String> {
        if told.end != End::Completed {
            return Err(format!("a call was dropped: {:?}", told.end));
        }
        let (_, echo) = told.events.first().ok_or("no event came")?;
        let echo: Value = serde_json::from_slice(echo).map_err(|error| error.to_string())?;
        let number =
            |key: &str| echo.get(key).and_then(Value::as_u64).ok_or_else(|| format!("{echo} has no {key}"));
        let (mark, tokens) = (number("mark")?, number("tokens")?);
        let model = configured::model(mark);
        let models = [told.field("x-tidegate-model"), echo.get("model").and_then(Value::as_str)];
        if models != [Some(model.as_str()); 2] {
            return Err(format!("mark {mark} went with the models {models:?}"));
        }
        if !self.states.have((mark, tokens)) {
            return Err(format!("no state ever had the marks {mark} and {tokens}"));
        }
        let generation = told.field("x-tidegate-generation").ok_or("the answer names no generation")?;
        let generation: u64 = generation.parse().map_err(|_| format!("generation {generation}"))?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let first = *seen.entry(generation).or_insert((mark, tokens));
        if first != (mark, tokens) {
            return Err(format!("generation {generation} was {first:?} and {:?}", (mark, tokens)));
        }
        Ok(())
    }
}
