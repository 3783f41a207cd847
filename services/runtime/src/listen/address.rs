//! The text form of a listening address: `127.0.0.1:4100`, `[::1]:0`, `unix:/run/gateway.sock`, `unix:relative`.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An address to listen on. No host names: what is bound is what is written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// An IP address and port; port 0 asks the system for a free one.
    Tcp(SocketAddr),
    /// The path of a unix socket.
    Unix(PathBuf),
}

/// The text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an address: expected ip:port such as 127.0.0.1:4100 or [::1]:4100, or unix:PATH")]
pub struct ParseError;

impl Address {
    /// The path of a unix socket, to let a relative one start at the configuration file's directory.
    pub fn path_mut(&mut self) -> Option<&mut PathBuf> {
        match self {
            Self::Tcp(_) => None,
            Self::Unix(path) => Some(path),
        }
    }

    /// Whether only this machine can reach it.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(at) => at.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl FromStr for Address {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let Some(path) = text.strip_prefix("unix:") else {
            return text.parse().map(Self::Tcp).map_err(|_| ParseError);
        };
        // The URL form unix://PATH means the same.
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() || path.ends_with('/') || path.contains('\0') {
            return Err(ParseError);
        }
        Ok(Self::Unix(PathBuf::from(path)))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(at) => at.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Address {
    fn schema_name() -> Cow<'static, str> {
        "Address".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "An address to listen on: `ip:port` such as `127.0.0.1:4100` or `[::1]:4100`, or `unix:PATH`.",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Address, ParseError};

    #[test]
    fn addresses_round_trip() {
        for (text, shown, local) in [
            ("127.0.0.1:4100", "127.0.0.1:4100", true),
            ("[::1]:0", "[::1]:0", true),
            ("[::ffff:127.0.0.1]:80", "[::ffff:127.0.0.1]:80", true),
            ("0.0.0.0:4100", "0.0.0.0:4100", false),
            ("[::]:4100", "[::]:4100", false),
            ("unix:/run/a.sock", "unix:/run/a.sock", true),
            ("unix:a.sock", "unix:a.sock", true),
            ("unix:///run/a.sock", "unix:/run/a.sock", true),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), shown);
            assert_eq!(address.is_local(), local, "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in
            ["", "4100", ":4100", "localhost:4100", "127.0.0.1", "unix:", "unix:/run/", "tcp://127.0.0.1:1"]
        {
            assert_eq!(text.parse::<Address>(), Err(ParseError), "{text}");
        }
    }
}
