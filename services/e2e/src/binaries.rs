//! Finds the product's own programs as cargo built them, and has them built when they are missing or older than their
//! sources.
//!
//! Cargo builds a package's programs for that package's own tests only, so that a run of this crate's tests alone
//! must ask for them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::{places, process};

const PROGRAMS: [&str; 4] = ["gatewayd", "agentd", "tidegate", "frail_agentd"];
/// A build from nothing on a small machine.
const BUILD_TIME_MAX: Duration = Duration::from_secs(1500);

/// The path of `program`, built from the sources as they are.
pub async fn program(program: &str) -> anyhow::Result<PathBuf> {
    static BUILT: OnceCell<()> = OnceCell::const_new();
    BUILT.get_or_try_init(build).await?;
    Ok(places::binaries()?.join(program))
}

async fn build() -> anyhow::Result<()> {
    let newest = newest_source(&places::repository()?)?;
    if fresh(newest)? {
        return Ok(());
    }
    let lock = File::create(places::target()?.join("e2e-build.lock"))?;
    let _held = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await??;
    if fresh(newest)? {
        return Ok(());
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    // As `cargo test --workspace` builds: anything less would turn on fewer features and build the dependencies anew.
    // Named when it is whole; its time is that of the beginning, so that what changes meanwhile counts as newer.
    let marker = marker()?;
    let begun = marker.with_extension("begun");
    File::create(&begun)?;
    build.args(["build", "--workspace", "--bins", "--tests"]).current_dir(places::repository()?);
    let profile = places::binaries()?;
    if profile.file_name().is_some_and(|profile| profile == "release") {
        build.arg("--release");
    }
    process::run(build, BUILD_TIME_MAX).await?.success().context("build the services")?;
    std::fs::rename(begun, marker)?;
    Ok(())
}

/// Tells by its time when everything was built last. Cargo leaves a program alone that a change does not reach, so the
/// programs' own times do not tell.
fn marker() -> anyhow::Result<PathBuf> {
    Ok(places::binaries()?.join("e2e-built"))
}

fn fresh(newest: SystemTime) -> anyhow::Result<bool> {
    let profile = places::binaries()?;
    let written = |file: PathBuf| file.metadata().and_then(|file| file.modified()).ok();
    let built_at = written(marker()?);
    let is_fresh = |program: &&str| {
        written(profile.join(program)).is_some_and(|at| at >= newest || built_at >= Some(newest))
    };
    Ok(PROGRAMS.iter().all(is_fresh))
}

/// When something that ends up in the programs was last written.
fn newest_source(root: &Path) -> anyhow::Result<SystemTime> {
    let mut newest = SystemTime::UNIX_EPOCH;
    let mut open = ["proto", "gateway", "agent", "services"].map(|area| root.join(area)).to_vec();
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            let test_only =
                ["tests", "testkit", "e2e", "target"].iter().any(|name| entry.file_name() == *name);
            let file = entry.metadata()?;
            match file.is_dir() {
                true if test_only => {}
                true => open.push(entry.path()),
                false => newest = newest.max(file.modified()?),
            }
        }
    }
    Ok(newest)
}
