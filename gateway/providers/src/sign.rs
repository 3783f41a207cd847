//! Puts the credential on a request, last of all: every attempt is authorized anew, over its final bytes.

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderMap};

use crate::credential::{CredentialError, Proof};
use crate::provider::Endpoint;
use crate::send::SendError;
use crate::upstream::CallerCredential;

const CHATGPT_ACCOUNT_ID: &str = "chatgpt-account-id";

/// What a request is authorized with.
pub(crate) struct Authority<'a> {
    pub(crate) proof: &'a Proof,
    /// What the caller brought, for providers that take it.
    pub(crate) caller: Option<&'a CallerCredential>,
}

/// Authorizes a request whose other headers and body are final.
pub(crate) fn authorize(
    headers: &mut HeaderMap,
    endpoint: &Endpoint,
    body: &Bytes,
    authority: &Authority<'_>,
) -> Result<(), SendError> {
    let _ = (endpoint, body);
    headers.remove(AUTHORIZATION);
    match authority.proof {
        Proof::None => {}
        Proof::Bearer(value) => drop(headers.insert(AUTHORIZATION, value.clone())),
        Proof::Aws(_) => {}
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
