//! What happens on a connection before HTTP: the TLS handshake where the listener asks for it, bounded in time, and never in
//! the way of other connections.
//!
//! There is no bound on handshakes alone, only that on connections: whoever began as many as it allows, and finished none,
//! would keep everybody else out for ten seconds, at the price of a byte for each.

use std::io;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tidegate_callers::PeerCertificate;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use webpki::EndEntityCert;

use super::connection::FIRST_WORD_MAX;
use crate::drain::Drain;
use crate::listen::{Stream, Tls};

/// How long a handshake may take, from the moment that the connection was accepted.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// The first byte of a TLS connection: a handshake record.
const TLS_FIRST_BYTE: u8 = 22;
/// The head of a TLS record, and how long its payload may be.
const RECORD_HEAD_BYTES: usize = 5;
const RECORD_BYTES_MAX: u16 = 1 << 14;
/// How much of a first record is waited for: more than the greeting of any client that is known.
const GREETING_BYTES_MAX: usize = 4 << 10;
/// What is read of a request that came without TLS, so that its sender sees the answer instead of a reset.
const PLAIN_BYTES_MAX: u64 = 64 << 10;
/// How long that may take.
const PLAIN_LINGER: Duration = Duration::from_secs(1);
/// What whoever sent a request without TLS is told.
const PLAIN_ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\n\
    content-length: 120\r\n\r\n\
    {\"error\":{\"message\":\"this address speaks TLS; call it with https\",\"type\":\"invalid_request_error\",\"code\":\"tls_required\"}}";

/// A connection that HTTP can begin on.
pub(super) struct Opened {
    pub(super) stream: Stream,
    /// What its client has shown and TLS has verified.
    pub(super) certificate: Option<PeerCertificate>,
}

/// Opens a connection; `None` if it has ended.
pub(super) async fn open(stream: Stream, tls: Option<&Tls>, drain: &Drain) -> Option<Opened> {
    let (tls, tcp) = match (tls, stream) {
        (Some(tls), Stream::Tcp(tcp)) => (tls, tcp),
        (_, stream) => return Some(Opened { stream, certificate: None }),
    };
    let hurry = async {
        drain.closing().await;
        tokio::time::sleep(FIRST_WORD_MAX).await;
    };
    let outcome = tokio::select! {
        outcome = secure(tcp, tls) => outcome,
        () = tokio::time::sleep(HANDSHAKE_MAX) => Err(io::ErrorKind::TimedOut.into()),
        () = hurry => Err(io::ErrorKind::TimedOut.into()),
        () = drain.aborted() => return None,
    };
    outcome.inspect_err(|error| tracing::debug!(%error, "a TLS handshake failed")).ok()
}

async fn secure(tcp: TcpStream, tls: &Tls) -> io::Result<Opened> {
    // Whoever says nothing costs no memory for a handshake.
    let mut first = [0];
    if tcp.peek(&mut first).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if first != [TLS_FIRST_BYTE] {
        return refuse_plain(tcp, first).await;
    }
    greeted(&tcp).await?;
    let stream = TlsAcceptor::from(tls.current()).accept(tcp).await?;
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let certificate = match shown {
        Some(certificate) => {
            let certificate = EndEntityCert::try_from(certificate).map_err(io::Error::other)?;
            let uris: Arc<[Box<str>]> = certificate.valid_uri_names().map(Box::from).collect();
            Some(PeerCertificate { uris })
        }
        None => None,
    };
    Ok(Opened { stream: Stream::Tls(Box::new(stream)), certificate })
}

/// Waits for the client's greeting in the kernel, so that whoever does not end it costs no memory for a handshake either.
/// What does not look like one is left to TLS to refuse.
async fn greeted(tcp: &TcpStream) -> io::Result<()> {
    arrived(tcp, RECORD_HEAD_BYTES).await?;
    let mut head = [0; RECORD_HEAD_BYTES];
    let [_, major, _, high, low] = match tcp.peek(&mut head).await? {
        RECORD_HEAD_BYTES => head,
        _ => return Ok(()),
    };
    let length = u16::from_be_bytes([high, low]);
    if major != 3 || length > RECORD_BYTES_MAX {
        return Ok(());
    }
    arrived(tcp, GREETING_BYTES_MAX.min(RECORD_HEAD_BYTES + usize::from(length))).await
}

/// Waits until so many bytes can be read, or no more will come.
async fn arrived(tcp: &TcpStream, bytes: usize) -> io::Result<()> {
    loop {
        let ended = tcp.ready(Interest::READABLE).await?.is_read_closed();
        // Inside of `try_io`, which waits for what comes after this look if it was not enough.
        let looked = tcp.try_io(Interest::READABLE, || {
            let mut room = [MaybeUninit::uninit(); GREETING_BYTES_MAX];
            let there = SockRef::from(tcp).peek(room.get_mut(..bytes).unwrap_or_default())?;
            if there < bytes && !ended { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        match looked {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            looked => return looked,
        }
    }
}

/// Says what is wrong, in the words of whoever speaks HTTP here.
async fn refuse_plain(mut tcp: TcpStream, first: [u8; 1]) -> io::Result<Opened> {
    if first.iter().all(u8::is_ascii_uppercase) {
        tcp.write_all(PLAIN_ANSWER).await?;
        tcp.shutdown().await?;
        let mut rest = tcp.take(PLAIN_BYTES_MAX);
        let _ = tokio::time::timeout(PLAIN_LINGER, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "it does not begin as TLS does"))
}
