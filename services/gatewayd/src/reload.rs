//! Takes over a changed configuration while calls run: whole or not at all.
//!
//! The files are watched, so that a mounted config map needs no signal; SIGHUP asks at once. What stays as it was when a
//! new configuration is wrong shows in `/readyz` and in a metric.

use std::time::Duration;

use gateway_server::{Configuration, Gateway};
use opentelemetry::{
    KeyValue,
    metrics::{Counter, Gauge, Meter},
};
use service_runtime::{Drain, config::Error, health::Ready, listen::Tls, watch::Watched};
use tidegate_callers::{Callers, Trouble};
use tokio::signal::unix::Signal;

use crate::{
    load::{Checked, Origin},
    run::warn,
};

/// How often `/readyz` and the metrics are told what cannot be renewed.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// What a running process cannot take over.
const WAITS: &str = "listen, tls, connections, guard, drain, log and telemetry take effect at the next start";

/// Goes on with what its files say.
pub(crate) struct Reload {
    pub(crate) origin: Origin,
    pub(crate) gateway: Gateway,
    /// What the gateway works with.
    pub(crate) present: Configuration,
    /// What was decided at the start, as it was written.
    pub(crate) started_with: String,
    pub(crate) tls: Option<Tls>,
    pub(crate) ready: Ready,
    pub(crate) told: Told,
    /// Why the present configuration is not what the files say.
    pub(crate) behind: Option<String>,
    /// What is wrong with files that are followed by themselves: keys, certificates.
    pub(crate) refused: Vec<String>,
}

/// What is told of changes.
pub(crate) struct Told {
    changes: Counter<u64>,
    generation: Gauge<u64>,
    stale: Gauge<u64>,
}

impl Told {
    pub(crate) fn new(meter: &Meter) -> Self {
        let told = Self {
            changes: meter
                .u64_counter("tidegate.configuration.changes")
                .with_description("Changed configurations, by whether they were taken over.")
                .build(),
            generation: meter
                .u64_gauge("tidegate.configuration.generation")
                .with_description("The number of the configuration that holds, from 1.")
                .build(),
            stale: meter
                .u64_gauge("tidegate.configuration.stale")
                .with_description("1 if something that the files say does not hold.")
                .build(),
        };
        told.generation.record(1, &[]);
        told.stale.record(0, &[]);
        told
    }

    /// So many changes could not be taken over.
    fn refused(&self, changes: usize) {
        if changes > 0 {
            let changes = changes.try_into().unwrap_or(u64::MAX);
            self.changes.add(changes, &[KeyValue::new("outcome", "refused")]);
        }
    }
}

/// Keeps keys and signing keys fresh. Goes on until it is dropped, after which a fetch would begin anew.
async fn follow(callers: Callers) {
    callers.watch().await;
    std::future::pending().await
}

impl Reload {
    /// Follows the files until the drain closes the gateway. `files` were looked at before the present configuration was
    /// read.
    pub(crate) async fn run(mut self, mut files: Watched, mut hangup: Signal, drain: Drain) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        let mut watch = Box::pin(follow(self.present.callers.clone()));
        loop {
            // Keys and signing keys follow their own files; that is no other configuration.
            let because = tokio::select! {
                () = drain.closing() => return,
                () = &mut watch => continue,
                _ = look.tick() => {
                    self.show();
                    continue;
                }
                () = files.changed() => "file",
                Some(()) = hangup.recv() => "SIGHUP",
            };
            if because == "SIGHUP"
                && let Some(tls) = &self.tls
            {
                tls.reload();
            }
            // What a wrong configuration names is watched too: mending it must be noticed.
            let loaded = self.origin.load(Some(&self.present));
            files = loaded.files;
            if self.take_over(because, loaded.checked) {
                watch = Box::pin(follow(self.present.callers.clone()));
            }
        }
    }

    /// Goes on with what the files say if it is good; tells whether it does.
    fn take_over(&mut self, because: &str, checked: Result<Checked, Error>) -> bool {
        let Checked { start, calls, warnings } = match checked {
            Ok(checked) => checked,
            Err(error) => {
                // The error names files and keys and quotes no value that could be secret.
                tracing::error!(because, "the new configuration is wrong, the old one stays: {error}");
                let first = error.to_string().lines().next().unwrap_or_default().to_owned();
                self.behind = Some(format!("an older configuration holds: {first}"));
                self.show();
                self.told.refused(1);
                return false;
            }
        };
        let generation = self.gateway.replace(calls.clone());
        self.present = calls;
        tracing::info!(because, generation, "a new configuration holds");
        warn(&warnings);
        self.told.generation.record(generation, &[]);
        self.told.changes.add(1, &[KeyValue::new("outcome", "taken_over")]);
        self.behind = (start.written != self.started_with).then(|| WAITS.to_owned());
        if self.behind.is_some() {
            tracing::warn!("{WAITS}");
        }
        self.show();
        true
    }

    /// Shows what is not as the files say, or cannot be renewed. None of it is a reason to send callers elsewhere.
    fn show(&mut self) {
        let troubles = self.present.callers.troubles();
        let told = |trouble: &Trouble| format!("{}: {}", trouble.source, trouble.message);
        // An issuer that cannot be asked is no file that says something else.
        let refused = troubles.iter().filter(|trouble| trouble.of_file).map(told);
        let refused: Vec<String> = refused.chain(self.tls.as_ref().and_then(Tls::trouble)).collect();
        let new = refused.iter().filter(|trouble| !self.refused.contains(trouble)).count();
        self.told.refused(new);
        self.told.stale.record((self.behind.is_some() || !refused.is_empty()).into(), &[]);
        self.refused = refused;
        // Certificates have a line of their own.
        let details: Vec<String> = self.behind.iter().cloned().chain(troubles.iter().map(told)).collect();
        match details.as_slice() {
            [] => self.ready.ready(),
            details => self.ready.ready_with(details.join("; ")),
        }
    }
}
