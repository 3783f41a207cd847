//! A forwarder between a client and a service that keeps what passed, so that a test can count what the service was
//! asked even where it asked nobody else.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// A client that takes its time to start is seen within this.
const SEEN_TIME_MAX: Duration = Duration::from_secs(60);

/// What passed so far.
#[derive(Debug, Default)]
pub struct Passed {
    /// What clients sent, a piece at a time.
    asked: Vec<(Instant, Vec<u8>)>,
    /// What the service answered, in the same way.
    answered: Vec<(Instant, Vec<u8>)>,
}

/// A running forwarder. Dropping it breaks its connections.
pub struct Tap {
    address: SocketAddr,
    passed: watch::Sender<Passed>,
    _task: JoinSet<()>,
}

impl Tap {
    /// Forwards from a free port of 127.0.0.1 to `service`.
    pub async fn before(service: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let passed = watch::Sender::new(Passed::default());
        let mut task = JoinSet::new();
        task.spawn(accept(listener, service, passed.clone()));
        Ok(Self { address, passed, _task: task })
    }

    /// Its address with a scheme.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// When each piece came that holds `text`, as requests that a client wrote at once do.
    pub fn asked(&self, text: &str) -> Vec<Instant> {
        moments(&self.passed.borrow().asked, text)
    }

    /// How many bytes clients have sent.
    pub fn bytes_asked(&self) -> usize {
        self.passed.borrow().asked.iter().map(|(_, piece)| piece.len()).sum()
    }

    /// Waits until the service has answered with `text`.
    pub async fn wait_for_answer(&self, text: &str) -> anyhow::Result<()> {
        let mut passed = self.passed.subscribe();
        let seen = passed.wait_for(|passed| !moments(&passed.answered, text).is_empty());
        let seen = tokio::time::timeout(SEEN_TIME_MAX, seen).await;
        seen.with_context(|| format!("waited for the answer {text:?}"))??;
        Ok(())
    }
}

fn moments(pieces: &[(Instant, Vec<u8>)], text: &str) -> Vec<Instant> {
    let holds = |piece: &[u8]| piece.windows(text.len()).any(|window| window == text.as_bytes());
    pieces.iter().filter(|(_, piece)| holds(piece)).map(|(at, _)| *at).collect()
}

async fn accept(listener: TcpListener, service: SocketAddr, passed: watch::Sender<Passed>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        connections.spawn(forward(client, service, passed.clone()));
        while connections.try_join_next().is_some() {}
    }
}

/// Ends both ways as soon as one of them ends.
async fn forward(client: TcpStream, service: SocketAddr, passed: watch::Sender<Passed>) {
    let Ok(service) = TcpStream::connect(service).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_service, to_service) = service.into_split();
    let asked = |piece: &[u8]| {
        passed.send_modify(|passed| passed.asked.push((Instant::now(), piece.to_vec())));
    };
    let answered = |piece: &[u8]| {
        passed.send_modify(|passed| passed.answered.push((Instant::now(), piece.to_vec())));
    };
    tokio::select! {
        _ended = carry(from_client, to_service, asked) => {}
        _ended = carry(from_service, to_client, answered) => {}
    }
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    note: impl Fn(&[u8]),
) -> std::io::Result<()> {
    let mut piece = vec![0; 64 * 1024];
    loop {
        let length = from.read(&mut piece).await?;
        let Some(read) = piece.get(..length).filter(|read| !read.is_empty()) else { return Ok(()) };
        note(read);
        to.write_all(read).await?;
    }
}
