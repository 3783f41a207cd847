//! What all connections share, and the entry points for transports.

use std::path::PathBuf;
use std::sync::Arc;

use agent_session::{Model, Sessions};
use serde_json::Value;
use tokio::io::{AsyncBufRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::connection;
use crate::preferences::Preferences;
use crate::principal::Principal;
use crate::questions::QuestionIds;
use crate::rpc::Refusal;
use crate::transport::stdio::{LineWriter, Lines};

/// What a [`Server`] is told about its place.
#[derive(Debug, Clone)]
pub struct Options {
    /// The data directory, which clients show.
    pub home: PathBuf,
    /// The working directory of whoever names none.
    pub cwd: PathBuf,
    /// What threads begin with where their client does not say.
    pub defaults: Defaults,
}

/// What threads begin with where their client does not say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Defaults {
    /// The model's slug.
    pub model: Option<String>,
    /// The provider's id.
    pub provider: Option<String>,
    /// The reasoning effort.
    pub effort: Option<String>,
    /// How much of the reasoning is summarized.
    pub summary: Option<String>,
    /// The service tier.
    pub service_tier: Option<String>,
    /// When the user is asked, as JSON of the protocol.
    pub approval_policy: Option<Value>,
    /// What commands may touch, as a mode of the protocol.
    pub sandbox_mode: Option<Value>,
    /// Added after the base instructions.
    pub developer_instructions: Option<String>,
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
    pub(crate) question_ids: QuestionIds,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

impl Server {
    /// A server over `sessions`. Its tasks belong to `tasks`; all connections are closed when `stop` is cancelled.
    #[must_use]
    pub fn new(sessions: Sessions, options: Options, tasks: &TaskTracker, stop: CancellationToken) -> Self {
        let preferences = Preferences::default();
        let question_ids = QuestionIds::default();
        let shared = Shared { sessions, options, preferences, question_ids, tasks: tasks.clone(), stop };
        Self { shared: Arc::new(shared) }
    }

    /// Serves one client over a pair of byte streams, one JSON object a line, until it leaves or the server stops.
    pub async fn lines<R, W>(&self, principal: Principal, reader: R, writer: W)
    where
        R: AsyncBufRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        let (source, sink) = (Lines::new(reader), LineWriter::new(writer));
        connection::run(Arc::clone(&self.shared), principal, source, sink).await;
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Shared {
    /// The model that a thread of this principal begins with, of those there are.
    pub(crate) fn default_model<'a>(&self, principal: &Principal, models: &'a [Model]) -> Option<&'a Model> {
        let chosen = self.preferences.of(principal);
        let named = chosen.text("model").or(self.options.defaults.model.as_deref());
        let named = named.and_then(|slug| models.iter().find(|model| model.slug == slug));
        named.or_else(|| models.iter().find(|model| model.is_default)).or_else(|| models.first())
    }

    /// The working directory of whoever names none, as text.
    pub(crate) fn cwd(&self) -> Result<&str, Refusal> {
        self.options
            .cwd
            .to_str()
            .ok_or_else(|| Refusal::internal("the working directory's name is not UTF-8"))
    }
}
