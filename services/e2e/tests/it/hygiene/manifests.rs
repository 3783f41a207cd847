//! Manifests: every member opts into the workspace's lints, says what it is for, takes versions from one table, and
//! uses what it names.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::files;

/// Named by a manifest though no source names it: generated code does, or its library has another name.
const USED_UNSEEN: [(&str, &str); 2] =
    [("tidegate-proto", "tonic-prost"), ("service-runtime", "rustls-webpki")];

struct Member {
    directory: PathBuf,
    manifest: Table,
}

impl Member {
    fn name(&self) -> &str {
        self.manifest["package"]["name"].as_str().unwrap()
    }

    /// Every dependency of any kind, with what the manifest says about it.
    fn dependencies(&self) -> Vec<(&str, &Value)> {
        let kinds = ["dependencies", "dev-dependencies", "build-dependencies"];
        let mut tables: Vec<&Table> =
            kinds.iter().filter_map(|kind| self.manifest.get(*kind)?.as_table()).collect();
        if let Some(targets) = self.manifest.get("target").and_then(Value::as_table) {
            let per_target = targets.values().filter_map(Value::as_table);
            tables.extend(
                per_target.flat_map(|target| kinds.iter().filter_map(|kind| target.get(*kind)?.as_table())),
            );
        }
        tables.into_iter().flatten().map(|(name, dependency)| (name.as_str(), dependency)).collect()
    }
}

fn workspace() -> Table {
    read(&service_e2e::places::repository().unwrap().join("Cargo.toml"))
}

fn read(manifest: &Path) -> Table {
    std::fs::read_to_string(manifest).unwrap().parse().unwrap()
}

fn members() -> Vec<Member> {
    let root = service_e2e::places::repository().unwrap();
    let workspace = workspace();
    let members = workspace["workspace"]["members"].as_array().unwrap();
    let member = |path: &Value| {
        let directory = root.join(path.as_str().unwrap());
        Member { manifest: read(&directory.join("Cargo.toml")), directory }
    };
    members.iter().map(member).collect()
}

fn careless(member: &Member) -> Vec<String> {
    let mut violations = Vec::new();
    let mut require = |holds: bool, rule: String| {
        if !holds {
            violations.push(format!("{}: {rule}", member.name()));
        }
    };
    let package = &member.manifest["package"];
    let workspace =
        |value: Option<&Value>| value.and_then(|value| value.get("workspace")) == Some(&Value::Boolean(true));
    let lints = member.manifest.get("lints");
    require(workspace(lints), "opt into the workspace's lints".into());
    require(package.get("description").is_some_and(Value::is_str), "say what it is for".into());
    for key in ["version", "edition", "rust-version", "publish"] {
        require(workspace(package.get(key)), format!("take `{key}` from the workspace"));
    }
    for (name, dependency) in member.dependencies() {
        require(workspace(Some(dependency)), format!("take {name} from the workspace's table"));
    }
    require(member.manifest.get("features").is_none(), "cargo features double what must be tested".into());
    violations
}

/// Dependencies that no source of the member names.
fn idle(member: &Member) -> Vec<String> {
    let mut sources = String::new();
    for path in files::below(&member.directory).into_iter().filter(|path| files::is_rust(path)) {
        sources.push_str(&std::fs::read_to_string(path).unwrap());
    }
    let excused = |name: &str| USED_UNSEEN.contains(&(member.name(), name));
    let named = |name: &str| {
        let name = name.replace('-', "_");
        [format!("{name}::"), format!("use {name};")].iter().any(|use_of| sources.contains(use_of))
    };
    let idle = member.dependencies().into_iter().filter(|(name, _)| !named(name) && !excused(name));
    idle.map(|(name, _)| format!("{} does not use {name}", member.name())).collect()
}

#[test]
fn members_follow_the_workspace() {
    super::none(members().iter().flat_map(careless).collect());
}

#[test]
fn members_use_what_they_name() {
    super::none(members().iter().flat_map(idle).collect());
}

#[test]
fn the_version_table_holds_nothing_unused() {
    let members = members();
    let used: BTreeSet<&str> = members.iter().flat_map(Member::dependencies).map(|(name, _)| name).collect();
    let workspace = workspace();
    let table = workspace["workspace"]["dependencies"].as_table().unwrap();
    let ours: BTreeSet<&str> = members.iter().map(Member::name).collect();
    let unused = table.keys().filter(|name| !used.contains(name.as_str()) && !ours.contains(name.as_str()));
    super::none(unused.map(|name| format!("no member uses {name}")).collect());
}

#[test]
fn a_careless_manifest_is_seen() {
    let manifest = "[package]\nname = \"stray\"\nversion = \"1.0.0\"\n[features]\nx = []\n[dependencies]\nserde = \"1\"\n";
    let directory = tempfile::tempdir().unwrap();
    let stray = Member { directory: directory.path().to_path_buf(), manifest: manifest.parse().unwrap() };
    assert_eq!(careless(&stray).len(), 8, "{:?}", careless(&stray));
    assert_eq!(idle(&stray), ["stray does not use serde"]);
}
