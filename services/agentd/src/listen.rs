//! Where an app-server listens, in the words of Codex's own command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use service_runtime::listen::Address;

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Listen {
    /// One client on standard input and output.
    Stdio,
    /// WebSockets on a TCP address.
    Ws(SocketAddr),
    /// The same, and over TLS in any case.
    Wss(SocketAddr),
    /// WebSockets on a unix socket; without a path on the one in the data directory.
    Unix(Option<PathBuf>),
    /// Nowhere.
    Off,
}

/// A text that is none of these.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ParseError {
    /// The scheme is another one.
    #[error(
        "unsupported --listen URL `{0}`; expected `stdio://`, `unix://`, `unix://PATH`, `ws://IP:PORT`, `wss://IP:PORT`, or \
         `off`"
    )]
    Scheme(String),
    /// The address is not one.
    #[error("invalid websocket --listen URL `{0}`; expected `ws://IP:PORT` or `wss://IP:PORT`")]
    Address(String),
}

/// Why nobody may listen there. The operator has to change the command line or the configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// Other machines could reach it, and anybody would be let in.
    #[error(
        "refusing to start non-loopback websocket listener {0} without auth; configure `--ws-auth capability-token` or \
         `--ws-auth signed-bearer-token`, or say in [authentication] and [[callers]] of the service's configuration who may \
         connect"
    )]
    Exposed(SocketAddr),
    /// There is no certificate to show.
    #[error(
        "refusing to start wss listener {0} without a certificate; name one in [tls] of the service's configuration, or \
         listen on ws://{0}"
    )]
    NoTls(SocketAddr),
}

impl Listen {
    /// Whether one may listen there: what other machines reach asks for credentials, and TLS needs a certificate.
    pub(crate) fn check(&self, authenticated: bool, tls: bool) -> Result<(), Error> {
        match self {
            Self::Wss(at) if !tls => Err(Error::NoTls(*at)),
            Self::Ws(at) | Self::Wss(at) if !authenticated && !Address::Tcp(*at).is_local() => {
                Err(Error::Exposed(*at))
            }
            Self::Stdio | Self::Ws(_) | Self::Wss(_) | Self::Unix(_) | Self::Off => Ok(()),
        }
    }
}

impl FromStr for Listen {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let socket = |scheme| text.strip_prefix(scheme).map(|at| at.strip_suffix('/').unwrap_or(at).parse());
        if let Some(address) = socket("ws://") {
            return address.map(Self::Ws).map_err(|_| ParseError::Address(text.to_owned()));
        }
        if let Some(address) = socket("wss://") {
            return address.map(Self::Wss).map_err(|_| ParseError::Address(text.to_owned()));
        }
        match (text, text.strip_prefix("unix://")) {
            ("stdio://", _) => Ok(Self::Stdio),
            ("off", _) => Ok(Self::Off),
            (_, Some("")) => Ok(Self::Unix(None)),
            (_, Some(path)) => Ok(Self::Unix(Some(PathBuf::from(path)))),
            (_, None) => Err(ParseError::Scheme(text.to_owned())),
        }
    }
}

/// How a client writes an address.
pub(crate) fn url(address: &Address, over_tls: bool) -> String {
    match address {
        Address::Tcp(at) if over_tls => format!("wss://{at}"),
        Address::Tcp(at) => format!("ws://{at}"),
        Address::Unix(path) => format!("unix://{}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Listen, ParseError};

    #[test]
    fn the_words_of_codex_are_understood() {
        let at = |text: &str| Listen::Ws(text.parse().unwrap());
        for (text, expected) in [
            ("stdio://", Listen::Stdio),
            ("off", Listen::Off),
            ("unix://", Listen::Unix(None)),
            ("unix:///run/a.sock", Listen::Unix(Some("/run/a.sock".into()))),
            ("unix://a.sock", Listen::Unix(Some("a.sock".into()))),
            ("ws://127.0.0.1:0", at("127.0.0.1:0")),
            ("ws://127.0.0.1:4500/", at("127.0.0.1:4500")),
            ("ws://[::1]:4500", at("[::1]:4500")),
            ("ws://0.0.0.0:4500", at("0.0.0.0:4500")),
            ("wss://127.0.0.1:4500", Listen::Wss("127.0.0.1:4500".parse().unwrap())),
        ] {
            assert_eq!(text.parse::<Listen>(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn other_words_are_refused_with_the_reason() {
        for text in ["", "ws", "http://127.0.0.1:1", "stdio", "tcp://127.0.0.1:1"] {
            assert!(matches!(text.parse::<Listen>(), Err(ParseError::Scheme(_))), "{text}");
        }
        for text in ["ws://localhost:9", "ws://", "ws://127.0.0.1"] {
            assert!(matches!(text.parse::<Listen>(), Err(ParseError::Address(_))), "{text}");
        }
    }

    #[test]
    fn what_other_machines_reach_needs_callers_that_are_known() {
        for text in ["ws://0.0.0.0:9", "ws://[::]:9", "ws://192.0.2.1:9", "wss://192.0.2.1:9"] {
            let listen: Listen = text.parse().unwrap();
            let error = listen.check(false, true).unwrap_err().to_string();
            assert!(error.starts_with("refusing to start non-loopback websocket listener"), "{error}");
            assert!(error.contains("--ws-auth") && error.contains("[[callers]]"), "{error}");
            listen.check(true, true).unwrap();
        }
        for text in ["ws://127.0.0.1:9", "ws://[::1]:9", "unix://", "stdio://", "off"] {
            text.parse::<Listen>().unwrap().check(false, false).unwrap();
        }
        let error = "wss://127.0.0.1:9".parse::<Listen>().unwrap().check(true, false).unwrap_err();
        assert!(error.to_string().contains("[tls]"), "{error}");
    }
}
