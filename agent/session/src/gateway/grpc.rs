//! Speaks the contract with the gateway over gRPC: TCP or a unix socket, connected when it is first needed.
//!
//! Conversion between generated types and this crate's own happens in [`convert`] and nowhere else. A broken stream is
//! told to the driver, which decides. Only what never left this process is sent again here, once: a gateway ends its
//! connections from time to time, so that its replicas share the load, and a call that is put on one at that moment is
//! dropped unsent.

use std::{
    error::Error,
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::{
    FutureExt as _, Stream, StreamExt as _,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use tidegate_proto::{
    failure_of,
    gateway::v1::{
        BodyChunk, DescribeProvidersRequest, ListModelsRequest, RespondRequest, RespondResponse,
        WatchRateLimitsRequest, WatchRateLimitsResponse,
        model_gateway_service_client::ModelGatewayServiceClient, respond_request, respond_response,
    },
};
use tokio::sync::mpsc;
use tonic::{
    Code, Request, Response, Status, Streaming,
    metadata::MetadataValue,
    service::interceptor::InterceptedService,
    transport::{Channel, Endpoint},
};

use super::{
    Access, Call, CallEvent, Failure, FailureFault, ModelGateway, ModelStream, Report, access::Bearer,
    convert,
};
use crate::{
    attestation::{Attestation, Attesters},
    model::{Model, Provider, RateLimit},
    trace_context::TraceContext,
};

/// The largest piece of a body in one message.
const CHUNK_BYTES: usize = 256 * 1024;
/// The largest message that is accepted: one event of a provider's stream, or the list of models.
const MESSAGE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the models or the providers may take to be told.
const UNARY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the usage limits that are known may take to be told. The gateway says nothing while it knows none.
const REPORT_TIMEOUT: Duration = Duration::from_millis(250);
/// How often a quiet connection is probed while calls are open, and how long the answer may take.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(10));
/// A call, and an answer about attestation.
const REQUESTS_MAX: usize = 4;

type Client = ModelGatewayServiceClient<InterceptedService<Channel, Bearer>>;

/// The gateway behind a gRPC channel.
#[derive(Clone)]
pub struct GrpcGateway {
    client: Client,
}

/// An address that no gateway can have.
#[derive(Debug, thiserror::Error)]
#[error("not an address of a gateway: {address}")]
pub struct InvalidAddress {
    address: String,
    #[source]
    source: tonic::transport::Error,
}

impl GrpcGateway {
    /// The gateway at `http://host:port`, `https://host:port` or `unix:/path`, to which this is shown. Connects with the
    /// first call and again whenever that is needed.
    pub fn connect_lazy(address: &str, access: &Access) -> Result<Self, InvalidAddress> {
        let invalid = |source| InvalidAddress { address: address.to_owned(), source };
        let mut endpoint = Endpoint::from_shared(address.to_owned()).map_err(invalid)?;
        if endpoint.uri().scheme_str() == Some("https") {
            endpoint = endpoint.tls_config(access.tls()).map_err(invalid)?;
        }
        let endpoint = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE.0)
            .keep_alive_timeout(KEEPALIVE.1);
        let channel = InterceptedService::new(endpoint.connect_lazy(), access.bearer());
        let client = Client::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        Ok(Self { client })
    }
}

impl ModelGateway for GrpcGateway {
    fn open(&self) -> Pin<Box<dyn ModelStream>> {
        let (requests, receiver) = mpsc::channel(REQUESTS_MAX);
        Box::pin(GrpcStream {
            requests,
            state: State::New(receiver),
            client: self.client.clone(),
            unanswered: None,
            trace: TraceContext::default(),
            is_repeat: false,
            attesters: Attesters::default(),
            asked: None,
        })
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, Failure>> {
        async move {
            let ask = |mut client: Client| async move { client.list_models(ListModelsRequest {}).await };
            Ok(self.ask(ask).await?.models.into_iter().map(convert::model).collect())
        }
        .boxed()
    }

    fn providers(&self) -> BoxFuture<'_, Result<Vec<Provider>, Failure>> {
        async move {
            let ask = |mut client: Client| async move {
                client.describe_providers(DescribeProvidersRequest {}).await
            };
            Ok(self.ask(ask).await?.providers.into_iter().map(convert::provider).collect())
        }
        .boxed()
    }

    fn rate_limits(&self, provider: &str) -> BoxFuture<'_, Result<Vec<RateLimit>, Failure>> {
        let request = WatchRateLimitsRequest { provider: provider.to_owned() };
        async move {
            let ask = |mut client: Client| {
                let request = request.clone();
                async move { client.watch_rate_limits(request).await }
            };
            let mut reports = self.ask(ask).await?;
            let Ok(first) = tokio::time::timeout(REPORT_TIMEOUT, reports.message()).await else {
                return Ok(Vec::new());
            };
            let first = first.map_err(|status| convert::failure(failure_of(&status)))?;
            let limits = first.map(|report| report.rate_limits).unwrap_or_default();
            Ok(limits.into_iter().map(convert::rate_limit).collect())
        }
        .boxed()
    }

    fn watch_rate_limits(&self) -> BoxStream<'static, Result<Report, Failure>> {
        let mut client = self.client.clone();
        let watch = async move { client.watch_rate_limits(WatchRateLimitsRequest::default()).await };
        let reports = watch.map(|opened| match opened {
            Ok(reports) => reports.into_inner().left_stream(),
            Err(status) => stream::iter([Err(status)]).right_stream(),
        });
        let told = |report: Result<WatchRateLimitsResponse, Status>| match report {
            Ok(report) => Ok(Report {
                provider: report.provider,
                limits: report.rate_limits.into_iter().map(convert::rate_limit).collect(),
            }),
            Err(status) => Err(convert::failure(failure_of(&status))),
        };
        reports.flatten_stream().map(told).boxed()
    }
}

impl GrpcGateway {
    /// Asks something that has one answer.
    async fn ask<T, F>(&self, ask: impl Fn(Client) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let asked = async {
            match ask(self.client.clone()).await {
                Err(status) if never_left(&status) => ask(self.client.clone()).await,
                answer => answer,
            }
        };
        let answer = match tokio::time::timeout(UNARY_TIMEOUT, asked).await {
            Ok(answer) => answer,
            Err(_) => Err(Status::deadline_exceeded("the gateway did not answer in time")),
        };
        answer.map(Response::into_inner).map_err(|status| convert::failure(failure_of(&status)))
    }
}

/// Whether a call failed before a byte of it was sent: its connection was ending, and nobody will answer.
fn never_left(status: &Status) -> bool {
    let mut causes = std::iter::successors(status.source(), |cause| (*cause).source());
    causes.any(|cause| cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled))
}

/// The request with the trace that it belongs to, as the gateway's other callers send it.
fn traced<T>(message: T, trace: &TraceContext) -> Request<T> {
    let mut request = Request::new(message);
    for (name, value) in [("traceparent", &trace.traceparent), ("tracestate", &trace.tracestate)] {
        if let Some(value) = MetadataValue::try_from(value).ok().filter(|value| !value.is_empty()) {
            request.metadata_mut().insert(name, value);
        }
    }
    request
}

/// What waits to be sent.
enum Outgoing {
    Call(Box<Call>),
    Attestation(u64, Attestation),
}

struct GrpcStream {
    requests: mpsc::Sender<Outgoing>,
    state: State,
    client: Client,
    /// The call in flight, as long as nothing came back on this stream.
    unanswered: Option<Box<Call>>,
    /// The trace of the call that the stream is opened with.
    trace: TraceContext,
    /// Whether that call was sent again.
    is_repeat: bool,
    /// Of the thread of the call in flight.
    attesters: Attesters,
    /// What the gateway waits for. The latest question counts: it asks once for a call.
    asked: Option<Asked>,
}

/// A question of the gateway's that a client is thinking about.
struct Asked {
    id: u64,
    answer: BoxFuture<'static, Attestation>,
}

enum State {
    /// Nothing was called yet, or not polled since.
    New(mpsc::Receiver<Outgoing>),
    Opening(BoxFuture<'static, Result<Streaming<RespondResponse>, Status>>),
    Open(Box<Streaming<RespondResponse>>),
    Ended,
}

impl ModelStream for GrpcStream {
    fn call(mut self: Pin<&mut Self>, call: Call) {
        self.asked = None;
        self.attesters = call.attesters.clone();
        let call = Box::new(call);
        if matches!(self.state, State::New(_)) {
            self.trace = call.trace.clone();
            self.unanswered = Some(call.clone());
        }
        self.put(Outgoing::Call(call));
    }
}

impl GrpcStream {
    /// Passes the client's answer on, once there is one.
    fn poll_asked(&mut self, context: &mut Context<'_>) {
        let Some(Asked { id, answer }) = &mut self.asked else { return };
        let Poll::Ready(attestation) = answer.as_mut().poll(context) else { return };
        let outgoing = Outgoing::Attestation(*id, attestation);
        self.asked = None;
        self.put(outgoing);
    }

    /// A queue that is full or closed belongs to a stream that is broken: the next poll tells so.
    fn put(&self, outgoing: Outgoing) {
        let _ = self.requests.try_send(outgoing);
    }

    /// Begins anew with the call that never left. Tells whether it may.
    fn repeats(&mut self, status: &Status) -> bool {
        let Some(call) = self.unanswered.take_if(|_| !self.is_repeat && never_left(status)) else {
            return false;
        };
        self.is_repeat = true;
        let (requests, receiver) = mpsc::channel(REQUESTS_MAX);
        (self.requests, self.state) = (requests, State::New(receiver));
        self.put(Outgoing::Call(call));
        true
    }

    fn broken(&mut self, status: &Status) -> Poll<Option<Result<CallEvent, Failure>>> {
        self.state = State::Ended;
        let mut failure = convert::failure(failure_of(status));
        if status.code() == Code::Cancelled {
            // It was not we who cancelled: a stream of ours that is still read was reset on the way.
            "stream_broken".clone_into(&mut failure.reason);
            (failure.fault, failure.retryable) = (FailureFault::Upstream, true);
        }
        Poll::Ready(Some(Err(failure)))
    }
}

impl Stream for GrpcStream {
    type Item = Result<CallEvent, Failure>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            self.poll_asked(context);
            match &mut self.state {
                State::New(_) => {
                    let State::New(mut receiver) = mem::replace(&mut self.state, State::Ended) else {
                        return Poll::Ready(None);
                    };
                    let mut client = self.client.clone();
                    let outgoing =
                        stream::poll_fn(move |context| receiver.poll_recv(context)).flat_map(messages);
                    let request = traced(outgoing, &self.trace);
                    let opening = async move { client.respond(request).await.map(Response::into_inner) };
                    self.state = State::Opening(opening.boxed());
                }
                State::Opening(opening) => match ready!(opening.as_mut().poll(context)) {
                    Ok(stream) => {
                        self.unanswered = None;
                        self.state = State::Open(Box::new(stream));
                    }
                    Err(status) if self.repeats(&status) => {}
                    Err(status) => return self.broken(&status),
                },
                State::Open(stream) => match ready!(stream.poll_next_unpin(context)) {
                    Some(Ok(RespondResponse { message: Some(message) })) => match event(message) {
                        Incoming::Event(event) => {
                            // The gateway goes on without an answer that is not there by now.
                            self.asked = None;
                            return Poll::Ready(Some(Ok(event)));
                        }
                        Incoming::AttestationRequest(id) => {
                            self.asked = Some(Asked { id, answer: self.attesters.attest() });
                        }
                        Incoming::Unasked => {}
                    },
                    // A message of a kind that a newer gateway knows.
                    Some(Ok(RespondResponse { message: None })) => {}
                    Some(Err(status)) => return self.broken(&status),
                    None => {
                        self.state = State::Ended;
                        return Poll::Ready(None);
                    }
                },
                State::Ended => return Poll::Ready(None),
            }
        }
    }
}

enum Incoming {
    Event(CallEvent),
    AttestationRequest(u64),
    /// A document, which no call of ours asks for.
    Unasked,
}

fn event(message: respond_response::Message) -> Incoming {
    Incoming::Event(match message {
        respond_response::Message::AttestationRequest(request) => {
            return Incoming::AttestationRequest(request.id);
        }
        respond_response::Message::DocumentChunk(_) => return Incoming::Unasked,
        respond_response::Message::Head(head) => convert::head(head),
        respond_response::Message::Event(event) => CallEvent::Event { kind: event.r#type, data: event.data },
        respond_response::Message::Completed(completed) => CallEvent::Completed {
            response_id: completed.response_id,
            usage: completed.usage.map(convert::usage),
        },
        respond_response::Message::Failed(failed) => CallEvent::Failed {
            failure: failed.failure.map_or_else(unexplained, convert::failure),
            usage: failed.usage.map(convert::usage),
        },
    })
}

fn unexplained() -> Failure {
    Failure {
        reason: "unexplained".to_owned(),
        fault: FailureFault::Bug,
        message: "the gateway did not say why the response failed".to_owned(),
        retryable: true,
        retry_delay: None,
        http_status: None,
        code: None,
    }
}

/// The messages of one call: its start and then slices of its body, made when there is room for them.
fn messages(outgoing: Outgoing) -> impl Stream<Item = RespondRequest> {
    use respond_request::Message;

    let (first, body) = match outgoing {
        Outgoing::Call(call) => {
            let (start, body) = convert::start(*call);
            (Message::Start(Box::new(start)), Some(body))
        }
        Outgoing::Attestation(id, attestation) => {
            (Message::AttestationAnswer(convert::attestation(id, attestation)), None)
        }
    };
    let mut rest = body;
    let chunks = std::iter::from_fn(move || {
        let mut tail = rest.take()?;
        let data = tail.split_to(tail.len().min(CHUNK_BYTES));
        let last = tail.is_empty();
        rest = (!last).then_some(tail);
        Some(Message::BodyChunk(BodyChunk { data, last }))
    });
    let all = std::iter::once(first).chain(chunks);
    stream::iter(all.map(|message| RespondRequest { message: Some(message) }))
}
