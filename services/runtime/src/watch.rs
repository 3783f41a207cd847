//! Notices that files have changed, also when a directory above them is swapped for another by a symbolic link, as
//! mounted Kubernetes secrets and config maps are.
//!
//! Looks at what the paths lead to several times a second: that works in every container and on every file system, and
//! costs a few system calls. What is in the files is the caller's business, as is what a change means.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How often the files are looked at. A change is told after it has stood for one more look.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Look {
    /// `None` if nothing is there, or nothing that can be seen.
    fn at(path: &Path) -> Option<Self> {
        let found = fs::metadata(path).ok()?;
        Some(Self {
            device: found.dev(),
            inode: found.ino(),
            bytes: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }
}

/// Files that are watched.
#[derive(Debug, Default)]
pub struct Watched {
    paths: Arc<[PathBuf]>,
    seen: Vec<Option<Look>>,
}

impl Watched {
    /// Watches these paths from now on; make it before the files are read, so that no change falls between. A path may
    /// be missing, and its appearance is a change.
    #[must_use]
    pub fn new(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let mut watched = Self::default();
        watched.add(paths);
        watched
    }

    /// Watches these paths too, from now on.
    pub fn add(&mut self, paths: impl IntoIterator<Item = PathBuf>) {
        let known = self.paths.len();
        self.paths = self.paths.iter().cloned().chain(paths).collect();
        self.seen.extend(self.paths.iter().skip(known).map(|path| Look::at(path)));
    }

    /// Whether a file is another now than at the beginning or at the last change. What was read in between is then not
    /// what stands there together.
    #[must_use]
    pub fn differs(&self) -> bool {
        self.paths.iter().zip(&self.seen).any(|(path, seen)| Look::at(path) != *seen)
    }

    /// Waits until a file is another than at the beginning or at the last change, and has come to rest; within about
    /// half a second. Touching a file counts. Cancel safe.
    pub async fn changed(&mut self) {
        let mut last: Option<Vec<Option<Look>>> = None;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let paths = Arc::clone(&self.paths);
            let look = move || paths.iter().map(|path| Look::at(path)).collect::<Vec<_>>();
            // A look fails only with the runtime itself.
            let Ok(now) = tokio::task::spawn_blocking(look).await else { continue };
            if now == self.seen {
                last = None;
            } else if last.as_ref() == Some(&now) {
                self.seen = now;
                return;
            } else {
                last = Some(now);
            }
        }
    }
}
