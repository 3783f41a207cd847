//! A bad proxy before the gateway: what it does to a scenario's calls, the scenario has to see.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What the proxy does wrong.
#[derive(Debug, Clone, Copy)]
pub(super) enum Spoil {
    /// Nothing, as long as it is there.
    Nothing,
    /// Hangs up on the caller instead of passing on what has these bytes in it.
    Swallow(&'static [u8]),
    /// Changes these bytes to others of the same length.
    Replace(&'static [u8], &'static [u8]),
    /// Does not tell the gateway when a caller leaves.
    StayOpen,
}

/// A running proxy.
pub(super) struct Spoiler {
    at: SocketAddr,
    _accepting: JoinSet<()>,
}

impl Spoiler {
    pub(super) async fn before(gateway: SocketAddr, spoil: Spoil) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let at = listener.local_addr()?;
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((caller, _)) = listener.accept().await {
                connections.spawn(pass(caller, gateway, spoil));
            }
        });
        Ok(Self { at, _accepting: accepting })
    }

    pub(super) fn at(&self) -> SocketAddr {
        self.at
    }
}

async fn pass(mut caller: TcpStream, gateway: SocketAddr, spoil: Spoil) {
    let Ok(mut gateway) = TcpStream::connect(gateway).await else { return };
    let (mut up, mut down) = ([0; 16 * 1024], [0; 16 * 1024]);
    let mut gone = false;
    loop {
        tokio::select! {
            read = caller.read(&mut up), if !gone => match read {
                Ok(count) if count > 0 => {
                    if gateway.write_all(up.get(..count).unwrap_or_default()).await.is_err() {
                        return;
                    }
                }
                _ if matches!(spoil, Spoil::StayOpen) => gone = true,
                _ => return,
            },
            read = gateway.read(&mut down) => {
                let Ok(count) = read else { return };
                let Some(bytes) = down.get(..count).filter(|bytes| !bytes.is_empty()) else { return };
                let Some(bytes) = spoiled(bytes, spoil) else { return };
                if !gone && caller.write_all(&bytes).await.is_err() {
                    gone = true;
                }
            }
        }
    }
}

/// What is passed on; nothing if the proxy hangs up.
fn spoiled(bytes: &[u8], spoil: Spoil) -> Option<Vec<u8>> {
    let find = |part: &[u8]| bytes.windows(part.len()).position(|window| window == part);
    match spoil {
        Spoil::Nothing | Spoil::StayOpen => Some(bytes.to_vec()),
        Spoil::Swallow(part) => find(part).is_none().then(|| bytes.to_vec()),
        Spoil::Replace(part, with) => match find(part) {
            None => Some(bytes.to_vec()),
            Some(at) => Some([bytes.get(..at)?, with, bytes.get(at + part.len()..)?].concat()),
        },
    }
}
