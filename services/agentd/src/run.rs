//! Puts the agent's parts together and runs them until the process is told to stop.
//!
//! Order of the end: no new connections and turns; running turns finish or are interrupted after the grace period;
//! clients are sent away; the store is closed last.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agent_server::{Door, Http, Principal, Server};
use agent_session::{Error, GrpcGateway, Sessions};
use agent_threads::{SqliteStore, ThreadStore};
use anyhow::Context as _;
use service_runtime::Drain;
use service_runtime::guard::{Guard, GuardConfig};
use service_runtime::health::{Health, OnlyHealth, Ready, WithHealth};
use service_runtime::listen::{Address, Exposure, Listener, Tls};
use service_runtime::serve::{Limits, serve};
use service_runtime::signals::Signals;
use service_runtime::tasks::Tasks;
use service_runtime::telemetry::{Environment, Program, Telemetry};
use tidegate_callers::Callers;
use tokio::io::BufReader;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{Checked, gateway_uri};
use crate::home::Home;
use crate::listen::{Listen, url};

const PROGRAM: Program = Program { name: "agentd", version: env!("CARGO_PKG_VERSION") };
/// What is read from a pipe at once.
const STDIN_BUFFER_BYTES: usize = 64 << 10;
/// How often `/readyz` is told what of callers cannot be renewed.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What is to be run.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) listen: Listen,
    pub(crate) checked: Checked,
}

/// What may stand between the sessions and their store.
pub type Wrap = fn(Arc<dyn ThreadStore>) -> anyhow::Result<Arc<dyn ThreadStore>>;

pub(crate) async fn run(plan: Plan, wrap: Wrap) -> anyhow::Result<()> {
    let signals = Signals::install().context("cannot install signal handlers")?;
    let telemetry =
        Telemetry::start(PROGRAM, &plan.checked.log, &plan.checked.telemetry, &Environment::read())?;
    let result = serve_until_told(plan, wrap, &telemetry, signals).await;
    telemetry.shutdown().await;
    result
}

async fn serve_until_told(
    plan: Plan,
    wrap: Wrap,
    telemetry: &Telemetry,
    signals: Signals,
) -> anyhow::Result<()> {
    let Plan { listen, mut checked } = plan;
    let home = Home::find()?;
    let drain = checked.drain.clone();
    let health = Health::new(drain.clone(), telemetry.registry());
    let ready = health.register("thread store");
    let store_file = checked.store.take().unwrap_or_else(|| home.store());
    let store = SqliteStore::open(&store_file).await;
    let store = Arc::new(store.with_context(|| format!("cannot open {}", store_file.display()))?);
    ready.ready();
    let uri = gateway_uri_of(checked.gateway.take(), &home)?;
    let gateway = GrpcGateway::connect_lazy(&uri, &checked.access)?;
    let parts = Parts {
        tasks: TaskTracker::new(),
        stop: CancellationToken::new(),
        store: Arc::clone(&store),
        // Whoever has closed the pipe cannot see how a turn ends.
        grace: if listen == Listen::Stdio { Duration::ZERO } else { checked.grace },
    };
    let cwd = std::env::current_dir().context("there is no working directory")?;
    let mut options = checked.sessions;
    options.default_cwd = cwd.to_str().context("the working directory's name is not UTF-8")?.to_owned();
    options.installation_id = home.installation_id()?;
    let sessions = Sessions::new(wrap(store)?, Arc::new(gateway), options, &parts.tasks, parts.stop.clone());
    parts.tasks.spawn(greet_gateway(sessions.clone(), uri, parts.stop.clone()));
    let server_options = agent_server::Options {
        home: home.path().to_owned(),
        cwd,
        configuration: checked.configuration,
        connections_max: checked.tenant_connections_max,
    };
    let server = Server::new(sessions.clone(), server_options, &parts.tasks, parts.stop.clone());

    let mut tasks = Tasks::new(drain.clone());
    let callers = checked.callers;
    if !callers.knows_credentials() && !callers.admits_anonymous() {
        tracing::warn!(
            "nobody can connect: [[callers]] names whom no credential of [authentication] or --ws-auth stands for"
        );
    }
    if callers.knows_credentials() {
        let (callers, ready) = (callers.clone(), health.register("callers"));
        tasks.spawn("the callers", follow(callers, ready, drain.clone()));
    }
    let serving = Serving { health, callers, tls: checked.tls, limits: checked.limits, drain: drain.clone() };
    if let Some(address) = checked.health_listen {
        show_health(&mut tasks, &address, &serving).await?;
    }
    match listen {
        Listen::Stdio => talk_on_stdio(&mut tasks, server, drain.clone()),
        Listen::Ws(at) | Listen::Wss(at) => {
            listen_on(&mut tasks, Address::Tcp(at), server, serving).await?;
        }
        Listen::Unix(path) => {
            let path = path.unwrap_or_else(|| home.agent_socket());
            listen_on(&mut tasks, Address::Unix(path), server, serving).await?;
        }
        Listen::Off => tracing::info!("listening nowhere"),
    }
    tasks.spawn("the sessions", parts.end(sessions, drain));
    tasks.run(signals).await?;
    drop(ready);
    Ok(())
}

/// What has to be ended in order.
struct Parts {
    tasks: TaskTracker,
    /// Ends connections and the sessions' own tasks.
    stop: CancellationToken,
    store: Arc<SqliteStore>,
    /// How long running turns may take to finish.
    grace: Duration,
}

impl Parts {
    /// Waits for the drain and then ends everything in order.
    async fn end(self, sessions: Sessions, drain: Drain) -> anyhow::Result<()> {
        drain.closing().await;
        tokio::select! {
            () = sessions.drain(self.grace) => {}
            () = drain.aborted() => {}
        }
        self.stop.cancel();
        self.tasks.close();
        tokio::select! {
            () = self.tasks.wait() => {}
            () = drain.aborted() => tracing::warn!(left = self.tasks.len(), "tasks were left behind"),
        }
        self.store.close().await;
        Ok(())
    }
}

/// Where the gateway is, as the file says, or the environment, or the data directory.
fn gateway_uri_of(configured: Option<String>, home: &Home) -> anyhow::Result<String> {
    let named = std::env::var("TIDEGATE_GATEWAY").ok().filter(|text| !text.is_empty());
    let uri = match (configured, named) {
        (Some(uri), _) => uri,
        (None, Some(text)) => gateway_uri(&text, Path::new("")).with_context(|| {
            format!("TIDEGATE_GATEWAY is {text:?}; write https://HOST:PORT, http://HOST:PORT, IP:PORT or unix:PATH")
        })?,
        (None, None) => format!("unix:{}", home.gateway_socket().display()),
    };
    tracing::info!(gateway = uri, "models are reached through the gateway");
    Ok(uri)
}

/// Keeps keys and signing keys fresh, and shows what cannot be renewed.
async fn follow(callers: Callers, ready: Ready, drain: Drain) -> anyhow::Result<()> {
    let mut look = tokio::time::interval(LOOK_EVERY);
    let watch = callers.watch();
    let mut watch = std::pin::pin!(watch);
    loop {
        tokio::select! {
            () = drain.closing() => return Ok(()),
            () = &mut watch => return Ok(()),
            _ = look.tick() => {}
        }
        let troubles = callers.troubles();
        let told = troubles.iter().map(|trouble| format!("{}: {}", trouble.source, trouble.message));
        match told.collect::<Vec<_>>().as_slice() {
            [] => ready.ready(),
            told => ready.ready_with(told.join("; ")),
        }
    }
}

/// Says once whether the gateway is there: nothing works without it, and everything waits for it.
async fn greet_gateway(sessions: Sessions, gateway: String, stop: CancellationToken) {
    let found = tokio::select! {
        found = sessions.models() => found,
        () = stop.cancelled() => return,
    };
    match found {
        Ok(models) => tracing::info!(models = models.len(), "the gateway is there"),
        Err(Error::Gateway(failure)) if failure.reason == "unauthenticated" => tracing::warn!(
            gateway,
            error = failure.message,
            "no model can be called: give this service a key or token by [gateway_access] token_file in agent.toml"
        ),
        Err(Error::Gateway(failure)) => tracing::warn!(
            gateway,
            error = failure.message,
            "the gateway cannot be reached yet and is tried again with each request; one with TLS is written https://"
        ),
        Err(error) => {
            tracing::warn!(gateway, error = service_runtime::cli::chain(&error), "no models are known yet")
        }
    }
}

/// What a listener serves by.
struct Serving {
    health: Health,
    callers: Callers,
    tls: Option<Tls>,
    limits: Limits,
    drain: Drain,
}

async fn listen_on(
    tasks: &mut Tasks,
    address: Address,
    server: Server,
    serving: Serving,
) -> anyhow::Result<()> {
    let Serving { health, callers, tls, limits, drain } = serving;
    let rules = GuardConfig::default().build(&address, "guard");
    let rules = rules.map_err(|_| anyhow::anyhow!("the listener's rules cannot be made"))?;
    // Whether callers are known where other machines come in was checked with the command line.
    let listener = Listener::bind(&address, Exposure::Allowed).await?.with_tls(tls.as_ref());
    let door = Door::new(callers, listener.address().is_local());
    if let Some(tls) = listener.tls().cloned() {
        let (ready, drain) = (health.register("tls"), drain.clone());
        tasks.spawn("the TLS files", async move {
            tls.keep_fresh(ready, drain).await;
            anyhow::Ok(())
        });
    }
    let http = Http::new(server, door).await?;
    let service = Guard::new(WithHealth::new(http, health), rules);
    let url = url(listener.address(), listener.tls().is_some());
    tracing::info!(url, "listening on {url}");
    tasks.spawn("the listener", async move {
        serve(listener, service, limits, drain).await;
        anyhow::Ok(())
    });
    Ok(())
}

/// Lets other machines see how the process is, and nothing else. Plain also where clients come over TLS.
async fn show_health(tasks: &mut Tasks, address: &Address, serving: &Serving) -> anyhow::Result<()> {
    let listener = Listener::bind(address, Exposure::Allowed).await?;
    tracing::info!(address = %listener.address(), "showing health on {}", listener.address());
    let service = OnlyHealth::new(serving.health.clone());
    let (limits, drain) = (serving.limits.clone(), serving.drain.clone());
    tasks.spawn("the listener for health", async move {
        serve(listener, service, limits, drain).await;
        anyhow::Ok(())
    });
    Ok(())
}

/// Talks to the one client on standard input and output; when it leaves, the process ends.
fn talk_on_stdio(tasks: &mut Tasks, server: Server, drain: Drain) {
    tasks.spawn("the client", async move {
        let stdin = BufReader::with_capacity(STDIN_BUFFER_BYTES, tokio::io::stdin());
        server.lines(Principal::desk(), stdin, tokio::io::stdout()).await;
        drain.begin();
        anyhow::Ok(())
    });
}
