//! Leaves the first request of a plain connection in the kernel until it has begun in earnest: its head is whole, and of its
//! body there is all, or as much as fits into one look.
//!
//! Whoever sends a byte now and then costs a task, and none of the buffers that HTTP takes: 3 KiB instead of 37. What HTTP
//! has to answer at once goes on at once: a head that cannot be one, or that is too large; a client that waits to be told to
//! go on; a body in chunks.

use std::io;

use httparse::{EMPTY_HEADER, Header, Request, Status};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use tokio::net::TcpStream;

use super::connection::OPENING_BYTES;
use super::frame_meter::PREFACE;
use super::peek::{self, LOOK_BYTES_MAX};

/// The most fields that a head may have, which is hyper's own bound: one with more is whole enough to be refused.
const FIELDS_MAX: usize = 100;
/// A body that is announced as larger is probably more than may come, and HTTP's to refuse before it does.
const BODY_BYTES_MAX: usize = 1 << 30;
/// What whoever is late with a body is told.
const LATE_ANSWER: &[u8] = b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\nconnection: close\r\n\
    content-length: 130\r\n\r\n\
    {\"error\":{\"message\":\"the request body did not begin in time; send it again\",\"type\":\"invalid_request_error\",\"code\":\"body_timeout\"}}";

/// Waits until HTTP has something to do on a connection that has just been accepted.
pub(super) async fn begun(tcp: &TcpStream) -> io::Result<()> {
    match peek::until(tcp, |there| look(there) == Look::Begun).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

/// Ends a connection whose request has not begun in time. One that has sent a head is answered.
pub(super) fn refuse_late(tcp: &TcpStream) -> io::Error {
    let mut room = [0; LOOK_BYTES_MAX];
    // Past tokio, which knows of no news since the last look. What is taken out of the kernel does not turn the end of the
    // connection into a reset.
    if let Ok((count, _)) = recv(tcp, &mut room[..], RecvFlags::DONTWAIT)
        && look(room.get(..count).unwrap_or_default()) == Look::HeadOnly
    {
        // A connection that is new has room for this, and one that is gone needs no answer.
        let _ = send(tcp, LATE_ANSWER, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    }
    io::ErrorKind::TimedOut.into()
}

/// What there is of a request.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    /// Less than a head.
    Little,
    /// A head that announces a body, which is not there.
    HeadOnly,
    /// Enough for HTTP.
    Begun,
}

fn look(there: &[u8]) -> Look {
    if there.len() < OPENING_BYTES && there.iter().zip(PREFACE).all(|(byte, wanted)| byte == wanted) {
        return Look::Little;
    }
    let mut fields = [EMPTY_HEADER; FIELDS_MAX];
    let mut request = Request::new(&mut fields);
    match request.parse(there) {
        Ok(Status::Partial) => Look::Little,
        Ok(Status::Complete(head)) if there.len().saturating_sub(head) < awaited(request.headers) => {
            Look::HeadOnly
        }
        Ok(Status::Complete(_)) | Err(_) => Look::Begun,
    }
}

/// How many bytes of a body its client sends without being asked again.
fn awaited(fields: &[Header<'_>]) -> usize {
    let find = |name: &str| fields.iter().find(|field| field.name.eq_ignore_ascii_case(name));
    if find("expect").is_some() || find("transfer-encoding").is_some() {
        return 0;
    }
    let length = find("content-length").and_then(|field| std::str::from_utf8(field.value).ok()?.parse().ok());
    length.filter(|length| *length <= BODY_BYTES_MAX).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_begun_when_http_has_something_to_do() {
        let post = |fields: &str, body: &str| format!("POST / HTTP/1.1\r\n{fields}\r\n{body}");
        let cases = [
            (String::new(), Look::Little),
            ("GET / HTTP/1.1\r\nHost: a\r\n".into(), Look::Little),
            ("PRI * HTTP/2.0\r\n".into(), Look::Little),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), Look::Little),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".into(), Look::Begun),
            ("PRI * HTTP/2.1\r\n\r\n".into(), Look::Begun),
            (post("", ""), Look::Begun),
            (post("Content-Length: 0\r\n", ""), Look::Begun),
            (post("Content-Length: 3\r\n", "ab"), Look::HeadOnly),
            (post("content-length: 3\r\n", "abc"), Look::Begun),
            (post("content-length: 3\r\nExpect: 100-continue\r\n", ""), Look::Begun),
            (post("transfer-encoding: chunked\r\n", ""), Look::Begun),
            (post("content-length: three\r\n", ""), Look::Begun),
            (post("content-length: 1073741824\r\n", ""), Look::HeadOnly),
            (post("content-length: 1073741825\r\n", ""), Look::Begun),
            (post("content-length: 99999999999999999999999\r\n", ""), Look::Begun),
            ("\x16\x03\x01".into(), Look::Begun),
            ("GET / HTTP/1.1\r\nbad header\r\n".into(), Look::Begun),
            (format!("GET / HTTP/1.1\r\n{}", "A: b\r\n".repeat(101)), Look::Begun),
        ];
        for (there, wanted) in cases {
            assert_eq!(look(there.as_bytes()), wanted, "{there:?}");
        }
    }

    #[test]
    fn the_answer_has_the_length_that_it_says() {
        let answer = std::str::from_utf8(LATE_ANSWER).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("content-length: {}", body.len())), "{} is the length", body.len());
        serde_json::from_str::<serde_json::Value>(body).unwrap();
    }
}
