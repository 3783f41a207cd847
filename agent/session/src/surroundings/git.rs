//! Reads the state of a Git repository from its files.
//!
//! No `git` is started: a repository's own configuration can make it run commands. Follows gitrepository-layout(5).

use std::path::{Path, PathBuf};

use agent_threads::Git;

use super::project::beginning;

/// How much of each file is read. `packed-refs` grows with the number of branches and tags.
const FILE_BYTES_MAX: usize = 1 << 20;
/// The longest name of a branch or address that is told. Git's own are shorter, and what is told is told to the model.
const NAME_BYTES_MAX: usize = 1024;
/// How many directories above the working directory are looked at.
const DEPTH_MAX: usize = 64;

/// The root of the work tree that `cwd` is in.
pub(super) fn root_of(cwd: &Path) -> Option<PathBuf> {
    cwd.ancestors().take(DEPTH_MAX).find(|at| at.join(".git").exists()).map(Path::to_owned)
}

/// The state of the repository with this work tree; `None` if it cannot be made out.
pub(super) fn read(root: &Path) -> Option<Git> {
    let directory = directory(root)?;
    // What all work trees share stands in the first one's directory.
    let shared = match beginning(&directory.join("commondir"), FILE_BYTES_MAX) {
        Some(path) => directory.join(path.trim()),
        None => directory.clone(),
    };
    let head = beginning(&directory.join("HEAD"), FILE_BYTES_MAX)?;
    let (branch, sha) = match head.trim().strip_prefix("ref: ") {
        Some(name) => (name.strip_prefix("refs/heads/").and_then(told), commit(&directory, &shared, name)),
        None => (None, hash(&head)),
    };
    let origin_url = beginning(&shared.join("config"), FILE_BYTES_MAX).and_then(|text| origin(&text));
    Some(Git { sha, branch, origin_url })
}

/// Where the repository's files are: in `.git`, or where a file of that name points to.
fn directory(root: &Path) -> Option<PathBuf> {
    let git = root.join(".git");
    if git.is_dir() {
        return Some(git);
    }
    let text = beginning(&git, FILE_BYTES_MAX)?;
    Some(root.join(text.trim().strip_prefix("gitdir: ")?))
}

fn commit(directory: &Path, shared: &Path, name: &str) -> Option<String> {
    // A name is a path below the directory and leads nowhere else.
    if Path::new(name).components().any(|part| !matches!(part, std::path::Component::Normal(_))) {
        return None;
    }
    let loose = [directory, shared].iter().find_map(|at| beginning(&at.join(name), FILE_BYTES_MAX));
    if let Some(text) = loose {
        return hash(&text);
    }
    let packed = beginning(&shared.join("packed-refs"), FILE_BYTES_MAX)?;
    packed
        .lines()
        .find_map(|line| line.split_once(' ').filter(|(_, known)| *known == name))
        .and_then(|(sha, _)| hash(sha))
}

fn hash(text: &str) -> Option<String> {
    let text = text.trim();
    (matches!(text.len(), 40 | 64) && text.bytes().all(|digit| digit.is_ascii_hexdigit()))
        .then(|| text.to_owned())
}

/// The address of the remote `origin`, without what it may hold of a credential.
fn origin(config: &str) -> Option<String> {
    let mut lines = config.lines().map(str::trim).skip_while(|line| *line != "[remote \"origin\"]").skip(1);
    let url = lines
        .by_ref()
        .take_while(|line| !line.starts_with('['))
        .find_map(|line| line.strip_prefix("url")?.trim_start().strip_prefix('='))?;
    told(&without_credential(url.trim()))
}

/// A name that is one.
fn told(name: &str) -> Option<String> {
    (name.len() <= NAME_BYTES_MAX && !name.chars().any(char::is_control)).then(|| name.to_owned())
}

fn without_credential(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let path = path.split(['?', '#']).next().unwrap_or_default();
    if path.is_empty() { format!("{scheme}://{host}") } else { format!("{scheme}://{host}/{path}") }
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use super::*;

    fn git(at: &Path, words: &[&str]) -> String {
        let quiet = ["-c", "user.name=n", "-c", "user.email=e@example.com", "-c", "init.defaultBranch=main"];
        let done = Command::new("git").args(quiet).args(words).current_dir(at).output().unwrap();
        assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    }

    #[test]
    fn a_repository_is_read_as_git_itself_reads_it() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path().join("r");
        fs::create_dir_all(root.join("a/b")).unwrap();
        assert_eq!(root_of(&root.join("a/b")), None);
        git(&root, &["init", "-q"]);
        assert_eq!(root_of(&root.join("a/b")), Some(root.clone()));
        let unborn = read(&root).unwrap();
        assert_eq!((unborn.branch.as_deref(), unborn.sha), (Some("main"), None));
        git(&root, &["commit", "-q", "--allow-empty", "-m", "one"]);
        git(&root, &["remote", "add", "other", "https://example.com/other"]);
        git(
            &root,
            &["remote", "add", "origin", "https://user:secret@example.com:8443/team/r.git?token=secret"],
        );
        let sha = Some(git(&root, &["rev-parse", "HEAD"]));
        let origin_url = Some("https://example.com:8443/team/r.git".to_owned());
        let loose = Git { sha: sha.clone(), branch: Some("main".to_owned()), origin_url };
        assert_eq!(read(&root).unwrap(), loose);
        git(&root, &["pack-refs", "--all"]);
        assert_eq!(read(&root).unwrap(), loose);
        git(&root, &["worktree", "add", "-q", "-b", "side", "../w"]);
        let tree = read(&home.path().join("w")).unwrap();
        assert_eq!(tree, Git { branch: Some("side".to_owned()), ..loose.clone() });
        git(&root, &["checkout", "-q", "--detach"]);
        assert_eq!(read(&root).unwrap(), Git { branch: None, ..loose });
    }

    #[test]
    fn an_origin_is_told_without_its_credential() {
        for (url, told) in [
            ("git@example.com:team/r.git", "git@example.com:team/r.git"),
            ("https://token@example.com/r", "https://example.com/r"),
            ("ssh://git@example.com:22/r#x", "ssh://example.com:22/r"),
            ("/srv/git/r.git", "/srv/git/r.git"),
        ] {
            let config =
                format!("[core]\n[remote \"origin\"]\n\tfetch = +x\n\turl = {url}\n[branch \"main\"]\n");
            assert_eq!(origin(&config).unwrap(), told);
        }
        assert_eq!(origin("[remote \"origin\"]\n[other]\nurl = x"), None);
    }

    #[test]
    fn a_head_that_leads_elsewhere_is_not_followed() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join(".git")).unwrap();
        fs::write(home.path().join("secret"), "0".repeat(40)).unwrap();
        fs::write(home.path().join(".git/HEAD"), "ref: ../secret").unwrap();
        assert_eq!(read(home.path()).unwrap().sha, None);
    }

    #[test]
    fn what_no_branch_and_no_address_is_called_is_not_told() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join(".git")).unwrap();
        let long = "x".repeat(NAME_BYTES_MAX);
        for (name, is_told) in
            [(long.as_str(), true), (format!("{long}x").as_str(), false), ("a\nIgnore this", false)]
        {
            fs::write(home.path().join(".git/HEAD"), format!("ref: refs/heads/{name}")).unwrap();
            assert_eq!(read(home.path()).unwrap().branch.is_some(), is_told, "{} bytes", name.len());
        }
        assert_eq!(origin(&format!("[remote \"origin\"]\nurl = {long}x\n")), None);
    }
}
