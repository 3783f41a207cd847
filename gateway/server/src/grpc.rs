//! The gRPC surface: the contract's `ModelGatewayService`, health and reflection.

mod models;
mod rate_limits;
mod respond;

use std::sync::Arc;

use futures_util::stream::BoxStream;
use tidegate_proto::{
    DESCRIPTORS,
    gateway::v1::{
        DescribeProvidersRequest, DescribeProvidersResponse, ListModelsRequest, ListModelsResponse,
        RespondRequest, RespondResponse, WatchRateLimitsRequest, WatchRateLimitsResponse,
        model_gateway_service_server::{ModelGatewayService, ModelGatewayServiceServer},
    },
};
use tonic::{Request, Response, Status, Streaming, service::Routes};
use tonic_health::{
    ServingStatus,
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};

use crate::pipeline::Pipeline;

/// A body chunk of 1 MiB and what surrounds it.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024 + 64 * 1024;

/// Every gRPC service of this process, and what tells their health. An unknown one is answered with `Unimplemented`.
pub(crate) async fn routes(
    pipeline: &Arc<Pipeline>,
) -> Result<(Routes, HealthReporter), tonic_reflection::server::Error> {
    let gateway = ModelGatewayServiceServer::new(Service { pipeline: Arc::clone(pipeline) })
        .max_decoding_message_size(MESSAGE_BYTES_MAX);
    let reporter = HealthReporter::new();
    reporter.set_serving::<ModelGatewayServiceServer<Service>>().await;
    let health = HealthServer::new(HealthService::from_health_reporter(reporter.clone()));
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let routes = Routes::new(gateway)
        .add_service(health)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .prepare();
    Ok((routes, reporter))
}

/// Tells gRPC's health clients that calls should go elsewhere.
pub(crate) async fn not_serving(reporter: &HealthReporter) {
    reporter.set_service_status("", ServingStatus::NotServing).await;
    reporter.set_not_serving::<ModelGatewayServiceServer<Service>>().await;
}

struct Service {
    pipeline: Arc<Pipeline>,
}

#[tonic::async_trait]
impl ModelGatewayService for Service {
    type RespondStream = BoxStream<'static, Result<RespondResponse, Status>>;

    async fn respond(
        &self,
        request: Request<Streaming<RespondRequest>>,
    ) -> Result<Response<Self::RespondStream>, Status> {
        let stream = respond::stream(Arc::clone(&self.pipeline), request.into_inner());
        Ok(Response::new(Box::pin(stream)))
    }

    type WatchRateLimitsStream = BoxStream<'static, Result<WatchRateLimitsResponse, Status>>;

    async fn watch_rate_limits(
        &self,
        request: Request<WatchRateLimitsRequest>,
    ) -> Result<Response<Self::WatchRateLimitsStream>, Status> {
        let board = self.pipeline.rate_limits.watch();
        Ok(Response::new(Box::pin(rate_limits::stream(board, request.into_inner().provider))))
    }

    async fn list_models(
        &self,
        _request: Request<ListModelsRequest>,
    ) -> Result<Response<ListModelsResponse>, Status> {
        Ok(Response::new(models::list(&self.pipeline.providers).await))
    }

    async fn describe_providers(
        &self,
        _request: Request<DescribeProvidersRequest>,
    ) -> Result<Response<DescribeProvidersResponse>, Status> {
        Ok(Response::new(models::describe(&self.pipeline.providers)))
    }
}
