//! Commands that print tokens and misbehave, again and again: each is a clear error or a token, takes no longer than it may,
//! leaves no process behind, and shows its secret to nobody.
//!
//! In each round the configuration changes a little, so that every provider is made anew and runs its command once.

mod families;
mod misbehaviours;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::future;
use rustix::process::Signal;
use serde_json::json;
use tokio::time::Instant;

use self::misbehaviours::{Comes, MISBEHAVIOURS, Misbehaviour};
use super::answer::{End, Told};
use super::caller::{ANSWER_TIME_MAX, Http};
use super::gauges;
use super::replica::Replica;
use super::row::{Row, Run, Tally};
use super::scale::Scale;
use super::upstream::{Asked, Step, Upstream};
use super::vitals::Course;
use crate::canary;
use crate::home::Home;

const ROUNDS: u64 = 1_000;
/// How long a command may take that is meant to be killed for it, and the others: never so long, also on a busy machine.
const SHORT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(20);
/// What an answer may take beyond the time of its command.
const SLACK: Duration = Duration::from_secs(4);
/// A signal is not yet an end: how long the killed may take to be gone.
const GONE_TIME_MAX: Duration = Duration::from_secs(2);
const RELOAD_TIME_MAX: Duration = Duration::from_secs(10);
/// What was logged is searched every so many rounds, long before lines are forgotten.
const SEARCHED_EVERY: u64 = 5;
const SPARE_FDS: u64 = 40;

/// Runs the scenario.
pub async fn run(scale: Scale) -> anyhow::Result<Row> {
    let run = Run::begin(["tokens", "calls", "misbehaving commands"], scale);
    let tells = scale.is_spoiled();
    let upstream = Upstream::start(move |asked| play(asked, tells)).await?;
    let home = Home::new()?;
    let root = home.path("commands");
    for one in &MISBEHAVIOURS {
        let directory = root.join(one.name);
        fs::create_dir_all(&directory)?;
        fs::write(directory.join("script"), one.script(scale.is_spoiled()))?;
    }
    let file = home.path("gateway.toml");
    fs::write(&file, config(&upstream, &root, 0))?;
    let gateway = Replica::with_file(home, &file).await?;
    let mut house =
        House { upstream: &upstream, gateway: &gateway, tally: &run.tally, root, file, searched: 0 };
    let rounds = scale.of(ROUNDS);
    let mut start = gateway.process()?.look()?;
    for round in 1..=rounds {
        house.round(round).await?;
        if round == rounds.div_ceil(10) {
            gateway.process()?.forget_peak()?;
            start = gateway.process()?.look()?;
        }
    }
    house.search().await?;
    gauges::comes_to_rest(gateway.at, &run.tally).await?;
    let end = gateway.process()?.settled(start, SPARE_FDS).await?;
    run.tally.expect(end.fds <= start.fds + SPARE_FDS, || {
        format!("{} descriptors stayed open", end.fds - start.fds)
    });
    let facts = vec![format!(
        "{} kinds of commands, {rounds} runs each; {} MiB of answers, log lines at their finest, metrics and readiness hold no \
         secret in any of its forms",
        MISBEHAVIOURS.len(),
        house.searched >> 20
    )];
    Ok(run.end(Course { start, end }, facts))
}

/// Takes calls with the right token alone. A spoiled one tells the token to the caller.
fn play(asked: &Asked, tells: bool) -> Vec<Step> {
    let model = asked.body.get("model").and_then(serde_json::Value::as_str).unwrap_or_default();
    let expected = MISBEHAVIOURS.iter().find(|one| one.name == model).and_then(Misbehaviour::token);
    let shown = asked.header("authorization").and_then(|shown| shown.strip_prefix("Bearer "));
    if expected.as_deref() != shown {
        return vec![Step::Close];
    }
    let told = if tells { shown } else { None };
    let event = json!({"type": "response.completed", "token": told,
                       "response": {"id": "r", "status": "completed", "output": []}});
    vec![Step::Head, Step::Send(format!("event: response.completed\ndata: {event}\n\n").into())]
}

/// A provider for each kind of command. The round changes all of them.
fn config(upstream: &Upstream, root: &std::path::Path, round: u64) -> String {
    let provider = |one: &Misbehaviour| {
        let (name, limit) = (one.name, if one.comes == Comes::Late { SHORT } else { LONG });
        format!(
            "[model_providers.{name}]\nbase_url = \"http://{}/v1\"\nmodels = [\"{name}\"]\nrequest_max_retries = 0\n\
             http_headers = {{ x-round = \"{round}\" }}\n\
             auth = {{ command = \"/bin/sh\", args = [\"script\"], cwd = {:?}, timeout_ms = {}, env = {{ CANARY = \"{}\" }} }}\n",
            upstream.at(),
            root.join(name),
            limit.as_millis(),
            misbehaviours::CANARY
        )
    };
    let providers: String = MISBEHAVIOURS.iter().map(provider).collect();
    let default = MISBEHAVIOURS.first().map(|one| one.name).unwrap_or_default();
    format!("model_provider = \"{default}\"\nlog = {{ level = \"trace\" }}\n{providers}")
}

struct House<'a> {
    upstream: &'a Upstream,
    gateway: &'a Replica,
    tally: &'a Tally,
    root: PathBuf,
    file: PathBuf,
    /// How many bytes were searched for the secret.
    searched: usize,
}

impl House<'_> {
    /// Every command once.
    async fn round(&mut self, round: u64) -> anyhow::Result<()> {
        self.renew(round).await?;
        let calls = MISBEHAVIOURS.iter().map(|one| self.call(one));
        for (one, (told, took)) in MISBEHAVIOURS.iter().zip(future::join_all(calls).await) {
            self.tally.attempted();
            if let Err(problem) = self.verdict(one, &told, took) {
                self.tally.violation(format!("{} in round {round}: {problem}", one.name));
            }
            let fields = told.fields.iter().map(|(name, value)| format!("{name}: {value}\n"));
            let head: String = fields.collect();
            self.look_into("an answer", &[head.as_bytes(), &told.body].concat());
            let runs = fs::read_to_string(self.root.join(one.name).join("runs")).unwrap_or_default();
            let ran = runs.lines().count();
            self.tally.fired();
            self.tally.expect(u64::try_from(ran) == Ok(round), || {
                format!("{} ran {ran} times in {round} rounds", one.name)
            });
            let group = runs.lines().last().and_then(|group| group.parse().ok()).unwrap_or_default();
            self.nothing_is_left(one, group).await?;
        }
        if round.is_multiple_of(SEARCHED_EVERY) {
            self.search().await?;
        }
        Ok(())
    }

    /// Makes every provider anew.
    async fn renew(&self, round: u64) -> anyhow::Result<()> {
        let generation =
            async || gauges::metric(self.gateway.at, "tidegate_configuration_generation", &[]).await;
        let before = generation().await?;
        let next = self.file.with_extension("next");
        fs::write(&next, config(self.upstream, &self.root, round))?;
        fs::rename(next, &self.file)?;
        self.gateway.service.signal(Signal::HUP)?;
        let began = Instant::now();
        while generation().await? <= before {
            anyhow::ensure!(began.elapsed() < RELOAD_TIME_MAX, "the configuration was not read again");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    async fn call(&self, one: &Misbehaviour) -> (Told, Duration) {
        let body = json!({"model": one.name, "stream": true, "input": one.name}).to_string();
        let began = Instant::now();
        let told = async {
            let mut http = Http::connect(self.gateway.at).await?;
            http.ask_in_part(&body, body.len()).await?;
            anyhow::Ok(http.told().await)
        };
        let told = match tokio::time::timeout(ANSWER_TIME_MAX, told).await {
            Ok(told) => told.unwrap_or_else(|why| Told::silent(format!("{why:#}"))),
            Err(_) => Told::silent("no end in time"),
        };
        (told, began.elapsed())
    }

    fn verdict(&self, one: &Misbehaviour, told: &Told, took: Duration) -> Result<(), String> {
        let said = String::from_utf8_lossy(&told.body);
        let fits = match (&told.end, one.comes) {
            (End::Completed, Comes::Token(_)) => true,
            (End::Refused { status, .. }, Comes::Late | Comes::Error(_)) => {
                let says = one.says().unwrap_or_default();
                status == "502" && said.contains("command /bin/sh") && said.contains(says)
            }
            _ => false,
        };
        match fits {
            false => Err(format!("{:?} and {said}", told.end)),
            true if one.comes == Comes::Late && took > SHORT + SLACK => Err(format!("took {took:?}")),
            true => Ok(()),
        }
    }

    /// No process of the command runs, and the gateway has buried its children.
    async fn nothing_is_left(&self, one: &Misbehaviour, group: u32) -> anyhow::Result<()> {
        let gateway = self.gateway.service.id().unwrap_or_default();
        let began = Instant::now();
        loop {
            let left = families::left(group, gateway)?;
            if left.is_empty() {
                return Ok(());
            }
            if began.elapsed() > GONE_TIME_MAX {
                self.tally.violation(format!("{} left {left:?}", one.name));
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Looks for the secret in everything that the gateway tells of itself.
    async fn search(&mut self) -> anyhow::Result<()> {
        for path in ["/metrics", "/readyz"] {
            let text = crate::http::get(self.gateway.at, path).await?.text;
            self.look_into(path, text.as_bytes());
        }
        let output = self.gateway.service.output();
        self.tally
            .expect(output.contains("no credential"), || "nothing is logged of the commands".to_owned());
        self.look_into("the log", output.as_bytes());
        Ok(())
    }

    fn look_into(&mut self, place: &str, bytes: &[u8]) {
        self.searched += bytes.len();
        if let Err(found) = canary::check(&[misbehaviours::CANARY], place, bytes) {
            self.tally.violation(found.to_string());
        }
    }
}
