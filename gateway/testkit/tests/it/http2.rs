//! The same scripts over HTTP/2 with prior knowledge.

use bytes::Bytes;
use gateway_testkit::{Gate, Reply, Upstream, text_turn};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tidegate_responses::Usage;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::client::within_deadline;

async fn connect(upstream: &Upstream, tasks: &mut JoinSet<()>) -> SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(upstream.address()).await.unwrap();
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tasks.spawn(async move { drop(connection.await) });
    sender
}

fn call(upstream: &Upstream) -> Request<Full<Bytes>> {
    Request::post(format!("{}/responses", upstream.base_url())).body(Full::from("{}")).unwrap()
}

#[tokio::test]
async fn streams_stalls_and_resets_work() {
    within_deadline(async {
        let upstream = Upstream::start().await.unwrap();
        let frames = text_turn(&["Hel", "lo"], Usage::default());
        let gate = Gate::closed();
        upstream.push(Reply::sse(frames.clone()).stall_after(40, &gate));
        upstream.push(Reply::sse(frames.clone()).stall_after(40, &Gate::closed()));
        upstream.push(Reply::sse(frames.clone()).reset_after(40));
        let mut tasks = JoinSet::new();
        let mut sender = connect(&upstream, &mut tasks).await;

        let mut response = sender.send_request(call(&upstream)).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let first = response.frame().await.unwrap().unwrap().into_data().unwrap();
        gate.open();
        let rest = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!([first, rest].concat(), frames.concat());

        let mut response = sender.send_request(call(&upstream)).await.unwrap();
        assert!(response.frame().await.unwrap().is_ok());
        drop(response);
        upstream.wait_cancelled(1).await.unwrap();

        let response = sender.send_request(call(&upstream)).await.unwrap();
        assert!(response.into_body().collect().await.is_err());
        assert_eq!((upstream.faults().resets, upstream.connections()), (1, 1));
        let cancelled: Vec<_> = upstream.requests().iter().map(|request| request.cancelled).collect();
        assert_eq!(cancelled, [false, true, false]);
    })
    .await;
}
