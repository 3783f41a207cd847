//! The gRPC gateway against a server in this process, over TCP and a unix socket, on the real clock.

use std::{net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use agent_session::{
    Access, Attesters, Call, CallEvent, Envelope, GrpcGateway, ModelGateway as _, ModelStream, RequestKind,
    TraceContext,
};
use agent_threads::{ThreadId, TurnId};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _, stream};
use tidegate_proto::{
    gateway::v1::{
        DescribeProvidersRequest, DescribeProvidersResponse, Failure, Fault, ListModelsRequest,
        ListModelsResponse, Model, RateLimit, RateLimitWindow, RespondRequest, RespondResponse,
        ResponseCompleted, ResponseEvent, ResponseHead, WatchRateLimitsRequest, WatchRateLimitsResponse,
        model_gateway_service_server::{ModelGatewayService, ModelGatewayServiceServer},
        respond_request,
        respond_response::Message,
    },
    status_with,
};
use tokio::{
    net::{TcpListener, UnixListener},
    sync::{Mutex, mpsc},
    task::JoinSet,
};
use tonic::{Request, Response, Status, Streaming, transport::Server};

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Reads a call whole, remembers its body, and answers as its model's name says.
#[derive(Clone, Default)]
pub(crate) struct Scripted {
    pub(crate) bodies: Arc<Mutex<Vec<(Bytes, usize)>>>,
}

type Answers = Pin<Box<dyn Stream<Item = Result<RespondResponse, Status>> + Send>>;

#[tonic::async_trait]
impl ModelGatewayService for Scripted {
    type RespondStream = Answers;

    async fn respond(
        &self,
        request: Request<Streaming<RespondRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let mut requests = request.into_inner();
        let (start, body, largest) = read(&mut requests).await?;
        self.bodies.lock().await.push((body, largest));
        if start == "refuse" {
            return Err(status_with(&Failure {
                reason: "model_not_found".to_owned(),
                fault: Fault::Caller.into(),
                message: "no such model".to_owned(),
                ..Failure::default()
            }));
        }
        let (answers, receiver) = mpsc::channel(4);
        let bodies = Arc::clone(&self.bodies);
        let messages = stream::unfold((receiver, None::<JoinSet<()>>), |(mut receiver, task)| async move {
            receiver
                .recv()
                .await
                .map(|message| (Ok(RespondResponse { message: Some(message) }), (receiver, task)))
        });
        let head =
            ResponseHead { provider: start.clone(), turn_state: "ts".to_owned(), ..ResponseHead::default() };
        answers.send(Message::Head(head)).await.unwrap();
        let event = ResponseEvent { r#type: "x".to_owned(), data: Bytes::from_static(b"{\"type\":\"x\"}") };
        answers.send(Message::Event(event)).await.unwrap();
        let mut task = JoinSet::new();
        if start != "hang" {
            answers.send(Message::Completed(ResponseCompleted::default())).await.unwrap();
            task.spawn(async move {
                let Ok((_, body, largest)) = read(&mut requests).await else { return };
                bodies.lock().await.push((body, largest));
                let _ = answers.send(Message::Completed(ResponseCompleted::default())).await;
            });
        } else {
            task.spawn(async move {
                let _held = (answers, requests);
                std::future::pending::<()>().await;
            });
        }
        // The tasks live as long as their stream.
        let messages = messages.map(move |message| {
            let _task = &task;
            message
        });
        Ok(Response::new(Box::pin(messages)))
    }

    async fn list_models(
        &self,
        _: Request<ListModelsRequest>,
    ) -> Result<Response<ListModelsResponse>, Status> {
        let model = Model { slug: "m1".to_owned(), context_window: 7, ..Model::default() };
        Ok(Response::new(ListModelsResponse { models: vec![model] }))
    }

    async fn describe_providers(
        &self,
        _: Request<DescribeProvidersRequest>,
    ) -> Result<Response<DescribeProvidersResponse>, Status> {
        Ok(Response::new(DescribeProvidersResponse::default()))
    }

    type WatchRateLimitsStream = Pin<Box<dyn Stream<Item = Result<WatchRateLimitsResponse, Status>> + Send>>;

    async fn watch_rate_limits(
        &self,
        request: Request<WatchRateLimitsRequest>,
    ) -> Result<Response<Self::WatchRateLimitsStream>, Status> {
        if request.get_ref().provider == "silent" {
            return Ok(Response::new(stream::pending().boxed()));
        }
        let primary = RateLimitWindow { used_percent: 41.5, ..RateLimitWindow::default() };
        let limit = RateLimit {
            id: request.into_inner().provider,
            primary: Some(primary),
            reached_type: "rate_limit_reached".to_owned(),
            ..RateLimit::default()
        };
        let report = WatchRateLimitsResponse { rate_limits: vec![limit], ..Default::default() };
        Ok(Response::new(stream::iter([Ok(report)]).chain(stream::pending()).boxed()))
    }
}

/// Reads a start and its body: the provider hint, the body, and its largest chunk.
async fn read(requests: &mut Streaming<RespondRequest>) -> Result<(String, Bytes, usize), Status> {
    let (mut hint, mut body, mut largest) = (String::new(), BytesMut::new(), 0);
    while let Some(request) = requests.message().await? {
        match request.message {
            Some(respond_request::Message::Start(start)) => hint = start.provider_hint,
            Some(respond_request::Message::BodyChunk(chunk)) => {
                largest = largest.max(chunk.data.len());
                body.extend_from_slice(&chunk.data);
                if chunk.last {
                    return Ok((hint, body.freeze(), largest));
                }
            }
            _ => {}
        }
    }
    Err(Status::cancelled("the caller left"))
}

async fn serve_tcp(service: Scripted) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let incoming = stream::unfold(listener, |listener| async move {
        Some((listener.accept().await.map(|(socket, _)| socket), listener))
    });
    let mut server = JoinSet::new();
    server.spawn(async move {
        let server = Server::builder().add_service(ModelGatewayServiceServer::new(service));
        server.serve_with_incoming(incoming).await.unwrap();
    });
    (address, server)
}

pub(crate) fn call(provider: &str, body: Bytes) -> Call {
    let (thread_id, turn_id) = (ThreadId::generate(), TurnId::generate());
    let envelope = Envelope {
        installation_id: "i".to_owned(),
        session_id: thread_id,
        thread_id,
        turn_id,
        root_turn_id: turn_id,
        window: 3,
        kind: RequestKind::Compaction,
        extra: std::collections::BTreeMap::from([("team".to_owned(), "a".to_owned())]),
        parent_id: None,
        forked_from_id: None,
        thread_source: None,
        originator: "test".to_owned(),
        user_agent: "test/1".to_owned(),
        turn_started_at_ms: 1,
        sandbox: None,
    };
    let attesters = Attesters::default();
    let provider = provider.to_owned();
    Call { envelope, provider, turn_state: None, trace: TraceContext::default(), attesters, body }
}

pub(crate) async fn next(
    stream: &mut Pin<Box<dyn ModelStream>>,
) -> Option<Result<CallEvent, agent_session::Failure>> {
    tokio::time::timeout(DEADLINE, stream.next()).await.unwrap()
}

#[tokio::test]
async fn calls_go_out_in_chunks_and_answers_come_back_typed() {
    let service = Scripted::default();
    let (address, _server) = serve_tcp(service.clone()).await;
    let gateway = GrpcGateway::connect_lazy(&format!("http://{address}"), &Access::default()).unwrap();
    let models = tokio::time::timeout(DEADLINE, gateway.models()).await.unwrap().unwrap();
    assert_eq!((models[0].slug.as_str(), models[0].context_window), ("m1", Some(7)));

    let body: Bytes = (0..1_000_000_u32).map(|at| at.to_le_bytes()[0]).collect();
    let mut stream = gateway.open();
    stream.as_mut().call(call("p", body.clone()));
    let head = next(&mut stream).await.unwrap().unwrap();
    assert!(matches!(head, CallEvent::Head { turn_state: Some(state), .. } if state == "ts"));
    assert!(matches!(next(&mut stream).await, Some(Ok(CallEvent::Event { .. }))));
    assert!(matches!(next(&mut stream).await, Some(Ok(CallEvent::Completed { .. }))));
    // The next call of the thread goes over the same stream.
    stream.as_mut().call(call("p", Bytes::from_static(b"{}")));
    assert!(matches!(next(&mut stream).await, Some(Ok(CallEvent::Completed { .. }))));
    let bodies = service.bodies.lock().await;
    assert_eq!(bodies[0], (body, 256 * 1024));
    assert_eq!(bodies[1].0, "{}");
}

#[tokio::test]
async fn usage_limits_are_told_as_they_are_known() {
    let (address, _server) = serve_tcp(Scripted::default()).await;
    let gateway = GrpcGateway::connect_lazy(&format!("http://{address}"), &Access::default()).unwrap();
    let limits = tokio::time::timeout(DEADLINE, gateway.rate_limits("p")).await.unwrap().unwrap();
    let primary = limits[0].primary.as_ref().unwrap();
    assert_eq!((limits[0].id.as_str(), limits.len(), primary.used_percent), ("p", 1, 41.5));
    assert_eq!((primary.window_minutes, primary.resets_at), (None, None));
    assert_eq!(limits[0].reached_type.as_deref(), Some("rate_limit_reached"));
    // A gateway that knows of none is not waited for.
    assert!(tokio::time::timeout(DEADLINE, gateway.rate_limits("silent")).await.unwrap().unwrap().is_empty());
}

#[tokio::test]
async fn a_refusal_keeps_its_reason() {
    let (address, _server) = serve_tcp(Scripted::default()).await;
    let gateway = GrpcGateway::connect_lazy(&format!("http://{address}"), &Access::default()).unwrap();
    let mut stream = gateway.open();
    stream.as_mut().call(call("refuse", Bytes::new()));
    let failure = next(&mut stream).await.unwrap().unwrap_err();
    assert_eq!((failure.reason.as_str(), failure.retryable), ("model_not_found", false));
    assert!(next(&mut stream).await.is_none());
}

#[tokio::test]
async fn a_gateway_that_dies_in_the_middle_is_a_typed_error() {
    // A runtime of its own: when it goes, all its connections go, as with a process that is killed.
    let process = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (address, _server) = process.spawn(serve_tcp(Scripted::default())).await.unwrap();
    let gateway = GrpcGateway::connect_lazy(&format!("http://{address}"), &Access::default()).unwrap();
    let mut stream = gateway.open();
    stream.as_mut().call(call("hang", Bytes::from_static(b"{}")));
    assert!(matches!(next(&mut stream).await, Some(Ok(CallEvent::Head { .. }))));
    assert!(matches!(next(&mut stream).await, Some(Ok(CallEvent::Event { .. }))));
    process.shutdown_background();
    let failure = next(&mut stream).await.unwrap().unwrap_err();
    assert!(failure.retryable, "{failure:?}");

    // A gateway that is not there is told as such, at the latest once the dead connection is known to be dead.
    let mut reasons = Vec::new();
    while reasons.last().is_none_or(|reason| reason != "gateway_unavailable") && reasons.len() < 3 {
        let mut stream = gateway.open();
        stream.as_mut().call(call("p", Bytes::new()));
        let failure = next(&mut stream).await.unwrap().unwrap_err();
        assert!(failure.retryable, "{failure:?}");
        reasons.push(failure.reason);
    }
    assert_eq!(reasons.last().unwrap(), "gateway_unavailable", "{reasons:?}");
}

#[tokio::test]
async fn a_unix_socket_does_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let incoming = stream::unfold(listener, |listener| async move {
        Some((listener.accept().await.map(|(socket, _)| socket), listener))
    });
    let mut server = JoinSet::new();
    server.spawn(async move {
        let server = Server::builder().add_service(ModelGatewayServiceServer::new(Scripted::default()));
        server.serve_with_incoming(incoming).await.unwrap();
    });
    let gateway = GrpcGateway::connect_lazy(&format!("unix:{}", path.display()), &Access::default()).unwrap();
    let models = tokio::time::timeout(DEADLINE, gateway.models()).await.unwrap().unwrap();
    assert_eq!(models.len(), 1);
}

#[test]
fn an_address_that_is_none_is_refused() {
    assert!(GrpcGateway::connect_lazy("not an address", &Access::default()).is_err());
}
