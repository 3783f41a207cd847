//! Where a service listens: parses addresses and binds them safely.
//!
//! A TCP address that other machines can reach is refused unless the caller says that callers are authenticated. What
//! [`tls`] speaks over a connection begins after `accept`, in the connection's own task.

mod address;
mod stream;
pub mod tls;
mod unix;

use std::io;
use std::path::PathBuf;

use tokio::net::{TcpListener, TcpSocket, UnixListener};

pub use address::{Address, ParseError};
pub use stream::{Peer, Stream};
pub use tls::{Tls, TlsConfig};

use crate::cli::Exit;

/// Connections that the kernel holds for us until they are accepted.
const BACKLOG: u32 = 1024;
/// How many bytes of an answer the kernel keeps for a caller beside what is on its way. Without it a caller that does not
/// read costs megabytes that are in no process's memory but count against a container's.
#[cfg(target_os = "linux")]
const UNSENT_BYTES_MAX: u32 = 128 * 1024;

/// Whether a TCP listener may be reached from other machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposure {
    /// Callers are not authenticated: only loopback addresses and unix sockets.
    LoopbackOnly,
    /// Callers are authenticated, or the operator asked for an open listener in so many words.
    Allowed,
}

/// Why an address cannot be listened on. All are the operator's to fix; only [`Error::InUse`] may pass by itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address can be reached from other machines and callers are not authenticated.
    #[error(
        "refusing to listen on {address}: other machines can reach it and caller authentication is not configured; \
         use a loopback address or a unix socket"
    )]
    Exposed {
        /// The address as configured.
        address: Address,
    },
    /// Another process listens there.
    #[error("cannot listen on {address}: another process is using it")]
    InUse {
        /// The address as configured.
        address: Address,
    },
    /// Something that is not a socket stands at the path; it is left alone.
    #[error("cannot listen on unix:{}: the path exists and is not a socket", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The path does not fit a socket address.
    #[error("cannot listen on unix:{}: the path is over {} bytes", path.display(), unix::PATH_BYTES_MAX)]
    PathTooLong {
        /// The path.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address as configured.
        address: Address,
        /// What the system said.
        source: io::Error,
    },
}

impl Error {
    /// How the process ends because of this.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Exposed { .. } | Self::PathTooLong { .. } | Self::NotASocket { .. } => Exit::Config,
            Self::InUse { .. } | Self::Bind { .. } => Exit::Unavailable,
        }
    }
}

#[derive(Debug)]
enum Inner {
    Tcp(TcpListener),
    Unix {
        listener: UnixListener,
        // Removes the socket file on drop.
        _file: unix::SocketFile,
    },
}

/// A bound socket. Dropping it stops listening and removes its socket file, if that is still ours.
#[derive(Debug)]
pub struct Listener {
    inner: Inner,
    address: Address,
    tls: Option<Tls>,
}

impl Listener {
    /// Binds an address; needs a running runtime.
    pub async fn bind(address: &Address, exposure: Exposure) -> Result<Self, Error> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => Error::InUse { address: address.clone() },
            _ => Error::Bind { address: address.clone(), source },
        };
        match address {
            Address::Tcp(_) if exposure == Exposure::LoopbackOnly && !address.is_local() => {
                Err(Error::Exposed { address: address.clone() })
            }
            Address::Tcp(at) => {
                let listener = bind_tcp(*at).map_err(failed)?;
                let address = Address::Tcp(listener.local_addr().map_err(failed)?);
                Ok(Self { inner: Inner::Tcp(listener), address, tls: None })
            }
            Address::Unix(path) => {
                let (listener, _file) = unix::bind(path).await?;
                Ok(Self { inner: Inner::Unix { listener, _file }, address: address.clone(), tls: None })
            }
        }
    }

    /// The address that is really listened on: port 0 has become a port.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Speaks TLS on every connection from now on, if the address is TCP: what crosses a unix socket stays on this
    /// machine, between processes that its file lets in.
    #[must_use]
    pub fn with_tls(mut self, tls: Option<&Tls>) -> Self {
        self.tls = tls.filter(|_| matches!(self.inner, Inner::Tcp(_))).cloned();
        self
    }

    /// The TLS that its connections speak.
    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// Waits for a connection. Cancel safe.
    pub async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match &self.inner {
            Inner::Tcp(listener) => {
                let (stream, from) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((Stream::Tcp(stream), Peer::Tcp(from)))
            }
            Inner::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                Ok((Stream::Unix(stream), Peer::Unix))
            }
        }
    }
}

fn bind_tcp(at: std::net::SocketAddr) -> io::Result<TcpListener> {
    let socket = if at.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restarted service must not wait for the old one's TIME_WAIT; a live listener is still refused.
    socket.set_reuseaddr(true)?;
    // Every accepted connection inherits it.
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(&socket).set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
    socket.bind(at)?;
    socket.listen(BACKLOG)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_kernel_keeps_little_of_an_answer_for_a_caller() {
        let address = "127.0.0.1:0".parse().unwrap();
        let listener = Listener::bind(&address, Exposure::LoopbackOnly).await.unwrap();
        let Address::Tcp(at) = *listener.address() else { unreachable!("bound to TCP") };
        let _client = tokio::net::TcpStream::connect(at).await.unwrap();
        let (Stream::Tcp(accepted), _) = listener.accept().await.unwrap() else { unreachable!("plain") };
        assert_eq!(socket2::SockRef::from(&accepted).tcp_notsent_lowat().unwrap(), UNSENT_BYTES_MAX);
    }
}
