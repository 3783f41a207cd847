//! Binding: what is refused, what is replaced, and what is left behind.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;

use service_runtime::Exit;
use service_runtime::cli::chain;
use service_runtime::listen::{Address, Error, Exposure, Listener, Peer};
use tokio::net::{UnixListener, UnixStream};

use crate::support::{loopback, within};

async fn bind(address: &Address) -> Result<Listener, Error> {
    within(Listener::bind(address, Exposure::LoopbackOnly)).await
}

fn unix(path: &Path) -> Address {
    Address::Unix(path.to_owned())
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn a_reachable_address_needs_authentication() {
    for text in ["0.0.0.0:0", "[::]:0", "192.0.2.1:4100", "[2001:db8::1]:4100"] {
        let error = bind(&text.parse().unwrap()).await.unwrap_err();
        assert!(matches!(error, Error::Exposed { .. }), "{text}: {error}");
        assert!(error.to_string().contains("caller authentication is not configured"), "{error}");
        assert_eq!(error.exit(), Exit::Config);
    }
    let allowed = Listener::bind(&"127.0.0.1:0".parse().unwrap(), Exposure::Allowed).await.unwrap();
    assert_ne!(allowed.address().to_string(), "127.0.0.1:0", "the real port is told");
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let first = loopback().await;
    let error = bind(first.address()).await.unwrap_err();
    assert_eq!(chain(&error), format!("cannot listen on {}: another process is using it", first.address()));
    assert_eq!(error.exit(), Exit::Unavailable);
    let address = first.address().clone();
    drop(first);
    bind(&address).await.unwrap();
}

#[tokio::test]
async fn a_socket_is_private_and_removed_at_the_end() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("a").join("b");
    let path = directory.join("s.sock");
    let listener = bind(&unix(&path)).await.unwrap();
    assert_eq!((mode(&path), mode(&directory)), (0o600, 0o700));
    let (client, accepted) = tokio::join!(UnixStream::connect(&path), within(listener.accept()));
    client.unwrap();
    assert_eq!(accepted.unwrap().1, Peer::Unix);
    drop(listener);
    assert!(!path.exists());
    let left: Vec<_> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["s.sock.lock"], "only the lock file stays");
}

#[tokio::test]
async fn a_stale_socket_is_replaced() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("s.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(fs::metadata(&path).unwrap().file_type().is_socket(), "a killed server leaves its file");
    let listener = bind(&unix(&path)).await.unwrap();
    assert_eq!(mode(&path), 0o600);
    let (client, accepted) = tokio::join!(UnixStream::connect(&path), within(listener.accept()));
    assert!(client.is_ok() && accepted.is_ok());
}

#[tokio::test]
async fn a_live_socket_is_left_alone() {
    let root = tempfile::tempdir().unwrap();
    // One of ours holds the lock; a foreign server answers.
    let ours = root.path().join("ours.sock");
    let listener = bind(&unix(&ours)).await.unwrap();
    assert!(matches!(bind(&unix(&ours)).await, Err(Error::InUse { .. })));
    assert!(ours.exists());
    drop(listener);
    bind(&unix(&ours)).await.unwrap();

    let foreign = root.path().join("foreign.sock");
    let _other = UnixListener::bind(&foreign).unwrap();
    assert!(matches!(bind(&unix(&foreign)).await, Err(Error::InUse { .. })));
    assert!(UnixStream::connect(&foreign).await.is_ok());
}

#[tokio::test]
async fn the_lock_decides_between_two_starts_over_a_stale_socket() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("s.sock");
    drop(UnixListener::bind(&path).unwrap());
    let other = fs::File::create(root.path().join("s.sock.lock")).unwrap();
    other.lock().unwrap();
    assert!(matches!(bind(&unix(&path)).await, Err(Error::InUse { .. })));
    drop(other);
    bind(&unix(&path)).await.unwrap();
}

#[tokio::test]
async fn files_that_are_not_sockets_are_left_alone() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("notes.txt");
    fs::write(&path, "mine").unwrap();
    let error = bind(&unix(&path)).await.unwrap_err();
    assert!(matches!(error, Error::NotASocket { .. }), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    let long = root.path().join("x".repeat(120));
    assert!(matches!(bind(&unix(&long)).await, Err(Error::PathTooLong { .. })));
}

#[tokio::test]
async fn only_our_own_file_is_removed() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("s.sock");
    let listener = bind(&unix(&path)).await.unwrap();
    fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    drop(listener);
    assert!(UnixStream::connect(&path).await.is_ok(), "another server's socket was removed");
}
