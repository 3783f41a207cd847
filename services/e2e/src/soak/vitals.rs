//! Memory and file descriptors of a process, as the kernel tells them.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;

/// How long an idle process may keep what its last callers used.
const SETTLE_TIME_MAX: Duration = Duration::from_secs(10);

/// One look at a process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Look {
    /// Resident memory.
    pub rss_kib: u64,
    /// The most resident memory since the beginning, or since it was forgotten.
    pub peak_kib: u64,
    /// Open file descriptors.
    pub fds: u64,
}

/// The looks that a report tells.
#[derive(Debug, Clone, Copy, Default)]
pub struct Course {
    /// When the scenario had warmed up.
    pub start: Look,
    /// When it was over; its peak is that of the whole course.
    pub end: Look,
}

/// A process that is looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Process(u32);

impl Process {
    pub(super) fn new(id: Option<u32>) -> anyhow::Result<Self> {
        Ok(Self(id.context("the process was waited for")?))
    }

    /// Looks.
    pub(super) fn look(self) -> anyhow::Result<Look> {
        let status = std::fs::read_to_string(self.file("status")).context("the process is gone")?;
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        };
        let fds = std::fs::read_dir(self.file("fd"))?.count();
        Ok(Look {
            rss_kib: kib("VmRSS:").context("its memory")?,
            peak_kib: kib("VmHWM:").context("its most memory")?,
            fds: u64::try_from(fds)?,
        })
    }

    /// Forgets the most memory so far.
    pub(super) fn forget_peak(self) -> anyhow::Result<()> {
        // "5" resets the high-water mark and changes nothing else.
        std::fs::write(self.file("clear_refs"), "5").context("reset the memory's high-water mark")
    }

    /// Waits until the process has given back its descriptors but for `spare`, and looks.
    pub(super) async fn settled(self, before: Look, spare: u64) -> anyhow::Result<Look> {
        let began = Instant::now();
        loop {
            let look = self.look()?;
            if look.fds <= before.fds + spare || began.elapsed() > SETTLE_TIME_MAX {
                return Ok(look);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A file that tells of it.
    pub(super) fn file(self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.0))
    }
}
