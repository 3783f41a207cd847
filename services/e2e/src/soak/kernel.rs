//! What the kernel keeps for sockets, which is in no process's memory: bytes in the queues of one process's sockets, and the
//! memory of all TCP sockets of the machine.

use std::collections::HashSet;

use anyhow::Context as _;

use super::vitals::Process;

const PAGE_KIB: u64 = 4;

/// One look at the kernel.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Queues {
    /// Bytes that a process was sent and has not read, or has sent and that were not taken, in KiB.
    pub(super) own_kib: u64,
    /// The memory of all TCP sockets: both ends of each connection, whosever they are, with what packets take beside their
    /// bytes.
    pub(super) all_kib: u64,
}

impl Queues {
    /// Looks at a process's sockets, and at all.
    pub(super) fn of(process: Process) -> anyhow::Result<Self> {
        let mut own = HashSet::new();
        for file in std::fs::read_dir(process.file("fd"))? {
            // A file may be closed meanwhile.
            let Ok(target) = std::fs::read_link(file?.path()) else { continue };
            let name = target.to_string_lossy();
            let inode = name.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
            own.extend(inode.map(str::to_owned));
        }
        let table = std::fs::read_to_string(process.file("net/tcp"))?;
        let own: u64 = table.lines().skip(1).filter_map(|line| queued(line, &own)).sum();
        Ok(Self { own_kib: own / 1024, all_kib: all_pages()? * PAGE_KIB })
    }
}

/// The bytes in both queues of a line's socket, if it is one of these.
fn queued(line: &str, inodes: &HashSet<String>) -> Option<u64> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    if !inodes.contains(*fields.get(9)?) {
        return None;
    }
    let (sent, received) = fields.get(4)?.split_once(':')?;
    Some(u64::from_str_radix(sent, 16).ok()? + u64::from_str_radix(received, 16).ok()?)
}

fn all_pages() -> anyhow::Result<u64> {
    let text = std::fs::read_to_string("/proc/net/sockstat")?;
    let line = text.lines().find(|line| line.starts_with("TCP:")).context("the line of TCP")?;
    let pages = line.split_once(" mem ").and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok());
    pages.context("the memory of TCP")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_s_queues_are_read() {
        let line = "   1: 0100007F:1F90 0100007F:D431 01 0000A000:00000010 01:00000014 00000000     0        0 4711 2 0 20 4 30 10 -1";
        let own = HashSet::from(["4711".to_owned()]);
        assert_eq!(queued(line, &own), Some(0xA010));
        assert_eq!(queued(line, &HashSet::new()), None);
    }
}
