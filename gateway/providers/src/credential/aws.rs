//! Makes AWS credentials: asks a command, a profile, or AWS's usual sources one after the other.
//!
//! Nothing is kept between two questions, so that a changed profile or a new sign-in counts at once. If there are no good
//! credentials, a command may sign in again, and the sources are asked once more. Errors say which sources were
//! asked and what kind of answer each gave; they never repeat what a source said, which may hold a secret.

mod export;
mod sources;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use futures_util::future::BoxFuture;

use super::process::TAIL_MAX;
use super::{CredentialSource, Mint, MintError, Minted, Policy, Program, Proof, Renewing};
use crate::provider::AccountKind;

/// How long asking all sources may take. The slowest is a machine's metadata service that is not there.
const ASK_MAX: Duration = Duration::from_secs(45);
/// After how long a command is asked again whose credentials do not say when they end.
const UNKNOWN_END: Duration = Duration::from_secs(60 * 60);
/// Credentials that end so soon and are given again are as good as none.
const ENDS_SOON: Duration = Duration::from_secs(60);

/// Where credentials come from.
pub(crate) enum AwsSource {
    /// A command that prints them.
    Export(Program),
    /// A profile of the shared AWS files, whatever the environment says.
    Profile(String),
    /// AWS's usual sources in AWS's usual order.
    Default,
}

/// Makes credentials for one region.
pub(crate) struct AwsChain {
    source: AwsSource,
    region: String,
    /// Signs in again.
    refresh: Option<Program>,
    /// A hash of what was given last.
    last: Mutex<Option<u64>>,
}

impl AwsChain {
    pub(crate) fn new(source: AwsSource, region: &str, refresh: Option<Program>) -> AwsChain {
        AwsChain { source, region: region.to_owned(), refresh, last: Mutex::default() }
    }

    pub(crate) fn into_source(self) -> CredentialSource {
        let ask_max = match &self.source {
            AwsSource::Export(program) => program.timeout + 2 * TAIL_MAX,
            AwsSource::Profile(_) | AwsSource::Default => ASK_MAX,
        };
        let refresh_max = self.refresh.as_ref().map(|program| program.timeout + 2 * TAIL_MAX + ask_max);
        let mint_max = ask_max + refresh_max.unwrap_or_default();
        let policy = Policy { what: self.what(), mint_max };
        CredentialSource::Renewed(Renewing::new(Arc::new(self), AccountKind::Aws, policy))
    }

    fn what(&self) -> String {
        match &self.source {
            AwsSource::Export(program) => program.what(),
            AwsSource::Profile(name) => format!("aws profile {name}"),
            AwsSource::Default => "aws credentials".to_owned(),
        }
    }

    async fn ask(&self) -> Result<Credentials, MintError> {
        let why = match &self.source {
            AwsSource::Export(program) => {
                let printed = program.run().await?;
                match export::parse(&printed, SystemTime::now()) {
                    Ok(credentials) => return Ok(credentials),
                    Err(why) => why.to_owned(),
                }
            }
            AwsSource::Profile(name) => match sources::profile(name, &self.region).await {
                Ok(credentials) => return Ok(credentials),
                Err(why) => why,
            },
            AwsSource::Default => match sources::usual(&self.region).await {
                Ok(credentials) => return Ok(credentials),
                Err(why) => why,
            },
        };
        Err(MintError::passing(self.what(), why))
    }

    async fn make(&self) -> Result<Credentials, MintError> {
        let first = self.ask().await;
        let Some(refresh) = &self.refresh else { return first };
        if first.as_ref().is_ok_and(|credentials| !self.is_used_up(credentials)) {
            return first;
        }
        tracing::info!(command = refresh.what(), "aws credentials are missing or used up: signing in again");
        if let Err(error) = refresh.run().await {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, "signing in to aws again failed");
            return first;
        }
        self.ask().await
    }

    /// Whether these are the ones that were given last and nobody has said that they are still good: credentials are
    /// asked for again only before they end or after they were rejected.
    fn is_used_up(&self, credentials: &Credentials) -> bool {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let soon = SystemTime::now() + ENDS_SOON;
        last == Some(hash(credentials)) && credentials.expiry().is_none_or(|end| end < soon)
    }
}

impl Mint for AwsChain {
    fn mint(&self) -> BoxFuture<'_, Result<Minted, MintError>> {
        Box::pin(async {
            let credentials = self.make().await?;
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(hash(&credentials));
            let expires_at = credentials.expiry();
            let refresh_after = match &self.source {
                AwsSource::Export(_) if expires_at.is_none() => Some(UNKNOWN_END),
                AwsSource::Export(_) | AwsSource::Profile(_) | AwsSource::Default => None,
            };
            Ok(Minted { proof: Proof::Aws(credentials), expires_at, refresh_after })
        })
    }
}

fn hash(credentials: &Credentials) -> u64 {
    let mut hasher = DefaultHasher::new();
    credentials.access_key_id().hash(&mut hasher);
    credentials.secret_access_key().hash(&mut hasher);
    credentials.session_token().hash(&mut hasher);
    hasher.finish()
}
