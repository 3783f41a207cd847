//! Reads a request body under its bounds of size and time, inflated.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use tokio::time::timeout;

use super::inflate::{Encoding, Inflater};
use crate::{ServerConfig, failure::CallError};

/// Reads the whole body.
pub(crate) async fn read(
    config: &ServerConfig,
    headers: &HeaderMap,
    body: Incoming,
) -> Result<Bytes, CallError> {
    let encoding = Encoding::of(headers)?;
    let limit = config.body_bytes_max;
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limit {
        return Err(CallError::BodyTooLarge { limit });
    }
    let collected = async {
        match encoding {
            None => collect(body, announced, limit).await,
            Some(encoding) => inflate(body, Inflater::new(encoding, limit)?).await,
        }
    };
    match timeout(config.body_timeout(), collected).await {
        Ok(body) => body,
        Err(_) => Err(CallError::BodyTimeout { seconds: config.body_timeout().as_secs() }),
    }
}

async fn collect(mut body: Incoming, announced: usize, limit: usize) -> Result<Bytes, CallError> {
    let Some(first) = next(&mut body).await? else { return Ok(Bytes::new()) };
    // A body that came in one piece is used as it is.
    if body.is_end_stream() || first.len() == announced {
        return if first.len() > limit { Err(CallError::BodyTooLarge { limit }) } else { Ok(first) };
    }
    let mut whole = BytesMut::with_capacity(announced.max(first.len()));
    whole.extend_from_slice(&first);
    while let Some(chunk) = next(&mut body).await? {
        if whole.len().saturating_add(chunk.len()) > limit {
            return Err(CallError::BodyTooLarge { limit });
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.freeze())
}

async fn inflate(mut body: Incoming, mut inflater: Inflater) -> Result<Bytes, CallError> {
    while let Some(chunk) = next(&mut body).await? {
        inflater.push(&chunk)?;
    }
    inflater.finish()
}

async fn next(body: &mut Incoming) -> Result<Option<Bytes>, CallError> {
    loop {
        match body.frame().await {
            None => return Ok(None),
            Some(Err(_)) => return Err(CallError::BodyCut),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}
