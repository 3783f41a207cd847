//! Puts the credential on a request, last of all: every attempt is authorized anew, over its final bytes.

mod aws;
mod payload;
mod refusal;

use http::Method;
use http::header::{AUTHORIZATION, HeaderMap};

use crate::credential::{CredentialError, Proof};
use crate::headers::CHATGPT_ACCOUNT_ID;
use crate::provider::Endpoint;
use crate::send::SendError;
use crate::upstream::CallerCredential;

pub(crate) use aws::{SignError, Signer};
pub(crate) use payload::Payload;
pub(crate) use refusal::Refusal;

/// What a request is authorized with.
pub(crate) struct Authority<'a> {
    pub(crate) proof: &'a Proof,
    /// What the caller brought, for providers that take it.
    pub(crate) caller: Option<&'a CallerCredential>,
    /// What signs, for providers that want signatures.
    pub(crate) signer: Option<&'a Signer>,
}

/// What is authorized, besides its headers. Nothing of it may change afterwards.
pub(crate) struct Subject<'a> {
    pub(crate) method: &'a Method,
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) payload: &'a Payload,
}

/// Authorizes a request whose other headers and body are final.
pub(crate) fn authorize(
    headers: &mut HeaderMap,
    subject: &Subject<'_>,
    authority: &Authority<'_>,
) -> Result<(), SendError> {
    headers.remove(AUTHORIZATION);
    match authority.proof {
        Proof::None => {}
        Proof::Bearer(value) => drop(headers.insert(AUTHORIZATION, value.clone())),
        Proof::Aws(credentials) => {
            let signed = match authority.signer {
                Some(signer) => signer.sign(headers, subject, credentials),
                None => Err(SignError::NoSigner),
            };
            signed.map_err(|error| SendError::Request { source: error.into() })?;
        }
        Proof::Caller => {
            let caller = authority.caller.ok_or(CredentialError::CallerBringsNone)?;
            headers.insert(AUTHORIZATION, caller.authorization.clone());
            if let Some(account) = &caller.account {
                headers.insert(CHATGPT_ACCOUNT_ID, account.clone());
            }
        }
    }
    Ok(())
}
