//! An HTTP proxy that opens tunnels, or fails to in the ways that proxies fail.
//!
//! Reaches the loopback address only: other targets are tunnelled to where the test says, or refused.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A request's head beyond this ends its connection.
const HEAD_MAX_BYTES: usize = 16 * 1024;

/// What happens to a `CONNECT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectMode {
    /// It gets its tunnel.
    Tunnel,
    /// It is refused with this status.
    Refuse(u16),
    /// It is never answered.
    Hang,
    /// It is granted, then the connection ends.
    CloseAfterGrant,
}

/// One `CONNECT` as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunnel {
    /// The host and port that were asked for.
    pub target: String,
    /// The `Proxy-Authorization` that came with it.
    pub authorization: Option<String>,
    /// The names of all its headers, in lower case.
    pub headers: Vec<String>,
    /// Whether it was granted.
    pub granted: bool,
}

/// A running proxy. Dropping it breaks its tunnels.
pub struct ConnectProxy {
    address: SocketAddr,
    desk: Arc<Mutex<Desk>>,
    /// The accept loop, which owns the connections.
    _task: JoinSet<()>,
}

impl std::fmt::Debug for ConnectProxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConnectProxy").field("address", &self.address).finish_non_exhaustive()
    }
}

struct Desk {
    mode: ConnectMode,
    authorization: Option<String>,
    routes: HashMap<String, SocketAddr>,
    tunnels: Vec<Tunnel>,
    connections: usize,
}

fn look(desk: &Mutex<Desk>) -> MutexGuard<'_, Desk> {
    // A panic elsewhere in a test must not hide behind a second one here.
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ConnectProxy {
    /// Listens on a free port of 127.0.0.1 and grants every tunnel to the loopback address.
    pub async fn start() -> io::Result<ConnectProxy> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let desk = Arc::new(Mutex::new(Desk {
            mode: ConnectMode::Tunnel,
            authorization: None,
            routes: HashMap::new(),
            tunnels: Vec::new(),
            connections: 0,
        }));
        let mut task = JoinSet::new();
        task.spawn(accept(listener, desk.clone()));
        Ok(ConnectProxy { address, desk, _task: task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What a client takes as its proxy, as in `http://127.0.0.1:1234`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What happens to every `CONNECT` from now on.
    pub fn set_mode(&self, mode: ConnectMode) {
        look(&self.desk).mode = mode;
    }

    /// The value that `Proxy-Authorization` has to have, as in `Basic dXNlcjpwYXNz`; others get a 407.
    pub fn require_authorization(&self, value: &str) {
        look(&self.desk).authorization = Some(value.to_owned());
    }

    /// Tunnels to this address what asks for `target`, a host and port.
    pub fn route(&self, target: &str, to: SocketAddr) {
        look(&self.desk).routes.insert(target.to_owned(), to);
    }

    /// Every `CONNECT` so far, in the order of arrival.
    pub fn tunnels(&self) -> Vec<Tunnel> {
        look(&self.desk).tunnels.clone()
    }

    /// Connections that were accepted.
    pub fn connections(&self) -> usize {
        look(&self.desk).connections
    }
}

async fn accept(listener: TcpListener, desk: Arc<Mutex<Desk>>) {
    let mut connections = JoinSet::new();
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            look(&desk).connections += 1;
            let desk = desk.clone();
            // A tunnel that breaks is what its two ends made of it.
            connections.spawn(async move { drop(serve(stream, &desk).await) });
        }
        while connections.try_join_next().is_some() {}
    }
}

enum Verdict {
    Open(SocketAddr),
    Refuse(u16),
    Hang,
    Close,
}

async fn serve(mut client: TcpStream, desk: &Mutex<Desk>) -> io::Result<()> {
    client.set_nodelay(true)?;
    let (head, rest) = read_head(&mut client).await?;
    let mut lines = head.split("\r\n");
    let mut request = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (request.next().unwrap_or_default(), request.next().unwrap_or_default());
    if method != "CONNECT" {
        return answer(&mut client, 405).await;
    }
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    match judge(desk, target, &headers) {
        Verdict::Refuse(status) => answer(&mut client, status).await,
        Verdict::Close => answer(&mut client, 200).await,
        Verdict::Hang => {
            // Ends when the client does, so that it does not pile up.
            while client.read(&mut [0; 1024]).await? > 0 {}
            Ok(())
        }
        Verdict::Open(address) => {
            let Ok(mut upstream) = TcpStream::connect(address).await else {
                return answer(&mut client, 502).await;
            };
            upstream.set_nodelay(true)?;
            answer(&mut client, 200).await?;
            upstream.write_all(&rest).await?;
            copy_bidirectional(&mut client, &mut upstream).await?;
            Ok(())
        }
    }
}

fn judge(desk: &Mutex<Desk>, target: &str, headers: &[(String, String)]) -> Verdict {
    let mut desk = look(desk);
    let authorization =
        headers.iter().find(|(name, _)| name == "proxy-authorization").map(|(_, value)| value.clone());
    let address = desk.routes.get(target).copied().or_else(|| loopback(target));
    let verdict = match (desk.mode, address) {
        (ConnectMode::Refuse(status), _) => Verdict::Refuse(status),
        (ConnectMode::Hang, _) => Verdict::Hang,
        _ if desk.authorization.is_some() && desk.authorization != authorization => Verdict::Refuse(407),
        (ConnectMode::CloseAfterGrant, _) => Verdict::Close,
        (ConnectMode::Tunnel, Some(address)) => Verdict::Open(address),
        (ConnectMode::Tunnel, None) => Verdict::Refuse(502),
    };
    let granted = matches!(verdict, Verdict::Open(_) | Verdict::Close);
    let headers = headers.iter().map(|(name, _)| name.clone()).collect();
    desk.tunnels.push(Tunnel { target: target.to_owned(), authorization, headers, granted });
    verdict
}

fn loopback(target: &str) -> Option<SocketAddr> {
    let (host, port) = target.rsplit_once(':')?;
    let local = matches!(host, "localhost" | "127.0.0.1");
    local.then(|| port.parse().ok()).flatten().map(|port: u16| (Ipv4Addr::LOCALHOST, port).into())
}

async fn read_head(client: &mut TcpStream) -> io::Result<(String, Vec<u8>)> {
    let mut head = Vec::new();
    loop {
        if let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
            let rest = head.split_off(end + 4);
            return Ok((String::from_utf8_lossy(&head).trim_end().to_owned(), rest));
        }
        if head.len() > HEAD_MAX_BYTES || client.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
}

async fn answer(client: &mut TcpStream, status: u16) -> io::Result<()> {
    let status = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::BAD_GATEWAY);
    let more = match status.as_u16() {
        200 => "",
        407 => "proxy-authenticate: Basic realm=\"testkit\"\r\ncontent-length: 0\r\n",
        _ => "content-length: 0\r\n",
    };
    client.write_all(format!("HTTP/1.1 {status}\r\n{more}\r\n").as_bytes()).await
}
