//! Makes bearer tokens by reading a file, anew when it has changed.
//!
//! Links are followed, so a mounted secret whose link is moved to another directory is seen as a change.

use std::fs::File;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use secrecy::zeroize::Zeroizing;

use super::process::identity;
use super::token::Token;
use super::{CredentialSource, Mint, MintError, Minted, Policy, Renewing};
use crate::provider::AccountKind;

/// The largest file that is read.
const FILE_MAX: usize = 64 * 1024;
/// How long reading may take; a file system of the network may hang.
const READ_MAX: Duration = Duration::from_secs(5);

/// A file that holds a token and nothing else.
pub(crate) struct KeyFile {
    pub(crate) path: PathBuf,
}

impl KeyFile {
    pub(crate) fn into_source(self) -> CredentialSource {
        let policy = Policy { what: self.what(), mint_max: READ_MAX };
        CredentialSource::Renewed(Renewing::new(Arc::new(self), AccountKind::ApiKey, policy))
    }

    fn what(&self) -> String {
        format!("key file {}", self.path.display())
    }

    /// What is wrong with the file stays wrong until somebody changes it.
    async fn read(&self) -> Result<Minted, String> {
        let path = self.path.clone();
        let read = tokio::task::spawn_blocking(move || read(&path)).await;
        let bytes = read.map_err(|_| "was not read to its end".to_owned())??;
        let token = Token::parse(&bytes)?;
        Ok(Minted { proof: token.proof, expires_at: token.expires_at, refresh_after: None })
    }
}

impl Mint for KeyFile {
    fn mint(&self) -> BoxFuture<'_, Result<Minted, MintError>> {
        Box::pin(async { self.read().await.map_err(|why| MintError::permanent(self.what(), why)) })
    }

    fn inputs(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        match std::fs::metadata(&self.path) {
            Ok(file) => identity(&file).hash(&mut hasher),
            Err(error) => error.kind().hash(&mut hasher),
        }
        hasher.finish()
    }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let unreadable = |error: io::Error| format!("cannot be read: {}", error.kind());
    // Opening a pipe or a device could wait for ever.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err("is not a file".to_owned());
    }
    let limit = u64::try_from(FILE_MAX + 1).unwrap_or(u64::MAX);
    let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_MAX + 64));
    File::open(path).map_err(unreadable)?.take(limit).read_to_end(&mut bytes).map_err(unreadable)?;
    match bytes.len() > FILE_MAX {
        true => Err(format!("is larger than {FILE_MAX} bytes")),
        false => Ok(bytes),
    }
}
