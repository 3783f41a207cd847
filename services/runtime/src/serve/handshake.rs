//! What happens on a connection before HTTP: the TLS handshake where the listener asks for it, and the wait for a first
//! request where it does not; bounded in time, and never in the way of other connections.
//!
//! There is no bound on handshakes alone, only that on connections: whoever began as many as it allows, and finished none,
//! would keep everybody else out for ten seconds, at the price of a byte for each.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tidegate_callers::PeerCertificate;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use webpki::EndEntityCert;

use super::connection::{FIRST_WORD_MAX, random_part};
use super::first_request;
use super::peek::{self, LOOK_BYTES_MAX};
use crate::drain::Drain;
use crate::listen::{Stream, Tls};

/// How long a handshake may take, from the moment that the connection was accepted.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// The first byte of a TLS connection: a handshake record.
const TLS_FIRST_BYTE: u8 = 22;
/// The head of a TLS record, and how long its payload may be.
const RECORD_HEAD_BYTES: usize = 5;
const RECORD_BYTES_MAX: u16 = 1 << 14;
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
    /// Until when the head of its first request has time.
    pub(super) head_until: Instant,
}

impl Opened {
    fn plain(stream: Stream, head_until: Instant) -> Self {
        Self { stream, certificate: None, head_until }
    }
}

/// Opens a connection, whose first request may take so long to begin; `None` if it has ended.
pub(super) async fn open(
    stream: Stream,
    tls: Option<&Tls>,
    head_max: Duration,
    drain: &Drain,
) -> Option<Opened> {
    let now = Instant::now();
    let Stream::Tcp(tcp) = stream else { return Some(Opened::plain(stream, now + head_max)) };
    let until = match tls {
        Some(_) => now + HANDSHAKE_MAX,
        // Up to a tenth more, so that connections which came together are not all given up in one moment.
        None => now + head_max + random_part(head_max / 10),
    };
    let late = async {
        let hurry = async {
            drain.closing().await;
            tokio::time::sleep(FIRST_WORD_MAX).await;
        };
        tokio::select! {
            () = hurry => {}
            () = tokio::time::sleep_until(until) => {}
        }
    };
    let opening = async {
        match tls {
            Some(tls) => tokio::select! {
                opened = secure(tcp, tls, head_max) => opened,
                () = late => Err(io::ErrorKind::TimedOut.into()),
            },
            None => {
                tokio::select! {
                    begun = first_request::begun(&tcp) => begun?,
                    () = late => return Err(first_request::refuse_late(&tcp)),
                }
                Ok(Opened::plain(Stream::Tcp(tcp), until))
            }
        }
    };
    let outcome = tokio::select! {
        outcome = opening => outcome,
        () = drain.aborted() => return None,
    };
    outcome.inspect_err(|error| tracing::debug!(%error, "a connection ended before its first request")).ok()
}

async fn secure(tcp: TcpStream, tls: &Tls, head_max: Duration) -> io::Result<Opened> {
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
    Ok(Opened { stream: Stream::Tls(Box::new(stream)), certificate, head_until: Instant::now() + head_max })
}

/// Waits for the client's greeting. What does not look like one is left to TLS to refuse.
async fn greeted(tcp: &TcpStream) -> io::Result<()> {
    let is_whole = |greeting: &[u8]| match greeting {
        &[_, major, _, high, low, ..] => {
            let length = u16::from_be_bytes([high, low]);
            let is_one = major == 3 && length <= RECORD_BYTES_MAX;
            !is_one || greeting.len() >= LOOK_BYTES_MAX.min(RECORD_HEAD_BYTES + usize::from(length))
        }
        _ => false,
    };
    peek::until(tcp, is_whole).await?;
    Ok(())
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
