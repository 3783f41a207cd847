//! A collector that is down, that never reads, or that is hostile costs telemetry and nothing else.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use gateway_testkit::Upstream;
use service_e2e::http;
use service_e2e::stack::{self, Gateway, MODEL};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Calls at a time, and how many of each.
const CALLERS: usize = 8;
const CALLS_EACH: usize = 150;
/// What bad telemetry may cost in memory: three full queues and the buffers of their exports, but no growth with calls.
const GROWN_BYTES_MAX: u64 = 48 << 20;
/// The export's last try, and the process's own end.
const STOP_TIME_MAX: Duration = Duration::from_secs(12);
const PAGE_BYTES: u64 = 4096;

/// What a collector does with its connections.
#[derive(Clone, Copy)]
enum Manners {
    /// Nobody listens.
    Down,
    /// It accepts and never reads.
    Deaf,
    /// It speaks HTTP/2 so far as to answer anything with more than it was asked.
    Flooding,
    /// It resets every connection once something was said.
    Resetting,
}

#[tokio::test]
async fn a_collector_that_is_down_costs_no_call() -> anyhow::Result<()> {
    costs_no_call(Manners::Down).await
}

#[tokio::test]
async fn a_collector_that_never_reads_costs_no_call() -> anyhow::Result<()> {
    costs_no_call(Manners::Deaf).await
}

#[tokio::test]
async fn a_collector_that_floods_costs_no_call() -> anyhow::Result<()> {
    costs_no_call(Manners::Flooding).await
}

#[tokio::test]
async fn a_collector_that_resets_costs_no_call() -> anyhow::Result<()> {
    costs_no_call(Manners::Resetting).await
}

async fn costs_no_call(manners: Manners) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let collector = listener.local_addr()?;
    let mut tasks = JoinSet::new();
    match manners {
        Manners::Down => drop(listener),
        manners => drop(tasks.spawn(collect(listener, manners))),
    }
    let upstream = Upstream::start().await?;
    upstream.set_default(stack::says("resp_1", &["The tide ", "turns."]));
    let telemetry = format!(
        "[telemetry]\nlog_level = \"info\"\notlp_endpoint = \"http://{collector}\"\nexport_timeout_ms = 1000\nexport_interval_ms = 1000\n"
    );
    let gateway = Gateway::start(&format!("{}{telemetry}", stack::provider(&upstream))).await?;
    let process = gateway.service.id().context("it runs")?;

    load(gateway.at, 20).await?;
    let before = resident(process)?;
    load(gateway.at, CALLS_EACH).await?;
    let grown = resident(process)?.saturating_sub(before);
    anyhow::ensure!(grown < GROWN_BYTES_MAX, "memory grew by {} KiB", grown >> 10);
    // The first export has failed by now, or will soon, except where the collector is silent and its time is not over.
    let lost = async {
        while dropped(gateway.at).await? == 0 {
            tokio::time::sleep(Duration::from_millis(100)).await
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(Duration::from_secs(20), lost).await.context("losses are counted")??;

    let asked = Instant::now();
    let status = gateway.service.stop(STOP_TIME_MAX).await?;
    anyhow::ensure!(status.success(), "{status} after {:?}", asked.elapsed());
    Ok(())
}

/// Makes calls side by side; every one has to succeed.
async fn load(at: SocketAddr, calls: usize) -> anyhow::Result<()> {
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        callers.spawn(async move {
            let body = format!(r#"{{"model":"{MODEL}","stream":true,"input":"hi"}}"#);
            let request = http::post(at, "/v1/responses", "", body.as_bytes());
            for _ in 0..calls {
                let answer = http::send(at, &request).await?;
                anyhow::ensure!(
                    answer.status == 200 && answer.text.contains("response.completed"),
                    "{}",
                    answer.text
                );
            }
            anyhow::Ok(())
        });
    }
    callers.join_all().await.into_iter().collect()
}

/// What `/metrics` says was lost.
async fn dropped(at: SocketAddr) -> anyhow::Result<u64> {
    let metrics = http::get(at, "/metrics").await?.text;
    let lines = metrics.lines().filter(|line| line.starts_with("tidegate_telemetry_dropped"));
    let counts = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    Ok(counts.map(|count| if count > 0.0 { 1 } else { 0 }).sum())
}

fn resident(process: u32) -> anyhow::Result<u64> {
    let statm = std::fs::read_to_string(format!("/proc/{process}/statm"))?;
    let pages: u64 = statm.split(' ').nth(1).context("resident pages")?.parse()?;
    Ok(pages * PAGE_BYTES)
}

async fn collect(listener: TcpListener, manners: Manners) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream, manners));
    }
}

async fn serve(mut stream: TcpStream, manners: Manners) {
    let mut read = vec![0; 64 * 1024];
    match manners {
        Manners::Down | Manners::Deaf => std::future::pending().await,
        Manners::Resetting => {
            // With the rest unread, closing is a reset.
            let _ = stream.read(&mut read[..1]).await;
        }
        Manners::Flooding => {
            // Settings, and then data of a stream that nobody may fill: as much as is taken.
            let _ = stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await;
            let mut frame = vec![0; 9 + 16_384];
            frame[..9].copy_from_slice(&[0, 0x40, 0, 0, 0, 0, 0, 0, 1]);
            while stream.read(&mut read).await.is_ok_and(|count| count > 0) {
                for _ in 0..1024 {
                    if stream.write_all(&frame).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}
