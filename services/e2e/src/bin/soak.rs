//! Runs fault tests against real gateways at any count, and writes what came of them into a document.
//!
//! `soak [--scale 1.0] [--seed 1] [--write RELIABILITY.md --date DATE] [SCENARIO…]`; every scenario if none is named. Ends with 1 if a
//! scenario saw what must not happen.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use rustix::process::{Resource, getrlimit, setrlimit};
use service_e2e::soak::row::Row;
use service_e2e::soak::scale::Scale;
use service_e2e::soak::{
    attacks, cancel, cut, drain, frames, kill, overload, relay, reload, report, rolling, slow, socket, tokens,
};

#[derive(Debug, Parser)]
struct Arguments {
    /// Which scenarios; all of them if none is named.
    scenarios: Vec<Scenario>,
    /// How much of the full count.
    #[arg(long, default_value = "1.0")]
    scale: String,
    /// What the dice start from.
    #[arg(long, default_value_t = 20_261_120)]
    seed: u64,
    /// The document whose table gets the rows.
    #[arg(long, requires = "date")]
    write: Option<PathBuf>,
    /// The date that the rows get.
    #[arg(long)]
    date: Option<String>,
    /// Breaks something on the side of the harness, which each scenario has to see.
    #[arg(long)]
    spoiled: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scenario {
    Reload,
    Drain,
    Rolling,
    Slow,
    Cancel,
    Cut,
    Relay,
    Overload,
    Tokens,
    Kill,
    Attacks,
    SocketRelay,
    SocketCut,
    SocketCancel,
    SocketDrain,
    Frames,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("raise the number of open files")?;
    let scale = Scale::parse(&arguments.scale, arguments.seed)?;
    let scale = if arguments.spoiled { scale.spoiled() } else { scale };
    let scenarios = match arguments.scenarios.as_slice() {
        [] => Scenario::value_variants(),
        named => named,
    };
    let mut violations = 0;
    for scenario in scenarios {
        tell(&format!("{scenario:?} at {} from seed {}", arguments.scale, arguments.seed))?;
        let row = run(*scenario, scale).await.with_context(|| format!("{scenario:?}"))?;
        tell(&report::line(&row))?;
        violations += row.violations;
        if let (Some(file), Some(date)) = (&arguments.write, &arguments.date) {
            let document = std::fs::read_to_string(file).unwrap_or_default();
            std::fs::write(file, report::put(&document, &row, &arguments.scale, date))?;
        }
    }
    Ok(ExitCode::from(u8::from(violations > 0)))
}

async fn run(scenario: Scenario, scale: Scale) -> anyhow::Result<Row> {
    match scenario {
        Scenario::Reload => Box::pin(reload::run(scale)).await,
        Scenario::Drain => Box::pin(drain::run(scale)).await,
        Scenario::Rolling => Box::pin(rolling::run(scale)).await,
        Scenario::Slow => Box::pin(slow::run(scale)).await,
        Scenario::Cancel => Box::pin(cancel::run(scale)).await,
        Scenario::Cut => Box::pin(cut::run(scale)).await,
        Scenario::Relay => Box::pin(relay::run(scale)).await,
        Scenario::Overload => Box::pin(overload::run(scale)).await,
        Scenario::Tokens => Box::pin(tokens::run(scale)).await,
        Scenario::Kill => Box::pin(kill::run(scale)).await,
        Scenario::Attacks => Box::pin(attacks::run(scale)).await,
        Scenario::SocketRelay => Box::pin(socket::relay::run(scale)).await,
        Scenario::SocketCut => Box::pin(socket::cut::run(scale)).await,
        Scenario::SocketCancel => Box::pin(socket::cancel::run(scale)).await,
        Scenario::SocketDrain => Box::pin(socket::drain::run(scale)).await,
        Scenario::Frames => Box::pin(frames::run(scale)).await,
    }
}

fn tell(text: &str) -> std::io::Result<()> {
    writeln!(std::io::stderr(), "{text}")
}
