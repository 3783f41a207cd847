//! Finds the processes that have a variable in their environment, whoever started them, and ends them.
//!
//! A client may leave processes behind that lead groups of their own, such as Codex's background server, which no handle
//! of a test knows. Their environment still tells whose they are. Reads `/proc`, and so finds nothing but on Linux.

/// Kills every process that was started with `value` as its `variable`, waits until all are gone, and tells their
/// command lines.
#[cfg(target_os = "linux")]
pub fn end(variable: &str, value: &std::ffi::OsStr) -> anyhow::Result<Vec<String>> {
    linux::end(&[variable.as_bytes(), b"=", value.as_encoded_bytes()].concat())
}

/// Finds nothing.
#[cfg(not(target_os = "linux"))]
pub fn end(_variable: &str, _value: &std::ffi::OsStr) -> anyhow::Result<Vec<String>> {
    Ok(Vec::new())
}

#[cfg(target_os = "linux")]
mod linux {
    use std::os::fd::OwnedFd;
    use std::path::Path;

    use anyhow::Context as _;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::io::{Errno, retry_on_intr};
    use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

    /// A killed process is gone long before this.
    const GONE_TIME_MAX: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };
    /// Each round finds what those of the round before had just started.
    const ROUNDS_MAX: usize = 16;

    pub(super) fn end(entry: &[u8]) -> anyhow::Result<Vec<String>> {
        let mut ended = Vec::new();
        for _ in 0..ROUNDS_MAX {
            let found = find(entry)?;
            if found.is_empty() {
                return Ok(ended);
            }
            for process in found {
                process.kill().with_context(|| format!("end {}", process.command))?;
                ended.push(process.command);
            }
        }
        anyhow::bail!("there are always new ones: {ended:?}")
    }

    struct Process {
        /// Stays that of this process when its number has become another's.
        handle: OwnedFd,
        command: String,
    }

    impl Process {
        /// Nothing of one that has ended, is another user's, or was not started with `entry`.
        fn with(entry: &[u8], directory: &Path) -> Option<Self> {
            let id = directory.file_name()?.to_str()?.parse().ok()?;
            // Before anything is read, so that what is read is never that of a later process with this number and the
            // signal goes to an earlier one.
            let handle = pidfd_open(Pid::from_raw(id)?, PidfdFlags::empty()).ok()?;
            let environment = std::fs::read(directory.join("environ")).ok()?;
            if !environment.split(|byte| *byte == 0).any(|variable| variable == entry) {
                return None;
            }
            let command = std::fs::read(directory.join("cmdline")).unwrap_or_default();
            Some(Self { handle, command: String::from_utf8_lossy(&command).replace('\0', " ") })
        }

        fn kill(&self) -> anyhow::Result<()> {
            match pidfd_send_signal(&self.handle, Signal::KILL) {
                Ok(()) => {}
                Err(Errno::SRCH) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            let mut end = [PollFd::new(&self.handle, PollFlags::IN)];
            let gone = retry_on_intr(|| poll(&mut end, Some(&GONE_TIME_MAX)))?;
            anyhow::ensure!(gone == 1, "it was killed and is still there");
            Ok(())
        }
    }

    fn find(entry: &[u8]) -> anyhow::Result<Vec<Process>> {
        let mut found = Vec::new();
        for listed in std::fs::read_dir("/proc")? {
            found.extend(Process::with(entry, &listed?.path()));
        }
        Ok(found)
    }
}
