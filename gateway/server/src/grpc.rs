//! The gRPC surface: the contract's `ModelGatewayService`, health and reflection.

mod deadline;
mod models;
mod rate_limits;
mod respond;

use std::sync::Arc;

use futures_util::stream::BoxStream;
use gateway_providers::RouteError;
use tidegate_proto::{
    DESCRIPTORS,
    gateway::v1::{
        DescribeProvidersRequest, DescribeProvidersResponse, Failure, ListModelsRequest, ListModelsResponse,
        RespondRequest, RespondResponse, WatchRateLimitsRequest, WatchRateLimitsResponse,
        model_gateway_service_server::{ModelGatewayService, ModelGatewayServiceServer, SERVICE_NAME},
    },
    status_with,
};
use tonic::{
    Request, Response, Status, Streaming, codec::CompressionEncoding, metadata::MetadataMap, service::Routes,
};
use tonic_health::{
    ServingStatus,
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};
use tonic_reflection::pb::{v1, v1alpha};

use crate::{
    failure::CallError,
    generation::{Admitted, Generation},
    headers,
    origin::Origin,
    pipeline::{Pipeline, Stranger},
};

/// What log lines and metrics call this surface.
const SURFACE: &str = "grpc";
/// A body chunk of 1 MiB and what surrounds it.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024 + 64 * 1024;

/// Every gRPC service of this process, and what tells their health. An unknown one is answered with `Unimplemented`.
pub(crate) async fn routes(
    pipeline: &Arc<Pipeline>,
) -> Result<(Routes, HealthReporter), tonic_reflection::server::Error> {
    let gateway = ModelGatewayServiceServer::new(Service { pipeline: Arc::clone(pipeline) })
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip);
    let reporter = HealthReporter::new();
    reporter.set_serving::<ModelGatewayServiceServer<Service>>().await;
    let health = HealthServer::new(HealthService::from_health_reporter(reporter.clone()));
    let reflection = |of_version: &'static str| {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // The contract has services of other processes too.
            .with_service_name(SERVICE_NAME)
            .with_service_name(tonic_health::pb::health_server::SERVICE_NAME)
            .with_service_name(of_version)
    };
    let routes = Routes::new(gateway)
        .add_service(health)
        .add_service(reflection(v1::server_reflection_server::SERVICE_NAME).build_v1()?)
        .add_service(reflection(v1alpha::server_reflection_server::SERVICE_NAME).build_v1alpha()?)
        .prepare();
    Ok((routes, reporter))
}

/// Tells gRPC's health clients that calls should go elsewhere.
pub(crate) async fn not_serving(reporter: &HealthReporter) {
    reporter.set_service_status("", ServingStatus::NotServing).await;
    reporter.set_not_serving::<ModelGatewayServiceServer<Service>>().await;
}

/// An answer, with the state of the configuration that it is given under. A `Respond` stream names the one that it was
/// opened under; each of its responses names its own.
fn answer<T>(generation: u64, message: T) -> Response<T> {
    let mut answer = Response::new(message);
    name(answer.metadata_mut(), generation);
    answer
}

/// A refusal, with the state of the configuration that refuses.
fn refusal(generation: u64, failure: &Failure) -> Status {
    let mut status = status_with(failure);
    name(status.metadata_mut(), generation);
    status
}

fn name(metadata: &mut MetadataMap, generation: u64) {
    metadata.as_mut().insert(headers::GENERATION, generation.into());
}

struct Service {
    pipeline: Arc<Pipeline>,
}

/// A request whose caller is known.
struct Arrived<T> {
    message: T,
    origin: Origin,
    /// The present state of the configuration.
    generation: Arc<Generation>,
    /// The caller as it knows it.
    admitted: Admitted,
}

impl Service {
    async fn arrived<T>(&self, request: Request<T>) -> Result<Arrived<T>, Status> {
        let (metadata, extensions, message) = request.into_parts();
        let origin = Origin { headers: metadata.into_headers(), extensions };
        match self.pipeline.let_in(SURFACE, origin.presented()).await {
            Ok((generation, admitted)) => Ok(Arrived { message, origin, generation, admitted }),
            Err(Stranger { error, generation }) => Err(refusal(generation, &error.failure())),
        }
    }
}

#[tonic::async_trait]
impl ModelGatewayService for Service {
    type RespondStream = BoxStream<'static, Result<RespondResponse, Status>>;

    async fn respond(
        &self,
        request: Request<Streaming<RespondRequest>>,
    ) -> Result<Response<Self::RespondStream>, Status> {
        // A stranger is told at once, and not after it has sent its first call.
        let Arrived { message, origin, generation, .. } = self.arrived(request).await?;
        let deadline = deadline::of(&origin.headers);
        let caller = respond::Caller { origin, deadline };
        let stream = respond::stream(Arc::clone(&self.pipeline), generation.number, caller, message);
        Ok(answer(generation.number, Box::pin(deadline::keep(deadline, stream))))
    }

    type WatchRateLimitsStream = BoxStream<'static, Result<WatchRateLimitsResponse, Status>>;

    async fn watch_rate_limits(
        &self,
        request: Request<WatchRateLimitsRequest>,
    ) -> Result<Response<Self::WatchRateLimitsStream>, Status> {
        let Arrived { message, origin, generation, admitted } = self.arrived(request).await?;
        let there =
            |id: &str| generation.providers.ids().contains(&id) && admitted.rules.visible_provider(id);
        if !message.provider.is_empty() && !there(&message.provider) {
            let unknown = CallError::Route(RouteError::UnknownProvider { provider: message.provider });
            return Err(refusal(generation.number, &unknown.failure()));
        }
        let board = self.pipeline.rate_limits.watch();
        let deadline = deadline::of(&origin.headers);
        let stream = rate_limits::stream(board, message.provider, admitted.rules);
        Ok(answer(generation.number, Box::pin(deadline::keep(deadline, stream))))
    }

    async fn list_models(
        &self,
        request: Request<ListModelsRequest>,
    ) -> Result<Response<ListModelsResponse>, Status> {
        let Arrived { generation, admitted, .. } = self.arrived(request).await?;
        Ok(answer(generation.number, models::list(&generation.providers, &admitted).await))
    }

    async fn describe_providers(
        &self,
        request: Request<DescribeProvidersRequest>,
    ) -> Result<Response<DescribeProvidersResponse>, Status> {
        let Arrived { generation, admitted, .. } = self.arrived(request).await?;
        Ok(answer(generation.number, models::describe(&generation.providers, &admitted)))
    }
}
