//! Follows files: a change takes effect within a second, also where a mounted directory swaps a link.
//!
//! Metadata is looked at a few times a second instead of asking the system to watch: that works on every file system and
//! through any chain of links. A file that cannot be used leaves what was there.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};

/// How often a file's metadata is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// Something that cannot be renewed now; what was known before is still used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What cannot be renewed: a file's path or an issuer's name.
    pub source: String,
    /// What is wrong with it.
    pub message: String,
    /// Whether a file is wrong or missing. Otherwise it is somebody else who cannot be asked.
    pub of_file: bool,
}

/// One file and what was last seen of it.
pub(crate) struct Follower {
    path: PathBuf,
    bytes_max: u64,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    stamp: Option<Stamp>,
    trouble: Option<String>,
}

/// Differs whenever the file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// Something that is made of one file's text.
pub(crate) trait Followed {
    fn follower(&self) -> &Follower;

    /// Takes the new text, or says why it cannot be used and stays as it is.
    fn take(&self, text: &str) -> Result<(), String>;
}

impl Follower {
    pub(crate) fn new(path: PathBuf, bytes_max: u64) -> Self {
        Self { path, bytes_max, seen: Mutex::default() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file at the start, when nothing is served yet.
    pub(crate) fn read_now(&self) -> Result<String, String> {
        let metadata = std::fs::metadata(&self.path).map_err(|error| error.to_string())?;
        self.fits(&metadata)?;
        self.note(|seen| seen.stamp = Some(Stamp::of(&metadata)));
        std::fs::read_to_string(&self.path).map_err(|error| error.to_string())
    }

    pub(crate) fn trouble(&self) -> Option<Trouble> {
        let message = self.lock().trouble.clone()?;
        Some(Trouble { source: self.path.display().to_string(), message, of_file: true })
    }

    /// The text if the file is another one than before.
    async fn changed(&self) -> Result<Option<String>, String> {
        let metadata = tokio::fs::metadata(&self.path).await.map_err(|error| error.to_string())?;
        let stamp = Stamp::of(&metadata);
        if self.lock().stamp == Some(stamp) {
            return Ok(None);
        }
        self.fits(&metadata)?;
        let text = tokio::fs::read_to_string(&self.path).await.map_err(|error| error.to_string())?;
        // Noted as it was before reading, so that a change in between is seen the next time.
        self.note(|seen| seen.stamp = Some(stamp));
        Ok(Some(text))
    }

    fn fits(&self, metadata: &std::fs::Metadata) -> Result<(), String> {
        match metadata.len() <= self.bytes_max {
            true if metadata.is_file() => Ok(()),
            true => Err("it is not a file".to_owned()),
            false => Err(format!("it is over {} bytes", self.bytes_max)),
        }
    }

    fn note(&self, note: impl FnOnce(&mut Seen)) {
        note(&mut self.lock());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Follows one file for ever.
pub(crate) async fn follow(what: &impl Followed) {
    let follower = what.follower();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let outcome = match follower.changed().await {
            Ok(None) => continue,
            Ok(Some(text)) => what.take(&text),
            Err(error) => {
                // The same file may be readable again.
                follower.note(|seen| seen.stamp = None);
                Err(error)
            }
        };
        let file = follower.path().display();
        match outcome {
            Ok(()) => {
                tracing::info!(%file, "a followed file was read again");
                follower.note(|seen| seen.trouble = None);
            }
            Err(error) => {
                let known = follower.lock().trouble.as_ref() == Some(&error);
                if !known {
                    tracing::warn!(%file, error, "a followed file cannot be used; what it said before stays");
                }
                follower.note(|seen| seen.trouble = Some(error));
            }
        }
    }
}

impl Stamp {
    fn of(metadata: &std::fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}
