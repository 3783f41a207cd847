//! A server with everything that it stands on, listening on loopback.

use std::net::SocketAddr;
use std::sync::Arc;

use agent_server::{Defaults, Http, Options, Principal, Server};
use agent_session::Sessions;
use agent_threads::{MemoryStore, TenantId, ThreadStore};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::client::Client;
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

    /// A server over what another one has left.
    pub(crate) fn over(store: Arc<dyn ThreadStore>) -> Self {
        let (gateway, tasks, stop) = (Scripted::default(), TaskTracker::new(), CancellationToken::new());
        let options = agent_session::Options { default_cwd: "/work".to_owned(), ..Default::default() };
        let behind = Arc::new(gateway.clone());
        let sessions = Sessions::new(Arc::clone(&store), behind, options, &tasks, stop.clone());
        let options =
            Options { home: "/home/agent".into(), cwd: "/work".into(), defaults: Defaults::default() };
        let server = Server::new(sessions, options, &tasks, stop.clone());
        Self { gateway, store, server, tasks, stop }
    }

    /// Listens for the one user of a desk.
    pub(crate) async fn listen(&self) -> SocketAddr {
        self.listen_for(Principal::desk()).await
    }

    /// Listens for a user of this tenant.
    pub(crate) async fn listen_for_tenant(&self, tenant: &str) -> SocketAddr {
        self.listen_for(Principal { tenant: TenantId::new(tenant), subject: "somebody".to_owned() }).await
    }

    async fn listen_for(&self, principal: Principal) -> SocketAddr {
        let http = Http::new(self.server.clone(), principal).await.unwrap();
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

    /// A client that has introduced itself.
    pub(crate) async fn client(&self) -> Client {
        let mut client = Client::connect(self.listen().await).await;
        client.initialize().await;
        client
    }
}
