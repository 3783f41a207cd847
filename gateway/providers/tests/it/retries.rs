//! What is repeated, how often, after which wait.

use std::time::Duration;

use gateway_providers::{Fault, SendError, Step};
use gateway_testkit::{Gate, Reply, Upstream};
use http::StatusCode;
use serde_json::json;
use test_clock::paused;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use crate::harness::{BODY_MAX, provider, send};

fn status(status: u16) -> Reply {
    Reply::json(status, &json!({"error": {"message": "no"}}))
}

async fn upstream(replies: impl IntoIterator<Item = Reply>) -> Upstream {
    let upstream = Upstream::start().await.unwrap();
    for reply in replies {
        upstream.push(reply);
    }
    upstream
}

#[test]
fn server_errors_are_repeated_and_the_last_answer_is_handed_over() {
    paused(async {
        for (first, repeated) in
            [(500, true), (502, true), (503, true), (504, true), (400, false), (401, false)]
        {
            let mut script = vec![status(first); 5];
            script.push(status(200));
            let upstream = upstream(script).await;
            let provider = provider(&upstream.base_url(), "env_key = \"TEST_KEY\"");
            let answer = send(&provider).await.unwrap();
            assert_eq!(answer.status, first);
            assert_eq!(answer.attempts, if repeated { 5 } else { 1 }, "{first}");
            assert_eq!(upstream.requests().len(), if repeated { 5 } else { 1 }, "{first}");
            let body = answer.body.collect(BODY_MAX).await.unwrap();
            assert_eq!(body, r#"{"error":{"message":"no"}}"#);
        }
    })
    .unwrap();
}

#[test]
fn other_refusals_are_not_repeated() {
    paused(async {
        for first in [403, 404, 408, 409, 413, 429, 501, 505, 529] {
            let upstream = upstream([status(first), status(200)]).await;
            let answer = send(&provider(&upstream.base_url(), "")).await.unwrap();
            assert_eq!((answer.status.as_u16(), answer.attempts), (first, 1));
        }
    })
    .unwrap();
}

#[test]
fn waits_double_and_vary_by_a_tenth() {
    paused(async {
        let upstream = upstream([status(500), status(500), status(500), status(200)]).await;
        let provider = provider(&upstream.base_url(), "request_max_retries = 3");
        let began = Instant::now();
        let answer = send(&provider).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.attempts), (200, 4));
        // 200, 400 and 800 ms; the timer rounds each up to the next millisecond.
        let waited = began.elapsed();
        assert!((1260..=1545).contains(&waited.as_millis()), "{waited:?}");
        assert!(answer.timing.total >= waited - Duration::from_millis(1), "{:?}", answer.timing);
        assert!(answer.timing.last_attempt < Duration::from_millis(100), "{:?}", answer.timing);
    })
    .unwrap();
}

#[test]
fn connections_that_break_before_an_answer_are_repeated() {
    paused(async {
        let upstream = upstream([Reply::reset(), Reply::close(), status(200)]).await;
        let answer = send(&provider(&upstream.base_url(), "")).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.attempts), (200, 3));
        let upstream = self::upstream([Reply::reset(), status(200)]).await;
        let error = send(&provider(&upstream.base_url(), "request_max_retries = 0")).await.unwrap_err();
        assert!(matches!(error, SendError::ClosedBeforeHeaders { .. }), "{error:?}");
        assert_eq!((error.fault(), error.is_retryable()), (Fault::Upstream, true));
        assert_eq!(upstream.requests().len(), 1);
    })
    .unwrap();
}

#[test]
fn nobody_listens() {
    paused(async {
        let upstream = upstream([]).await;
        let base_url = upstream.base_url();
        upstream.shutdown().await;
        let error = send(&provider(&base_url, "")).await.unwrap_err();
        assert!(matches!(error, SendError::Connect { .. }), "{error:?}");
        assert_eq!((error.fault(), error.is_retryable()), (Fault::Upstream, true));
    })
    .unwrap();
}

#[test]
fn what_is_not_http_is_told_and_not_repeated() {
    paused(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            socket.read_u8().await.unwrap();
            socket.write_all(b"SSH-2.0-OpenSSH_9.2\r\n\r\n").await.unwrap();
            // A second connection is not accepted, so a repeat would be seen as silence.
            std::future::pending::<()>().await;
        });
        let error = send(&provider(&base_url, "")).await.unwrap_err();
        assert!(matches!(error, SendError::Malformed { .. }), "{error:?}");
        assert!(!error.is_retryable());
    })
    .unwrap();
}

#[test]
fn a_short_retry_after_is_waited_for_exactly() {
    paused(async {
        let upstream = upstream([status(503).header("retry-after", "3"), status(200)]).await;
        let began = Instant::now();
        let answer = send(&provider(&upstream.base_url(), "")).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.attempts), (200, 2));
        let waited = began.elapsed().as_millis();
        assert!((3000..3050).contains(&waited), "{waited}");
    })
    .unwrap();
}

#[test]
fn a_retry_after_that_is_long_or_unreadable_is_handed_on() {
    paused(async {
        for value in ["6", "120", "5.5", "Wed, 21 Oct 2099 07:28:00 GMT", "soon", "-1"] {
            let upstream = upstream([status(503).header("retry-after", value), status(200)]).await;
            let answer = send(&provider(&upstream.base_url(), "")).await.unwrap();
            assert_eq!((answer.status.as_u16(), answer.attempts), (503, 1), "{value}");
            assert_eq!(answer.headers["retry-after"], value);
        }
    })
    .unwrap();
}

#[test]
fn a_provider_that_always_fails_gets_no_multiple_of_its_load() {
    paused(async {
        let upstream = upstream([]).await;
        upstream.set_default(status(500));
        let provider = provider(&upstream.base_url(), "");
        for _ in 0..200 {
            assert_eq!(send(&provider).await.unwrap().status, StatusCode::INTERNAL_SERVER_ERROR);
        }
        assert_eq!(upstream.requests().len(), 200 + 32);
        upstream.set_default(status(200));
        for _ in 0..5 {
            send(&provider).await.unwrap();
        }
        upstream.set_default(status(500));
        assert_eq!(send(&provider).await.unwrap().attempts, 2, "five good answers earn one repeat");
        assert_eq!(send(&provider).await.unwrap().attempts, 1);
    })
    .unwrap();
}

#[test]
fn a_provider_that_takes_the_call_and_is_silent_is_given_up_once() {
    paused(async {
        let upstream = upstream([status(200).delay_headers(&Gate::closed())]).await;
        let provider = provider(&upstream.base_url(), "stream_idle_timeout_ms = 7000");
        let began = Instant::now();
        let error = send(&provider).await.unwrap_err();
        assert!(
            matches!(error, SendError::Timeout { limit } if limit == Duration::from_secs(7)),
            "{error:?}"
        );
        assert!(error.is_retryable());
        assert_eq!(began.elapsed().as_secs(), 7);
        assert_eq!(upstream.requests().len(), 1);
    })
    .unwrap();
}

#[test]
fn a_handshake_that_never_ends_is_given_up() {
    paused(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("https://{}/v1", listener.local_addr().unwrap());
        let began = Instant::now();
        let error = send(&provider(&base_url, "request_max_retries = 1")).await.unwrap_err();
        assert!(matches!(error, SendError::ConnectTimeout { step: Step::Tls }), "{error:?}");
        assert_eq!((error.fault(), error.is_retryable()), (Fault::Upstream, true));
        assert_eq!(began.elapsed().as_secs(), 20, "two attempts of ten seconds");
    })
    .unwrap();
}
