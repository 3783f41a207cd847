//! Edits of the keys file: what is written, kept and refused.

use std::{os::unix::fs::PermissionsExt as _, time::UNIX_EPOCH};

use secrecy::ExposeSecret as _;

use super::*;

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn new(tenant: &str, subject: &str) -> NewKey {
    NewKey { tenant: tenant.to_owned(), subject: subject.to_owned(), ..NewKey::default() }
}

fn file() -> (KeysFile, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    (KeysFile::at(directory.path().join("keys.toml")), directory)
}

#[test]
fn the_file_never_holds_a_key_and_is_its_owner_s_alone() {
    let (file, _directory) = file();
    let created = file
        .create(
            NewKey { scopes: vec!["ci".to_owned()], note: Some("for CI".to_owned()), ..new("acme", "ci") },
            now(),
        )
        .unwrap();
    let text = fs::read_to_string(file.path()).unwrap();
    let secret = created.key.expose_secret().rsplit('_').next().unwrap().to_owned();
    assert!(!text.contains(&secret) && text.contains(&created.entry.id), "{text}");
    assert!(text.contains("created_at = \"2027-01-15T08:00:00Z\""), "{text}");
    assert_eq!(fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(file.list().unwrap(), vec![created.entry]);
}

#[test]
fn edits_keep_mode_and_links() {
    let (file, directory) = file();
    file.create(new("acme", "ci"), now()).unwrap();
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o640)).unwrap();
    let link = directory.path().join("link.toml");
    std::os::unix::fs::symlink("keys.toml", &link).unwrap();
    KeysFile::at(&link).create(new("beta", "ci"), now()).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(file.list().unwrap().len(), 2);
}

#[test]
fn a_key_is_taken_back_once() {
    let (file, _directory) = file();
    let id = file.create(new("acme", "ci"), now()).unwrap().entry.id;
    let later = now() + Duration::from_secs(60);
    let first = file.revoke(&format!("tg_{id}"), now()).unwrap();
    assert_eq!(file.revoke(&id, later).unwrap().revoked_at, first.revoked_at);
    assert_eq!(first.revoked_at, Some(whole_seconds(now())));
}

#[test]
fn mistakes_are_told_without_a_change_and_without_a_secret() {
    let (file, _directory) = file();
    assert!(matches!(file.list(), Err(KeysFileError::NotFound(_))));
    assert!(matches!(file.revoke("a", now()), Err(KeysFileError::NotFound(_))));
    let created = file.create(new("acme", "ci"), now()).unwrap();
    let before = fs::read(file.path()).unwrap();
    for wrong in [
        new("", "ci"),
        new("a/b", "ci"),
        new("acme", "a b"),
        NewKey { scopes: vec!["*".to_owned()], ..new("acme", "ci") },
        NewKey { expires_at: Some(now().into()), ..new("acme", "ci") },
    ] {
        let error = file.create(wrong, now()).unwrap_err();
        assert!(matches!(error, KeysFileError::Unusable(_)), "{error}");
    }
    let whole = created.key.expose_secret().replace(&created.entry.id, "000000000000");
    let said = file.revoke(&whole, now()).unwrap_err().to_string();
    assert!(said.contains("`000000000000`") && !said.contains(whole.rsplit('_').next().unwrap()), "{said}");
    assert_eq!(fs::read(file.path()).unwrap(), before);
    fs::write(file.path(), "[[keys]]\nid = 7\n").unwrap();
    assert!(matches!(file.create(new("acme", "ci"), now()), Err(KeysFileError::Invalid { .. })));
    assert_eq!(fs::read(file.path()).unwrap(), b"[[keys]]\nid = 7\n");
}

#[test]
fn no_edit_is_lost_when_many_edit_at_once() {
    let (file, _directory) = file();
    std::thread::scope(|scope| {
        for editor in 0..8 {
            let file = &file;
            scope.spawn(move || {
                for number in 0..5 {
                    file.create(new("acme", &format!("{editor}-{number}")), now()).unwrap();
                }
            });
        }
    });
    assert_eq!(file.list().unwrap().len(), 40);
}
