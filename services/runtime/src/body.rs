//! The body type of services that sometimes answer themselves instead of the application.
//!
//! Application bodies pass through unboxed; our own answers are one small buffer.

use bytes::Bytes;
use futures_util::future;
use http_body_util::{Either, Full};

/// Either the application's body, untouched, or a short answer of our own.
pub type Reply<B> = Either<B, Full<Bytes>>;

/// The future of a wrapped service: the application's, with its body marked as such, or an answer at once.
pub(crate) type ReplyFuture<F, B, E> = future::Either<
    future::MapOk<F, fn(http::Response<B>) -> http::Response<Reply<B>>>,
    future::Ready<Result<http::Response<Reply<B>>, E>>,
>;

/// Lets the application answer.
pub(crate) fn pass<F, B, E>(inner: F) -> ReplyFuture<F, B, E>
where
    F: Future<Output = Result<http::Response<B>, E>>,
{
    let mark: fn(http::Response<B>) -> http::Response<Reply<B>> = |response| response.map(Either::Left);
    future::Either::Left(future::TryFutureExt::map_ok(inner, mark))
}

/// Answers without asking the application.
pub(crate) fn answer<F, B, E>(response: http::Response<Bytes>) -> ReplyFuture<F, B, E>
where
    F: Future<Output = Result<http::Response<B>, E>>,
{
    future::Either::Right(future::ready(Ok(response.map(|bytes| Either::Right(Full::new(bytes))))))
}

/// A response of our own with a content type that is known to be valid.
pub(crate) fn own(
    status: http::StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> http::Response<Bytes> {
    let mut response = http::Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    response
}
