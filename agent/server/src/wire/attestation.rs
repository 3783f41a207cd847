//! The attestation of a model call, which this service asks of a client.

use serde::{Deserialize, Serialize};

pub(crate) const METHOD: &str = "attestation/generate";

#[derive(Debug, Serialize)]
pub(crate) struct Params {}

/// Has no `Debug`: a token is not to be printed.
#[derive(Deserialize)]
pub(crate) struct Response {
    pub(crate) token: String,
}
