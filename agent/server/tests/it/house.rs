//! A server with everything that it stands on, listening on loopback.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use agent_server::{Configuration, Door, Http, Options, Server};
use agent_session::Sessions;
use agent_threads::{MemoryStore, ThreadStore};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tidegate_callers::Callers;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::client::Client;
use crate::doors;
use crate::gateway::Scripted;

/// A running server.
pub(crate) struct House {
    pub(crate) gateway: Scripted,
    pub(crate) store: Arc<dyn ThreadStore>,
    pub(crate) server: Server,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

impl House {
    pub(crate) fn new() -> Self {
        Self::over(Arc::new(MemoryStore::new()))
    }

    /// A server whose users begin with this.
    pub(crate) fn configured(configuration: Configuration) -> Self {
        Self::with(Arc::new(MemoryStore::new()), configuration)
    }

    /// A server over what another one has left.
    pub(crate) fn over(store: Arc<dyn ThreadStore>) -> Self {
        Self::with(store, Configuration::default())
    }

    /// A server that keeps so many events for somebody who does not read them.
    pub(crate) fn with_queue(events: usize) -> Self {
        let queue = NonZeroUsize::new(events).unwrap();
        Self::built(Arc::new(MemoryStore::new()), Configuration::default(), queue)
    }

    fn with(store: Arc<dyn ThreadStore>, configuration: Configuration) -> Self {
        Self::built(store, configuration, agent_session::Options::default().event_queue)
    }

    fn built(store: Arc<dyn ThreadStore>, configuration: Configuration, event_queue: NonZeroUsize) -> Self {
        let (gateway, tasks, stop) = (Scripted::default(), TaskTracker::new(), CancellationToken::new());
        let options =
            agent_session::Options { default_cwd: "/work".to_owned(), event_queue, ..Default::default() };
        let behind = Arc::new(gateway.clone());
        let sessions = Sessions::new(Arc::clone(&store), behind, options, &tasks, stop.clone());
        let options =
            Options { home: "/home/agent".into(), cwd: "/work".into(), configuration, connections_max: 100 };
        let server = Server::new(sessions, options, &tasks, stop.clone());
        Self { gateway, store, server, tasks, stop }
    }

    /// Listens for the one user of a desk.
    pub(crate) async fn listen(&self) -> SocketAddr {
        self.listen_for(doors::of("", Path::new("")), true).await
    }

    /// Listens for whom these callers know.
    pub(crate) async fn listen_for(&self, callers: Callers, nearby: bool) -> SocketAddr {
        let http = Http::new(self.server.clone(), Door::new(callers, nearby)).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tasks = self.tasks.clone();
        self.tasks.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let http = http.clone();
                tasks.spawn(async move {
                    let builder = Builder::new(TokioExecutor::new());
                    let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), http).await;
                });
            }
        });
        address
    }

    /// A client of the desk that has introduced itself.
    pub(crate) async fn client(&self) -> Client {
        let mut client = Client::connect(self.listen().await).await;
        client.initialize().await;
        client
    }

    /// A client of this tenant that has introduced itself.
    pub(crate) async fn client_of(&self, tenant: &str) -> Client {
        let keys = doors::Keys::new();
        let key = keys.create(tenant);
        let mut client = Client::connect_with(self.listen_for(keys.callers(), false).await, &key).await;
        client.initialize().await;
        client
    }
}
