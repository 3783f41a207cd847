//! The HTTP surface: the OpenAI Responses API as clients of it expect it. The router only routes.

pub(crate) mod body;
mod error;
mod inflate;
mod models;
mod read_body;
mod responses;

use gateway_providers::Operation;
use http::{Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;

use self::body::ResponseBody;
use crate::pipeline::Pipeline;

/// Answers one HTTP request.
pub(crate) async fn answer(pipeline: &Pipeline, request: Request<Incoming>) -> Response<ResponseBody> {
    let path = request.uri().path();
    let path = path.strip_prefix("/v1").unwrap_or(path);
    match (path, request.method()) {
        ("/responses", &Method::POST) => responses::create(pipeline, Operation::Responses, request).await,
        ("/responses/compact", &Method::POST) => {
            responses::create(pipeline, Operation::Compact, request).await
        }
        ("/responses", &Method::GET) if is_upgrade(&request) => error::plain(
            StatusCode::UPGRADE_REQUIRED,
            "websocket_unsupported",
            "this gateway takes Responses calls by POST, not by WebSocket",
        ),
        ("/models", &Method::GET) => models::list(pipeline, request).await,
        ("/responses" | "/responses/compact", _) => error::method_not_allowed("POST"),
        ("/models", _) => error::method_not_allowed("GET"),
        (path, method) => error::plain(
            StatusCode::NOT_FOUND,
            "not_found",
            &format!(
                "there is no {method} {path}; this gateway serves POST /v1/responses, POST /v1/responses/compact and \
                 GET /v1/models"
            ),
        ),
    }
}

fn is_upgrade(request: &Request<Incoming>) -> bool {
    request
        .headers()
        .get(header::UPGRADE)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}
