//! Makes bearer tokens by running a command that prints one.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::process::{Program, TAIL_MAX};
use super::token::Token;
use super::{CredentialSource, Mint, MintError, Minted, Policy, Renewing};
use crate::provider::AccountKind;

/// A command whose whole output is a token.
pub(crate) struct TokenCommand {
    pub(crate) program: Program,
    /// After how long it is run again; without it only after the provider has refused the token.
    pub(crate) refresh_after: Option<Duration>,
}

impl TokenCommand {
    pub(crate) fn into_source(self) -> CredentialSource {
        let mint_max = self.program.timeout + 2 * TAIL_MAX;
        let policy = Policy { what: self.program.what(), mint_max };
        CredentialSource::Renewed(Renewing::new(Arc::new(self), AccountKind::ApiKey, policy))
    }
}

impl Mint for TokenCommand {
    fn mint(&self) -> BoxFuture<'_, Result<Minted, MintError>> {
        Box::pin(async {
            let printed = self.program.run().await?;
            let token = Token::parse(&printed).map_err(|why| MintError::passing(self.program.what(), why))?;
            Ok(Minted { proof: token.proof, expires_at: token.expires_at, refresh_after: self.refresh_after })
        })
    }

    fn inputs(&self) -> u64 {
        self.program.inputs()
    }
}
