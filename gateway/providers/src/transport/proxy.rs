//! An HTTP proxy: where it is, how the gateway identifies to it, and how a tunnel through it begins.
//!
//! Everything goes through `CONNECT`, calls without TLS too, so a proxy never sees a request of ours unless it
//! breaks TLS open with a certificate that the operator configured.

use std::fmt;
use std::pin::pin;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::future::{Either, select};
use http::header::{HOST, HeaderValue, PROXY_AUTHORIZATION};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use url::{Host, Url};

use super::stream::Stream;
use crate::credential::sensitive;

/// The longest head of an answer to `CONNECT`.
const HEAD_MAX: usize = 16 * 1024;

/// A checked proxy.
pub(crate) struct Proxy {
    /// Whether the proxy itself is spoken to over TLS.
    pub(super) secure: bool,
    /// Without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    authorization: Option<HeaderValue>,
}

/// Why there is no tunnel.
#[derive(Debug, thiserror::Error)]
pub(super) enum TunnelError {
    #[error("the proxy refused the tunnel with status {status}")]
    Refused { status: StatusCode },
    #[error("the proxy did not answer as a proxy does")]
    Broken(#[from] hyper::Error),
    #[error("the target cannot stand in a request")]
    Target(#[from] http::uri::InvalidUri),
    #[error("the target cannot stand in a header")]
    Header(#[from] http::header::InvalidHeaderValue),
}

impl Proxy {
    /// Reads an address. The error never holds any of it: it may have a password.
    pub(crate) fn parse(text: &str) -> Result<Proxy, &'static str> {
        let url = Url::parse(text.trim()).map_err(|_| "not an address")?;
        let secure = match url.scheme() {
            "http" => false,
            "https" => true,
            _ => return Err("neither http nor https"),
        };
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err("more than a scheme, a host and a port");
        }
        let host = match url.host().ok_or("no host")? {
            Host::Domain(name) => name.to_owned(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        };
        let port = url.port_or_known_default().filter(|port| *port != 0).ok_or("no port")?;
        Ok(Proxy { secure, host, port, authorization: authorization(&url)? })
    }

    /// Whether the proxy itself is spoken to over TLS.
    pub(crate) fn is_secure(&self) -> bool {
        self.secure
    }

    /// Asks for a tunnel to `target`, a host and a port, over a connection to the proxy.
    pub(super) async fn tunnel(&self, stream: Stream, target: &str) -> Result<Stream, TunnelError> {
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.method_mut() = Method::CONNECT;
        *request.uri_mut() = target.parse::<Uri>()?;
        request.headers_mut().insert(HOST, HeaderValue::try_from(target)?);
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(PROXY_AUTHORIZATION, authorization.clone());
        }
        let (mut sender, connection) =
            http1::Builder::new().max_buf_size(HEAD_MAX).handshake(TokioIo::new(stream)).await?;
        let mut connection = pin!(connection.without_shutdown());
        let asked = pin!(sender.send_request(request));
        let (answer, ended) = match select(asked, &mut connection).await {
            Either::Left((answer, _)) => (answer, None),
            Either::Right((ended, asked)) => (asked.await, Some(ended)),
        };
        let status = answer?.status();
        if !status.is_success() {
            return Err(TunnelError::Refused { status });
        }
        let parts = match ended {
            Some(ended) => ended?,
            None => connection.await?,
        };
        Ok(parts.io.into_inner().with_ahead(parts.read_buf))
    }
}

/// The user and the password of an address, as `Proxy-Authorization` carries them.
fn authorization(url: &Url) -> Result<Option<HeaderValue>, &'static str> {
    if url.username().is_empty() && url.password().is_none() {
        return Ok(None);
    }
    let mut pair: Vec<u8> = percent_decode_str(url.username()).collect();
    if pair.contains(&b':') {
        return Err("a user name with a colon");
    }
    pair.push(b':');
    pair.extend(percent_decode_str(url.password().unwrap_or_default()));
    let value = sensitive(&format!("Basic {}", STANDARD.encode(pair)));
    value.map(Some).ok_or("a credential that cannot stand in a header")
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("host", &self.host).field("port", &self.port).finish_non_exhaustive()
    }
}
