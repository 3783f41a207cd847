//! The HTTP surface: the OpenAI Responses API as clients of it expect it. The router only routes.

pub(crate) mod body;
mod error;
mod inflate;
mod models;
mod read_body;
mod responses;
mod spares;
pub(crate) mod websocket;

use std::sync::Arc;

use gateway_providers::Operation;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use self::body::ResponseBody;
use self::read_body::hear_out;
pub(crate) use self::spares::Spares;
use crate::pipeline::Pipeline;

/// What log lines and metrics call this surface.
const SURFACE: &str = "http";

/// Answers one HTTP request.
pub(crate) async fn answer(pipeline: &Arc<Pipeline>, request: Request<Incoming>) -> Response<ResponseBody> {
    let path = request.uri().path();
    let path = path.strip_prefix("/v1").unwrap_or(path);
    let number = || pipeline.present.generation().number;
    match (path, request.method()) {
        ("/responses", &Method::POST) => responses::create(pipeline, Operation::Responses, request).await,
        ("/responses/compact", &Method::POST) => {
            responses::create(pipeline, Operation::Compact, request).await
        }
        ("/responses/input_tokens", &Method::POST) => {
            responses::create(pipeline, Operation::InputTokens, request).await
        }
        ("/responses", &Method::GET) if websocket::is_asked_for(&request) => {
            websocket::accept(pipeline, request).await
        }
        ("/models", &Method::GET) => models::list(pipeline, request).await,
        ("/responses" | "/responses/compact" | "/responses/input_tokens", _) => {
            refused(request, error::method_not_allowed("POST", number())).await
        }
        ("/models", _) => refused(request, error::method_not_allowed("GET", number())).await,
        (path, method) => {
            let text = format!(
                "there is no {method} {path}; this gateway serves POST /v1/responses, POST /v1/responses/compact, \
                 POST /v1/responses/input_tokens and GET /v1/models"
            );
            refused(request, error::plain(StatusCode::NOT_FOUND, "not_found", &text, number())).await
        }
    }
}

async fn refused(request: Request<Incoming>, answer: Response<ResponseBody>) -> Response<ResponseBody> {
    let (head, mut body) = request.into_parts();
    hear_out(&head.headers, &mut body).await;
    answer
}
