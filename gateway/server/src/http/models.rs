//! `GET /v1/models` in OpenAI's format.

use http::{HeaderValue, Response, header};
use serde::Serialize;

use super::{body::ResponseBody, error};
use crate::pipeline::Pipeline;

#[derive(Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'a str,
}

/// Lists the models that this gateway serves.
pub(crate) async fn list(pipeline: &Pipeline) -> Response<ResponseBody> {
    let models = pipeline.providers.models().await;
    let data = models
        .iter()
        .map(|model| Entry { id: &model.slug, object: "model", created: 0, owned_by: &model.provider })
        .collect();
    match serde_json::to_vec(&List { object: "list", data }) {
        Ok(json) => {
            let mut response = Response::new(ResponseBody::full(json.into()));
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Err(source) => error::plain(
            http::StatusCode::INTERNAL_SERVER_ERROR,
            "bug",
            &format!("the model list cannot be written: {source}"),
        ),
    }
}
