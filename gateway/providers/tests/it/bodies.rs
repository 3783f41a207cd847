//! How an answer's body arrives, breaks, is given up and is cancelled.

use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use gateway_providers::{Body, BodyError, Fault};
use gateway_testkit::{Gate, Reply, Upstream, text_turn};
use http::StatusCode;
use http_body::Body as _;
use proptest::prelude::{Just, Strategy, any, prop};
use proptest::test_runner::{Config, TestRunner};
use test_clock::paused;
use tidegate_responses::Usage;
use tokio::time::Instant;

use crate::harness::{BODY_MAX, in_time, provider, send};

async fn next(body: &mut Body) -> Option<Result<Bytes, BodyError>> {
    let frame = in_time(std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx))).await?;
    Some(frame.map(|frame| frame.into_data().unwrap()))
}

fn turn() -> Reply {
    Reply::sse(text_turn(&["Hello", ", ", "wörld"], Usage::default()))
}

#[test]
fn any_cut_gives_the_same_bytes() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let upstream = runtime.block_on(Upstream::start()).unwrap();
    let provider = provider(&upstream.base_url(), "");
    let whole = turn().body().clone();
    let cases = (Just(whole.clone()), prop::collection::vec(1..200_usize, 1..6), any::<bool>());
    let cases = cases.prop_map(|(whole, sizes, sse)| (whole, sizes, sse));
    let mut runner = TestRunner::new(Config { cases: 40, ..Config::default() });
    let result = runner.run(&cases, |(whole, sizes, sse)| {
        let reply = if sse { turn() } else { Reply::bytes(StatusCode::OK, "text/plain", whole.clone()) };
        upstream.push(reply.chunks(&sizes));
        let answer = runtime.block_on(send(&provider)).unwrap();
        let body = runtime.block_on(in_time(answer.body.collect(BODY_MAX))).unwrap();
        assert_eq!(body, whole);
        Ok(())
    });
    result.unwrap();
}

#[tokio::test]
async fn a_large_body_arrives_whole_and_a_limit_holds() {
    let upstream = Upstream::start().await.unwrap();
    let large = Bytes::from(vec![b'x'; 3 * 1024 * 1024]);
    upstream.set_default(Reply::bytes(StatusCode::OK, "application/json", large.clone()));
    let provider = provider(&upstream.base_url(), "");
    let answer = send(&provider).await.unwrap();
    assert_eq!(answer.body.size_hint().exact(), Some(3 * 1024 * 1024));
    assert_eq!(in_time(answer.body.collect(BODY_MAX)).await.unwrap(), large);
    let answer = send(&provider).await.unwrap();
    let error = in_time(answer.body.collect(1024 * 1024)).await.unwrap_err();
    assert!(matches!(error, BodyError::TooLarge { limit: 1_048_576 }), "{error:?}");
}

#[test]
fn a_body_that_breaks_is_told_once_and_then_ends() {
    paused(async {
        for reply in [turn().reset_after(100), turn().close_after(100)] {
            let upstream = Upstream::start().await.unwrap();
            upstream.push(reply);
            let mut body = send(&provider(&upstream.base_url(), "")).await.unwrap().body;
            let mut got = 0;
            let error = loop {
                match next(&mut body).await.unwrap() {
                    Ok(data) => got += data.len(),
                    Err(error) => break error,
                }
            };
            assert!(got <= 100);
            assert!(matches!(error, BodyError::Reset { .. }), "{error:?}");
            assert_eq!((error.fault(), error.is_retryable()), (Fault::Upstream, true));
            assert!(next(&mut body).await.is_none());
            assert_eq!(upstream.requests().len(), 1, "nothing is repeated after the first byte");
        }
    })
    .unwrap();
}

#[test]
fn silence_is_given_up_after_the_limit_and_cancels_the_call() {
    paused(async {
        let upstream = Upstream::start().await.unwrap();
        upstream.push(turn().stall_after(200, &Gate::closed()));
        let mut body =
            send(&provider(&upstream.base_url(), "stream_idle_timeout_ms = 4000")).await.unwrap().body;
        let mut heard = Instant::now();
        let error = loop {
            match next(&mut body).await.unwrap() {
                Ok(_) => heard = Instant::now(),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, BodyError::Idle { limit } if limit == Duration::from_secs(4)), "{error:?}");
        assert_eq!(heard.elapsed().as_secs(), 4);
        assert!(next(&mut body).await.is_none());
        tokio::time::resume();
        upstream.wait_cancelled(1).await.unwrap();
    })
    .unwrap();
}

#[test]
fn the_limit_counts_each_silence_anew_and_never_a_slow_reader() {
    paused(async {
        let upstream = Upstream::start().await.unwrap();
        let (first, second) = (Gate::closed(), Gate::closed());
        upstream.push(turn().stall_after(100, &first).stall_after(300, &second));
        let mut body =
            send(&provider(&upstream.base_url(), "stream_idle_timeout_ms = 4000")).await.unwrap().body;
        let mut got = 0;
        while got < 100 {
            got += next(&mut body).await.unwrap().unwrap().len();
        }
        // Nobody reads for longer than the limit: that is not the provider's silence.
        tokio::time::sleep(Duration::from_secs(9)).await;
        for gate in [first, second] {
            let waits =
                std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut body).poll_frame(cx).is_pending())).await;
            assert!(waits);
            tokio::time::sleep(Duration::from_secs(3)).await;
            let waits =
                std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut body).poll_frame(cx).is_pending())).await;
            assert!(waits, "three of four seconds");
            gate.open();
            let until = if got < 300 { 300 } else { usize::MAX };
            while got < until {
                match next(&mut body).await {
                    Some(data) => got += data.unwrap().len(),
                    None => break,
                }
            }
        }
        assert_eq!(got, turn().body().len());
    })
    .unwrap();
}

#[tokio::test]
async fn dropping_the_body_cancels_the_call() {
    let upstream = Upstream::start().await.unwrap();
    upstream.push(turn().stall_after(200, &Gate::closed()));
    let mut body = send(&provider(&upstream.base_url(), "")).await.unwrap().body;
    next(&mut body).await.unwrap().unwrap();
    drop(body);
    upstream.wait_cancelled(1).await.unwrap();
}

#[tokio::test]
async fn dropping_the_call_cancels_it_too() {
    let upstream = Upstream::start().await.unwrap();
    upstream.push(turn().delay_headers(&Gate::closed()));
    let provider = provider(&upstream.base_url(), "");
    tokio::select! {
        _ = send(&provider) => panic!("the headers are held back"),
        seen = upstream.wait_for_request(1) => drop(seen.unwrap()),
    }
    upstream.wait_cancelled(1).await.unwrap();
}
