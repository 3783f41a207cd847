//! Where the credential of a call comes from.
//!
//! A source gives its current credential and, when the provider has rejected one, may get another. Credentials
//! have generations, so that many calls that meet the same rejection ask for one recovery.

use http::HeaderValue;
use secrecy::{ExposeSecret, SecretString};

use crate::provider::AccountKind;

/// Counts the credentials that a source has given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Generation(u64);

/// A credential, ready to be sent.
#[derive(Clone)]
pub(crate) struct Credential {
    pub(crate) generation: Generation,
    /// The value of `authorization`, marked sensitive; none for providers without credential.
    pub(crate) authorization: Option<HeaderValue>,
}

/// A source of credentials.
pub(crate) enum CredentialSource {
    /// The provider asks for none.
    None,
    /// A value that was read once: from the environment or from the configuration.
    Fixed(Credential),
}

impl CredentialSource {
    /// A source that gives the same bearer token for ever; none if the token cannot stand in a header.
    pub(crate) fn bearer(token: &SecretString) -> Option<CredentialSource> {
        let authorization = sensitive(&format!("Bearer {}", token.expose_secret()))?;
        let generation = Generation(0);
        Some(CredentialSource::Fixed(Credential { generation, authorization: Some(authorization) }))
    }

    pub(crate) fn account(&self) -> AccountKind {
        match self {
            Self::None => AccountKind::None,
            Self::Fixed(_) => AccountKind::ApiKey,
        }
    }

    /// The credential to use now.
    pub(crate) async fn current(&self) -> Credential {
        match self {
            Self::None => Credential { generation: Generation(0), authorization: None },
            Self::Fixed(credential) => credential.clone(),
        }
    }

    /// The credential to use after the provider has rejected `rejected`. It has the same generation if the
    /// source cannot get another: then a repeat would be rejected again.
    pub(crate) async fn recover(&self, rejected: Generation) -> Credential {
        let credential = self.current().await;
        debug_assert_eq!(credential.generation, rejected, "a fixed credential never changes");
        credential
    }
}

/// A header value that is never printed and never enters a compression table.
pub(crate) fn sensitive(value: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}
