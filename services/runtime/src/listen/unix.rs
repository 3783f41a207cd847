//! Binds a unix socket that only its owner can open, and cleans up only what is its own.
//!
//! A lock file beside the socket decides between two servers; it stays behind, because removing it would race.
//! The socket is bound in a private directory, given its mode there and then renamed into place, so that it is
//! never open to others, not even for a moment, and a stale file is replaced atomically.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};

use super::{Address, Error};

/// What fits `sun_path` with its final zero.
pub(super) const PATH_BYTES_MAX: usize = 107;
/// How long a live server may take to let us in before it counts as live anyway.
const PROBE_MAX: Duration = Duration::from_secs(1);

/// The socket file of a listener; dropping it removes the file if it is still the one that was made.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    device_inode: (u64, u64),
    // Held until the listener is gone.
    _lock: File,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.device_inode)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the socket file");
        }
    }
}

/// Binds `path` with mode 0600; its directory is made with mode 0700 if it is missing.
pub(super) async fn bind(path: &Path) -> Result<(UnixListener, SocketFile), Error> {
    let address = Address::Unix(path.to_owned());
    let failed = |source: io::Error| Error::Bind { address: address.clone(), source };
    let staging = Staging::beside(path);
    if path.as_os_str().len().max(staging.socket().as_os_str().len()) > PATH_BYTES_MAX {
        return Err(Error::PathTooLong { path: path.to_owned() });
    }
    private_directory(directory_of(path)).map_err(failed)?;
    let lock = lock(path).map_err(failed)?.ok_or_else(|| Error::InUse { address: address.clone() })?;
    make_way(path, &address).await?;
    let listener = staging.bind(path).map_err(failed)?;
    let device_inode = identity(path).map_err(failed)?;
    Ok((listener, SocketFile { path: path.to_owned(), device_inode, _lock: lock }))
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn private_directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Takes the lock beside the socket; `None` if another server holds it.
fn lock(path: &Path) -> io::Result<Option<File>> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(name)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Checks that what stands at the path, if anything, is a socket that nobody answers on.
async fn make_way(path: &Path, address: &Address) -> Result<(), Error> {
    let in_use = || Error::InUse { address: address.clone() };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(Error::Bind { address: address.clone(), source }),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(Error::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    match tokio::time::timeout(PROBE_MAX, UnixStream::connect(path)).await {
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        _ => Err(in_use()),
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

/// A private directory beside the socket in which it is made; removed on drop.
struct Staging {
    directory: PathBuf,
}

impl Staging {
    fn beside(path: &Path) -> Self {
        Self { directory: directory_of(path).join(format!(".{}", std::process::id())) }
    }

    fn socket(&self) -> PathBuf {
        self.directory.join("s")
    }

    fn bind(&self, path: &Path) -> io::Result<UnixListener> {
        let socket = self.socket();
        // Left over from a process that was killed here and had the same number.
        let _ = fs::remove_file(&socket);
        private_directory(&self.directory)?;
        let listener = UnixListener::bind(&socket)?;
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o600))?;
        fs::rename(&socket, path)?;
        Ok(listener)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Missing when nothing was bound; anything else in it is not ours.
        let _ = fs::remove_dir(&self.directory);
    }
}
