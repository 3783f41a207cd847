//! The instructions that a project keeps for agents: `AGENTS.md` files from its root down to where the work is.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

/// How much of all of them the model is told.
const DOCS_BYTES_MAX: usize = 32 * 1024;
/// How many directories there may be between the root and the working directory.
const DEPTH_MAX: usize = 64;
/// Where instructions stand; in each directory the first that is there counts.
const NAMES: [&str; 2] = ["AGENTS.override.md", "AGENTS.md"];

/// The instructions that hold in `cwd`, the general ones first. Without a root only the directory itself is looked at.
pub(super) fn docs(cwd: &Path, root: Option<&Path>) -> Option<String> {
    let texts: Vec<String> = files(cwd, root).into_iter().map(|(_, text)| text.trim().to_owned()).collect();
    (!texts.is_empty()).then(|| texts.join("\n\n"))
}

/// The files that they stand in, with as much of each as there is room for.
pub(super) fn files(cwd: &Path, root: Option<&Path>) -> Vec<(PathBuf, String)> {
    let mut directories: Vec<&Path> = match root {
        Some(root) => cwd.ancestors().take(DEPTH_MAX).take_while(|at| at.starts_with(root)).collect(),
        None => vec![cwd],
    };
    directories.reverse();
    let mut room = DOCS_BYTES_MAX;
    let mut found = Vec::new();
    for directory in directories {
        let paths = NAMES.iter().map(|name| directory.join(name));
        let file = paths.into_iter().find_map(|path| Some((beginning(&path, room)?, path)));
        if let Some((text, path)) = file {
            room = room.saturating_sub(text.len());
            found.push((path, text));
        }
        if room == 0 {
            break;
        }
    }
    found
}

/// The beginning of a file that is a regular one and has any text.
pub(super) fn beginning(path: &Path, bytes_max: usize) -> Option<String> {
    // Not even opened: a pipe would keep whoever opens it.
    if !path.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(u64::try_from(bytes_max).ok()?).read_to_end(&mut bytes).ok()?;
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    };
    (!text.trim().is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn instructions_go_from_the_root_to_the_working_directory() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path().join("project");
        let cwd = root.join("a/b");
        fs::create_dir_all(&cwd).unwrap();
        fs::write(home.path().join("AGENTS.md"), "outside").unwrap();
        fs::write(root.join("AGENTS.md"), "one\n").unwrap();
        fs::write(root.join("a/AGENTS.md"), "hidden").unwrap();
        fs::write(root.join("a/AGENTS.override.md"), "two").unwrap();
        fs::write(cwd.join("AGENTS.md"), "three").unwrap();
        assert_eq!(docs(&cwd, Some(&root)).unwrap(), "one\n\ntwo\n\nthree");
        assert_eq!(docs(&cwd, None).unwrap(), "three");
        assert_eq!(docs(&home.path().join("none"), None), None);
    }

    #[test]
    fn there_is_room_for_so_much_and_no_more() {
        let root = tempfile::tempdir().unwrap();
        let cwd = root.path().join("sub");
        fs::create_dir_all(&cwd).unwrap();
        fs::write(root.path().join("AGENTS.md"), "x".repeat(DOCS_BYTES_MAX * 2)).unwrap();
        fs::write(cwd.join("AGENTS.md"), "never").unwrap();
        assert_eq!(docs(&cwd, Some(root.path())).unwrap().len(), DOCS_BYTES_MAX);
        // What is no text file is no instruction.
        fs::write(root.path().join("AGENTS.md"), b"a\xffb").unwrap();
        assert_eq!(docs(root.path(), None).unwrap(), "a\u{fffd}b");
        fs::remove_file(root.path().join("AGENTS.md")).unwrap();
        fs::create_dir(root.path().join("AGENTS.md")).unwrap();
        assert_eq!(docs(root.path(), None), None);
        fs::remove_dir(root.path().join("AGENTS.md")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", root.path().join("AGENTS.md")).unwrap();
        assert_eq!(docs(root.path(), None), None);
    }
}
