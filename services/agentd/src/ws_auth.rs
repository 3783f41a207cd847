//! Codex's own flags for who may connect: `--ws-auth` and what belongs to each of its modes.
//!
//! Which flags go together, and what is said if they do not, are Codex's own rules.

use std::path::PathBuf;

use clap::ValueEnum;
use service_runtime::Exit;
use tidegate_callers::{SignedBearer, WebSocketAuth, WebSocketAuthError};

/// The flags as they are given.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct WsAuth {
    /// How WebSocket clients authenticate: by one token that they share, or by JWTs signed with a shared secret. gRPC and
    /// unix sockets go by the same; `[[callers]]` rows know such clients by the issuer `ws-auth`.
    #[arg(long = "ws-auth", value_name = "MODE")]
    mode: Option<Mode>,
    /// The file with the shared token.
    #[arg(long = "ws-token-file", value_name = "PATH")]
    token_file: Option<PathBuf>,
    /// The SHA-256 digest of the shared token, in hexadecimal.
    #[arg(long = "ws-token-sha256", value_name = "HEX")]
    token_sha256: Option<String>,
    /// The file with the secret that JWTs are signed with, at least 32 bytes.
    #[arg(long = "ws-shared-secret-file", value_name = "PATH")]
    shared_secret_file: Option<PathBuf>,
    /// The `iss` that JWTs must have.
    #[arg(long = "ws-issuer", value_name = "ISSUER")]
    issuer: Option<String>,
    /// The `aud` that JWTs must have.
    #[arg(long = "ws-audience", value_name = "AUDIENCE")]
    audience: Option<String>,
    /// How far the clocks of issuer and server may be apart; 30 otherwise.
    #[arg(long = "ws-max-clock-skew-seconds", value_name = "SECONDS")]
    max_clock_skew_seconds: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    CapabilityToken,
    SignedBearerToken,
}

/// Why the flags cannot be used. All are the operator's to fix.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A flag without its mode.
    #[error("websocket auth flags require `--ws-auth capability-token` or `--ws-auth signed-bearer-token`")]
    NoMode,
    /// A token that nobody named.
    #[error("`--ws-token-file` or `--ws-token-sha256` is required when `--ws-auth capability-token` is set")]
    NoToken,
    /// A token that was named twice.
    #[error("`--ws-token-file` and `--ws-token-sha256` are mutually exclusive")]
    TwoTokens,
    /// A secret that nobody named.
    #[error("`--ws-shared-secret-file` is required when `--ws-auth signed-bearer-token` is set")]
    NoSecret,
    /// A flag of the other mode.
    #[error(
        "`--ws-shared-secret-file`, `--ws-issuer`, `--ws-audience`, and `--ws-max-clock-skew-seconds` require `--ws-auth \
         signed-bearer-token`"
    )]
    ForSigned,
    /// A flag of the other mode.
    #[error(
        "`--ws-token-file` and `--ws-token-sha256` require `--ws-auth capability-token`, not `signed-bearer-token`"
    )]
    ForCapability,
    /// What a flag names cannot be used.
    #[error(transparent)]
    Unusable(#[from] WebSocketAuthError),
}

impl Error {
    /// How the process ends because of this: what a file holds is configuration, the rest stands on the command line.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::NoMode
            | Self::NoToken
            | Self::TwoTokens
            | Self::NoSecret
            | Self::ForSigned
            | Self::ForCapability
            | Self::Unusable(WebSocketAuthError::NoDigest) => Exit::Usage,
            Self::Unusable(
                WebSocketAuthError::Unreadable { .. }
                | WebSocketAuthError::Empty(_)
                | WebSocketAuthError::TooLarge(_)
                | WebSocketAuthError::TooShort(_),
            ) => Exit::Config,
        }
    }
}

impl WsAuth {
    /// What the flags stand for, if there are any.
    pub(crate) fn build(self) -> Result<Option<WebSocketAuth>, Error> {
        let Self { mode, token_file, token_sha256, shared_secret_file, .. } = &self;
        let capability = token_file.is_some() || token_sha256.is_some();
        let signed = shared_secret_file.is_some()
            || self.issuer.is_some()
            || self.audience.is_some()
            || self.max_clock_skew_seconds.is_some();
        match (mode, token_file, token_sha256, shared_secret_file) {
            (None, ..) if capability || signed => Err(Error::NoMode),
            (None, ..) => Ok(None),
            (Some(Mode::CapabilityToken), ..) if signed => Err(Error::ForSigned),
            (Some(Mode::CapabilityToken), Some(_), Some(_), _) => Err(Error::TwoTokens),
            (Some(Mode::CapabilityToken), None, None, _) => Err(Error::NoToken),
            (Some(Mode::CapabilityToken), Some(file), None, _) => Ok(Some(WebSocketAuth::token_file(file)?)),
            (Some(Mode::CapabilityToken), None, Some(digest), _) => {
                Ok(Some(WebSocketAuth::token_sha256(digest)?))
            }
            (Some(Mode::SignedBearerToken), ..) if capability => Err(Error::ForCapability),
            (Some(Mode::SignedBearerToken), _, _, None) => Err(Error::NoSecret),
            (Some(Mode::SignedBearerToken), _, _, Some(file)) => {
                let expected = SignedBearer {
                    issuer: self.issuer.clone(),
                    audience: self.audience.clone(),
                    max_clock_skew_seconds: self.max_clock_skew_seconds,
                };
                Ok(Some(WebSocketAuth::shared_secret_file(file, expected)?))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::WsAuth;

    #[derive(clap::Parser)]
    struct Flags {
        #[command(flatten)]
        auth: WsAuth,
    }

    fn built(line: &str) -> String {
        let words = std::iter::once("x").chain(line.split_whitespace());
        match Flags::try_parse_from(words).map(|flags| flags.auth.build()) {
            Err(error) => error.to_string(),
            Ok(Err(error)) => error.to_string(),
            Ok(Ok(auth)) => format!("{auth:?}"),
        }
    }

    #[test]
    fn flags_go_together_as_codex_has_them() {
        let digest = "a".repeat(64);
        let secret = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(secret.path(), "s".repeat(32)).unwrap();
        let secret = secret.path().display();
        for (line, expected) in [
            (String::new(), "None"),
            (
                format!("--ws-auth capability-token --ws-token-sha256 {digest}"),
                "Some(WebSocketAuth(\"capability-token\"))",
            ),
            (
                format!(
                    "--ws-auth signed-bearer-token --ws-shared-secret-file {secret} --ws-issuer i --ws-audience a --ws-max-clock-skew-seconds 5"
                ),
                "Some(WebSocketAuth(\"signed-bearer-token\"))",
            ),
            (
                "--ws-auth capability-token".to_owned(),
                "`--ws-token-file` or `--ws-token-sha256` is required when `--ws-auth capability-token` is set",
            ),
            (
                format!("--ws-auth capability-token --ws-token-sha256 {digest} --ws-token-file /x"),
                "`--ws-token-file` and `--ws-token-sha256` are mutually exclusive",
            ),
            (
                format!("--ws-auth capability-token --ws-token-sha256 {digest} --ws-issuer i"),
                "require `--ws-auth signed-bearer-token`",
            ),
            ("--ws-auth signed-bearer-token".to_owned(), "`--ws-shared-secret-file` is required"),
            (
                format!("--ws-auth signed-bearer-token --ws-token-sha256 {digest}"),
                "not `signed-bearer-token`",
            ),
            ("--ws-token-file /x".to_owned(), "websocket auth flags require `--ws-auth capability-token` or"),
            ("--ws-issuer x".to_owned(), "websocket auth flags require `--ws-auth capability-token` or"),
            (
                "--ws-auth capability-token --ws-token-sha256 zz".to_owned(),
                "must be a 64-character hex SHA-256 digest",
            ),
            (
                "--ws-auth capability-token --ws-token-file /nonexistent".to_owned(),
                "failed to read websocket auth secret /nonexistent",
            ),
            ("--ws-auth foo".to_owned(), "[possible values: capability-token, signed-bearer-token]"),
        ] {
            let told = built(&line);
            assert!(told.contains(expected), "{line}: {told}");
        }
    }
}
