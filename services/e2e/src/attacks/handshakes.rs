//! Attacks on the TLS handshake: clients that do not finish it, many that do, and what only begins like one.
//!
//! Renegotiation is no attack here: the server's library has none.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::{ClientConfig, ClientConnection};

use super::slow::{Drip, slowly};
use super::{Fired, Pace};
use crate::certificate::SERVER_NAME;
use crate::http;

const AT_ONCE: usize = 8;
const CONNECT_MAX: Duration = Duration::from_secs(20);

/// Handshakes that do not end: a third of the clients says nothing, a third sends its hello a byte at a time, and a third
/// sends all of it and then nothing. Shots are bytes.
pub async fn unfinished_handshakes(
    at: SocketAddr,
    config: Arc<ClientConfig>,
    pace: Pace,
) -> anyhow::Result<Fired> {
    let mut hello = Vec::new();
    ClientConnection::new(config, SERVER_NAME.try_into()?)?.write_tls(&mut hello)?;
    let hello: Arc<[u8]> = hello.into();
    let part = Pace { connections: (pace.connections / 3).max(1), ..pace };
    let nothing = slowly(at, part, Drip { first: Arc::default(), then: Arc::default() });
    let dribbled = slowly(at, part, Drip { first: Arc::default(), then: Arc::clone(&hello) });
    let silent = slowly(at, part, Drip { first: hello, then: Arc::default() });
    let (nothing, dribbled, silent) = futures_util::try_join!(nothing, dribbled, silent)?;
    let mut fired = nothing;
    fired.add(&dribbled);
    fired.add(&silent);
    Ok(fired)
}

/// Whole handshakes, each from nothing, and no request after them. Shots are handshakes.
pub async fn handshake_flood(
    at: SocketAddr,
    config: Arc<ClientConfig>,
    handshakes: u64,
) -> anyhow::Result<Fired> {
    let mut config = ClientConfig::clone(&config);
    config.resumption = Resumption::disabled();
    let connector = TlsConnector::from(Arc::new(config));
    let mut done = stream::iter(0..handshakes)
        .map(|_| async {
            let handshake = async {
                let tcp = TcpStream::connect(at).await?;
                tcp.set_nodelay(true)?;
                anyhow::Ok(connector.connect(SERVER_NAME.try_into()?, tcp).await?)
            };
            tokio::time::timeout(CONNECT_MAX, handshake).await?
        })
        .buffer_unordered(AT_ONCE);
    let mut fired = Fired::default();
    while let Some(shaken) = done.next().await {
        drop(shaken?);
        fired.shots += 1;
        fired.connections += 1;
    }
    Ok(fired)
}

/// What begins as a handshake does and is none. Shots are connections.
pub async fn false_handshakes(at: SocketAddr, times: u64) -> anyhow::Result<Fired> {
    let head = |length: u16| [&[22, 3, 1][..], &length.to_be_bytes()].concat();
    let hello_of = |length: u32| {
        let [_, a, b, c] = length.to_be_bytes();
        [&head(4 + 100)[..], &[1, a, b, c], &[3; 100]].concat()
    };
    let openings = [
        // A record of the largest length and of nothing in particular.
        [&head(u16::MAX)[..], &vec![b'x'; usize::from(u16::MAX)]].concat(),
        // Records without anything in them.
        head(0).repeat(2_000),
        // Hellos that say they are larger than any, or smaller than they are.
        hello_of(0x00ff_ffff),
        hello_of(1),
        // Handshake messages that a server sends.
        [&head(8)[..], &[2, 0, 0, 4, 0, 0, 0, 0]].concat(),
        // A hello of random bytes.
        [&head(104)[..], &[1, 0, 0, 100], &[0xa5; 100]].concat(),
    ];
    let mut fired = Fired::default();
    for opening in &openings {
        for _ in 0..times {
            let mut raw = http::Raw::connect(at).await?;
            raw.send(opening).await?;
            raw.finish_bytes().await?;
            fired.shots += 1;
            fired.connections += 1;
            fired.ended += 1;
            fired.bytes += u64::try_from(opening.len())?;
        }
    }
    Ok(fired)
}
