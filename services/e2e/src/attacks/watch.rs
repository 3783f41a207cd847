//! Looks at a process from outside while it is attacked, and calls it as a good client does.
//!
//! The attacker and the good client have threads of their own ([`super::processors`]). What the attacker's costs the machine all
//! the same is measured by aiming the same attack at a sink, while the good client calls the process as before.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::LocalBoxFuture;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::processors::{Machine, apart};
use super::{Fired, sink};
use crate::certificate::SERVER_NAME;

/// How long a process may take to give back what an attack has left.
const RECOVERY_MAX: Duration = Duration::from_secs(20);
/// How often a good client calls; each call has a connection of its own.
const CALL_EVERY: Duration = Duration::from_millis(5);
/// Who waits for longer was not answered.
const CALL_TIME_MAX: Duration = Duration::from_secs(5);
/// Fewer calls say nothing.
const CALLS_MIN: usize = 40;
/// The largest answer that a good client gets.
const ANSWER_BYTES_MAX: u64 = 1 << 20;
/// How long a sink holds who asks for nothing: as long as a gateway of these tests does.
const HOLD: Duration = Duration::from_secs(1);

/// An attack on whoever listens there.
pub type Attack = Arc<dyn Fn(SocketAddr) -> LocalBoxFuture<'static, anyhow::Result<Fired>> + Send + Sync>;

/// What a good client asks, over and over, while somebody attacks.
#[derive(Clone)]
pub struct Good {
    /// The process that is attacked.
    pub process: u32,
    /// Where it listens.
    pub at: SocketAddr,
    /// A whole request that ends its connection and is answered with 200.
    pub request: Vec<u8>,
    /// Speaks TLS, if it is spoken there.
    pub tls: Option<TlsConnector>,
}

/// How long an attack goes on, and what it is compared with.
#[derive(Clone)]
pub struct Siege {
    /// An attack is repeated until this has passed; the good client calls for as long before it.
    pub time_min: Duration,
    /// Whether the good client is also watched while the attack hits a sink.
    pub sink: Option<sink::Kind>,
    /// Whether the good client computes before others, as the process then has to ([`super::go_first`]).
    pub first: bool,
}

/// How good calls went.
#[derive(Debug, Clone, Default)]
pub struct Calls {
    /// How many there were.
    pub made: usize,
    /// Those that failed.
    pub failed: usize,
    /// The median of their times.
    pub p50: Duration,
    /// The 99th percentile.
    pub p99: Duration,
    /// The longest.
    pub longest: Duration,
}

/// What was seen during an attack.
#[derive(Debug, Clone)]
pub struct Observed {
    /// What was fired.
    pub fired: Fired,
    /// For how long.
    pub took: Duration,
    /// The time that the process computed meanwhile.
    pub computed: Duration,
    /// How much the process's resident memory grew at most.
    pub grown_bytes: u64,
    /// How much larger it was when it had recovered.
    pub left_bytes: u64,
    /// Good calls before the attack.
    pub before: Calls,
    /// Good calls during the attack.
    pub during: Calls,
    /// Good calls while the same attack hit a sink.
    pub beside: Option<Calls>,
    /// Open files before the attack, and after it, when the process had recovered.
    pub files: (usize, usize),
}

impl std::fmt::Display for Observed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}; memory +{} KiB, +{} KiB after it; {} good calls, {} failed, p99 {:?} (before {:?}); files {} -> {}",
            self.fired,
            self.grown_bytes >> 10,
            self.left_bytes >> 10,
            self.during.made,
            self.during.failed,
            self.during.p99,
            self.before.p99,
            self.files.0,
            self.files.1
        )
    }
}

/// Attacks, while a good client calls and the memory is looked at; then waits until the process has let go of everything.
pub async fn observe(good: &Good, siege: &Siege, attack: &Attack) -> anyhow::Result<Observed> {
    let time_min = siege.time_min;
    let before = Caller::start(good, siege.first).after(tokio::time::sleep(time_min)).await?;
    anyhow::ensure!(before.failed == 0, "the process does not answer even before it is attacked");
    let files_before = recovered(good.process, None).await?;
    std::fs::write(format!("/proc/{}/clear_refs", good.process), "5").context("reset the most memory")?;
    let (memory_before, _) = memory(good.process)?;
    let (began, computed_before) = (Instant::now(), computed(good.process)?);
    let caller = Caller::start(good, siege.first);
    let fired = attacked(good.at, attack, None, time_min).await;
    let (took, computed) = (began.elapsed(), computed(good.process)?.saturating_sub(computed_before));
    let during = caller.after(std::future::ready(())).await?;
    let fired = fired?;
    let (_, memory_most) = memory(good.process)?;
    let files_after = recovered(good.process, Some(files_before)).await?;
    let memory_after = rested(good.process).await?;
    let beside = match &siege.sink {
        None => None,
        Some(kind) => {
            let caller = Caller::start(good, siege.first);
            let pace = sink::Pace { bytes: fired.bytes, time: took, hold: HOLD };
            attacked(good.at, attack, Some((kind.clone(), pace)), time_min).await?;
            Some(caller.after(std::future::ready(())).await?)
        }
    };
    Ok(Observed {
        fired,
        took,
        computed,
        grown_bytes: memory_most.saturating_sub(memory_before),
        left_bytes: memory_after.saturating_sub(memory_before),
        before,
        during,
        beside,
        files: (files_before, files_after),
    })
}

/// Repeats an attack for a while: on the process, or on a sink that takes as much in that time as the process did.
async fn attacked(
    at: SocketAddr,
    attack: &Attack,
    sink: Option<(sink::Kind, sink::Pace)>,
    time_min: Duration,
) -> anyhow::Result<Fired> {
    let attack = Arc::clone(attack);
    let work = move || async move {
        let sink = match sink {
            Some((kind, pace)) => Some(sink::Sink::open(kind, pace).await?),
            None => None,
        };
        let at = sink.as_ref().map_or(at, sink::Sink::at);
        let (began, mut fired) = (Instant::now(), Fired::default());
        loop {
            fired.add(&attack(at).await?);
            if began.elapsed() >= time_min {
                return anyhow::Ok(fired);
            }
        }
    };
    apart(Machine::Theirs, work).await.context("the attacker is gone")??
}

/// A good client that calls until it is told to stop, or dropped.
struct Caller {
    stop: Arc<AtomicBool>,
    calls: Option<oneshot::Receiver<anyhow::Result<Calls>>>,
}

impl Caller {
    fn start(good: &Good, first: bool) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let (good, told) = (good.clone(), Arc::clone(&stop));
        let calls = apart(Machine::Ours { first }, move || async move {
            let (mut times, mut failed) = (Vec::new(), 0);
            loop {
                let next = Instant::now() + CALL_EVERY;
                let (took, is_good) = good.call().await;
                times.push(took);
                failed += usize::from(!is_good);
                // The last call begins after the last shot.
                if told.load(Ordering::Relaxed) && times.len() >= CALLS_MIN {
                    return Calls::of(times, failed);
                }
                tokio::time::sleep_until(next).await;
            }
        });
        Self { stop, calls: Some(calls) }
    }

    /// How the calls went that were made until then.
    async fn after(mut self, wait: impl Future<Output = ()>) -> anyhow::Result<Calls> {
        wait.await;
        self.stop.store(true, Ordering::Relaxed);
        self.calls.take().context("asked once")?.await.context("the good client is gone")?
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Calls {
    fn of(mut times: Vec<Duration>, failed: usize) -> Self {
        times.sort_unstable();
        let made = times.len();
        let at = |percent: usize| {
            times.get(made.saturating_sub(1).saturating_mul(percent) / 100).copied().unwrap_or_default()
        };
        Self { made, failed, p50: at(50), p99: at(99), longest: at(100) }
    }
}

impl Good {
    /// Sends a whole request that ends its connection; everything that is answered.
    pub async fn ask(&self, request: &[u8]) -> anyhow::Result<String> {
        let asked = async {
            let tcp = TcpStream::connect(self.at).await?;
            tcp.set_nodelay(true)?;
            match &self.tls {
                None => exchange(tcp, request).await,
                Some(tls) => exchange(tls.connect(SERVER_NAME.try_into()?, tcp).await?, request).await,
            }
        };
        tokio::time::timeout(CALL_TIME_MAX, asked).await?
    }

    async fn call(&self) -> (Duration, bool) {
        let begun = Instant::now();
        let answer = self.ask(&self.request).await;
        (begun.elapsed(), answer.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 ")))
    }
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &[u8]) -> anyhow::Result<String> {
    stream.write_all(request).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
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

/// Waits until the process's memory falls no more; how much it has.
async fn rested(process: u32) -> anyhow::Result<u64> {
    // Longer than memory that nobody uses is kept.
    const AT_REST: Duration = Duration::from_secs(1);
    const NOISE_BYTES: u64 = 64 << 10;
    let (began, mut last) = (Instant::now(), memory(process)?.0);
    loop {
        tokio::time::sleep(AT_REST).await;
        let (now, _) = memory(process)?;
        if now + NOISE_BYTES >= last || began.elapsed() > RECOVERY_MAX {
            return Ok(now);
        }
        last = now;
    }
}

fn files(process: u32) -> anyhow::Result<usize> {
    let directory = PathBuf::from(format!("/proc/{process}/fd"));
    Ok(std::fs::read_dir(&directory).with_context(|| format!("read {}", directory.display()))?.count())
}

/// The resident memory of a process, and the most of it, in bytes.
fn memory(process: u32) -> anyhow::Result<(u64, u64)> {
    let status =
        std::fs::read_to_string(format!("/proc/{process}/status")).context("the process has gone")?;
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
    };
    Ok((bytes("VmRSS:").context("its memory")?, bytes("VmHWM:").context("its most memory")?))
}

/// How long a process has computed so far.
fn computed(process: u32) -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).context("the process has gone")?;
    // The second field is a name in parentheses, which may hold anything; times are the 14th and the 15th, in 10 ms.
    let (_, rest) = stat.rsplit_once(") ").context("a name")?;
    let ticks = rest.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok());
    Ok(Duration::from_millis(ticks.sum::<u64>() * 10))
}
