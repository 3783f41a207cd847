//! `doctor`: tries the credentials and routes of a configuration, and tells what it finds and what to do about it.
//!
//! On a terminal each finding is told when it is there, elsewhere all of them in the order of the providers.

use std::{
    io::{IsTerminal as _, Write as _},
    path::{Path, PathBuf},
};

use futures_util::{StreamExt as _, stream};
use gateway_providers::{Operation, Probe, Providers, Told};
use serde_json::{Value, json};
use service_runtime::{Exit, block_on, cli::report};

use crate::load::{Checked, Origin};

/// How many providers are tried at the same time.
const PROVIDERS_AT_ONCE: usize = 8;

/// What a doctor is asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct Doctor {
    /// The configuration file; without one every key has its default.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print one JSON document instead of lines.
    #[arg(long)]
    json: bool,
    /// The providers to try; all that the configuration serves otherwise.
    providers: Vec<String>,
}

/// Reads the configuration, tries what was asked for, and tells. `outer` is a file that was named before the subcommand.
pub(crate) fn main_with(doctor: Doctor, outer: Option<&Path>) -> Exit {
    let file = doctor.config.as_deref().or(outer).map(Path::to_owned);
    let Checked { calls, warnings, .. } = match (Origin { file, listen: Vec::new() }).load(None).checked {
        Ok(checked) => checked,
        Err(error) => return report(&error.into()),
    };
    let providers = calls.providers;
    let known: Vec<String> = providers.describe().into_iter().map(|facts| facts.id).collect();
    if let Some(asked) = doctor.providers.iter().find(|id| !known.contains(id)) {
        let _ = report(&anyhow::anyhow!("there is no provider {asked}; there are: {}", known.join(", ")));
        return Exit::Usage;
    }
    let ids = if doctor.providers.is_empty() { known } else { doctor.providers };
    block_on(run(providers, &warnings, ids, doctor.json))
}

/// Tries these providers. An error if a call would fail.
async fn run(providers: Providers, warnings: &[String], ids: Vec<String>, json: bool) -> anyhow::Result<()> {
    let at_once = !json && std::io::stdout().is_terminal();
    if !json {
        warnings.iter().try_for_each(|warning| print(&format!("warning: {warning}")))?;
    }
    // A terminal that has gone away is no reason to stop: the exit code is still of use.
    let told = |probe: &Probe| drop(at_once.then(|| print(&line(probe))));
    let told: Told<'_> = &told;
    let tried = stream::iter(&ids).map(|id| providers.probe(id, told)).buffered(PROVIDERS_AT_ONCE);
    let probes: Vec<Probe> = tried.collect::<Vec<_>>().await.into_iter().flatten().flatten().collect();
    if json {
        print(&format!("{:#}", document(warnings, &probes)))?;
    } else if !at_once {
        probes.iter().try_for_each(|probe| print(&line(probe)))?;
    }
    let failed = probes.iter().filter(|probe| !probe.finding.is_fine()).count();
    anyhow::ensure!(failed == 0, "{failed} of {} probes failed", probes.len());
    Ok(())
}

/// A probe as one line for people.
fn line(probe: &Probe) -> String {
    let outcome = if probe.finding.is_fine() { "ok" } else { "FAILED" };
    let what = format!("{} {}", probe.provider, operation(probe.operation));
    let address = probe.address.as_deref().unwrap_or("-");
    let mut line = format!("{outcome:6} {what:28} {address:32} {}", probe.finding);
    if let Some(status) = probe.status {
        line.push_str(&format!(" ({status})"));
    }
    line.push_str(&format!(", {} ms", probe.took.as_millis()));
    if let Some(model) = &probe.model {
        line.push_str(&format!(", with {model}"));
    }
    if let Some(fix) = &probe.fix {
        line.push_str(&format!("; {fix}"));
    }
    if let Some(said) = &probe.said {
        line.push_str(&format!(" [{said}]"));
    }
    line
}

fn document(warnings: &[String], probes: &[Probe]) -> Value {
    let probe = |probe: &Probe| {
        json!({
            "provider": probe.provider,
            "operation": operation(probe.operation),
            "address": probe.address,
            "model": probe.model,
            "fine": probe.finding.is_fine(),
            "finding": probe.finding.name(),
            "text": probe.finding.to_string(),
            "status": probe.status,
            "said": probe.said,
            "fix": probe.fix,
            "took_ms": u64::try_from(probe.took.as_millis()).unwrap_or(u64::MAX),
        })
    };
    json!({"warnings": warnings, "probes": probes.iter().map(probe).collect::<Vec<_>>()})
}

fn operation(operation: Operation) -> &'static str {
    match operation {
        Operation::Responses => "responses",
        Operation::Compact => "compact",
        Operation::InputTokens => "input tokens",
        Operation::Models => "models",
    }
}

fn print(line: &str) -> std::io::Result<()> {
    writeln!(std::io::stdout(), "{line}")
}
