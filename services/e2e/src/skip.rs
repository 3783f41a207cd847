//! Records the tests that could not run because this machine lacks a tool.
//!
//! A skip is never silent: it is said on stderr, listed in `e2e-skips.txt` of the target directory, and an error
//! where `CI=true`, because a machine that gates changes must run everything.

use std::fs::OpenOptions;
use std::io::Write as _;

use crate::places;

/// Says that `test` did not run for want of `tool`.
pub fn record(test: &str, tool: &str) -> anyhow::Result<()> {
    let line = format!("SKIPPED {test}: {tool} not found");
    writeln!(std::io::stderr(), "{line}")?;
    let list = places::target()?.join("e2e-skips.txt");
    let mut list = OpenOptions::new().create(true).append(true).open(list)?;
    writeln!(list, "{line}")?;
    anyhow::ensure!(std::env::var("CI").as_deref() != Ok("true"), "{line}, and CI must skip nothing");
    Ok(())
}
