//! Processes and whose they are, as the kernel tells it.

/// What is left of a process group, and what `parent` has not buried, in words.
pub(super) fn left(group: u32, parent: u32) -> std::io::Result<Vec<String>> {
    let mut left = Vec::new();
    for entry in std::fs::read_dir("/proc")?.filter_map(Result::ok) {
        // Processes end while they are looked at.
        let Ok(text) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some(process) = Process::parse(&text) else { continue };
        let dead = matches!(process.state, "Z" | "X");
        if process.parent == parent && dead {
            left.push(format!("zombie {}", process.id));
        } else if process.group == group && !dead {
            left.push(format!("process {} under {}", process.id, process.parent));
        }
    }
    Ok(left)
}

struct Process<'a> {
    id: u32,
    state: &'a str,
    parent: u32,
    group: u32,
}

impl<'a> Process<'a> {
    /// A line of `/proc/*/stat`; a program's name may hold anything, parentheses too.
    fn parse(text: &'a str) -> Option<Self> {
        let (id, rest) = text.split_once(" (")?;
        let mut fields = rest.rsplit_once(") ")?.1.split(' ');
        let (state, parent, group) = (fields.next()?, fields.next()?, fields.next()?);
        Some(Self { id: id.parse().ok()?, state, parent: parent.parse().ok()?, group: group.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;

    use super::*;

    #[test]
    fn what_runs_and_what_nobody_buried_is_seen() {
        let mut child = Command::new("sleep").arg("1000").process_group(0).spawn().unwrap();
        let (group, own) = (child.id(), std::process::id());
        let words = |kind: &str| left(group, own).unwrap().iter().filter(|it| it.starts_with(kind)).count();
        assert_eq!(words("process"), 1);
        let zombie = format!("zombie {group}");
        assert!(!left(group, own).unwrap().contains(&zombie));
        child.kill().unwrap();
        let began = tokio::time::Instant::now();
        while !left(group, own).unwrap().contains(&zombie) {
            assert!(began.elapsed().as_secs() < 20, "a killed child that nobody waits for is a zombie");
        }
        assert_eq!(words("process"), 0);
        child.wait().unwrap();
        assert!(!left(group, own).unwrap().contains(&zombie));
    }
}
