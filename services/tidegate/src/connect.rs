//! Connections to the desk's own services, over TCP or a unix socket.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Context as _;
use hyper_util::rt::TokioIo;
use service_runtime::listen::Address;
use tidegate_proto::agent::v1::session_service_client::SessionServiceClient;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
    time::{Instant, sleep_until, timeout},
};
use tonic::{
    service::interceptor::InterceptedService,
    transport::{Channel, Endpoint},
};
use tower::service_fn;

use crate::key::Key;

/// How threads tell who began them; tonic's own name follows it.
const USER_AGENT: &str = concat!("tidegate/", env!("CARGO_PKG_VERSION"));
const CONNECT_MAX: Duration = Duration::from_secs(5);
const PROBE_MAX: Duration = Duration::from_secs(2);
const PROBE_EVERY: Duration = Duration::from_millis(50);
/// A readiness answer is one status line and a short report.
const PROBE_BYTES_MAX: u64 = 64 * 1024;

/// A gRPC channel to a service.
pub(crate) async fn channel(address: &Address) -> anyhow::Result<Channel> {
    let channel = match address {
        Address::Tcp(at) => endpoint(&format!("http://{at}"))?.connect().await,
        Address::Unix(path) => {
            let path = path.clone();
            let connector = service_fn(move |_| unix(path.clone()));
            endpoint("http://localhost")?.connect_with_connector(connector).await
        }
    };
    channel.with_context(|| format!("cannot reach {address}"))
}

/// An agent's sessions, for whoever has this key.
pub(crate) type AgentSessions = SessionServiceClient<InterceptedService<Channel, Key>>;

/// The sessions of the agent behind a channel, as the user with the key of the environment.
pub(crate) fn sessions(agent: Channel) -> anyhow::Result<AgentSessions> {
    Ok(SessionServiceClient::with_interceptor(agent, Key::find()?))
}

fn endpoint(uri: &str) -> anyhow::Result<Endpoint> {
    Ok(Endpoint::from_shared(uri.to_owned())?.user_agent(USER_AGENT)?.connect_timeout(CONNECT_MAX))
}

async fn unix(path: PathBuf) -> std::io::Result<TokioIo<UnixStream>> {
    Ok(TokioIo::new(UnixStream::connect(path).await?))
}

/// Waits until a service says that it is ready.
pub(crate) async fn wait_ready(address: &Address, patience: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        let probed = timeout(PROBE_MAX, is_ready(address)).await.unwrap_or(Ok(false));
        if matches!(probed, Ok(true)) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            anyhow::bail!("{address} was not ready within {} s", patience.as_secs());
        }
        sleep_until(Instant::now() + PROBE_EVERY).await;
    }
}

async fn is_ready(address: &Address) -> anyhow::Result<bool> {
    match address {
        Address::Tcp(at) => probe(tcp(*at).await?).await,
        Address::Unix(path) => probe(UnixStream::connect(path).await?).await,
    }
}

async fn tcp(at: SocketAddr) -> std::io::Result<TcpStream> {
    TcpStream::connect(at).await
}

async fn probe<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> anyhow::Result<bool> {
    stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
    let mut answer = Vec::new();
    stream.take(PROBE_BYTES_MAX).read_to_end(&mut answer).await?;
    Ok(answer.starts_with(b"HTTP/1.1 200"))
}
