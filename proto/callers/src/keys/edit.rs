//! Edits the keys file: create, list, revoke.
//!
//! An edit holds a lock beside the file and replaces the file as a whole, so that a reader sees the old or the new one and two
//! edits never lose each other. Comments that somebody wrote into the file do not survive an edit.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use secrecy::SecretString;
use time::OffsetDateTime;

use super::{
    form::{self, PREFIX},
    stored::{KeyEntry, Stored, check},
};

/// How long an edit waits for another one.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(5);
const LOCK_STEP: Duration = Duration::from_millis(20);

const HEAD: &str =
    "# Keys of callers, as hashes. Edited by `tidegate keys create` and `tidegate keys revoke`.\n\n";

/// A file of keys.
#[derive(Debug, Clone)]
pub struct KeysFile {
    path: PathBuf,
}

/// What a new key is for.
#[derive(Debug, Clone, Default)]
pub struct NewKey {
    /// Whose it is.
    pub tenant: String,
    /// Who uses it.
    pub subject: String,
    /// What it is given for.
    pub scopes: Vec<String>,
    /// From when on it is refused.
    pub expires_at: Option<OffsetDateTime>,
    /// What the operator wants to remember.
    pub note: Option<String>,
}

/// A key that was just made. The only time that the key itself is known.
#[derive(Debug)]
pub struct CreatedKey {
    /// The key.
    pub key: SecretString,
    /// What the file says of it.
    pub entry: KeyEntry,
}

/// Why the keys file cannot be read or edited. All are the operator's to fix; only [`KeysFileError::Busy`] may pass.
#[derive(Debug, thiserror::Error)]
pub enum KeysFileError {
    /// There is no such file.
    #[error("{}: no such keys file; `tidegate keys create` makes it", .0.display())]
    NotFound(PathBuf),
    /// The file's content is wrong.
    #[error("{}: not a keys file: {message}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// The new key cannot be made as asked for.
    #[error("the key cannot be made: {0}")]
    Unusable(String),
    /// The file has no such key.
    #[error("{}: no key has the id `{id}`; `tidegate keys list` shows the ids", path.display())]
    NoSuchKey {
        /// The file.
        path: PathBuf,
        /// The id that was asked for.
        id: String,
    },
    /// Somebody else edits the file.
    #[error("{}: another edit holds the lock; try again", .0.display())]
    Busy(PathBuf),
    /// The system refuses.
    #[error("{}: cannot {action}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl KeysFile {
    /// The file at `path`, which need not be there yet.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a key and writes its hash; makes the file if there is none.
    pub fn create(&self, new: NewKey, now: SystemTime) -> Result<CreatedKey, KeysFileError> {
        let now = whole_seconds(now);
        if new.expires_at.is_some_and(|end| end <= now) {
            return Err(KeysFileError::Unusable("it would have expired already".to_owned()));
        }
        let _lock = self.lock()?;
        let mut stored = match self.read() {
            Err(KeysFileError::NotFound(_)) => Stored::default(),
            read => read?,
        };
        let NewKey { tenant, subject, scopes, expires_at, note } = new;
        let expires_at = expires_at.map(|end| end.replace_nanosecond(0).unwrap_or(end));
        let (key, id) = form::draw();
        let sha256 = form::hash(&key);
        let entry = KeyEntry {
            id,
            sha256,
            tenant,
            subject,
            scopes,
            created_at: now,
            expires_at,
            revoked_at: None,
            note,
        };
        check(&entry).map_err(|message| {
            // The id was just drawn and says nothing to anybody.
            KeysFileError::Unusable(message.replace(&format!(" of `{}`", entry.id), ""))
        })?;
        stored.keys.push(entry.clone());
        self.write(&stored)?;
        Ok(CreatedKey { key: key.into(), entry })
    }

    /// All keys, in the order in which they were made.
    pub fn list(&self) -> Result<Vec<KeyEntry>, KeysFileError> {
        Ok(self.read()?.keys)
    }

    /// Takes a key back, by its id or by the key's start with its prefix. One that was taken back before stays as it is.
    pub fn revoke(&self, id: &str, now: SystemTime) -> Result<KeyEntry, KeysFileError> {
        let id = id.strip_prefix(PREFIX).unwrap_or(id);
        let _lock = self.lock()?;
        let mut stored = self.read()?;
        let Some(key) = stored.keys.iter_mut().find(|key| key.id == id) else {
            // What was given may be a whole key by mistake: only its public part is repeated.
            let id = id.split('_').next().unwrap_or_default().escape_debug().to_string();
            return Err(KeysFileError::NoSuchKey { path: self.path.clone(), id });
        };
        key.revoked_at.get_or_insert_with(|| whole_seconds(now));
        let entry = key.clone();
        self.write(&stored)?;
        Ok(entry)
    }

    fn read(&self) -> Result<Stored, KeysFileError> {
        match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(KeysFileError::NotFound(self.path.clone()))
            }
            _ => Stored::read(&self.path)
                .map_err(|message| KeysFileError::Invalid { path: self.path.clone(), message }),
        }
    }

    /// The lock is a file of its own: the keys file is another one after each edit.
    fn lock(&self) -> Result<File, KeysFileError> {
        let mut name = self.path.as_os_str().to_owned();
        name.push(".lock");
        let failed = |source| self.failed("open the lock file beside it", source);
        let file = File::options().create(true).truncate(false).write(true).open(name).map_err(failed)?;
        let mut waited = Duration::ZERO;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) if waited < LOCK_WAIT_MAX => {
                    std::thread::sleep(LOCK_STEP);
                    waited += LOCK_STEP;
                }
                Err(TryLockError::WouldBlock) => return Err(KeysFileError::Busy(self.path.clone())),
                Err(TryLockError::Error(source)) => {
                    return Err(self.failed("lock the file beside it", source));
                }
            }
        }
    }

    /// Replaces the file as a whole; a new one is its owner's alone, an old one keeps its mode and owner.
    fn write(&self, stored: &Stored) -> Result<(), KeysFileError> {
        let text = toml::to_string(stored)
            .map_err(|error| KeysFileError::Unusable(format!("it cannot be written as TOML: {error}")))?;
        // What a link points to is replaced, not the link.
        let target = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        replace(&target, &text).map_err(|source| self.failed("replace the file", source))
    }

    fn failed(&self, action: &'static str, source: io::Error) -> KeysFileError {
        KeysFileError::Io { path: self.path.clone(), action, source }
    }
}

fn replace(target: &Path, text: &str) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, fchown};
    let directory = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Made with mode 0600.
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    match fs::metadata(target) {
        Ok(old) => {
            let new = file.as_file().metadata()?;
            if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
                fchown(file.as_file(), Some(old.uid()), Some(old.gid()))?;
            }
            file.as_file().set_permissions(old.permissions())?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    file.write_all(HEAD.as_bytes())?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(target).map_err(|error| error.error)?;
    File::open(directory)?.sync_all()
}

fn whole_seconds(time: SystemTime) -> OffsetDateTime {
    let time = OffsetDateTime::from(time);
    time.replace_nanosecond(0).unwrap_or(time)
}

#[cfg(test)]
mod tests;
