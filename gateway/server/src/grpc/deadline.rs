//! The caller's own deadline: `grpc-timeout`, which bounds a whole stream.

use std::{future::poll_fn, pin::pin, task::Poll, time::Duration};

use futures_util::{Stream, StreamExt as _, stream};
use http::HeaderMap;
use tokio::time::Instant;
use tonic::Status;

/// The deadline that a caller set, if it set one.
pub(super) fn of(headers: &HeaderMap) -> Option<Instant> {
    let timeout = parse(headers.get("grpc-timeout")?.to_str().ok()?)?;
    Instant::now().checked_add(timeout)
}

/// At most eight digits and a unit, as gRPC writes it. Anything else sets no deadline.
fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let digits = (digits.len() <= 8 && digits.bytes().all(|byte| byte.is_ascii_digit())).then_some(digits)?;
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

/// The same stream, which ends at its deadline; what it was doing is dropped then.
pub(super) fn keep<T>(
    deadline: Option<Instant>,
    inner: impl Stream<Item = Result<T, Status>> + Send + 'static,
) -> impl Stream<Item = Result<T, Status>> + Send {
    let Some(deadline) = deadline else { return inner.left_stream() };
    let state = Some((Box::pin(inner), Box::pin(tokio::time::sleep_until(deadline))));
    let ending = stream::unfold(state, |state| async move {
        let (mut inner, mut sleep) = state?;
        let next = poll_fn(|cx| match inner.poll_next_unpin(cx) {
            Poll::Ready(item) => Poll::Ready(Ok(item)),
            Poll::Pending => pin!(&mut sleep).poll(cx).map(Err),
        });
        match next.await {
            Ok(item) => item.map(|item| (item, Some((inner, sleep)))),
            Err(()) => Some((Err(Status::deadline_exceeded("the caller's deadline has passed")), None)),
        }
    });
    ending.right_stream()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_the_header() {
        let seconds = |text| parse(text).map(|timeout| timeout.as_secs_f64());
        assert_eq!(seconds("2H"), Some(7200.0));
        assert_eq!(seconds("3M"), Some(180.0));
        assert_eq!(seconds("10S"), Some(10.0));
        assert_eq!(seconds("250m"), Some(0.25));
        assert_eq!(seconds("5u"), Some(0.000_005));
        assert_eq!(seconds("7n"), Some(0.000_000_007));
        for wrong in ["", "S", "1", "-1S", "+1S", "1s", "123456789S", "1.5S", "1\u{e9}"] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_at_its_deadline() {
        let endless = stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_secs(4)).await;
            Some((Ok(1), ()))
        });
        let began = Instant::now();
        let kept = keep(Some(began + Duration::from_secs(10)), endless);
        let items: Vec<Result<i32, Status>> = kept.collect().await;
        assert_eq!(items.len(), 3);
        assert_eq!(items[2].as_ref().unwrap_err().code(), tonic::Code::DeadlineExceeded);
        assert_eq!(began.elapsed(), Duration::from_secs(10));
    }
}
