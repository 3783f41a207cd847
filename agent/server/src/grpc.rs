//! The gRPC surface: the contract's `SessionService`, health and reflection, over the same sessions.

mod convert;
mod failure;
mod settings;
mod subscribe;
mod threads;
mod traces;

use std::sync::Arc;

use agent_session::{ClientMetadata, StartTurn, SteerTurn};
use agent_threads::{TenantId, ThreadId};
use futures_util::stream::BoxStream;
use tidegate_callers::Refusal;
use tidegate_proto::DESCRIPTORS;
use tidegate_proto::agent::v1::session_service_server::{SERVICE_NAME, SessionService, SessionServiceServer};
use tidegate_proto::agent::v1::{
    CreateThreadRequest, CreateThreadResponse, ForkThreadRequest, ForkThreadResponse, GetThreadRequest,
    GetThreadResponse, InterruptTurnRequest, InterruptTurnResponse, ListThreadsRequest, ListThreadsResponse,
    ReadTraceRequest, ReadTraceResponse, ResumeThreadRequest, ResumeThreadResponse, StartTurnRequest,
    StartTurnResponse, SteerTurnRequest, SteerTurnResponse, SubscribeRequest, SubscribeResponse,
};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::{Request, Response, Status};
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tonic_reflection::pb::{v1, v1alpha};
use tonic_reflection::server::{Builder, Error};

use crate::door::Visitor;
use crate::server::Shared;
use failure::{invalid, status};

/// The largest message that a caller may send.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// How long a client's own words about itself may be.
const AGENT_BYTES_MAX: usize = 128;
/// Every gRPC service of this process. An unknown one is answered with `Unimplemented`.
pub(crate) async fn routes(shared: &Arc<Shared>) -> Result<Routes, Error> {
    let service = Service { shared: Arc::clone(shared) };
    let sessions = SessionServiceServer::new(service).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let reporter = HealthReporter::new();
    reporter.set_serving::<SessionServiceServer<Service>>().await;
    let health = HealthServer::new(HealthService::from_health_reporter(reporter.clone()));
    shared.tasks.spawn(report_stop(reporter, shared.stop.clone()));
    let reflection = |of_version: &'static str| {
        Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // The contract has services of other processes too.
            .with_service_name(SERVICE_NAME)
            .with_service_name(tonic_health::pb::health_server::SERVICE_NAME)
            .with_service_name(of_version)
    };
    Ok(Routes::new(sessions)
        .add_service(health)
        .add_service(reflection(v1::server_reflection_server::SERVICE_NAME).build_v1()?)
        .add_service(reflection(v1alpha::server_reflection_server::SERVICE_NAME).build_v1alpha()?)
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
        self.create(request).await.map(Response::new)
    }

    async fn resume_thread(
        &self,
        request: Request<ResumeThreadRequest>,
    ) -> Result<Response<ResumeThreadResponse>, Status> {
        self.resume(request).await.map(Response::new)
    }

    async fn fork_thread(
        &self,
        request: Request<ForkThreadRequest>,
    ) -> Result<Response<ForkThreadResponse>, Status> {
        self.fork(request).await.map(Response::new)
    }

    async fn get_thread(
        &self,
        request: Request<GetThreadRequest>,
    ) -> Result<Response<GetThreadResponse>, Status> {
        self.get(request).await.map(Response::new)
    }

    async fn list_threads(
        &self,
        request: Request<ListThreadsRequest>,
    ) -> Result<Response<ListThreadsResponse>, Status> {
        self.list(request).await.map(Response::new)
    }

    async fn start_turn(
        &self,
        request: Request<StartTurnRequest>,
    ) -> Result<Response<StartTurnResponse>, Status> {
        let (tenant, trace) = (tenant(&request)?, settings::trace(request.metadata()));
        let request = request.into_inner();
        let id = self::thread_id(&request.thread_id)?;
        let turn = StartTurn {
            input: settings::message(request.text, request.parts)?,
            client_message_id: settings::some(request.client_message_id),
            overrides: settings::overrides(request.settings, &self.shared)?,
            service_tier_for_turn: request.service_tier_for_turn,
            output_schema: settings::output_schema(&request.output_schema)?,
            trace,
            ..StartTurn::default()
        };
        let turn = self.shared.sessions.start_turn(&tenant, id, turn).await.map_err(status)?;
        Ok(Response::new(StartTurnResponse { turn_id: turn.id.to_string() }))
    }

    async fn steer_turn(
        &self,
        request: Request<SteerTurnRequest>,
    ) -> Result<Response<SteerTurnResponse>, Status> {
        let tenant = tenant(&request)?;
        let request = request.into_inner();
        let id = self::thread_id(&request.thread_id)?;
        let steer = SteerTurn {
            expected: threads::turn_id(&request.expected_turn_id)?,
            input: settings::message(request.text, request.parts)?,
            client_message_id: settings::some(request.client_message_id),
            client_metadata: ClientMetadata::default(),
        };
        let steered = self.shared.sessions.steer(&tenant, id, steer).await;
        Ok(Response::new(SteerTurnResponse { turn_id: steered.map_err(status)?.to_string() }))
    }

    async fn interrupt_turn(
        &self,
        request: Request<InterruptTurnRequest>,
    ) -> Result<Response<InterruptTurnResponse>, Status> {
        let tenant = tenant(&request)?;
        let InterruptTurnRequest { thread_id, turn_id } = request.into_inner();
        let id = self::thread_id(&thread_id)?;
        let turn = threads::turn_id(&turn_id)?;
        self.shared.sessions.interrupt(&tenant, id, Some(turn)).await.map_err(status)?;
        Ok(Response::new(InterruptTurnResponse {}))
    }

    async fn subscribe(
        &self,
        request: Request<SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        self.follow(request).await.map(Response::new)
    }

    async fn read_trace(
        &self,
        request: Request<ReadTraceRequest>,
    ) -> Result<Response<ReadTraceResponse>, Status> {
        self.trace(request).await.map(Response::new)
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
