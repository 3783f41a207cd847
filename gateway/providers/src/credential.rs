//! Where the credential of a call comes from.
//!
//! A source gives its current credential and, when the provider has rejected one, may get another. Credentials
//! have generations, so that many calls that meet the same rejection ask for one recovery.

mod aws;
mod command;
mod key_file;
mod mint;
mod process;
mod renewing;
mod token;

use http::HeaderValue;
use secrecy::{ExposeSecret, SecretString};

pub(crate) use aws::{AwsChain, AwsSource};
pub(crate) use command::TokenCommand;
pub(crate) use key_file::KeyFile;
pub(crate) use mint::{Mint, MintError, Minted};
pub(crate) use process::Program;
pub(crate) use renewing::{Policy, Renewing};

use crate::provider::{AccountKind, Fault};

/// Counts the credentials that a source has given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Generation(pub(crate) u64);

/// A credential, ready to be used.
#[derive(Clone)]
pub(crate) struct Credential {
    pub(crate) generation: Generation,
    pub(crate) proof: Proof,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").field("generation", &self.generation).finish_non_exhaustive()
    }
}

/// What a call shows to a provider.
#[derive(Clone)]
pub(crate) enum Proof {
    /// Nothing: the provider asks for none.
    None,
    /// The value of `authorization`, marked sensitive.
    Bearer(HeaderValue),
    /// Keys to sign with.
    Aws(aws_credential_types::Credentials),
    /// What the caller itself brought.
    Caller,
}

/// Why there is no credential for a call. Never holds a secret.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CredentialError {
    /// A source could not make one.
    #[error("cannot get a credential")]
    Mint {
        /// What went wrong.
        source: MintError,
    },
    /// The caller has to bring its own and brought none.
    #[error("this provider takes the caller's own credential, and the call has none")]
    CallerBringsNone,
}

impl CredentialError {
    /// Who can do something about it.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Mint { .. } => Fault::Credential,
            Self::CallerBringsNone => Fault::Caller,
        }
    }

    /// Whether the same call can succeed later without anybody doing something.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Mint { source } => !source.is_permanent(),
            Self::CallerBringsNone => false,
        }
    }
}

/// A source of credentials.
pub(crate) enum CredentialSource {
    /// Always the same: none, or a value that was read once from the environment or the configuration.
    Fixed { credential: Credential, account: AccountKind },
    /// The caller's own.
    Caller,
    /// Made by a command, from a file, by the AWS chain; made again when it ends or is rejected.
    Renewed(Renewing),
}

impl CredentialSource {
    /// The source for providers that ask for none.
    pub(crate) fn none() -> CredentialSource {
        let credential = Credential { generation: Generation(0), proof: Proof::None };
        CredentialSource::Fixed { credential, account: AccountKind::None }
    }

    /// A source that gives the same bearer token for ever; none if the token cannot stand in a header.
    pub(crate) fn bearer(token: &SecretString) -> Option<CredentialSource> {
        let proof = Proof::bearer(token)?;
        let credential = Credential { generation: Generation(0), proof };
        Some(CredentialSource::Fixed { credential, account: AccountKind::ApiKey })
    }

    pub(crate) fn account(&self) -> AccountKind {
        match self {
            Self::Fixed { account, .. } => *account,
            Self::Caller => AccountKind::ChatGpt,
            Self::Renewed(renewing) => renewing.account(),
        }
    }

    /// Whether it is the caller who brings the credential.
    pub(crate) fn is_caller(&self) -> bool {
        matches!(self, Self::Caller)
    }

    /// The credential to use now.
    pub(crate) async fn current(&self) -> Result<Credential, CredentialError> {
        match self {
            Self::Fixed { credential, .. } => Ok(credential.clone()),
            Self::Caller => Ok(Credential { generation: Generation(0), proof: Proof::Caller }),
            Self::Renewed(renewing) => renewing.current().await,
        }
    }

    /// Notes that the provider has taken a credential of this generation: if it is rejected later, it has ended.
    pub(crate) fn accepted(&self, generation: Generation) {
        match self {
            Self::Renewed(renewing) => renewing.accepted(generation),
            Self::Fixed { .. } | Self::Caller => {}
        }
    }

    /// The credential to use after the provider has rejected `rejected`. It has the same generation if the
    /// source cannot get another: then a repeat would be rejected again.
    pub(crate) async fn recover(&self, rejected: Generation) -> Result<Credential, CredentialError> {
        match self {
            Self::Fixed { .. } | Self::Caller => self.current().await,
            Self::Renewed(renewing) => renewing.recover(rejected).await,
        }
    }
}

impl Proof {
    /// A bearer token; none if it cannot stand in a header.
    pub(crate) fn bearer(token: &SecretString) -> Option<Proof> {
        Some(Proof::Bearer(sensitive(&format!("Bearer {}", token.expose_secret()))?))
    }

    /// Whether a provider would see the same.
    fn is_same(&self, other: &Proof) -> bool {
        match (self, other) {
            (Proof::None, Proof::None) | (Proof::Caller, Proof::Caller) => true,
            (Proof::Bearer(one), Proof::Bearer(other)) => one == other,
            (Proof::Aws(one), Proof::Aws(other)) => {
                one.access_key_id() == other.access_key_id()
                    && one.secret_access_key() == other.secret_access_key()
                    && one.session_token() == other.session_token()
            }
            (Proof::None | Proof::Bearer(_) | Proof::Aws(_) | Proof::Caller, _) => false,
        }
    }
}

/// A header value that is never printed and never enters a compression table.
pub(crate) fn sensitive(value: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}
