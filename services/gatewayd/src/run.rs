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
};

use crate::config::Checked;

const PROGRAM: Program = Program { name: "gatewayd", version: env!("CARGO_PKG_VERSION") };

pub(crate) async fn run(checked: Checked) -> anyhow::Result<()> {
    let signals = Signals::install().context("cannot install signal handlers")?;
    let telemetry = Telemetry::start(PROGRAM, &checked.log, &checked.telemetry, &Environment::read())?;
    let result = serve_until_told(checked, &telemetry, signals).await;
    telemetry.shutdown().await;
    result
}

/// Says what is served, and what should be configured in another way.
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
    for warning in providers.warnings() {
        tracing::warn!(warning, "the configuration works and should be changed");
    }
}

async fn serve_until_told(checked: Checked, telemetry: &Telemetry, signals: Signals) -> anyhow::Result<()> {
    let Checked { listeners, tls, providers, server, limits, drain, .. } = checked;
    tell(&providers);
    let cut = drain.cut_token().clone();
    let warmed = providers.clone();
    let gateway = Gateway::new(server, providers, &telemetry.meter("gateway"), cut).await?;
    let health = Health::new(drain.clone(), telemetry.registry());
    let mut tasks = Tasks::new(drain.clone());
    for (address, rules) in listeners {
        let listener = Listener::bind(&address, Exposure::LoopbackOnly).await?.with_tls(tls.as_ref());
        let service = Guard::new(WithHealth::new(gateway.clone(), health.clone()), rules);
        let (limits, drain) = (limits.clone(), drain.clone());
        tracing::info!(address = %listener.address(), tls = listener.tls().is_some(), "listening on {}", listener.address());
        tasks.spawn("the listener", async move {
            serve(listener, service, limits, drain).await;
            anyhow::Ok(())
        });
    }
    if let Some(tls) = tls {
        let (ready, drain) = (health.register("tls"), drain.clone());
        tasks.spawn("the TLS files", async move {
            tls.keep_fresh(ready, drain).await;
            anyhow::Ok(())
        });
    }
    let ended = drain.clone();
    tasks.spawn("the connections ahead of need", async move {
        ended.closing_token().run_until_cancelled(warmed.prewarm()).await;
        // Providers close what is idle, and some have nothing to connect to; the process goes on.
        ended.closing().await;
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
