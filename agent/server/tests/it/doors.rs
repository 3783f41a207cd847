//! Who comes in, over WebSocket and gRPC, and what everybody else is told.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use secrecy::ExposeSecret as _;
use serde_json::json;
use tempfile::TempDir;
use tidegate_callers::{Callers, Host, KeysFile, NewKey, WebSocketAuth};
use tidegate_proto::agent::v1::session_service_client::SessionServiceClient;
use tidegate_proto::agent::v1::{CreateThreadRequest, ListThreadsRequest, SubscribeRequest};
use tidegate_proto::failure_of;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Code;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::client::Client;
use crate::house::House;

/// The callers of these tables.
pub(crate) fn of(tables: &str, directory: &Path) -> Callers {
    with(None, tables, directory)
}

fn with(websocket: Option<&WebSocketAuth>, tables: &str, directory: &Path) -> Callers {
    let host = Host { directory, environment: &|_| None, clock: SystemTime::now };
    Callers::build_with(websocket, &toml::from_str(tables).unwrap(), &host).unwrap()
}

/// A file of keys.
pub(crate) struct Keys {
    directory: TempDir,
}

impl Keys {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn file(&self) -> KeysFile {
        KeysFile::at(self.directory.path().join("keys.toml"))
    }

    /// Makes a key for somebody of this tenant.
    pub(crate) fn create(&self, tenant: &str) -> String {
        let new = NewKey { tenant: tenant.to_owned(), subject: "somebody".to_owned(), ..NewKey::default() };
        let created = self.file().create(new, SystemTime::now()).unwrap();
        created.key.expose_secret().to_owned()
    }

    /// Takes a key back.
    fn revoke(&self, key: &str) {
        let id = key.split('_').nth(1).unwrap();
        self.file().revoke(id, SystemTime::now()).unwrap();
    }

    /// Everybody who has a key.
    pub(crate) fn callers(&self) -> Callers {
        of("[authentication]\nkeys_file = \"keys.toml\"\n", self.directory.path())
    }
}

/// The head and body of what is answered to an upgrade with these header lines.
pub(crate) async fn upgrade(at: SocketAddr, lines: &str) -> String {
    let mut stream = TcpStream::connect(at).await.unwrap();
    let request = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: lvcncMcrT1c5rmlTDl3rkg==\r\n{lines}\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = [0; 1_024];
    let mut length = 0;
    let complete = async {
        while !head[..length].windows(4).any(|end| end == b"\r\n\r\n") {
            length += stream.read(&mut head[length..]).await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(5), complete).await.unwrap();
    String::from_utf8_lossy(&head[..length]).into_owned()
}

#[tokio::test]
async fn codex_s_own_answers_are_given_word_for_word() {
    let house = House::new();
    let digest = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    let token = WebSocketAuth::token_sha256(digest).unwrap();
    let at = house.listen_for(with(Some(&token), "", Path::new("")), true).await;
    for (lines, expected) in [
        ("", "missing websocket bearer token"),
        ("Authorization: Bearer x\r\n", "invalid websocket bearer token"),
        ("Authorization: Basic x\r\n", "invalid authorization header"),
        ("Authorization: Bearer\r\n", "invalid authorization header"),
    ] {
        let answer = upgrade(at, lines).await.to_lowercase();
        assert!(answer.starts_with("http/1.1 401 unauthorized\r\n"), "{answer}");
        assert!(answer.ends_with(&format!("\r\n\r\n{expected}")), "{answer}");
        assert!(answer.contains("content-type: text/plain; charset=utf-8\r\n"), "{answer}");
        assert!(!answer.contains("www-authenticate"), "{answer}");
    }
    assert!(upgrade(at, "Authorization: bearer hello\r\n").await.starts_with("HTTP/1.1 101 "));
    // A token in the address is none.
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(b"GET /?token=hello HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut head = [0; 512];
    let length = stream.read(&mut head).await.unwrap();
    // What is no upgrade is told so before anybody is asked.
    assert!(head[..length].starts_with(b"HTTP/1.1 400 Bad Request"));
    let mut client = Client::connect_with(at, "hello").await;
    client.initialize().await;
    client.thread().await;
}

#[tokio::test]
async fn a_desk_needs_no_credential_and_other_listeners_do() {
    let house = House::new();
    let callers = of("", Path::new(""));
    assert!(upgrade(house.listen_for(callers.clone(), true).await, "").await.starts_with("HTTP/1.1 101 "));
    let answer = upgrade(house.listen_for(callers, false).await, "").await;
    assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("no credential"), "{answer}");
    assert!(answer.to_lowercase().contains("www-authenticate: bearer\r\n"), "{answer}");
}

#[tokio::test]
async fn a_revoked_key_ends_its_connections() {
    let house = House::new();
    let keys = Keys::new();
    let (key, other) = (keys.create("acme"), keys.create("acme"));
    let callers = keys.callers();
    let watch = callers.clone();
    house.tasks.spawn(async move { watch.watch().await });
    let at = house.listen_for(callers, false).await;
    let mut revoked = Client::connect_with(at, &key).await;
    revoked.initialize().await;
    let mut stays = Client::connect_with(at, &other).await;
    stays.initialize().await;
    let thread = stays.thread().await;
    let mut grpc = Sessions::with(at, &other).await;
    keys.revoke(&key);
    revoked.until_closed().await;
    let answer = upgrade(at, &format!("Authorization: Bearer {key}\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("revoked"), "{answer}");
    stays.ask("thread/loaded/list", json!({})).await;

    // A stream is ended as well.
    stays.turn(&thread, "hi").await;
    stays.until("turn/completed").await;
    let asked = SubscribeRequest { thread_id: thread, after_sequence: 0 };
    let mut events = grpc.client.subscribe(grpc.request(asked)).await.unwrap().into_inner();
    keys.revoke(&other);
    let ended = async {
        loop {
            match events.message().await {
                Ok(Some(_)) => {}
                end => return end,
            }
        }
    };
    let status = tokio::time::timeout(Duration::from_secs(10), ended).await.unwrap().unwrap_err();
    assert_eq!(
        (status.code(), failure_of(&status).reason.as_str()),
        (Code::Unauthenticated, "unauthenticated")
    );
    stays.until_closed().await;
}

/// A gRPC client with a key.
pub(crate) struct Sessions {
    pub(crate) client: SessionServiceClient<Channel>,
    key: String,
}

impl Sessions {
    pub(crate) async fn with(at: SocketAddr, key: &str) -> Self {
        let channel = Endpoint::from_shared(format!("http://{at}")).unwrap().connect().await.unwrap();
        Self { client: SessionServiceClient::new(channel), key: key.to_owned() }
    }

    pub(crate) fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        let value: MetadataValue<_> = format!("Bearer {}", self.key).parse().unwrap();
        request.metadata_mut().insert("authorization", value);
        request
    }
}

#[tokio::test]
async fn grpc_asks_in_the_same_way() {
    let house = House::new();
    let keys = Keys::new();
    let (ours, theirs) = (keys.create("acme"), keys.create("other"));
    let at = house.listen_for(keys.callers(), false).await;
    let mut ours = Sessions::with(at, &ours).await;
    let mut theirs = Sessions::with(at, &theirs).await;

    let thread = ours.client.create_thread(ours.request(CreateThreadRequest::default())).await.unwrap();
    let thread = thread.into_inner().thread.unwrap().id;
    let asked = SubscribeRequest { thread_id: thread, after_sequence: 0 };
    let status = theirs.client.subscribe(theirs.request(asked)).await.unwrap_err();
    assert_eq!((status.code(), failure_of(&status).reason.as_str()), (Code::NotFound, "thread_not_found"));

    for authorization in [None, Some("Bearer tg_nonsense"), Some("Basic x")] {
        let mut request = tonic::Request::new(ListThreadsRequest::default());
        if let Some(value) = authorization {
            request.metadata_mut().insert("authorization", value.parse().unwrap());
        }
        let status = ours.client.list_threads(request).await.unwrap_err();
        let failure = failure_of(&status);
        assert_eq!((status.code(), failure.reason.as_str()), (Code::Unauthenticated, "unauthenticated"));
    }
    // How the process is may be asked by everybody.
    let channel = Endpoint::from_shared(format!("http://{at}")).unwrap().connect().await.unwrap();
    HealthClient::new(channel).check(HealthCheckRequest::default()).await.unwrap();
}
