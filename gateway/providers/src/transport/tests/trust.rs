//! Whom a connection trusts and what it shows of itself.

use super::servers::{Authority, https};
use super::*;
use crate::SendError;

#[tokio::test]
async fn a_further_authority_is_trusted_and_without_it_nobody_is() {
    let authority = Authority::new();
    let server = https(authority.acceptor(&["h2"], None), 1).await;
    let network = Network { authorities: authority.anchors(), ..Network::default() };
    assert_eq!(ask(&transport(nobody(), network), &server.uri).await.unwrap(), Version::HTTP_2);
    for roots in [nobody(), Authority::new().roots()] {
        let error = ask(&transport(roots, Network::default()), &server.uri).await.unwrap_err();
        assert!(matches!(error, SendError::Tls { .. }), "{error:?}");
        assert!(!error.is_retryable());
    }
    assert_eq!(server.requests.load(Ordering::Relaxed), 1);
    assert_eq!(server.connections.load(Ordering::Relaxed), 3, "both refusals met the server");
}

#[tokio::test]
async fn a_further_authority_does_not_replace_those_of_the_machine() {
    let (machine, other) = (Authority::new(), Authority::new());
    let server = https(machine.acceptor(&["h2"], None), 1).await;
    let network = Network { authorities: other.anchors(), ..Network::default() };
    assert_eq!(ask(&transport(machine.roots(), network), &server.uri).await.unwrap(), Version::HTTP_2);
}

#[tokio::test]
async fn a_client_certificate_opens_the_door_and_nothing_else_does() {
    let (authority, clients) = (Authority::new(), Authority::new());
    for protocol in ["h2", "http/1.1"] {
        let server = https(authority.acceptor(&[protocol], Some(&clients)), 1).await;
        let identity = |identity| Network { identity, ..Network::default() };
        let known = transport(authority.roots(), identity(Some(clients.identity())));
        ask(&known, &server.uri).await.unwrap();
        for wrong in [None, Some(Authority::new().identity())] {
            let error = ask(&transport(authority.roots(), identity(wrong)), &server.uri).await.unwrap_err();
            assert!(matches!(error, SendError::Tls { .. }), "{protocol}: {error:?}");
            assert!(!error.is_retryable());
        }
        assert_eq!(server.requests.load(Ordering::Relaxed), 1, "{protocol}");
        assert_eq!(server.connections.load(Ordering::Relaxed), 3, "{protocol}");
    }
}
