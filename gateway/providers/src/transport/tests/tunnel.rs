//! Through a proxy: what it is told, what it may answer, what goes around it.

use std::error::Error;
use std::io;
use std::sync::Mutex;

use http::StatusCode;
use test_clock::paused;
use tokio::time::Instant;
use tracing_subscriber::fmt::MakeWriter;

use super::servers::{Authority, Manner, https, proxy};
use super::*;
use crate::{SendError, Step};

/// `user:p@ss`, as a URL and as `Basic` carry it.
const USERINFO: &str = "user:p%40ss-canary";
const BASIC: &str = "Basic dXNlcjpwQHNzLWNhbmFyeQ==";
/// What must not be seen anywhere.
const SECRETS: [&str; 4] = ["p%40ss", "p@ss", "canary", "dXNlcjpw"];

fn through(proxy: &str) -> Network {
    Network { proxy: Some(Proxy::parse(proxy).unwrap()), ..Network::default() }
}

#[tokio::test]
async fn http_2_over_tls_through_a_tunnel_with_a_credential() {
    let authority = Authority::new();
    let server = https(authority.acceptor(&["h2"], None), 1).await;
    for secure in [false, true] {
        let acceptor = secure.then(|| authority.acceptor(&["http/1.1"], None));
        let proxy = proxy(Manner::Tunnel, acceptor).await;
        let scheme = if secure { "https" } else { "http" };
        let network = through(&format!("{scheme}://{USERINFO}@localhost:{}", proxy.port));
        let transport = transport(authority.roots(), network);
        for _ in 0..2 {
            assert_eq!(ask(&transport, &server.uri).await.unwrap(), Version::HTTP_2);
        }
        let heads = proxy.heads.lock().unwrap();
        assert_eq!(heads.len(), 1, "one tunnel carries both calls");
        let target = server.uri.authority().unwrap();
        let line = format!("CONNECT {target} HTTP/1.1\r\n");
        assert!(heads[0].starts_with(&line), "{heads:?}");
        let head = heads[0].to_ascii_lowercase();
        assert!(head.contains(&format!("\r\nhost: {target}\r\n")), "{head}");
        assert!(heads[0].contains(&format!(": {BASIC}\r\n")) && head.contains("\r\nproxy-authorization: "));
    }
    assert_eq!(server.requests.load(Ordering::Relaxed), 4);
}

#[tokio::test]
async fn a_client_certificate_is_shown_to_the_provider_and_not_to_the_proxy() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let server = https(authority.acceptor(&["h2"], Some(&clients)), 1).await;
    let open = proxy(Manner::Tunnel, Some(authority.acceptor(&[], None))).await;
    let curious = proxy(Manner::Tunnel, Some(authority.acceptor(&[], Some(&clients)))).await;
    let at = |port| Network {
        identity: Some(clients.identity()),
        ..through(&format!("https://localhost:{port}"))
    };
    ask(&transport(authority.roots(), at(open.port)), &server.uri).await.unwrap();
    let error = ask(&transport(authority.roots(), at(curious.port)), &server.uri).await.unwrap_err();
    assert!(matches!(error, SendError::Proxy { status: None, .. }), "{error:?}");
    assert_eq!((open.heads.lock().unwrap().len(), curious.heads.lock().unwrap().len()), (1, 0));
}

#[tokio::test]
async fn what_a_proxy_answers_is_told_apart() {
    let refused = |status: u16| Some(StatusCode::from_u16(status).unwrap());
    let table = [
        (
            Manner::Say("HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"),
            refused(407),
            false,
        ),
        (Manner::Say("HTTP/1.1 403 Forbidden\r\nContent-Length: 100\r\n\r\nno"), refused(403), false),
        (Manner::Say("HTTP/1.1 502 Bad Gateway\r\n\r\n"), refused(502), true),
        (Manner::Say("HTTP/1.1 301 Moved\r\nLocation: http://elsewhere/\r\n\r\n"), refused(301), false),
        (Manner::Say("SSH-2.0-OpenSSH_9.2\r\n\r\n"), None, true),
        (Manner::Say("HTTP/1.1 200"), None, true),
        (Manner::Close, None, true),
    ];
    let mut met = 0;
    for (manner, expected, retryable) in table {
        let proxy = proxy(manner, None).await;
        let transport = transport(nobody(), through(&format!("http://{USERINFO}@127.0.0.1:{}", proxy.port)));
        let error = ask(&transport, &"https://provider.example/v1".parse().unwrap()).await.unwrap_err();
        assert!(
            matches!(&error, SendError::Proxy { status, .. } if *status == expected),
            "{manner:?}: {error:?}"
        );
        assert_eq!(error.is_retryable(), retryable, "{manner:?}");
        met += proxy.heads.lock().unwrap().len();
    }
    assert_eq!(met, 7, "every proxy was asked once");
}

#[test]
fn one_limit_holds_over_all_steps_and_the_step_is_named() {
    paused(async {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = silent.local_addr().unwrap().port();
        let hanging = proxy(Manner::Hang, None).await;
        let late = proxy(Manner::Late(Duration::from_secs(7)), None).await;
        let plain = format!("http://127.0.0.1:{}", hanging.port);
        let table = [
            (Network::default(), format!("https://127.0.0.1:{port}/"), Step::Tls),
            (through(&plain), "https://provider.example/".to_owned(), Step::Proxy),
            (through(&plain), "http://provider.example/".to_owned(), Step::Proxy),
            (
                through(&format!("https://127.0.0.1:{port}")),
                "https://provider.example/".to_owned(),
                Step::Tls,
            ),
            // What an earlier step has used up is not there for the next.
            (
                through(&format!("http://127.0.0.1:{}", late.port)),
                "https://provider.example/".to_owned(),
                Step::Tls,
            ),
        ];
        for (network, uri, expected) in table {
            let began = Instant::now();
            let error = ask(&transport(nobody(), network), &uri.parse().unwrap()).await.unwrap_err();
            assert!(
                matches!(error, SendError::ConnectTimeout { step } if step == expected),
                "{uri}: {error:?}"
            );
            assert_eq!(began.elapsed().as_secs(), 10);
        }
        assert_eq!(hanging.heads.lock().unwrap().len(), 2);
    })
    .unwrap();
}

#[tokio::test]
async fn a_name_without_an_address_and_a_closed_port_have_errors_of_their_own() {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let nowhere: Uri = "https://nowhere.invalid/".parse().unwrap();
    let refused: Uri = format!("https://{closed}/").parse().unwrap();
    let direct = || transport(nobody(), Network::default());
    let error = ask(&direct(), &nowhere).await.unwrap_err();
    assert!(matches!(error, SendError::Resolve { .. }), "{error:?}");
    let error = ask(&direct(), &refused).await.unwrap_err();
    assert!(matches!(error, SendError::Connect { .. }), "{error:?}");
    for proxy in ["http://nowhere.invalid:1".to_owned(), format!("http://{closed}")] {
        let error = ask(&transport(nobody(), through(&proxy)), &refused).await.unwrap_err();
        assert!(matches!(error, SendError::Proxy { status: None, .. }), "{error:?}");
        assert!(error.is_retryable());
    }
}

#[tokio::test]
async fn a_listed_host_is_reached_around_the_proxy_and_calls_without_tls_go_through_it() {
    let authority = Authority::new();
    let server = https(authority.acceptor(&["h2"], None), 1).await;
    let port = server.uri.port_u16().unwrap();
    for (rule, tunnels) in [("localhost", 0), ("127.0.0.0/8", 1), ("localhost:1", 1)] {
        let proxy = proxy(Manner::Tunnel, None).await;
        let no_proxy = [Rule::parse(rule).unwrap()].into_iter().collect();
        let network = Network { no_proxy, ..through(&format!("http://127.0.0.1:{}", proxy.port)) };
        let transport = transport(authority.roots(), network);
        ask(&transport, &server.uri).await.unwrap();
        let plain = format!("http://provider.example:{port}/").parse().unwrap();
        in_time(transport.dialer().connect(&plain, Alpn::WebSocket)).await.unwrap();
        let heads = proxy.heads.lock().unwrap();
        assert_eq!(heads.len(), tunnels + 1, "{rule}");
        assert!(heads[tunnels].starts_with(&format!("CONNECT provider.example:{port} ")), "{heads:?}");
    }
}

#[test]
fn an_address_of_a_proxy_is_a_scheme_a_host_and_a_port() {
    for (text, host, port, secure) in [
        ("http://proxy:3128", "proxy", 3128, false),
        ("http://proxy", "proxy", 80, false),
        (" https://PROXY.example/ ", "proxy.example", 443, true),
        ("http://[::1]:8080", "::1", 8080, false),
        ("http://a:b@10.0.0.1:1", "10.0.0.1", 1, false),
    ] {
        let proxy = Proxy::parse(text).unwrap();
        assert_eq!((&*proxy.host, proxy.port, proxy.secure), (host, port, secure), "{text}");
    }
    for text in [
        "",
        "proxy",
        "proxy:3128",
        "10.0.0.1:3128",
        "socks5://proxy:1080",
        "http://proxy/path",
        "http://proxy?a=b",
        "http://proxy#a",
        "http://",
        "http://proxy:0",
        "http://proxy:99999",
        "http://a%3Ab:c@proxy",
        "ftp://proxy",
    ] {
        let reason = Proxy::parse(text).unwrap_err();
        assert!(text.is_empty() || !reason.contains(text), "{text}");
    }
}

/// Everything that was traced.
#[derive(Clone, Default)]
struct Traced(Arc<Mutex<Vec<u8>>>);

impl io::Write for Traced {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(text)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Traced {
    type Writer = Traced;

    fn make_writer(&self) -> Traced {
        self.clone()
    }
}

#[tokio::test]
async fn the_credential_of_a_proxy_is_never_printed() {
    let traced = Traced::default();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(traced.clone());
    let _guard = tracing::subscriber::set_default(subscriber.finish());
    let authority = Authority::new();
    let server = https(authority.acceptor(&["h2"], None), 1).await;
    let mut printed = String::new();
    let mut sent = 0;
    for manner in
        [Manner::Tunnel, Manner::Close, Manner::Say("HTTP/1.1 407 No\r\n\r\n"), Manner::Say("x\r\n\r\n")]
    {
        let proxy = proxy(manner, None).await;
        let address = format!("http://{USERINFO}@127.0.0.1:{}", proxy.port);
        printed.push_str(&format!("{:?}", Proxy::parse(&address).unwrap()));
        if let Err(error) = ask(&transport(authority.roots(), through(&address)), &server.uri).await {
            let mut next: Option<&dyn Error> = Some(&error);
            while let Some(error) = next {
                printed.push_str(&format!("{error:?} {error}\n"));
                tracing::warn!(error, "failed");
                next = error.source();
            }
        }
        sent += proxy.heads.lock().unwrap().iter().filter(|head| head.contains(BASIC)).count();
    }
    assert_eq!(sent, 4, "it was really sent");
    let traced = String::from_utf8(traced.0.lock().unwrap().clone()).unwrap();
    assert!(traced.contains("hyper_util") && traced.contains("failed"), "{traced}");
    for secret in SECRETS {
        assert!(!printed.contains(secret) && !traced.contains(secret), "{secret} in {printed}{traced}");
    }
}
