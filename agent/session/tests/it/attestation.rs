//! Attestation over the gateway's contract: the test speaks the gateway's part of a `Respond` stream by hand.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use agent_session::{
    Access, Attestation, AttestationProblem, Attester, Event, GrpcGateway, NewThread, Options, Overrides,
    Sessions, Subscription,
};
use agent_threads::{MemoryStore, TenantId, ThreadId};
use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt as _, Stream, StreamExt as _, future::BoxFuture, stream};
use serde_json::{Value, json};
use tidegate_proto::gateway::v1::{
    self as wire, AttestationAnswer, AttestationRequest, DescribeProvidersRequest, DescribeProvidersResponse,
    ListModelsRequest, ListModelsResponse, RequestKind, RespondRequest, RespondResponse, ResponseCompleted,
    ResponseHead, ResponseStart, WatchRateLimitsRequest, WatchRateLimitsResponse,
    attestation_answer::Answer,
    model_gateway_service_server::{ModelGatewayService, ModelGatewayServiceServer},
    respond_request,
    respond_response::Message,
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Request, Response, Status, Streaming, transport::Server};

use crate::support::{turn, until};

const DEADLINE: Duration = Duration::from_secs(20);

/// One `Respond` stream, as the gateway has it.
struct Line {
    requests: Streaming<RespondRequest>,
    answers: mpsc::Sender<Message>,
}

impl Line {
    /// The next message; `None` when the agent has left.
    async fn next(&mut self) -> Option<respond_request::Message> {
        let request = tokio::time::timeout(DEADLINE, self.requests.message()).await.unwrap();
        request.ok().flatten().map(|request| request.message.unwrap())
    }

    async fn call(&mut self) -> (ResponseStart, Value) {
        let Some(respond_request::Message::Start(start)) = self.next().await else { panic!("no start") };
        let mut body = BytesMut::new();
        loop {
            let Some(respond_request::Message::BodyChunk(chunk)) = self.next().await else {
                panic!("no body");
            };
            body.extend_from_slice(&chunk.data);
            if chunk.last {
                return (*start, serde_json::from_slice(&body).unwrap());
            }
        }
    }

    async fn say(&self, message: Message) {
        self.answers.send(message).await.unwrap();
    }

    async fn ask(&mut self, id: u64) -> AttestationAnswer {
        self.say(Message::AttestationRequest(AttestationRequest { id })).await;
        match self.next().await {
            Some(respond_request::Message::AttestationAnswer(answer)) => answer,
            other => panic!("no answer but {other:?}"),
        }
    }

    async fn complete(&self) {
        self.say(Message::Head(ResponseHead::default())).await;
        self.say(Message::Completed(ResponseCompleted::default())).await;
    }
}

/// Hands each stream to the test.
struct Lines(mpsc::Sender<Line>);

#[tonic::async_trait]
impl ModelGatewayService for Lines {
    type RespondStream = Pin<Box<dyn Stream<Item = Result<RespondResponse, Status>> + Send>>;

    async fn respond(
        &self,
        request: Request<Streaming<RespondRequest>>,
    ) -> Result<Response<Self::RespondStream>, Status> {
        let (answers, said) = mpsc::channel(4);
        self.0.send(Line { requests: request.into_inner(), answers }).await.unwrap();
        let said = stream::unfold(said, |mut said| async move {
            said.recv().await.map(|message| (Ok(RespondResponse { message: Some(message) }), said))
        });
        Ok(Response::new(said.boxed()))
    }

    async fn list_models(
        &self,
        _: Request<ListModelsRequest>,
    ) -> Result<Response<ListModelsResponse>, Status> {
        Ok(Response::new(ListModelsResponse::default()))
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
        _: Request<WatchRateLimitsRequest>,
    ) -> Result<Response<Self::WatchRateLimitsStream>, Status> {
        Ok(Response::new(stream::empty().boxed()))
    }
}

/// A client that answers what it is told to, and otherwise never. Tells how long it was given.
#[derive(Default)]
struct Scripted {
    answers: Mutex<VecDeque<Attestation>>,
    /// Closed when a question that is never answered is withdrawn.
    withdrawn: Mutex<Option<oneshot::Sender<()>>>,
    limits: Mutex<Vec<Duration>>,
}

impl Attester for Scripted {
    fn attest(&self, limit: Duration) -> BoxFuture<'static, Attestation> {
        self.limits.lock().unwrap().push(limit);
        if let Some(answer) = self.answers.lock().unwrap().pop_front() {
            return std::future::ready(answer).boxed();
        }
        let held = self.withdrawn.lock().unwrap().take();
        async move {
            let _held = held;
            std::future::pending().await
        }
        .boxed()
    }
}

struct Desk {
    sessions: Sessions,
    tenant: TenantId,
    lines: mpsc::Receiver<Line>,
    _server: JoinSet<()>,
}

impl Desk {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let incoming = stream::unfold(listener, |listener| async move {
            Some((listener.accept().await.map(|(socket, _)| socket), listener))
        });
        let (sender, lines) = mpsc::channel(4);
        let mut server = JoinSet::new();
        server.spawn(async move {
            let server = Server::builder().add_service(ModelGatewayServiceServer::new(Lines(sender)));
            server.serve_with_incoming(incoming).await.unwrap();
        });
        let gateway = GrpcGateway::connect_lazy(&format!("http://{address}"), &Access::default()).unwrap();
        let options = Options { installation_id: "here".to_owned(), ..Options::default() };
        let sessions = Sessions::new(
            Arc::new(MemoryStore::new()),
            Arc::new(gateway),
            options,
            &TaskTracker::new(),
            CancellationToken::new(),
        );
        Self { sessions, tenant: TenantId::new("acme"), lines, _server: server }
    }

    async fn thread(&self) -> (ThreadId, Subscription) {
        let overrides = Overrides {
            model: Some("m".to_owned()),
            cwd: Some("/secret/place".to_owned()),
            sandbox: Some(json!({"type": "workspaceWrite", "writableRoots": ["/secret/root"]})),
            ..Overrides::default()
        };
        let new = NewThread {
            originator: "codex-tui".to_owned(),
            client_version: "0.169.0".to_owned(),
            thread_source: Some("user".to_owned()),
            provider: Some("p".to_owned()),
            overrides,
            ..NewThread::default()
        };
        let id = self.sessions.start(&self.tenant, new).await.unwrap().thread.id;
        (id, self.sessions.subscribe(&self.tenant, id, None).await.unwrap())
    }

    fn offer(&self, id: ThreadId) -> (Arc<Scripted>, Arc<dyn Attester>) {
        let client = Arc::new(Scripted::default());
        let offered: Arc<dyn Attester> = Arc::<Scripted>::clone(&client);
        self.sessions.offer_attestation(&self.tenant, id, &offered);
        (client, offered)
    }

    async fn line(&mut self) -> Line {
        tokio::time::timeout(DEADLINE, self.lines.recv()).await.unwrap().unwrap()
    }
}

async fn completed(events: &mut Subscription) {
    let told = until(events, "turn-C").await;
    assert!(matches!(told.last().unwrap().event, Event::TurnCompleted { .. }));
}

#[tokio::test]
async fn a_client_attests_and_the_envelope_says_who_calls() {
    let mut desk = Desk::new().await;
    let (id, mut events) = desk.thread().await;
    let (client, _offered) = desk.offer(id);
    let token = Attestation::Token("opaque \"token\"".into());
    client.answers.lock().unwrap().push_back(token);
    let started = desk.sessions.start_turn(&desk.tenant, id, turn("hello", None)).await.unwrap();
    let mut line = desk.line().await;
    let (start, body) = line.call().await;
    assert!(start.can_attest);
    let answer = line.ask(17).await;
    assert_eq!(answer.id, 17);
    assert!(matches!(answer.answer, Some(Answer::Token(token)) if token == "opaque \"token\""));
    line.complete().await;
    completed(&mut events).await;
    assert_eq!(*client.limits.lock().unwrap(), [Duration::from_millis(100)]);

    let (thread, turn_id) = (id.to_string(), started.id.to_string());
    let envelope = start.envelope.unwrap();
    let at = envelope.turn_started_at.unwrap();
    let at_ms = at.seconds * 1000 + i64::from(at.nanos) / 1_000_000;
    assert_eq!(Some(at_ms), started.started_at_ms);
    let expected = wire::Envelope {
        installation_id: "here".to_owned(),
        session_id: thread.clone(),
        thread_id: thread.clone(),
        turn_id: turn_id.clone(),
        root_turn_id: turn_id,
        parent_thread_id: String::new(),
        forked_from_thread_id: String::new(),
        window_id: format!("{thread}:0"),
        window_number: 0,
        thread_source: "user".to_owned(),
        originator: "codex-tui".to_owned(),
        user_agent: "codex-tui/0.169.0".to_owned(),
        request_kind: RequestKind::Turn.into(),
        turn_started_at: Some(at),
        sandbox: "workspace-write".to_owned(),
        extra: std::collections::HashMap::new(),
    };
    assert_eq!(envelope, expected);
    assert_eq!(body.get("client_metadata"), None);
    assert!(!body.to_string().contains("/secret"), "{body}");
}

#[tokio::test]
async fn the_gateway_is_told_why_there_is_no_token() {
    let mut desk = Desk::new().await;
    let (id, mut events) = desk.thread().await;
    let (client, offered) = desk.offer(id);
    for (problem, expected) in [
        (AttestationProblem::Timeout, wire::AttestationProblem::Timeout),
        (AttestationProblem::RequestFailed, wire::AttestationProblem::RequestFailed),
        (AttestationProblem::Cancelled, wire::AttestationProblem::Cancelled),
        (AttestationProblem::Malformed, wire::AttestationProblem::Malformed),
    ] {
        client.answers.lock().unwrap().push_back(Attestation::Problem(problem));
        desk.sessions.start_turn(&desk.tenant, id, turn("hello", None)).await.unwrap();
        let mut line = desk.line().await;
        line.call().await;
        assert_eq!(line.ask(1).await.answer, Some(Answer::Problem(expected.into())));
        line.complete().await;
        completed(&mut events).await;
    }
    // The client leaves between the call and the question.
    desk.sessions.start_turn(&desk.tenant, id, turn("hello", None)).await.unwrap();
    let mut line = desk.line().await;
    assert!(line.call().await.0.can_attest);
    drop((client, offered));
    let cancelled = Answer::Problem(wire::AttestationProblem::Cancelled.into());
    assert_eq!(line.ask(1).await.answer, Some(cancelled));
    line.complete().await;
    completed(&mut events).await;
    // And from now on it is known that nobody can.
    desk.sessions.start_turn(&desk.tenant, id, turn("hello", None)).await.unwrap();
    let mut line = desk.line().await;
    assert!(!line.call().await.0.can_attest);
    line.complete().await;
    completed(&mut events).await;
}

#[tokio::test]
async fn a_gateway_that_has_gone_on_gets_no_late_answer() {
    let mut desk = Desk::new().await;
    let (id, mut events) = desk.thread().await;
    let (client, _offered) = desk.offer(id);
    let (held, withdrawn) = oneshot::channel();
    *client.withdrawn.lock().unwrap() = Some(held);
    desk.sessions.start_turn(&desk.tenant, id, turn("hello", None)).await.unwrap();
    let mut line = desk.line().await;
    line.call().await;
    line.say(Message::AttestationRequest(AttestationRequest { id: 1 })).await;
    line.say(Message::Head(ResponseHead::default())).await;
    assert!(tokio::time::timeout(DEADLINE, withdrawn).await.unwrap().is_err());
    line.say(Message::Completed(ResponseCompleted::default())).await;
    completed(&mut events).await;
    // The stream's end is all that comes.
    assert!(line.next().await.is_none());
}

#[tokio::test]
async fn a_question_does_not_hold_up_an_interrupt() {
    let mut desk = Desk::new().await;
    let (id, _events) = desk.thread().await;
    let (client, _offered) = desk.offer(id);
    let (held, withdrawn) = oneshot::channel();
    *client.withdrawn.lock().unwrap() = Some(held);
    desk.sessions.start_turn(&desk.tenant, id, turn("hello", None)).await.unwrap();
    let mut line = desk.line().await;
    line.call().await;
    line.say(Message::AttestationRequest(AttestationRequest { id: 1 })).await;
    let asked = async {
        while client.limits.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, asked).await.unwrap();
    let interrupted = desk.sessions.interrupt(&desk.tenant, id, None);
    tokio::time::timeout(DEADLINE, interrupted).await.unwrap().unwrap();
    assert!(tokio::time::timeout(DEADLINE, withdrawn).await.unwrap().is_err());
    assert!(line.next().await.is_none());
}

#[tokio::test]
async fn an_answer_follows_a_body_that_is_still_on_its_way() {
    let mut desk = Desk::new().await;
    let (id, mut events) = desk.thread().await;
    let (client, _offered) = desk.offer(id);
    client.answers.lock().unwrap().push_back(Attestation::Token("t".into()));
    let long = "x".repeat(2 << 20);
    desk.sessions.start_turn(&desk.tenant, id, turn(&long, None)).await.unwrap();
    let mut line = desk.line().await;
    line.say(Message::AttestationRequest(AttestationRequest { id: 1 })).await;
    let (_, body) = line.call().await;
    assert!(Bytes::from(body.to_string()).len() > long.len());
    assert!(matches!(line.next().await, Some(respond_request::Message::AttestationAnswer(_))));
    line.complete().await;
    completed(&mut events).await;
}
