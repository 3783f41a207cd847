//! Reads a request body under its bounds of size and time, inflated.

use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use std::time::Duration;
use tokio::time::timeout;

use super::{
    Spares,
    inflate::{Encoding, Inflater},
};
use crate::{
    failure::CallError,
    pipeline::{BodySource, Room},
};

/// The most memory that is set aside for a body before it has come.
const RESERVED_BYTES_MAX: usize = 4 << 20;
/// A body that has come beyond this is meant: only then is the memory for what it announces set aside.
const EARNEST_BYTES: usize = 16 << 10;
/// How much of a body is heard out whose request is refused, and for how long.
const REFUSED_BYTES_MAX: usize = 64 << 10;
const REFUSED_TIME_MAX: Duration = Duration::from_millis(200);

/// A body that is on its way.
pub(crate) struct Arriving<'a> {
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a mut Incoming,
    pub(crate) timeout: Duration,
    pub(crate) spares: &'a Spares,
}

impl BodySource for Arriving<'_> {
    async fn read(self, room: Room<'_>) -> Result<Bytes, CallError> {
        let Self { headers, body, timeout: limit, spares } = self;
        let encoding = Encoding::of(headers)?;
        let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        if announced > room.bytes_max {
            return Err(CallError::BodyTooLarge { limit: room.bytes_max });
        }
        let collected = async {
            match encoding {
                None => collect(body, announced, room, spares).await,
                Some(encoding) => inflate(body, Inflater::new(encoding, room.bytes_max)?, room).await,
            }
        };
        match timeout(limit, collected).await {
            Ok(body) => body,
            Err(_) => Err(CallError::BodyTimeout { seconds: limit.as_secs() }),
        }
    }
}

/// Lets a caller whose request is refused finish a short body. Over HTTP/2 an answer before the end of the body is followed by
/// a reset of its stream, and curl 7.88 then tells of a framing error instead of the answer; over HTTP/1.1 the connection ends.
pub(crate) async fn hear_out(headers: &HeaderMap, body: &mut Incoming) {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    // Whoever waits to be told to go on is not told.
    if announced > REFUSED_BYTES_MAX || headers.contains_key(header::EXPECT) {
        return;
    }
    let to_its_end = async {
        let mut room = REFUSED_BYTES_MAX;
        while let Ok(Some(part)) = next(body).await
            // An empty part counts, or there could be parts without end.
            && let Some(left) = room.checked_sub(part.len().max(1))
        {
            room = left;
        }
    };
    // Late or not, it is refused.
    let _ = timeout(REFUSED_TIME_MAX, to_its_end).await;
}

async fn collect(
    body: &mut Incoming,
    announced: usize,
    room: Room<'_>,
    spares: &Spares,
) -> Result<Bytes, CallError> {
    let limit = room.bytes_max;
    room.permit.hold(announced)?;
    let Some(first) = next(body).await? else { return Ok(Bytes::new()) };
    // A body that came in one piece is used as it is.
    if body.is_end_stream() || first.len() == announced {
        room.permit.hold(first.len())?;
        return if first.len() > limit { Err(CallError::BodyTooLarge { limit }) } else { Ok(first) };
    }
    // What is announced is not yet there, and may never be: who only announces gets no memory for it.
    let mut whole = Vec::new();
    let mut part = Some(first);
    while let Some(chunk) = part {
        let length = whole.len().saturating_add(chunk.len());
        if length > limit {
            return Err(CallError::BodyTooLarge { limit });
        }
        if (whole.len()..length).contains(&EARNEST_BYTES) {
            let mut roomy = spares.take(announced.min(RESERVED_BYTES_MAX).max(length));
            roomy.append(&mut whole);
            whole = roomy;
        }
        whole.extend_from_slice(&chunk);
        room.permit.hold(whole.capacity())?;
        part = next(body).await?;
    }
    Ok(spares.lend(whole))
}

async fn inflate(body: &mut Incoming, mut inflater: Inflater, room: Room<'_>) -> Result<Bytes, CallError> {
    while let Some(chunk) = next(body).await? {
        inflater.push(&chunk)?;
        room.permit.hold(inflater.held())?;
    }
    let whole = inflater.finish()?;
    // A decoder gives its last part only now.
    room.permit.hold(whole.capacity())?;
    Ok(whole.into())
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
