//! `GET /v1/models`: in Codex's format for clients that name their version of it, in OpenAI's for all others.

use gateway_providers::{ListForm, ModelList, Viewer};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, header};
use hyper::body::Incoming;

use super::{SURFACE, body::ResponseBody, error};
use crate::{
    headers, origin,
    pipeline::{Pipeline, Stranger},
};

/// What Codex asks with.
const VERSION: &str = "client_version";
/// The list depends on who asks, so nobody else may keep it, and the one who asked has to ask whether it is still good.
const CACHE: HeaderValue = HeaderValue::from_static("private, no-cache");

/// Lists the models that this gateway serves.
pub(crate) async fn list(pipeline: &Pipeline, request: Request<Incoming>) -> Response<ResponseBody> {
    let headers = request.headers();
    let presented = origin::presented(headers, request.extensions());
    let (generation, admitted) = match pipeline.let_in(SURFACE, presented).await {
        Ok(let_in) => let_in,
        Err(Stranger { error, generation }) => return error::response(&error, generation),
    };
    let credential = headers::caller_credential(headers).filter(|_| admitted.foreign_authorization);
    let form = if is_codex(request.uri()) { ListForm::Codex } else { ListForm::OpenAi };
    let name = admitted.viewer();
    let viewer = Viewer { credential: credential.as_ref(), name: &name };
    let allowed = |model: &_| admitted.sees(model);
    let ModelList { body, etag } = generation.providers.model_list(form, viewer, &allowed).await;
    let mut response = if is_known(headers, &etag) {
        let mut response = Response::new(ResponseBody::full(bytes::Bytes::new()));
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        let mut response = Response::new(ResponseBody::full(body));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    };
    response.headers_mut().insert(header::ETAG, etag);
    response.headers_mut().insert(header::CACHE_CONTROL, CACHE);
    response.headers_mut().insert(headers::GENERATION, generation.number.into());
    response
}

fn is_codex(uri: &Uri) -> bool {
    let mut parameters = uri.query().unwrap_or_default().split('&');
    parameters.any(|parameter| parameter.split('=').next() == Some(VERSION))
}

/// Whether the client has this list already.
fn is_known(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    let Ok(etag) = etag.to_str() else { return false };
    let named = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    // A proxy that changed the coding of an answer has made its tag a weak one.
    let plain = |tag: &str| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag;
    named.flat_map(|value| value.split(',')).any(|tag| plain(tag.trim()))
}
