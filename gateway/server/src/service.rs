//! The gateway as one service for one port: gRPC by its content type, HTTP for everything else.

use std::{convert::Infallible, fmt, future::Future, pin::Pin, sync::Arc};

use gateway_providers::Providers;
use http::{Request, Response, header};
use hyper::body::Incoming;
use opentelemetry::metrics::Meter;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic_health::server::HealthReporter;
use tower::Service as _;

use crate::{
    ResponseBody, ServerConfig, admit::Admission, grpc, http as http_surface, metrics::Metrics,
    pipeline::Pipeline, rate_limits::RateLimits,
};

/// The gateway's service; cheap to clone.
#[derive(Clone)]
pub struct Gateway {
    pipeline: Arc<Pipeline>,
    grpc: Routes,
    health: HealthReporter,
}

/// Why the gateway cannot start.
#[derive(Debug, thiserror::Error)]
#[error("the contract's descriptors cannot be served by reflection")]
pub struct StartError(#[from] tonic_reflection::server::Error);

impl Gateway {
    /// A gateway in front of `providers`. When `cut` is cancelled, calls that still run end with a typed failure.
    ///
    /// # Errors
    ///
    /// When the contract that was compiled in is damaged.
    pub async fn new(
        config: ServerConfig,
        providers: Providers,
        meter: &Meter,
        cut: CancellationToken,
    ) -> Result<Self, StartError> {
        let admission = Admission::new(config.concurrent_calls_max, cut);
        let metrics = Metrics::new(meter);
        let pipeline =
            Arc::new(Pipeline { config, providers, admission, metrics, rate_limits: RateLimits::new() });
        let (grpc, health) = grpc::routes(&pipeline).await?;
        Ok(Self { pipeline, grpc, health })
    }

    /// Tells gRPC's health clients that new calls should go elsewhere. Running ones go on.
    pub async fn not_serving(&self) {
        self.pipeline.rate_limits.close();
        grpc::not_serving(&self.health).await;
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").finish_non_exhaustive()
    }
}

impl hyper::service::Service<Request<Incoming>> for Gateway {
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        if is_grpc(&request) {
            let mut grpc = self.grpc.clone();
            return Box::pin(async move {
                let response = grpc.call(request).await?;
                Ok(response.map(ResponseBody::grpc))
            });
        }
        let pipeline = Arc::clone(&self.pipeline);
        Box::pin(async move { Ok(http_surface::answer(&pipeline, request).await) })
    }
}

fn is_grpc(request: &Request<Incoming>) -> bool {
    request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}
