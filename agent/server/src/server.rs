//! What all connections share, and the entry points for transports.

use std::path::PathBuf;
use std::sync::Arc;

use agent_session::{Model, Sessions};
use agent_threads::TenantId;
use opentelemetry::global;
use tokio::io::{AsyncBufRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::configuration::{Configuration, Effective, Layer};
use crate::connection;
use crate::door::Standing;
use crate::preferences::{Chosen, Preferences};
use crate::principal::Principal;
use crate::questions::QuestionIds;
use crate::rpc::Refusal;
use crate::seats::{Full, Seat, Seats};
use crate::transport::stdio::{LineWriter, Lines};

/// What a [`Server`] is told about its place.
#[derive(Debug, Clone)]
pub struct Options {
    /// The data directory, which clients show.
    pub home: PathBuf,
    /// The working directory of whoever names none.
    pub cwd: PathBuf,
    /// What users begin with where a request does not say, and what they are kept within.
    pub configuration: Configuration,
    /// How many connections and gRPC subscriptions a tenant may have.
    pub connections_max: usize,
}

/// The app-server. A clone is another handle to the same.
#[derive(Clone)]
pub struct Server {
    shared: Arc<Shared>,
}

/// What every connection may use.
pub(crate) struct Shared {
    pub(crate) sessions: Sessions,
    pub(crate) options: Options,
    pub(crate) preferences: Preferences,
    seats: Seats,
    pub(crate) question_ids: QuestionIds,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

impl Server {
    /// A server over `sessions`. Its tasks belong to `tasks`; all connections are closed when `stop` is cancelled.
    #[must_use]
    pub fn new(sessions: Sessions, options: Options, tasks: &TaskTracker, stop: CancellationToken) -> Self {
        let seats = Seats::default();
        show(seats.clone());
        let shared = Shared {
            sessions,
            options,
            preferences: Preferences::default(),
            seats,
            question_ids: QuestionIds::default(),
            tasks: tasks.clone(),
            stop,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Serves one client over a pair of byte streams, one JSON object a line, until it leaves or the server stops.
    pub async fn lines<R, W>(&self, principal: Principal, reader: R, writer: W)
    where
        R: AsyncBufRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        let (source, sink) = (Lines::new(reader), LineWriter::new(writer));
        let visitor = (principal, Standing::unquestioned());
        connection::run(Arc::clone(&self.shared), visitor, source, sink).await;
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

/// Shows how many connections and gRPC subscriptions there are, as often as somebody looks.
fn show(seats: Seats) {
    global::meter("agent")
        .u64_observable_gauge("tidegate.agent.connections")
        .with_description("Connections and gRPC subscriptions of clients.")
        .with_callback(move |gauge| gauge.observe(u64::try_from(seats.count()).unwrap_or(u64::MAX), &[]))
        .build();
}

impl Shared {
    /// What holds for this principal where a request does not say.
    pub(crate) fn effective(&self, principal: &Principal) -> Effective {
        let chosen = self.preferences.of(principal);
        let requirements = self.options.configuration.requirements(&principal.tenant);
        Effective::of(&self.layers(principal, &chosen), &requirements)
    }

    /// The layers for this principal with these choices, weakest first.
    pub(crate) fn layers<'a>(&'a self, principal: &Principal, chosen: &'a Chosen) -> Vec<Layer<'a>> {
        let Options { configuration, home, .. } = &self.options;
        configuration.layers(&principal.tenant, (chosen.values(), chosen.version()), home)
    }

    /// The model that a thread begins with, of those there are.
    pub(crate) fn default_model<'a>(&self, effective: &Effective, models: &'a [Model]) -> Option<&'a Model> {
        let named = effective.text("model");
        let named = named.and_then(|slug| models.iter().find(|model| model.slug == slug));
        named.or_else(|| models.iter().find(|model| model.is_default)).or_else(|| models.first())
    }

    /// A place for one more connection of this tenant.
    pub(crate) fn seat(&self, tenant: &TenantId) -> Result<Seat, Full> {
        let Options { configuration, connections_max, .. } = &self.options;
        let theirs = configuration.tenants.get(tenant).and_then(|tenant| tenant.connections_max);
        self.seats.take(tenant, theirs.unwrap_or(*connections_max))
    }

    /// The working directory of whoever names none, as text.
    pub(crate) fn cwd(&self) -> Result<&str, Refusal> {
        self.options
            .cwd
            .to_str()
            .ok_or_else(|| Refusal::internal("the working directory's name is not UTF-8"))
    }
}
