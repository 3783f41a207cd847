//! Fetches an issuer's keys over HTTP.
//!
//! Every fetch has one deadline, a bound on what it reads and a client of its own, so that renewed certificate authorities and
//! tokens are read again. No redirect is followed, and no proxy of the environment is used.

use std::{path::PathBuf, time::Duration};

use reqwest::{Certificate, Client, Proxy, header::ACCEPT, redirect::Policy};
use serde::Deserialize;
use url::Url;

use super::DOCUMENT_BYTES_MAX;
use crate::{
    config::Algorithm,
    token::{KeySet, parse_jwks},
};

/// How long a fetch may take, discovery included.
pub(super) const FETCH_MAX: Duration = Duration::from_secs(4);
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// The longest token that is sent along.
const BEARER_BYTES_MAX: usize = 16 << 10;

/// Where an issuer's keys are, as the configuration says; equal ones share what was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spec {
    pub(crate) name: String,
    /// The exact `iss`.
    pub(crate) issuer: String,
    pub(crate) place: Place,
    pub(crate) algorithms: Vec<Algorithm>,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) bearer_token_file: Option<PathBuf>,
    pub(crate) proxy: Option<String>,
}

/// Where to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// The OpenID Connect document, which says where the keys are.
    Discovery(Url),
    /// The keys.
    Jwks(Url),
}

/// Why keys cannot be fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("the client cannot be set up: {0}")]
    Client(String),
    #[error("{url} cannot be reached")]
    Unreachable { url: Url, source: reqwest::Error },
    #[error("{url} answers with status {status}")]
    Status { url: Url, status: u16 },
    #[error("{0} answers with over {DOCUMENT_BYTES_MAX} bytes")]
    TooLarge(Url),
    #[error("{url} is of no use: {message}")]
    Useless { url: Url, message: String },
    #[error("no answer within {} seconds", FETCH_MAX.as_secs())]
    Late,
}

#[derive(Deserialize)]
struct Discovered {
    issuer: String,
    jwks_uri: String,
}

/// Whether keys may be fetched from `url`: https, or plain http on this machine.
pub(crate) fn is_safe(url: &Url) -> bool {
    let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    let local = match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    };
    plain && (url.scheme() == "https" || url.scheme() == "http" && local)
}

impl Spec {
    pub(super) async fn fetch(&self) -> Result<KeySet, FetchError> {
        match tokio::time::timeout(FETCH_MAX, self.fetch_all()).await {
            Ok(fetched) => fetched,
            Err(_) => Err(FetchError::Late),
        }
    }

    async fn fetch_all(&self) -> Result<KeySet, FetchError> {
        let spec = self.clone();
        // Certificate authorities are read from files and parsed.
        let (client, bearer) = tokio::task::spawn_blocking(move || Ok((spec.client()?, spec.bearer()?)))
            .await
            .map_err(|error| FetchError::Client(error.to_string()))?
            .map_err(FetchError::Client)?;
        let url = match &self.place {
            Place::Jwks(url) => url.clone(),
            Place::Discovery(url) => {
                let text = get(&client, url, bearer.as_deref()).await?;
                self.discovered(url, &text)?
            }
        };
        let (Place::Jwks(configured) | Place::Discovery(configured)) = &self.place;
        // The token is for the host that the configuration names, and for no other that a document names.
        let bearer = bearer.filter(|_| configured.origin() == url.origin());
        let text = get(&client, &url, bearer.as_deref()).await?;
        parse_jwks(&text, &self.algorithms).map_err(|message| FetchError::Useless { url, message })
    }

    fn discovered(&self, asked: &Url, text: &[u8]) -> Result<Url, FetchError> {
        let useless = |message: &str| FetchError::Useless { url: asked.clone(), message: message.to_owned() };
        let Ok(Discovered { issuer, jwks_uri }) = serde_json::from_slice(text) else {
            return Err(useless("it is not a discovery document: no `issuer` or no `jwks_uri`"));
        };
        if issuer != self.issuer {
            return Err(useless("its `issuer` is another one than the configured"));
        }
        let safe = Url::parse(&jwks_uri).ok().filter(is_safe);
        safe.ok_or_else(|| useless("its `jwks_uri` is not an https address"))
    }

    /// The client; also made once at the start, to see that it can be.
    pub(crate) fn client(&self) -> Result<Client, String> {
        let mut client = Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .connect_timeout(CONNECT_MAX)
            .pool_max_idle_per_host(0)
            .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")));
        if let Some(file) = &self.ca_file {
            let pem = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
            let authorities = Certificate::from_pem_bundle(&pem).unwrap_or_default();
            if authorities.is_empty() {
                return Err(format!("{}: no certificate in PEM form", file.display()));
            }
            client = client.tls_certs_merge(authorities);
        }
        if let Some(proxy) = &self.proxy {
            client = client.proxy(Proxy::all(proxy).map_err(|error| with_causes(&error))?);
        }
        client.build().map_err(|error| with_causes(&error))
    }

    fn bearer(&self) -> Result<Option<String>, String> {
        let Some(file) = &self.bearer_token_file else { return Ok(None) };
        let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        let token = text.trim();
        match token.is_empty() || token.len() > BEARER_BYTES_MAX {
            true => Err(format!("{}: no token of at most {BEARER_BYTES_MAX} bytes", file.display())),
            false => Ok(Some(token.to_owned())),
        }
    }
}

async fn get(client: &Client, url: &Url, bearer: Option<&str>) -> Result<Vec<u8>, FetchError> {
    let unreachable =
        |source: reqwest::Error| FetchError::Unreachable { url: url.clone(), source: source.without_url() };
    let mut request = client.get(url.clone()).header(ACCEPT, "application/json, application/jwk-set+json");
    if let Some(bearer) = bearer {
        request = request.bearer_auth(bearer);
    }
    let mut response = request.send().await.map_err(unreachable)?;
    let status = response.status().as_u16();
    if status != 200 {
        return Err(FetchError::Status { url: url.clone(), status });
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if body.len() + chunk.len() > DOCUMENT_BYTES_MAX {
            return Err(FetchError::TooLarge(url.clone()));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// An error and everything below it, in one line.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
