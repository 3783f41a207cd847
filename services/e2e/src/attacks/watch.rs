//! Looks at a process from outside while it is attacked, and calls it as a good client does.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;

use super::Fired;
use crate::http;

/// How often the memory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long a process may take to give back what an attack has left.
const RECOVERY_MAX: Duration = Duration::from_secs(30);
/// Calls before the attack, which warm everything up and say how long a call takes.
const CALLS_BEFORE: usize = 40;
const PAGE_BYTES: u64 = 4096;

/// What a good client asks, over and over, while somebody attacks.
#[derive(Debug, Clone)]
pub struct Good {
    /// The process that is attacked.
    pub process: u32,
    /// Where it listens.
    pub at: SocketAddr,
    /// A whole request that ends its connection and is answered with 200.
    pub request: Vec<u8>,
}

/// What was seen during an attack.
#[derive(Debug, Clone)]
pub struct Observed {
    /// What was fired.
    pub fired: Fired,
    /// How much the process's resident memory grew at most.
    pub grown_bytes: u64,
    /// Good calls during the attack.
    pub calls: usize,
    /// Those that failed.
    pub failed: usize,
    /// The 99th percentile of the calls' times before the attack.
    pub p99_before: Duration,
    /// The same during the attack.
    pub p99: Duration,
    /// Open files before the attack, and after it, when the process had recovered.
    pub files: (usize, usize),
}

impl std::fmt::Display for Observed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Fired { shots, connections, ended, resets, sent_away, statuses } = &self.fired;
        write!(
            f,
            "{shots} shots on {connections} connections ({ended} ended, {resets} resets, GOAWAY {sent_away:?}, statuses \
             {statuses:?}); memory +{} KiB; good calls {}, failed {}, p99 {:?} (before {:?}); files {} -> {}",
            self.grown_bytes >> 10,
            self.calls,
            self.failed,
            self.p99,
            self.p99_before,
            self.files.0,
            self.files.1
        )
    }
}

/// Attacks, while a good client calls and the memory is looked at; then waits until the process has let go of everything.
pub async fn observe(
    good: &Good,
    attack: impl Future<Output = anyhow::Result<Fired>>,
) -> anyhow::Result<Observed> {
    let mut before = Vec::new();
    for _ in 0..CALLS_BEFORE {
        let (took, is_good) = call(good).await;
        anyhow::ensure!(is_good, "the process does not answer even before it is attacked");
        before.push(took);
    }
    let files_before = recovered(good.process, None).await?;
    let memory_before = memory(good.process)?;
    let mut grown_bytes = 0;
    let (mut times, mut failed) = (Vec::new(), 0);
    let fired = {
        let looking = async {
            loop {
                grown_bytes = grown_bytes.max(memory(good.process)?.saturating_sub(memory_before));
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        let calling = async {
            loop {
                let (took, is_good) = call(good).await;
                times.push(took);
                failed += usize::from(!is_good);
            }
        };
        tokio::select! {
            fired = attack => fired?,
            looked = looking => { let looked: anyhow::Result<Fired> = looked; looked? }
            never = calling => { let never: std::convert::Infallible = never; match never {} }
        }
    };
    // At least one good call has to have begun after the first shot.
    let (took, is_good) = call(good).await;
    times.push(took);
    failed += usize::from(!is_good);
    grown_bytes = grown_bytes.max(memory(good.process)?.saturating_sub(memory_before));
    let files_after = recovered(good.process, Some(files_before)).await?;
    Ok(Observed {
        fired,
        grown_bytes,
        calls: times.len(),
        failed,
        p99_before: p99(before),
        p99: p99(times),
        files: (files_before, files_after),
    })
}

async fn call(good: &Good) -> (Duration, bool) {
    let begun = Instant::now();
    let answer = http::send(good.at, &good.request).await;
    (begun.elapsed(), answer.is_ok_and(|answer| answer.status == 200))
}

fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    let at = times.len().saturating_mul(99) / 100;
    times.get(at.min(times.len().saturating_sub(1))).copied().unwrap_or_default()
}

/// Waits until the process has no more open files than this, or for it to be at rest; how many it has.
async fn recovered(process: u32, wanted: Option<usize>) -> anyhow::Result<usize> {
    const AT_REST: Duration = Duration::from_millis(300);
    let mut last = files(process)?;
    let rest = async {
        loop {
            tokio::time::sleep(AT_REST).await;
            let now = files(process)?;
            if wanted.map_or(now == last, |wanted| now <= wanted) {
                return anyhow::Ok(());
            }
            last = now;
        }
    };
    // What it has then is the caller's to judge.
    if let Ok(outcome) = tokio::time::timeout(RECOVERY_MAX, rest).await {
        outcome?;
    }
    files(process)
}

fn files(process: u32) -> anyhow::Result<usize> {
    let directory = PathBuf::from(format!("/proc/{process}/fd"));
    Ok(std::fs::read_dir(&directory).with_context(|| format!("read {}", directory.display()))?.count())
}

/// The resident memory of a process, in bytes.
fn memory(process: u32) -> anyhow::Result<u64> {
    let statm = std::fs::read_to_string(format!("/proc/{process}/statm")).context("the process has gone")?;
    let pages: u64 = statm.split(' ').nth(1).context("a second number")?.parse()?;
    Ok(pages * PAGE_BYTES)
}
