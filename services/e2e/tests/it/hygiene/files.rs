//! Files: each says what it is responsible for, stays readable in one sitting, and holds nothing of the machine that
//! it was written on.

use std::path::{Path, PathBuf};

/// Lines of one file, not counting its tests.
const FILE_LINES_MAX: usize = 500;
/// Lines of a binary's `main.rs`: parse, load, hand over.
const MAIN_LINES_MAX: usize = 120;
/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 7] = ["common", "util", "utils", "helpers", "misc", "types", "core"];

/// Where a developer's or a builder's files would be.
const MACHINE_PATHS: [&[&str]; 4] =
    [&["", "work", ""], &["", "root", ""], &["", "Users", ""], &["", "workspace", ""]];
/// Package registries, spelled in parts so that this file does not name them either.
const REGISTRIES: [&[&str]; 5] = [
    &["registry", "npmjs", "org"],
    &["registry", "yarnpkg", "com"],
    &["files", "pythonhosted", "org"],
    &["pypi", "org"],
    &["static", "crates", "io"],
];

/// Every file below `directory`, but for what cargo and git keep.
pub(super) fn below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_path_buf()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap_or_default();
            match path.is_dir() {
                true if name == "target" || name == ".git" => {}
                true => open.push(path),
                false => found.push(path),
            }
        }
    }
    found.sort();
    found
}

pub(super) fn is_rust(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rs")
}

fn is_test(path: &Path) -> bool {
    path.file_stem().is_some_and(|stem| stem == "tests") || path.iter().any(|part| part == "tests")
}

/// What the repository tracks; a copy without git history is taken whole.
fn tracked() -> Vec<(PathBuf, String)> {
    let root = service_e2e::places::repository().unwrap();
    let listed = std::process::Command::new("git").args(["ls-files", "-z"]).current_dir(&root).output();
    let paths = match listed {
        Ok(listed) if listed.status.success() => {
            let names = String::from_utf8(listed.stdout).unwrap();
            names.split_terminator('\0').map(|name| root.join(name)).collect()
        }
        _ => below(&root),
    };
    let text = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).ok()?;
        Some((path.strip_prefix(&root).unwrap().to_path_buf(), text))
    };
    // A file that was just deleted, or that is no text, has nothing to check.
    paths.into_iter().filter_map(text).collect()
}

fn sources() -> Vec<(PathBuf, String)> {
    tracked().into_iter().filter(|(path, _)| is_rust(path)).collect()
}

fn headless(path: &Path, text: &str) -> Option<String> {
    (!text.starts_with("//! "))
        .then(|| format!("{} does not open with what it is responsible for", path.display()))
}

fn overlong(path: &Path, text: &str) -> Option<String> {
    let main = path.file_name().is_some_and(|name| name == "main.rs");
    let limit = if main { MAIN_LINES_MAX } else { FILE_LINES_MAX };
    let lines = lines_without_tests(text);
    let judged = !is_test(path) && lines > limit;
    judged.then(|| format!("{} has {lines} lines, {limit} are readable", path.display()))
}

/// The lines before the tests that stand in the file itself. Tests in a file of their own do not end the count.
fn lines_without_tests(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let tests = lines.windows(2).position(|pair| pair[0] == "#[cfg(test)]" && pair[1].ends_with('{'));
    tests.unwrap_or(lines.len())
}

fn vague(path: &Path, _text: &str) -> Option<String> {
    let mut parts = path.iter().filter_map(|part| Path::new(part).file_stem()?.to_str());
    let vague = parts.find(|part| EMPTY_NAMES.contains(part))?;
    Some(format!("{}: {vague} names no concept", path.display()))
}

/// The root of a crate or module directory that holds logic instead of declaring it.
fn crowded(path: &Path, text: &str) -> Option<String> {
    let declares = path.file_name().is_some_and(|name| name == "lib.rs" || name == "mod.rs");
    let starts = ["fn ", "pub fn ", "async fn ", "pub async fn ", "impl ", "impl<"];
    let line = text.lines().find(|line| starts.iter().any(|start| line.starts_with(start)))?;
    (declares && !is_test(path)).then(|| format!("{} has logic: {line}", path.display()))
}

fn leaking(path: &Path, text: &str) -> Option<String> {
    let lock = path.file_name().is_some_and(|name| name == "Cargo.lock");
    let machine = MACHINE_PATHS.iter().map(|parts| parts.join("/")).find(|found| begins_a_path(text, found));
    let registry = REGISTRIES.iter().map(|parts| parts.join(".")).find(|found| !lock && text.contains(found));
    machine.or(registry).map(|found| format!("{} holds {found}", path.display()))
}

/// Whether `text` has a path that starts with `prefix`, and not only one that has it further inside.
fn begins_a_path(text: &str, prefix: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || b"._-}*)$~/".contains(&byte);
    text.match_indices(prefix).any(|(at, _)| at == 0 || !inside(text.as_bytes()[at - 1]))
}

#[test]
fn every_source_says_what_it_is_responsible_for() {
    super::none(sources().iter().filter_map(|(path, text)| headless(path, text)).collect());
}

#[test]
fn sources_are_short() {
    super::none(sources().iter().filter_map(|(path, text)| overlong(path, text)).collect());
}

#[test]
fn names_say_something() {
    super::none(sources().iter().filter_map(|(path, text)| vague(path, text)).collect());
}

#[test]
fn roots_only_declare() {
    super::none(sources().iter().filter_map(|(path, text)| crowded(path, text)).collect());
}

#[test]
fn nothing_of_a_machine_is_tracked() {
    super::none(tracked().iter().filter_map(|(path, text)| leaking(path, text)).collect());
}

#[test]
fn planted_files_are_seen() {
    let (long, path) = ("x\n".repeat(FILE_LINES_MAX + 1), Path::new("gateway/server/src/lib.rs"));
    assert!(headless(path, "use std::io;").is_some());
    assert!(overlong(path, &long).is_some() && overlong(Path::new("a/tests/it/b.rs"), &long).is_none());
    assert!(overlong(path, &format!("#[cfg(test)]\nmod tests {{\n{long}}}")).is_none());
    assert!(overlong(path, &format!("#[cfg(test)]\nmod tests;\n{long}")).is_some());
    assert!(vague(Path::new("gateway/server/src/util.rs"), "").is_some() && vague(path, "").is_none());
    assert!(crowded(path, "pub fn run() {}").is_some() && crowded(path, "pub use run::run;").is_none());
    let machine = MACHINE_PATHS[0].join("/");
    assert!(leaking(path, &format!("\"{machine}main\"")).is_some());
    assert!(leaking(path, &format!("target{machine}main")).is_none());
    assert!(leaking(path, &REGISTRIES[0].join(".")).is_some());
}
