//! The HTTP/2 payloads: fields that mean something else once they are written as HTTP/1, and lengths that are not so.

use std::net::SocketAddr;

use super::super::frames::{DATA, END_HEADERS, END_STREAM, HEADERS, SETTINGS, block, frame};
use super::{Payload, Wire, body, marks, request};

type Field = (Vec<u8>, Vec<u8>);

/// What a trick does to the fields of a good call.
enum Trick {
    /// Adds a field at the end.
    Add(&'static [u8], &'static [u8]),
    /// Adds one before all others.
    First(&'static [u8], &'static [u8]),
    /// Puts another value into a field.
    Set(&'static [u8], &'static [u8]),
    /// Leaves a field out.
    Without(&'static [u8]),
    /// Says a length that is off by so much.
    Length(i64),
    /// Sends the body although the head has ended the stream.
    EndsTwice,
    /// Sends trailers with this field.
    Trailer(&'static [u8], &'static [u8]),
    /// Hides a whole request in a value, after the end of a line; of a field, or of the path.
    Hides(&'static [u8], &'static [u8]),
}

const TRICKS: &[Trick] = &[
    Trick::Add(b"transfer-encoding", b"chunked"),
    Trick::Add(b"transfer-encoding", b"identity"),
    Trick::Add(b"Transfer-Encoding", b"chunked"),
    Trick::Add(b"transfer-encoding ", b"chunked"),
    Trick::Add(b"transfer_encoding", b"chunked"),
    Trick::Add(b"connection", b"close"),
    Trick::Add(b"connection", b"transfer-encoding"),
    Trick::Add(b"keep-alive", b"timeout=5"),
    Trick::Add(b"proxy-connection", b"keep-alive"),
    Trick::Add(b"upgrade", b"h2c"),
    Trick::Add(b"te", b"chunked"),
    Trick::Add(b"te", b"trailers, chunked"),
    Trick::Add(b"X-Upper", b"y"),
    Trick::Add(b"", b"y"),
    Trick::Add(b"x y", b"z"),
    Trick::Add(b"x:y", b"z"),
    Trick::Add(b"x\ny", b"z"),
    Trick::Add(b"x\r\ny", b"z"),
    Trick::Add(b"x\x00y", b"z"),
    Trick::Add(b"x\x80", b"z"),
    Trick::Add(b"x", b"y\r\nz: a"),
    Trick::Add(b"x", b"y\nz: a"),
    Trick::Add(b"x", b"y\rz: a"),
    Trick::Add(b"x", b"y\x00z"),
    Trick::Add(b"x", b"\r\n"),
    Trick::Add(b"x", b"y\r\ntransfer-encoding: chunked"),
    Trick::Add(b"x", b"y\r\ncontent-length: 0"),
    Trick::Add(b"x", b" y "),
    Trick::Add(b"content-length", b"x"),
    Trick::Add(b"content-length", b"-1"),
    Trick::Add(b"content-length", b"+5"),
    Trick::Add(b"content-length", b"0x5"),
    Trick::Add(b"content-length", b"5, 5"),
    Trick::Add(b"content-length", b""),
    Trick::Add(b"content-length", b"18446744073709551616"),
    Trick::Add(b"content_length", b"0"),
    Trick::Add(b"host", b"other.example"),
    Trick::Add(b"host", b"127.0.0.1\r\nx: y"),
    Trick::Add(b":path", b"/late"),
    Trick::Add(b":authority", b"other.example"),
    Trick::Add(b":method", b"GET"),
    Trick::Add(b":unknown", b"y"),
    Trick::Add(b":status", b"200"),
    Trick::Add(b":protocol", b"websocket"),
    Trick::First(b"x", b"before the pseudo-fields"),
    Trick::First(b":path", b"/v1/models"),
    Trick::First(b":method", b"GET"),
    Trick::First(b":scheme", b"https"),
    Trick::Set(b":method", b"CONNECT"),
    Trick::Set(b":method", b"POST /v1/models HTTP/1.1\r\nx: y\r\n\r\nPOST"),
    Trick::Set(b":method", b"PO ST"),
    Trick::Set(b":method", b""),
    Trick::Set(b":path", b""),
    Trick::Set(b":path", b"*"),
    Trick::Set(b":path", b"v1/responses"),
    Trick::Set(b":path", b"//v1/responses"),
    Trick::Set(b":path", b"http://other.example/v1/responses"),
    Trick::Set(b":path", b"/v1/responses HTTP/1.1\r\nx: y"),
    Trick::Set(b":path", b"/v1/responses\r\n"),
    Trick::Set(b":path", b"/v1/responses\nx"),
    Trick::Set(b":path", b"/v1/responses x"),
    Trick::Set(b":path", b"/v1/responses\x00"),
    Trick::Set(b":path", b"/v1/responses?x=\r\n"),
    Trick::Set(b":path", b"/v1/responses#x"),
    Trick::Set(b":path", b"/v1/responses%0d%0ax:y"),
    Trick::Set(b":path", b"/v1/./responses"),
    Trick::Set(b":scheme", b""),
    Trick::Set(b":scheme", b"http://other.example/?x="),
    Trick::Set(b":scheme", b"ht\r\ntp"),
    Trick::Set(b":scheme", b"file"),
    Trick::Set(b":authority", b""),
    Trick::Set(b":authority", b"other.example"),
    Trick::Set(b":authority", b"127.0.0.1\r\nx: y"),
    Trick::Set(b":authority", b"user@127.0.0.1"),
    Trick::Set(b":authority", b"127.0.0.1/x"),
    Trick::Set(b":authority", b"127.0.0.1, other.example"),
    Trick::Without(b":method"),
    Trick::Without(b":path"),
    Trick::Without(b":scheme"),
    Trick::Without(b":authority"),
    Trick::Length(-1),
    Trick::Length(1),
    Trick::Length(-20),
    Trick::Length(1_000_000),
    Trick::EndsTwice,
    Trick::Trailer(b"content-length", b"0"),
    Trick::Trailer(b"transfer-encoding", b"chunked"),
    Trick::Trailer(b":path", b"/late"),
    Trick::Trailer(b"x", b"y\r\nz: a"),
    Trick::Trailer(b"authorization", b"Bearer other"),
    Trick::Hides(b"x", b"y\r\n\r\n"),
    Trick::Hides(b"x", b"y\n\n"),
    Trick::Hides(b":path", b"/v1/responses HTTP/1.1\r\nhost: a\r\n\r\n"),
    Trick::Hides(b":authority", b"127.0.0.1\r\n\r\n"),
];

pub(super) fn payloads(at: SocketAddr) -> Vec<Payload> {
    TRICKS.iter().enumerate().map(|(number, trick)| payload(at, number, trick)).collect()
}

fn payload(at: SocketAddr, number: usize, trick: &Trick) -> Payload {
    let (outer, hidden) = marks(number, Wire::Http2);
    let good = body(&outer);
    let mut fields: Vec<Field> = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/v1/responses"),
        (":authority", &at.to_string()),
        ("content-type", "application/json"),
    ]
    .map(|(name, value)| (name.into(), value.into()))
    .into();
    let (mut ends_stream, mut trailer, mut says) = (false, None, String::new());
    match trick {
        Trick::Add(name, value) => fields.push((name.to_vec(), value.to_vec())),
        Trick::First(name, value) => fields.insert(0, (name.to_vec(), value.to_vec())),
        Trick::Set(name, value) => set(&mut fields, name, value.to_vec()),
        Trick::Without(name) => fields.retain(|field| field.0 != *name),
        Trick::Length(off) => {
            let length = i64::try_from(good.len()).unwrap_or_default() + off;
            fields.push((b"content-length".to_vec(), length.to_string().into_bytes()));
        }
        Trick::EndsTwice => ends_stream = true,
        Trick::Trailer(name, value) => trailer = Some((*name, *value)),
        Trick::Hides(name, before) => {
            let value = [before, request(at, &hidden).as_bytes()].concat();
            set(&mut fields, name, value);
        }
    }
    let fields_as_sent: Vec<(&[u8], &[u8])> =
        fields.iter().map(|(name, value)| (name.as_slice(), value.as_slice())).collect();
    for (name, value) in &fields_as_sent {
        says.push_str(&format!("{}: {} | ", name.escape_ascii(), value.escape_ascii()));
    }
    let mut bytes = Vec::new();
    let end = if ends_stream { END_STREAM } else { 0 };
    frame(&mut bytes, HEADERS, END_HEADERS | end, 1, &block(&fields_as_sent));
    match trailer {
        None => frame(&mut bytes, DATA, END_STREAM, 1, good.as_bytes()),
        Some(trailer) => {
            says.push_str(&format!("trailer {}: {}", trailer.0.escape_ascii(), trailer.1.escape_ascii()));
            frame(&mut bytes, DATA, 0, 1, good.as_bytes());
            frame(&mut bytes, HEADERS, END_HEADERS | END_STREAM, 1, &block(&[trailer]));
        }
    }
    frame(&mut bytes, SETTINGS, 0, 0, &[]);
    Payload { name: format!("h2 {says}"), wire: Wire::Http2, bytes, outer, hidden }
}

fn set(fields: &mut Vec<Field>, name: &[u8], value: Vec<u8>) {
    match fields.iter_mut().find(|field| field.0 == name) {
        Some(field) => field.1 = value,
        None => fields.push((name.to_vec(), value)),
    }
}
