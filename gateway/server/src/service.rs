//! The gateway as one service for one port: gRPC by its content type, HTTP for everything else.

use std::{convert::Infallible, fmt, future::Future, pin::Pin, sync::Arc};

use http::{HeaderMap, Request, Response, header};
use hyper::body::Incoming;
use opentelemetry::metrics::Meter;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic_health::server::HealthReporter;
use tower::Service as _;

use crate::{
    Configuration, ResponseBody,
    admit::Admission,
    generation::Present,
    grpc, http as http_surface,
    http::{Spares, websocket::Sockets},
    metrics::Metrics,
    origin::Nearby,
    pipeline::Pipeline,
    places::Places,
    rate_limits::RateLimits,
    trace::Tracing,
};

/// The gateway's service; cheap to clone.
#[derive(Clone)]
pub struct Gateway {
    pipeline: Arc<Pipeline>,
    grpc: Routes,
    health: HealthReporter,
    nearby: Nearby,
}

/// Why the gateway cannot start.
#[derive(Debug, thiserror::Error)]
#[error("the contract's descriptors cannot be served by reflection")]
pub struct StartError(#[from] tonic_reflection::server::Error);

impl Gateway {
    /// A gateway that works as configured. When `cut` is cancelled, calls that still run end with a typed failure.
    ///
    /// # Errors
    ///
    /// When the contract that was compiled in is damaged.
    pub async fn new(
        configuration: Configuration,
        meter: &Meter,
        cut: CancellationToken,
    ) -> Result<Self, StartError> {
        let sockets = Sockets::new(cut.clone());
        let admission = Admission::new(cut);
        let metrics = Metrics::new(meter, &admission, &sockets);
        let pipeline = Arc::new(Pipeline {
            present: Present::new(configuration),
            admission,
            metrics,
            rate_limits: RateLimits::new(),
            places: Places::default(),
            sockets,
            tracing: Tracing::new(),
            spares: Spares::default(),
        });
        let (grpc, health) = grpc::routes(&pipeline).await?;
        Ok(Self { pipeline, grpc, health, nearby: Nearby(false) })
    }

    /// The same gateway behind a listener; `nearby` if only this machine reaches it.
    #[must_use]
    pub fn behind(&self, nearby: bool) -> Self {
        Self { nearby: Nearby(nearby), ..self.clone() }
    }

    /// Goes on with another configuration, whole: calls that arrive from now on see it, and those that have begun keep
    /// theirs. Tells its number.
    pub fn replace(&self, configuration: Configuration) -> u64 {
        self.pipeline.present.replace(configuration)
    }

    /// Tells gRPC's health clients that new calls should go elsewhere. Running ones go on.
    pub async fn not_serving(&self) {
        self.pipeline.rate_limits.close();
        grpc::not_serving(&self.health).await;
    }

    /// Closes every WebSocket as soon as no call runs on it, so that its client goes elsewhere, and waits for the last.
    /// Calls run on until `cut` ends them.
    pub async fn close_sockets(&self) {
        self.pipeline.sockets.close().await;
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

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.nearby);
        if is_grpc(&request) {
            only_compress_for_those_who_do(request.headers_mut());
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

/// Many clients say that they take compressed answers without wishing for any, and an event is too short to gain from it.
/// One that compresses itself has a line on which it pays.
fn only_compress_for_those_who_do(headers: &mut HeaderMap) {
    let compresses = headers.get("grpc-encoding").is_some_and(|encoding| encoding == "gzip");
    if !compresses {
        headers.remove("grpc-accept-encoding");
    }
}

fn is_grpc(request: &Request<Incoming>) -> bool {
    request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}
