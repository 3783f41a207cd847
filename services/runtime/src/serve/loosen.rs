//! Cuts the head of an HTTP/1 request loose from the buffer that it was read into.
//!
//! Its values and its target are slices of that buffer, 8 KiB or more. While they live, hyper cannot read a body into it and
//! takes another one; whoever is slow with a body would cost both.

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Request, Uri};

/// Copies what the head says into as much memory as that takes.
pub(super) fn loosen<R>(request: &mut Request<R>) {
    let length = request.headers().values().map(HeaderValue::len).sum();
    let mut copies = BytesMut::with_capacity(length);
    for value in request.headers_mut().values_mut() {
        copies.extend_from_slice(value.as_bytes());
        // What was a value before is one now.
        if let Ok(mut copy) = HeaderValue::from_maybe_shared(copies.split().freeze()) {
            copy.set_sensitive(value.is_sensitive());
            *value = copy;
        }
    }
    if let Ok(target) = Uri::from_maybe_shared(Bytes::from(request.uri().to_string())) {
        *request.uri_mut() = target;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_says_the_same_and_holds_nothing_of_its_buffer() {
        let buffer =
            Bytes::from("/v1/responses?a=b%20c,one,two,\u{fe} secret,http://a:1/b,*,a:443".repeat(2));
        let value = |range| HeaderValue::from_maybe_shared(buffer.slice(range)).unwrap();
        for target in [0..21, 40..52, 53..54, 55..60] {
            let mut request = Request::new(());
            *request.uri_mut() = Uri::from_maybe_shared(buffer.slice(target)).unwrap();
            let mut secret = value(30..39);
            secret.set_sensitive(true);
            request.headers_mut().append("x-many", value(22..25));
            request.headers_mut().append("x-secret", secret);
            request.headers_mut().append("x-many", value(26..29));
            request.headers_mut().append("x-none", value(0..0));
            let (uri, headers) = (request.uri().clone(), request.headers().clone());
            loosen(&mut request);
            assert_eq!((request.uri(), request.headers()), (&uri, &headers));
            assert!(request.headers()["x-secret"].is_sensitive());
            assert!(!request.headers()["x-many"].is_sensitive());
            drop((uri, headers));
            assert!(buffer.is_unique(), "something of {:?} is held", request.uri());
        }
    }
}
