//! Liveness, readiness and metrics for whoever watches the process.
//!
//! `GET /livez` (and `/healthz`) says that the process answers; `GET /readyz` says whether it wants traffic, with
//! every part's word; `GET /metrics` is the Prometheus text. Any other path belongs to the application.

use std::convert::Infallible;
use std::future::{Ready as Answered, ready};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body;
use http_body_util::Full;
use hyper::service::Service;
use prometheus::{Registry, TextEncoder};
use serde::Serialize;

use crate::body::{Reply, ReplyFuture, answer, own, pass};
use crate::drain::Drain;

const JSON: &str = "application/json";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

#[derive(Debug)]
struct Check {
    name: &'static str,
    ready: AtomicBool,
    detail: Mutex<String>,
}

impl Check {
    fn set(&self, ready: bool, detail: String) {
        *self.detail.lock().unwrap_or_else(PoisonError::into_inner) = detail;
        self.ready.store(ready, Ordering::Release);
    }
}

/// One part's say in whether the process wants traffic. It starts as not ready; dropping it says "stopped".
#[derive(Debug)]
pub struct Ready(Arc<Check>);

impl Ready {
    /// The part works.
    pub fn ready(&self) {
        self.0.set(true, String::new());
    }

    /// The part works, with something to tell whoever asks, such as what it could not take over; no secret.
    pub fn ready_with(&self, detail: impl Into<String>) {
        self.0.set(true, detail.into());
    }

    /// The part cannot serve; the detail is shown to whoever asks, so it holds no secret.
    pub fn not_ready(&self, detail: impl Into<String>) {
        self.0.set(false, detail.into());
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        self.0.set(false, "stopped".to_owned());
    }
}

/// The process's health; clones share it.
#[derive(Debug, Clone)]
pub struct Health {
    checks: Arc<Mutex<Vec<Arc<Check>>>>,
    drain: Drain,
    registry: Registry,
}

#[derive(Serialize)]
struct Report {
    status: &'static str,
    checks: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    name: &'static str,
    ready: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
}

impl Health {
    /// Nothing registered: ready until the drain begins. The registry is what `/metrics` shows.
    pub fn new(drain: Drain, registry: Registry) -> Self {
        Self { checks: Arc::default(), drain, registry }
    }

    /// Adds a part, not ready yet; the process is ready when all are.
    pub fn register(&self, name: &'static str) -> Ready {
        let check = Arc::new(Check {
            name,
            ready: AtomicBool::new(false),
            detail: Mutex::new("starting".to_owned()),
        });
        self.checks.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&check));
        Ready(check)
    }

    /// Whether the process wants traffic now.
    pub fn is_ready(&self) -> bool {
        let checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        !self.drain.is_draining() && checks.iter().all(|check| check.ready.load(Ordering::Acquire))
    }

    fn report(&self) -> Response<Bytes> {
        let checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let line = |check: &Arc<Check>| Line {
            name: check.name,
            ready: check.ready.load(Ordering::Acquire),
            detail: check.detail.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        };
        let checks: Vec<Line> = checks.iter().map(line).collect();
        let (status, code) = match (self.drain.is_draining(), checks.iter().all(|check| check.ready)) {
            (true, _) => ("draining", StatusCode::SERVICE_UNAVAILABLE),
            (false, true) => ("ready", StatusCode::OK),
            (false, false) => ("not_ready", StatusCode::SERVICE_UNAVAILABLE),
        };
        match serde_json::to_vec(&Report { status, checks }) {
            Ok(body) => own(code, JSON, body),
            Err(_) => own(StatusCode::INTERNAL_SERVER_ERROR, JSON, Bytes::from_static(b"{}")),
        }
    }

    fn metrics(&self) -> Response<Bytes> {
        match TextEncoder::new().encode_to_string(&self.registry.gather()) {
            Ok(text) => own(StatusCode::OK, METRICS, text),
            Err(error) => {
                tracing::error!(%error, "cannot encode the metrics");
                own(StatusCode::INTERNAL_SERVER_ERROR, METRICS, Bytes::new())
            }
        }
    }

    /// The answer to a request, if it is one of ours.
    pub fn answer(&self, method: &Method, path: &str) -> Option<Response<Bytes>> {
        if !matches!(path, "/livez" | "/healthz" | "/readyz" | "/metrics") {
            return None;
        }
        if method != Method::GET && method != Method::HEAD {
            let mut response = own(StatusCode::METHOD_NOT_ALLOWED, JSON, Bytes::from_static(b"{}"));
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return Some(response);
        }
        let mut response = match path {
            "/readyz" => self.report(),
            "/metrics" => self.metrics(),
            _ => own(StatusCode::OK, JSON, Bytes::from_static(br#"{"status":"live"}"#)),
        };
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Some(response)
    }
}

/// A service that answers the health paths itself.
#[derive(Debug, Clone)]
pub struct WithHealth<S> {
    inner: S,
    health: Health,
}

impl<S> WithHealth<S> {
    /// Puts the health paths in front of a service.
    pub fn new(inner: S, health: Health) -> Self {
        Self { inner, health }
    }
}

impl<S, R, B> Service<Request<R>> for WithHealth<S>
where
    S: Service<Request<R>, Response = Response<B>>,
    B: Body<Data = Bytes>,
{
    type Response = Response<Reply<B>>;
    type Error = S::Error;
    type Future = ReplyFuture<S::Future, B, S::Error>;

    fn call(&self, request: Request<R>) -> Self::Future {
        match self.health.answer(request.method(), request.uri().path()) {
            Some(response) => answer(response),
            None => pass(self.inner.call(request)),
        }
    }
}

/// The health paths and nothing else, for a listener that other machines may reach without showing who they are.
#[derive(Debug, Clone)]
pub struct OnlyHealth(Health);

impl OnlyHealth {
    /// Serves this process's health.
    pub fn new(health: Health) -> Self {
        Self(health)
    }
}

impl<R> Service<Request<R>> for OnlyHealth {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Answered<Result<Self::Response, Infallible>>;

    fn call(&self, request: Request<R>) -> Self::Future {
        let answer = self.0.answer(request.method(), request.uri().path());
        let answer = answer.unwrap_or_else(|| own(StatusCode::NOT_FOUND, JSON, Bytes::from_static(b"{}")));
        ready(Ok(answer.map(Full::new)))
    }
}
