//! Requests that two servers could cut differently, made from a table of tricks, and a judge of what became of each.
//!
//! Every payload carries a mark, and a second request with a mark of its own hides in it. What hides must never reach the
//! upstream; what does not hide may, once, in the gateway's own framing.

mod http1;
mod http2;
mod judge;

use std::net::SocketAddr;

pub use judge::{Fate, Verdict, judge, play};

/// The upstream's model that payloads ask for.
pub use crate::stack::MODEL;

/// How a payload travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// As it stands, over HTTP/1.
    Http1,
    /// As frames, after an HTTP/2 opening.
    Http2,
}

/// One attempt.
#[derive(Debug, Clone)]
pub struct Payload {
    /// What it tries.
    pub name: String,
    /// How it travels.
    pub wire: Wire,
    /// All of its bytes.
    pub bytes: Vec<u8>,
    /// What the outer request's body holds; it may reach the upstream once.
    pub outer: String,
    /// What the hidden request's body holds; it must not reach the upstream at all.
    pub hidden: String,
}

/// Every payload, with marks of its own.
pub fn payloads(at: SocketAddr) -> Vec<Payload> {
    let mut all = http1::payloads(at);
    all.extend(http2::payloads(at));
    all
}

/// The marks of the payload with this number.
fn marks(number: usize, wire: Wire) -> (String, String) {
    let wire = match wire {
        Wire::Http1 => "one",
        Wire::Http2 => "two",
    };
    (format!("outer-{wire}-{number}-"), format!("hidden-{wire}-{number}-"))
}

/// A good body with a mark.
fn body(mark: &str) -> String {
    format!(r#"{{"model":"{MODEL}","stream":true,"input":"{mark}"}}"#)
}

/// A good request that ends its connection.
fn request(at: SocketAddr, mark: &str) -> String {
    let body = body(mark);
    format!(
        "POST /v1/responses HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}
