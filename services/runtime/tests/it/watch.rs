//! Files that change in every way that files change.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use service_runtime::watch::Watched;

use crate::support::within;

/// Longer than a change takes to be told.
const QUIET: Duration = Duration::from_millis(900);

#[tokio::test]
async fn every_kind_of_change_is_told_once() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    fs::write(at("written"), "a").unwrap();
    fs::write(at("replaced"), "a").unwrap();
    for directory in ["..1", "..2"] {
        fs::create_dir(at(directory)).unwrap();
        fs::write(at(directory).join("mounted"), "same").unwrap();
    }
    symlink("..1", at("..data")).unwrap();
    symlink("..data/mounted", at("mounted")).unwrap();
    let mut watched = Watched::new(["written", "replaced", "mounted", "missing"].map(at));

    let changes: [(&str, &dyn Fn()); 6] = [
        ("written in place", &|| fs::write(at("written"), "b").unwrap()),
        ("replaced", &|| {
            fs::write(at("new"), "b").unwrap();
            fs::rename(at("new"), at("replaced")).unwrap();
        }),
        ("its directory swapped", &|| {
            symlink("..2", at("..data_tmp")).unwrap();
            fs::rename(at("..data_tmp"), at("..data")).unwrap();
        }),
        ("made", &|| fs::write(at("missing"), "a").unwrap()),
        ("removed", &|| fs::remove_file(at("missing")).unwrap()),
        ("two at once", &|| {
            fs::write(at("written"), "cc").unwrap();
            fs::write(at("replaced"), "cc").unwrap();
        }),
    ];
    for (name, change) in changes {
        change();
        within(watched.changed()).await;
        let again = tokio::time::timeout(QUIET, watched.changed()).await;
        assert!(again.is_err(), "{name}: told twice");
    }
}

#[tokio::test]
async fn a_wait_that_was_given_up_misses_nothing() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("file");
    let mut watched = Watched::new([path.clone()]);
    fs::write(&path, "a").unwrap();
    for _ in 0..3 {
        assert!(tokio::time::timeout(Duration::from_millis(1), watched.changed()).await.is_err());
    }
    within(watched.changed()).await;
}
