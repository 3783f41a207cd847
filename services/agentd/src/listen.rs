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
        "unsupported --listen URL `{0}`; expected `stdio://`, `unix://`, `unix://PATH`, `ws://IP:PORT`, or `off`"
    )]
    Scheme(String),
    /// The address is not one.
    #[error("invalid websocket --listen URL `{0}`; expected `ws://IP:PORT`")]
    Address(String),
    /// Other machines could reach it.
    #[error(
        "refusing to start non-loopback websocket listener {0} without auth; callers are not authenticated yet, so \
         listen on a loopback address or on unix://PATH"
    )]
    Exposed(SocketAddr),
}

impl FromStr for Listen {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if let Some(address) = text.strip_prefix("ws://") {
            let address = address.strip_suffix('/').unwrap_or(address);
            let address: SocketAddr = address.parse().map_err(|_| ParseError::Address(text.to_owned()))?;
            return match Address::Tcp(address).is_local() {
                true => Ok(Self::Ws(address)),
                false => Err(ParseError::Exposed(address)),
            };
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
        for text in ["ws://0.0.0.0:9", "ws://[::]:9", "ws://192.0.2.1:9"] {
            let error = text.parse::<Listen>().unwrap_err().to_string();
            assert!(error.starts_with("refusing to start non-loopback websocket listener"), "{error}");
        }
    }
}
