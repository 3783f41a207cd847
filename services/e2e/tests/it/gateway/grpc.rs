//! gRPC on the gateway's port: health and reflection as a stock client uses them, and typed errors for bad calls.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context as _;
use bytes::Bytes;
use gateway_testkit::{Gate, Upstream};
use http::{Request, Version, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use service_e2e::http::ANSWER_TIME_MAX;
use service_e2e::stack::{self, Gateway, MODEL};
use service_e2e::{clients, home::Home, provision};
use tidegate_proto::failure_of;
use tidegate_proto::gateway::v1::model_gateway_service_client::ModelGatewayServiceClient;
use tidegate_proto::gateway::v1::respond_request::Message;
use tidegate_proto::gateway::v1::respond_response::Message as Event;
use tidegate_proto::gateway::v1::{BodyChunk, Fault, ListModelsRequest, RespondRequest};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tonic::transport::Endpoint;

pub(crate) const OK: &str = "0";
pub(crate) const PERMISSION_DENIED: &str = "7";
pub(crate) const UNIMPLEMENTED: &str = "12";

async fn curl(buf: &Path, home: &Home, arguments: &[&str]) -> anyhow::Result<String> {
    let mut command = clients::on(home, buf);
    command.args(["curl", "--http2-prior-knowledge", "--protocol", "grpc"]).args(arguments);
    Ok(stack::run(command).await?.success()?.stdout)
}

/// `url` serves health and both versions of reflection, and tells every service that it has.
pub(crate) async fn explains_itself(buf: &Path, url: &str, service: &str) -> anyhow::Result<()> {
    let home = Home::new()?;
    for reflection in ["grpc-v1", "grpc-v1alpha"] {
        let listed = curl(buf, &home, &["--reflect-protocol", reflection, "--list-services", url]).await?;
        for expected in [service, "grpc.health.v1.Health"] {
            assert!(listed.lines().any(|line| line == expected), "{reflection}: {listed}");
        }
        let check = format!("{url}/grpc.health.v1.Health/Check");
        let asked = format!(r#"{{"service":"{service}"}}"#);
        let health = curl(buf, &home, &["--reflect-protocol", reflection, "-d", &asked, &check]).await?;
        assert!(health.contains("SERVING") && !health.contains("NOT_SERVING"), "{health}");
    }
    Ok(())
}

/// One call as bytes; returns its gRPC status and its message.
pub(crate) async fn status_of(
    at: std::net::SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: &'static [u8],
) -> anyhow::Result<(String, String)> {
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let mut request = Request::post(format!("http://{at}{path}"))
        .version(Version::HTTP_2)
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from_static(body)))?;
    let answer = tokio::time::timeout(ANSWER_TIME_MAX, client.request(request)).await??;
    let (head, body) = answer.into_parts();
    let body = tokio::time::timeout(ANSWER_TIME_MAX, body.collect()).await??;
    let told = |name: &str| {
        let trailers = body.trailers().and_then(|trailers| trailers.get(name));
        head.headers.get(name).or(trailers).and_then(|value| value.to_str().ok()).unwrap_or("").to_owned()
    };
    Ok((told("grpc-status"), told("grpc-message")))
}

#[tokio::test]
async fn health_and_reflection_serve_a_stock_client() -> anyhow::Result<()> {
    let Some(buf) = provision::buf("health_and_reflection_serve_a_stock_client").await? else {
        return Ok(());
    };
    let gateway = Gateway::start("").await?;
    explains_itself(&buf, &gateway.url(), "tidegate.gateway.v1.ModelGatewayService").await?;
    let home = Home::new()?;
    let models = format!("{}/tidegate.gateway.v1.ModelGatewayService/ListModels", gateway.url());
    assert!(curl(&buf, &home, &["-d", "{}", &models]).await?.contains("rehearsal-short"));
    Ok(())
}

#[tokio::test]
async fn bad_calls_are_answered_with_a_status() -> anyhow::Result<()> {
    let upstream = Upstream::start().await?;
    let gateway = Gateway::before(&upstream).await?;
    let respond = "/tidegate.gateway.v1.ModelGatewayService/Respond";
    let list = "/tidegate.gateway.v1.ModelGatewayService/ListModels";
    let empty = b"\0\0\0\0\0";
    let bad: [(&str, &'static [u8]); 4] = [
        ("of 4 GiB", b"\0\xff\xff\xff\xff"),
        ("cut", b"\0\0\0\0\x09abc"),
        ("no protobuf", b"\0\0\0\0\x04\xff\xff\xff\xff"),
        ("compressed unannounced", b"\x01\0\0\0\x01a"),
    ];
    for (what, body) in bad {
        let (status, message) = status_of(gateway.at, respond, &[], body).await?;
        assert!(!status.is_empty() && status != OK && !message.is_empty(), "{what}: {status} {message}");
    }
    for path in ["/tidegate.gateway.v1.ModelGatewayService/Nothing", "/nobody.v1.Service/Call", "/"] {
        assert_eq!(status_of(gateway.at, path, &[], empty).await?.0, UNIMPLEMENTED, "{path}");
    }
    let foreign = [("origin", "https://evil.example")];
    assert_eq!(status_of(gateway.at, list, &foreign, empty).await?.0, PERMISSION_DENIED);
    assert_eq!(status_of(gateway.at, list, &[("host", "evil.example")], empty).await?.0, PERMISSION_DENIED);
    assert_eq!(status_of(gateway.at, list, &[], empty).await?.0, OK);
    assert_eq!(upstream.requests().len(), 0);
    Ok(())
}

/// One call as the contract's messages.
pub(crate) fn call(body: &[u8]) -> [RespondRequest; 2] {
    let chunk = BodyChunk { data: Bytes::copy_from_slice(body), last: true };
    [Message::Start(Box::default()), Message::BodyChunk(chunk)]
        .map(|message| RespondRequest { message: Some(message) })
}

/// One stream carries one response after the other, also after one that failed.
#[tokio::test]
async fn a_stream_survives_a_bad_response() -> anyhow::Result<()> {
    let upstream = Upstream::start().await?;
    let gateway = Gateway::before(&upstream).await?;
    let channel = Endpoint::from_shared(gateway.url())?;
    let mut client = ModelGatewayServiceClient::new(channel.connect().await?);
    let bad: [(&[u8], &str); 3] = [
        (b"{", "invalid_request"),
        (b"{\"model\":\"\xff\"}", "invalid_request"),
        (b"{\"model\":\"nobody-s\"}", "model_not_found"),
    ];
    for (body, reason) in bad {
        // Before the first head of a stream, a failure is the stream's status.
        let refused = match client.respond(tokio_stream::iter(call(body))).await {
            Err(status) => status,
            Ok(events) => events.into_inner().message().await.unwrap_err(),
        };
        let failure = failure_of(&refused);
        assert_eq!((failure.reason.as_str(), failure.fault()), (reason, Fault::Caller), "{failure:?}");
    }
    let good = format!(r#"{{"model":"{MODEL}","stream":true}}"#);
    upstream.push(stack::says("resp_1", &["One."]));
    upstream.push(stack::says("resp_2", &["Two."]));
    let calls = [call(good.as_bytes()), call(b"{\"model\":\"nobody-s\"}"), call(good.as_bytes())].concat();
    let mut events = client.respond(tokio_stream::iter(calls)).await?.into_inner();
    let mut ends = Vec::new();
    while let Some(event) = tokio::time::timeout(ANSWER_TIME_MAX, events.message()).await?? {
        match event.message.context("an event")? {
            Event::Completed(completed) => ends.push(completed.response_id),
            Event::Failed(failed) => ends.push(failed.failure.context("a failure")?.reason),
            _ => {}
        }
    }
    assert_eq!(ends, ["resp_1", "model_not_found", "resp_2"]);
    Ok(())
}

/// Forwards connections and counts them.
async fn count_connections(
    to: std::net::SocketAddr,
) -> anyhow::Result<(std::net::SocketAddr, Arc<AtomicUsize>, JoinSet<()>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let at = listener.local_addr()?;
    let counted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&counted);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut pairs = JoinSet::new();
        while let Ok((mut from, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            pairs.spawn(async move {
                let mut to = TcpStream::connect(to).await?;
                tokio::io::copy_bidirectional(&mut from, &mut to).await
            });
        }
    });
    Ok((at, counted, tasks))
}

/// Replicas share the load only if clients connect anew from time to time; whoever is in the middle of an answer stays.
#[tokio::test]
async fn a_stream_outlives_the_age_of_its_connection() -> anyhow::Result<()> {
    let upstream = Upstream::start().await?;
    let config = format!("{}\n[connections]\nmax_connection_age_ms = 500\n", stack::provider(&upstream));
    let gateway = Gateway::start(&config).await?;
    let (at, connections, _tasks) = count_connections(gateway.at).await?;
    let channel = Endpoint::from_shared(format!("http://{at}"))?.connect().await?;
    let mut client = ModelGatewayServiceClient::new(channel.clone());
    let gate = Gate::closed();
    let reply = stack::says("resp_long", &["One ", "long ", "answer."]);
    let half = reply.body().len() / 2;
    upstream.push(reply.stall_after(half, &gate));
    let good = format!(r#"{{"model":"{MODEL}","stream":true}}"#);
    let mut long = client.respond(tokio_stream::iter(call(good.as_bytes()))).await?.into_inner();
    upstream.wait_for_request(1).await?;
    // Short calls on the same channel, until one of them had to connect anew: its connection was sent away by then.
    let anew = async {
        let mut client = ModelGatewayServiceClient::new(channel);
        while connections.load(Ordering::SeqCst) < 2 {
            // This client does not repeat a call by itself that was not sent, as its connection had to go.
            let _ = client.list_models(ListModelsRequest::default()).await;
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        client.list_models(ListModelsRequest::default()).await
    };
    tokio::time::timeout(ANSWER_TIME_MAX, anew).await??;
    gate.open();
    let mut ends = Vec::new();
    while let Some(event) = tokio::time::timeout(ANSWER_TIME_MAX, long.message()).await?? {
        if let Event::Completed(completed) = event.message.context("an event")? {
            ends.push(completed.response_id);
        }
    }
    assert_eq!(ends, ["resp_long"]);
    Ok(())
}
