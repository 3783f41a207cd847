//! The gRPC surface: the contract's `SessionService`, health and reflection, over the same sessions.

mod convert;
mod failure;

use std::sync::Arc;

use agent_session::{NewThread, Next, Overrides, StartTurn, Subscription};
use agent_threads::{Direction, ListQuery, PageQuery, SortKey, TenantId, ThreadId, UserInput};
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use tidegate_callers::Refusal;
use tidegate_proto::DESCRIPTORS;
use tidegate_proto::agent::v1::session_service_server::{SessionService, SessionServiceServer};
use tidegate_proto::agent::v1::{
    CreateThreadRequest, CreateThreadResponse, InterruptTurnRequest, InterruptTurnResponse,
    ListThreadsRequest, ListThreadsResponse, StartTurnRequest, StartTurnResponse, SubscribeRequest,
    SubscribeResponse,
};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::{Request, Response, Status};
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tonic_reflection::server::{Builder, Error};

use crate::door::Visitor;
use crate::methods::overrides::with_defaults;
use crate::principal::Principal;
use crate::server::Shared;
use failure::{invalid, status, too_slow};

/// The largest message that a caller may send.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// How long a client's own words about itself may be.
const AGENT_BYTES_MAX: usize = 128;
/// How many threads a page has when the caller does not say, and at most.
const PAGE_DEFAULT: u32 = 25;
const PAGE_MAX: u32 = 100;
/// Where a thread that was started here says that it comes from.
const SOURCE: &str = "appServer";

/// Every gRPC service of this process. An unknown one is answered with `Unimplemented`.
pub(crate) async fn routes(shared: &Arc<Shared>) -> Result<Routes, Error> {
    let service = Service { shared: Arc::clone(shared) };
    let sessions = SessionServiceServer::new(service).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let reporter = HealthReporter::new();
    reporter.set_serving::<SessionServiceServer<Service>>().await;
    let health = HealthServer::new(HealthService::from_health_reporter(reporter.clone()));
    shared.tasks.spawn(report_stop(reporter, shared.stop.clone()));
    let reflection = || {
        Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    Ok(Routes::new(sessions)
        .add_service(health)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .prepare())
}

async fn report_stop(reporter: HealthReporter, stop: CancellationToken) {
    stop.cancelled().await;
    reporter.set_service_status("", ServingStatus::NotServing).await;
    reporter.set_not_serving::<SessionServiceServer<Service>>().await;
}

/// Whether a method is for everybody: how the process is, and what the contract says.
pub(crate) fn is_open(path: &str) -> bool {
    ["/grpc.health.", "/grpc.reflection."].iter().any(|open| path.starts_with(open))
}

/// The answer to a caller that is not let in.
pub(crate) fn refused(refusal: &Refusal) -> http::Response<Body> {
    tracing::info!(reason = refusal.reason(), "a caller was not let in");
    failure::of_stranger(refusal).into_http()
}

struct Service {
    shared: Arc<Shared>,
}

/// Who calls, as the door has found out.
fn visitor<T>(request: &Request<T>) -> Result<&Visitor, Status> {
    request.extensions().get().ok_or_else(failure::unasked)
}

fn tenant<T>(request: &Request<T>) -> Result<TenantId, Status> {
    Ok(visitor(request)?.principal.tenant.clone())
}

#[tonic::async_trait]
impl SessionService for Service {
    type SubscribeStream = BoxStream<'static, Result<SubscribeResponse, Status>>;

    async fn create_thread(
        &self,
        request: Request<CreateThreadRequest>,
    ) -> Result<Response<CreateThreadResponse>, Status> {
        let (originator, principal) = (user_agent(&request), visitor(&request)?.principal.clone());
        let CreateThreadRequest { model, cwd, ephemeral } = request.into_inner();
        let some = |text: String| Some(text).filter(|text| !text.is_empty());
        let defaults = self.shared.effective(&principal);
        let asked = Overrides { model: some(model), cwd: some(cwd), ..Overrides::default() };
        let overrides = with_defaults(asked, &defaults);
        let new = NewThread {
            originator,
            source: SOURCE.to_owned(),
            provider: defaults.text("model_provider"),
            ephemeral,
            overrides,
            ..NewThread::default()
        };
        let view = self.shared.sessions.start(&principal.tenant, new).await.map_err(status)?;
        Ok(Response::new(CreateThreadResponse { thread: Some(convert::thread(&view)) }))
    }

    async fn list_threads(
        &self,
        request: Request<ListThreadsRequest>,
    ) -> Result<Response<ListThreadsResponse>, Status> {
        let tenant = tenant(&request)?;
        let ListThreadsRequest { page_size, page_token } = request.into_inner();
        let limit = if page_size == 0 { PAGE_DEFAULT } else { page_size.min(PAGE_MAX) };
        let cursor = Some(page_token).filter(|token| !token.is_empty());
        let query = ListQuery {
            page: PageQuery { cursor, limit, direction: Direction::Descending },
            sort: SortKey::UpdatedAt,
            ..ListQuery::default()
        };
        let page = self.shared.sessions.list(&tenant, query).await.map_err(status)?;
        Ok(Response::new(ListThreadsResponse {
            threads: page.elements.iter().map(convert::thread).collect(),
            next_page_token: page.next.unwrap_or_default(),
        }))
    }

    async fn start_turn(
        &self,
        request: Request<StartTurnRequest>,
    ) -> Result<Response<StartTurnResponse>, Status> {
        let tenant = tenant(&request)?;
        let StartTurnRequest { thread_id, text, client_message_id } = request.into_inner();
        let id = self::thread_id(&thread_id)?;
        let turn = StartTurn {
            input: vec![UserInput::Text { text, text_elements: Vec::new() }],
            client_message_id: Some(client_message_id).filter(|id| !id.is_empty()),
            ..StartTurn::default()
        };
        let turn = self.shared.sessions.start_turn(&tenant, id, turn).await.map_err(status)?;
        Ok(Response::new(StartTurnResponse { turn_id: turn.id.to_string() }))
    }

    async fn interrupt_turn(
        &self,
        request: Request<InterruptTurnRequest>,
    ) -> Result<Response<InterruptTurnResponse>, Status> {
        let tenant = tenant(&request)?;
        let InterruptTurnRequest { thread_id, turn_id } = request.into_inner();
        let id = self::thread_id(&thread_id)?;
        let turn = turn_id.parse().map_err(|_| invalid("turn_id is not an id"))?;
        self.shared.sessions.interrupt(&tenant, id, Some(turn)).await.map_err(status)?;
        Ok(Response::new(InterruptTurnResponse {}))
    }

    async fn subscribe(
        &self,
        request: Request<SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let Visitor { principal: Principal { tenant, .. }, standing } = visitor(&request)?.clone();
        let seat = self.shared.seat(&tenant).map_err(failure::full)?;
        let SubscribeRequest { thread_id, after_sequence } = request.into_inner();
        let id = self::thread_id(&thread_id)?;
        let sessions = &self.shared.sessions;
        let events = sessions.subscribe(&tenant, id, Some(after_sequence)).await.map_err(status)?;
        let stop = self.shared.stop.clone();
        let told = stream::unfold(Some(events), move |events| {
            let _as_long_as_the_stream = &seat;
            next(events, stop.clone())
        });
        Ok(Response::new(told.filter_map(async |told| told).take_until(standing.lost()).boxed()))
    }
}

/// A subscription's next element: an event that the contract has, one that it has not, or the end, which also comes when
/// the server stops and everything is told that has happened by then.
async fn next(
    events: Option<Subscription>,
    stop: CancellationToken,
) -> Option<(Option<Result<SubscribeResponse, Status>>, Option<Subscription>)> {
    let mut events = events?;
    let next = tokio::select! {
        biased;
        next = events.next() => next,
        () = stop.cancelled() => return None,
    };
    match next {
        Next::Event(published) => Some((convert::event(&published).map(Ok), Some(events))),
        Next::Lagged => Some((Some(Err(too_slow())), None)),
        Next::Closed => None,
    }
}

fn thread_id(text: &str) -> Result<ThreadId, Status> {
    text.parse().map_err(|_| invalid("thread_id is not an id"))
}

/// What the client calls itself.
fn user_agent<T>(request: &Request<T>) -> String {
    let agent = request.metadata().get("user-agent").and_then(|agent| agent.to_str().ok()).unwrap_or("grpc");
    agent.chars().take(AGENT_BYTES_MAX).collect()
}
