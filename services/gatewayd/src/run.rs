//! Puts the gateway's parts together and runs them until the process is told to stop.

use anyhow::Context as _;
use gateway_providers::Providers;
use gateway_server::Gateway;
use service_runtime::{
    guard::Guard,
    health::{Health, WithHealth},
    listen::{Exposure, Listener},
    serve::serve,
    signals::Signals,
    tasks::Tasks,
    telemetry::{Environment, Program, Telemetry},
    watch::Watched,
};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    load::{Checked, Origin, Start},
    reload::{Reload, Told},
};

const PROGRAM: Program = Program { name: "gatewayd", version: env!("CARGO_PKG_VERSION") };

pub(crate) async fn run(origin: Origin, files: Watched, checked: Checked) -> anyhow::Result<()> {
    let signals = Signals::install().context("cannot install signal handlers")?;
    let hangup = signal(SignalKind::hangup()).context("cannot install signal handlers")?;
    let Start { log, telemetry, .. } = &checked.start;
    let telemetry = Telemetry::start(PROGRAM, log, telemetry, &Environment::read())?;
    let result = serve_until_told((origin, files), checked, &telemetry, (signals, hangup)).await;
    telemetry.shutdown().await;
    result
}

/// Says what is served.
fn tell(providers: &Providers) {
    for facts in providers.describe() {
        // What is known of its retries and limits stands in the configuration; this is what was decided.
        tracing::info!(
            provider = facts.id,
            default = facts.is_default,
            account = facts.account.name(),
            websockets = facts.capabilities.websockets,
            note = facts.note,
            "serving a provider"
        );
    }
}

/// Says what works, but is not what was meant.
pub(crate) fn warn(warnings: &[String]) {
    for warning in warnings {
        tracing::warn!(warning, "the configuration works and should be changed");
    }
}

async fn serve_until_told(
    (origin, files): (Origin, Watched),
    checked: Checked,
    telemetry: &Telemetry,
    (signals, hangup): (Signals, Signal),
) -> anyhow::Result<()> {
    let Checked { start, calls, warnings } = checked;
    let Start { listeners, tls, limits, drain, written, .. } = start;
    tell(&calls.providers);
    warn(&warnings);
    let meter = telemetry.meter("gateway");
    let gateway = Gateway::new(calls.clone(), &meter, drain.cut_token().clone()).await?;
    let health = Health::new(drain.clone(), telemetry.registry());
    let mut tasks = Tasks::new(drain.clone());
    // Who may listen where was checked with the rest of the configuration.
    for (address, rules) in listeners {
        let listener = Listener::bind(&address, Exposure::Allowed).await?.with_tls(tls.as_ref());
        let nearby = listener.address().is_local();
        let service = Guard::new(WithHealth::new(gateway.behind(nearby), health.clone()), rules);
        let (limits, drain) = (limits.clone(), drain.clone());
        tracing::info!(address = %listener.address(), tls = listener.tls().is_some(), "listening on {}", listener.address());
        if !nearby && listener.tls().is_none() {
            tracing::warn!(address = %listener.address(), "credentials cross the network in the clear: no [tls] is set");
        }
        tasks.spawn("the listener", async move {
            serve(listener, service, limits, drain).await;
            anyhow::Ok(())
        });
    }
    let reload = Reload {
        origin,
        gateway: gateway.clone(),
        present: calls.clone(),
        started_with: written,
        tls: tls.clone(),
        ready: health.register("configuration"),
        told: Told::new(&meter),
        behind: None,
        refused: Vec::new(),
    };
    tasks.spawn("the configuration", {
        let drain = drain.clone();
        async move {
            reload.run(files, hangup, drain).await;
            anyhow::Ok(())
        }
    });
    if let Some(tls) = tls {
        let (ready, drain) = (health.register("tls"), drain.clone());
        tasks.spawn("the TLS files", async move {
            tls.keep_fresh(ready, drain).await;
            anyhow::Ok(())
        });
    }
    let ended = drain.clone();
    tasks.spawn("the connections ahead of need", async move {
        ended.closing_token().run_until_cancelled(calls.providers.prewarm()).await;
        // Providers close what is idle, and some have nothing to connect to; the process goes on.
        ended.closing().await;
        anyhow::Ok(())
    });
    let (closing, sockets) = (drain.clone(), gateway.clone());
    tasks.spawn("the websockets", async move {
        // Not before: until the listener is closed, a client that was sent away would come back here.
        closing.closing().await;
        sockets.close_sockets().await;
        anyhow::Ok(())
    });
    tasks.spawn("the health report", async move {
        drain.draining().await;
        gateway.not_serving().await;
        anyhow::Ok(())
    });
    tasks.run(signals).await?;
    Ok(())
}
