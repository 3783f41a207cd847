//! Files that change while callers are asked: keys, public keys, secrets.

use std::{
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use secrecy::ExposeSecret as _;
use tidegate_callers::{Callers, CreatedKey, KeysFile, NewKey, Refusal};
use tokio::time::Instant;

use crate::{
    signer::{Signer, claims, jwks},
    support::{NOW, in_time, named, now, show, try_build, watch, who},
};

/// How long a change may take to become effective.
const EFFECTIVE_MAX: Duration = Duration::from_secs(1);

fn new(tenant: &str) -> NewKey {
    NewKey {
        tenant: tenant.to_owned(),
        subject: "ci".to_owned(),
        scopes: vec!["ci".to_owned()],
        ..NewKey::default()
    }
}

fn shown(created: &CreatedKey) -> String {
    created.key.expose_secret().to_owned()
}

/// Asks until the answer is as expected, and tells how long that took.
async fn becomes(callers: &Callers, token: &str, expected: Result<(String, String), Refusal>) -> Duration {
    let start = Instant::now();
    while who(show(callers, token).await) != expected {
        assert!(start.elapsed() < Duration::from_secs(20), "it never becomes {expected:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    start.elapsed()
}

#[tokio::test]
async fn keys_are_made_and_taken_back_within_a_second() {
    in_time(async {
        let directory = tempfile::tempdir().unwrap();
        let file = KeysFile::at(directory.path().join("keys.toml"));
        let first = file.create(new("acme"), now()).unwrap();
        let text = "[authentication]\nkeys_file = \"keys.toml\"\n";
        let callers = try_build(None, text, directory.path()).unwrap();
        let _watch = watch(&callers);
        let caller = show(&callers, &shown(&first)).await.unwrap();
        assert_eq!(caller.principal.scopes.to_vec(), vec![Box::from("ci")]);
        let second = file.create(new("beta"), now()).unwrap();
        assert!(becomes(&callers, &shown(&second), named("beta", "ci")).await < EFFECTIVE_MAX);
        file.revoke(&second.entry.id, now()).unwrap();
        assert!(becomes(&callers, &shown(&second), Err(Refusal::RevokedKey)).await < EFFECTIVE_MAX);
        assert!(show(&callers, &shown(&first)).await.is_ok());
    })
    .await;
}

#[tokio::test]
async fn a_broken_or_missing_file_changes_nothing_and_is_told() {
    in_time(async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.toml");
        let file = KeysFile::at(&path);
        let key = shown(&file.create(new("acme"), now()).unwrap());
        let text = "[authentication]\nkeys_file = \"keys.toml\"\n";
        let callers = try_build(None, text, directory.path()).unwrap();
        let _watch = watch(&callers);
        let good = std::fs::read_to_string(&path).unwrap();
        let short = format!("{good}\n  broken = ");
        let at_its_end = format!("line {}, column ", short.lines().count());
        for (bad, place) in [
            ("[[keys]]\nid = \"broken\"\n", "line 1, column 1: "),
            ("not toml", "line 1, column "),
            (&short, at_its_end.as_str()),
            (&good.replace("acme", "a/b"), "the tenant of"),
        ] {
            std::fs::write(&path, bad).unwrap();
            crate::support::until(|| !callers.troubles().is_empty()).await;
            let trouble = callers.troubles().remove(0);
            assert!(trouble.of_file && trouble.message.starts_with(place), "{trouble:?}");
            assert_eq!(who(show(&callers, &key).await), named("acme", "ci"));
            std::fs::write(&path, &good).unwrap();
            crate::support::until(|| callers.troubles().is_empty()).await;
        }
        std::fs::rename(&path, directory.path().join("gone")).unwrap();
        crate::support::until(|| !callers.troubles().is_empty()).await;
        assert_eq!(who(show(&callers, &key).await), named("acme", "ci"));
        std::fs::rename(directory.path().join("gone"), &path).unwrap();
        crate::support::until(|| callers.troubles().is_empty()).await;
    })
    .await;
}

/// Puts `text` where a mounted config map would: behind a link to a directory that is swapped.
fn mount(directory: &Path, generation: &str, text: &str) {
    let data = directory.join(generation);
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("keys.json"), text).unwrap();
    std::os::unix::fs::symlink(generation, directory.join("new")).unwrap();
    std::fs::rename(directory.join("new"), directory.join("data")).unwrap();
}

#[tokio::test]
async fn a_swapped_link_brings_new_public_keys_and_drops_what_the_old_ones_signed() {
    in_time(async {
        let directory = tempfile::tempdir().unwrap();
        let (old, kept, fresh) = (Signer::p256("old"), Signer::p256("kept"), Signer::p256("fresh"));
        mount(directory.path(), "g1", &jwks(&[&old, &kept]).to_string());
        let text = "[[authentication.issuers]]\nname = \"corp\"\nissuer = \"https://issuer.example\"\n\
                    audience = \"tidegate\"\njwks_file = \"data/keys.json\"\n\
                    [[callers]]\nissuer = \"corp\"\ntenant_claim = \"tenant\"\n";
        let callers = try_build(None, text, directory.path()).unwrap();
        let _watch = watch(&callers);
        let tokens = [&old, &kept, &fresh].map(|signer| signer.token(&claims()));
        assert!(show(&callers, &tokens[0]).await.is_ok() && show(&callers, &tokens[1]).await.is_ok());
        assert_eq!(show(&callers, &tokens[2]).await.map(drop), Err(Refusal::UnknownSigningKey));
        mount(directory.path(), "g2", &jwks(&[&kept, &fresh]).to_string());
        assert!(becomes(&callers, &tokens[2], named("acme", "ada")).await < EFFECTIVE_MAX);
        assert_eq!(show(&callers, &tokens[0]).await.map(drop), Err(Refusal::UnknownSigningKey));
        assert!(show(&callers, &tokens[1]).await.is_ok());
    })
    .await;
}

#[tokio::test]
async fn a_secret_s_file_is_followed() {
    in_time(async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        std::fs::write(&path, "a secret that is at least 32 bytes long\n").unwrap();
        let text = "[[authentication.issuers]]\nname = \"corp\"\nissuer = \"https://issuer.example\"\n\
                    audience = \"tidegate\"\nsecret_file = \"secret\"\n\
                    [[callers]]\nissuer = \"corp\"\ntenant_claim = \"tenant\"\n";
        let callers = try_build(None, text, directory.path()).unwrap();
        let _watch = watch(&callers);
        let token = Signer::secret().token(&claims());
        assert!(show(&callers, &token).await.is_ok());
        std::fs::write(&path, "another secret that is at least 32 bytes long\n").unwrap();
        assert!(becomes(&callers, &token, Err(Refusal::BadSignature)).await < EFFECTIVE_MAX);
    })
    .await;
}

#[tokio::test]
async fn a_row_replaces_what_the_file_says_of_a_key() {
    let directory = tempfile::tempdir().unwrap();
    let file = KeysFile::at(directory.path().join("keys.toml"));
    let (one, two) = (file.create(new("acme"), now()).unwrap(), file.create(new("acme"), now()).unwrap());
    let text = format!(
        "[authentication]\nkeys_file = \"keys.toml\"\n[[callers]]\nkey = \"{}\"\ntenant = \"other\"\n",
        one.entry.id
    );
    let callers = try_build(None, &text, directory.path()).unwrap();
    assert_eq!(who(show(&callers, &shown(&one)).await), named("other", &one.entry.id));
    assert_eq!(who(show(&callers, &shown(&two)).await), named("acme", "ci"));
}

#[tokio::test]
async fn a_key_expires_and_only_its_holder_learns_why() {
    let directory = tempfile::tempdir().unwrap();
    let file = KeysFile::at(directory.path().join("keys.toml"));
    let made = UNIX_EPOCH + Duration::from_secs(NOW - 100);
    let end = |time: SystemTime| Some(time.into());
    let expired = file.create(NewKey { expires_at: end(now()), ..new("acme") }, made).unwrap();
    let later = now() + Duration::from_secs(1);
    let valid = file.create(NewKey { expires_at: end(later), ..new("acme") }, made).unwrap();
    let revoked = file.create(new("acme"), made).unwrap();
    file.revoke(&revoked.entry.id, now()).unwrap();
    let callers = try_build(None, "[authentication]\nkeys_file = \"keys.toml\"\n", directory.path()).unwrap();
    assert_eq!(show(&callers, &shown(&expired)).await.map(drop), Err(Refusal::ExpiredKey));
    assert!(show(&callers, &shown(&valid)).await.is_ok());
    assert_eq!(show(&callers, &shown(&revoked)).await.map(drop), Err(Refusal::RevokedKey));
    let guess = format!("tg_{}_{}", revoked.entry.id, "0".repeat(40));
    assert_eq!(show(&callers, &guess).await.map(drop), Err(Refusal::UnknownKey));
}
