//! The HTTP/1 payloads: every trick on a field or on a body, in every place where it could work.

use std::net::SocketAddr;

use super::{Payload, Wire, body, marks, request};

/// Ways to write `transfer-encoding: chunked` that some servers take for it and others do not.
const ENCODINGS: &[&str] = &[
    "Transfer-Encoding: chunked",
    "transfer-encoding: CHUNKED",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding: chunkedx",
    "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding: identity",
    "Transfer-Encoding: identity, chunked",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: chunked, chunked",
    "Transfer-Encoding: chunked;q=1",
    "Transfer-Encoding: \"chunked\"",
    "Transfer-Encoding: ,chunked",
    "Transfer-Encoding: chunked,",
    "Transfer-Encoding:chunked",
    "Transfer-Encoding:\tchunked",
    "Transfer-Encoding: chunked\t",
    "Transfer-Encoding:  chunked  ",
    "Transfer-Encoding:\x0bchunked",
    "Transfer-Encoding:\x0cchunked",
    "Transfer-Encoding: \x00chunked",
    "Transfer-Encoding: chunked\x00",
    "Transfer-Encoding:\u{a0}chunked",
    "Transfer-Encoding: chun\u{212a}ed",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding\t: chunked",
    "Transfer-Encoding\x00: chunked",
    " Transfer-Encoding: chunked",
    "\tTransfer-Encoding: chunked",
    "X: y\r\n Transfer-Encoding: chunked",
    "X: y\r\n\tTransfer-Encoding: chunked",
    "Transfer-Encoding:\r\n chunked",
    "Transfer-Encoding: chun\r\n ked",
    "Transfer-Encoding\r\n : chunked",
    "X: y\nTransfer-Encoding: chunked",
    "X: y\rTransfer-Encoding: chunked",
    "X: y\x00\r\nTransfer-Encoding: chunked",
    "Transfer_Encoding: chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
    "Transfer-Encoding: \r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding:",
    "X-Transfer-Encoding: chunked",
    "Connection: close, transfer-encoding\r\nTransfer-Encoding: chunked",
    "Content-Encoding: chunked",
];

/// Ways to write a length that servers could read differently; `N` is the true one and `M` a shorter one.
const LENGTHS: &[&str] = &[
    "Content-Length: M\r\nContent-Length: N",
    "Content-Length: N\r\nContent-Length: M",
    "Content-Length: M, N",
    "Content-Length: N, N",
    "Content-Length: N,",
    "Content-Length: +N",
    "Content-Length: -N",
    "Content-Length: 0N",
    "Content-Length: 0xN",
    "Content-Length: N.0",
    "Content-Length: Ne0",
    "Content-Length: N N",
    "Content-Length: N;M",
    "Content-Length: \"N\"",
    "Content-Length:\x0bN",
    "Content-Length: N\x00",
    "Content-Length: \x00N",
    "Content-Length : N",
    "Content-Length\t: N",
    " Content-Length: N",
    "X: y\r\n Content-Length: N",
    "X: y\nContent-Length: N",
    "X: y\rContent-Length: N",
    "Content-Length:\r\n N",
    "Content_Length: N",
    "Content_Length: N\r\nContent-Length: M",
    "Content-Length: M\r\nContent_Length: N",
    "Content-Length: \u{ff11}",
    "Content-Length: 18446744073709551616",
    "Content-Length: 99999999999999999999999N",
    "Content-Length:",
    "Content-Length",
];

/// Of these, what RFC 9112 lets everybody read as a length: what follows that many bytes is a request of its own, and
/// hides from nobody.
const PLAIN_LENGTHS: &[&str] = &["Content-Length: 0N", "X: y\nContent-Length: N"];

/// Request lines, `HOST` being the address, that servers could read differently.
const LINES: &[&str] = &[
    "POST http://other.example/v1/responses HTTP/1.1\r\nHost: HOST",
    "POST http://HOST/v1/responses HTTP/1.1\r\nHost: other.example",
    "POST http://HOST@other.example/v1/responses HTTP/1.1\r\nHost: HOST",
    "POST /v1/responses HTTP/1.1\r\nHost: HOST\r\nHost: other.example",
    "POST /v1/responses HTTP/1.1\r\nHost: other.example\r\nHost: HOST",
    "POST /v1/responses HTTP/1.1\r\nHost: HOST, other.example",
    "POST /v1/responses HTTP/1.1\r\nHost: HOST\r\n other.example",
    "POST /v1/responses HTTP/1.1\r\nHost : HOST",
    "POST /v1/responses HTTP/1.1\r\n Host: HOST",
    "POST  /v1/responses HTTP/1.1\r\nHost: HOST",
    "POST\t/v1/responses\tHTTP/1.1\r\nHost: HOST",
    "POST /v1/responses  HTTP/1.1\r\nHost: HOST",
    "POST /v1/responses HTTP/1.1 \r\nHost: HOST",
    "POST /v1/responses HTTP/1.1\nHost: HOST",
    "POST /v1/responses HTTP/1.1\r\r\nHost: HOST",
    "\r\nPOST /v1/responses HTTP/1.1\r\nHost: HOST",
    "\n\nPOST /v1/responses HTTP/1.1\r\nHost: HOST",
    " POST /v1/responses HTTP/1.1\r\nHost: HOST",
    "\x00POST /v1/responses HTTP/1.1\r\nHost: HOST",
    "POST /v1/responses HTTP/1.2\r\nHost: HOST",
    "POST /v1/responses HTTP/2.0\r\nHost: HOST",
    "POST /v1/responses HTTP/0.9\r\nHost: HOST",
    "POST /v1/responses http/1.1\r\nHost: HOST",
    "POST /v1/responses HTTP/1.10\r\nHost: HOST",
    "POST /v1/responses HTTP/11\r\nHost: HOST",
    "POST /v1/responses\r\nHost: HOST",
    "POST /v1/responses HTTP/1.1 HTTP/1.1\r\nHost: HOST",
    "POST /v1/responses\x00 HTTP/1.1\r\nHost: HOST",
    "POST /v1/responses\x0bHTTP/1.1\r\nHost: HOST",
    "POST /v1/responses#fragment HTTP/1.1\r\nHost: HOST",
    "POST /v1/../v1/responses HTTP/1.1\r\nHost: HOST",
    "POST /v1//responses HTTP/1.1\r\nHost: HOST",
    "POST /v1/responses%0d%0aX:y HTTP/1.1\r\nHost: HOST",
    "POST /v1/responses%20HTTP/1.1%0d%0aHost:%20a HTTP/1.1\r\nHost: HOST",
    "POST * HTTP/1.1\r\nHost: HOST",
    "POST HOST HTTP/1.1\r\nHost: HOST",
    "CONNECT HOST HTTP/1.1\r\nHost: HOST",
    "P\x00OST /v1/responses HTTP/1.1\r\nHost: HOST",
    "post /v1/responses HTTP/1.1\r\nHost: HOST",
    "GET /v1/responses HTTP/1.1\r\nHost: HOST",
    "HEAD /v1/models HTTP/1.1\r\nHost: HOST",
    "OPTIONS /v1/responses HTTP/1.1\r\nHost: HOST",
    "TRACE /v1/responses HTTP/1.1\r\nHost: HOST",
    "POST /v1/responses HTTP/1.0\r\nHost: HOST\r\nConnection: keep-alive",
    "POST /v1/responses HTTP/1.1\r\nHost: HOST\r\nExpect: 100-continue",
    "POST /v1/responses HTTP/1.1\r\nHost: HOST\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk",
    "POST /v1/responses HTTP/1.1\r\nHost: HOST\r\nX-HTTP-Method-Override: DELETE",
];

/// Bodies in chunks, `BODY` being the good one, that servers could cut differently. `S` is its size.
const CHUNKS: &[&str] = &[
    "S;a=b\r\nBODY\r\n0\r\n\r\n",
    "S;a=\"\r\n\"\r\nBODY\r\n0\r\n\r\n",
    "S;a\nb\r\nBODY\r\n0\r\n\r\n",
    "S;\nBODY\r\n0\r\n\r\n",
    "S\nBODY\r\n0\r\n\r\n",
    "S\rBODY\r\n0\r\n\r\n",
    "S\r\nBODY\n0\r\n\r\n",
    "S\r\nBODY\r\n0\n\n",
    "S\r\nBODY\r\n0\r\n\n",
    "S\r\nBODY0\r\n\r\n",
    "S\r\nBODYxx0\r\n\r\n",
    "0S\r\nBODY\r\n0\r\n\r\n",
    "00000000000000000000S\r\nBODY\r\n0\r\n\r\n",
    "1000000000000000S\r\nBODY\r\n0\r\n\r\n",
    "fffffffffffffffff\r\nBODY\r\n0\r\n\r\n",
    "-S\r\nBODY\r\n0\r\n\r\n",
    "+S\r\nBODY\r\n0\r\n\r\n",
    "0xS\r\nBODY\r\n0\r\n\r\n",
    " S\r\nBODY\r\n0\r\n\r\n",
    "S \r\nBODY\r\n0\r\n\r\n",
    "S\t;x\r\nBODY\r\n0\r\n\r\n",
    "S g\r\nBODY\r\n0\r\n\r\n",
    "S\x00\r\nBODY\r\n0\r\n\r\n",
    "S\x0b\r\nBODY\r\n0\r\n\r\n",
    "\r\nS\r\nBODY\r\n0\r\n\r\n",
    "\r\nBODY\r\n0\r\n\r\n",
    "S\r\nBODY\r\n00\r\n\r\n",
    "S\r\nBODY\r\n0;x\r\n\r\n",
    "S\r\nBODY\r\n0\r\nX: y\r\n\r\n",
    "S\r\nBODY\r\n0\r\nContent-Length: 5\r\n\r\n",
    "S\r\nBODY\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "S\r\nBODY\r\n0\r\nHost: other.example\r\n\r\n",
    "S\r\nBODY\r\n0\r\nX : y\r\n\r\n",
    "S\r\nBODY\r\n0\r\n X: y\r\n\r\n",
    "S\r\nBODY\r\n0\r\nX: y\nZ: z\r\n\r\n",
    "S\r\nBODY\r\n0\r\nX: y\x00\r\n\r\n",
    "S\r\nBODY\r\n0\r\nX\r\n\r\n",
    "S\r\nBODY\r\n0\r\n: y\r\n\r\n",
];

/// The body of the outer request, as the server should see it if it is fooled by the trick and as it should if not.
#[derive(Clone, Copy)]
enum Cut {
    /// A length that covers everything, and chunks that end before the hidden request.
    LengthIsLonger,
    /// Chunks that hold the hidden request, and a length that ends before it.
    LengthIsShorter,
    /// Chunks alone.
    NoLength,
}

pub(super) fn payloads(at: SocketAddr) -> Vec<Payload> {
    let mut all = Vec::new();
    for encoding in ENCODINGS {
        for (cut, name) in
            [(Cut::LengthIsLonger, "CL.TE"), (Cut::LengthIsShorter, "TE.CL"), (Cut::NoLength, "TE")]
        {
            for version in ["1.1", "1.0"] {
                let (outer, hidden) = marks(all.len(), Wire::Http1);
                let bytes = encoded(at, encoding, cut, version, (&outer, &hidden));
                all.push(payload(format!("{name} HTTP/{version} {encoding:?}"), bytes, outer, hidden));
            }
        }
    }
    for length in LENGTHS {
        for reversed in [false, true] {
            if reversed && PLAIN_LENGTHS.contains(length) {
                continue;
            }
            let (outer, hidden) = marks(all.len(), Wire::Http1);
            let bytes = measured(at, length, reversed, (&outer, &hidden));
            all.push(payload(format!("CL {length:?} reversed {reversed}"), bytes, outer, hidden));
        }
    }
    for line in LINES {
        let (outer, hidden) = marks(all.len(), Wire::Http1);
        let good = body(&outer);
        let line = line.replace("HOST", &at.to_string());
        let head =
            format!("{line}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", good.len());
        all.push(payload(format!("line {line:?}"), format!("{head}{good}"), outer, hidden));
    }
    for chunks in CHUNKS {
        let (outer, hidden) = marks(all.len(), Wire::Http1);
        let good = body(&outer);
        let body = chunks.replace("BODY", &good).replacen('S', &format!("{:x}", good.len()), 1);
        let head = format!(
            "POST /v1/responses HTTP/1.1\r\nHost: {at}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        all.push(payload(format!("chunks {chunks:?}"), format!("{head}{body}"), outer, hidden));
    }
    all
}

fn payload(name: String, bytes: String, outer: String, hidden: String) -> Payload {
    Payload { name, wire: Wire::Http1, bytes: bytes.into_bytes(), outer, hidden }
}

/// A request with a trick in its transfer encoding, and a second one after what one reading takes for its end.
fn encoded(at: SocketAddr, encoding: &str, cut: Cut, version: &str, (outer, hidden): (&str, &str)) -> String {
    let good = body(outer);
    let hidden = request(at, hidden);
    let chunk = format!("{:x}\r\n{good}\r\n", good.len());
    let (length, body) = match cut {
        Cut::LengthIsLonger => {
            let body = format!("{chunk}0\r\n\r\n{hidden}");
            (Some(body.len()), body)
        }
        Cut::LengthIsShorter => {
            let line = format!("{:x}\r\n", hidden.len());
            (Some(line.len()), format!("{line}{hidden}\r\n0\r\n\r\n"))
        }
        Cut::NoLength => (None, format!("{chunk}0\r\n\r\n")),
    };
    let length = length.map(|length| format!("Content-Length: {length}\r\n")).unwrap_or_default();
    format!(
        "POST /v1/responses HTTP/{version}\r\nHost: {at}\r\nContent-Type: application/json\r\n{length}{encoding}\r\n\r\n{body}"
    )
}

/// A request with a trick in its length. `M` leaves the hidden request out of the body, `N` takes it in; reversed, the
/// other way round.
fn measured(at: SocketAddr, length: &str, reversed: bool, (outer, hidden): (&str, &str)) -> String {
    let good = body(outer);
    let hidden = request(at, hidden);
    let (short, long) = (good.len().to_string(), (good.len() + hidden.len()).to_string());
    let (m, n) = if reversed { (long, short) } else { (short, long) };
    // The letters are in no field's name after the colon, and in a name only in lower case.
    let length = length.replace('M', &m).replace('N', &n);
    format!(
        "POST /v1/responses HTTP/1.1\r\nHost: {at}\r\nContent-Type: application/json\r\n{length}\r\n\r\n{good}{hidden}"
    )
}
