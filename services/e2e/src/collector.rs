//! An OpenTelemetry collector that takes everything and keeps it as bytes, for those who look for what must not be there.
//!
//! Understands no telemetry: it unpacks messages and leaves them as they are.

use std::io::Read as _;

use anyhow::Context as _;
use flate2::read::GzDecoder;
use gateway_testkit::{Reply, Upstream};
use http::{Method, StatusCode};

const PACKAGE: &str = "/opentelemetry.proto.collector";
/// No message of a test unpacks to more.
const MESSAGE_BYTES_MAX: u64 = 64 << 20;

/// A running collector.
pub struct Collector(Upstream);

impl Collector {
    /// Starts it.
    pub async fn start() -> anyhow::Result<Self> {
        let server = Upstream::start().await?;
        for service in ["trace.v1.TraceService", "metrics.v1.MetricsService", "logs.v1.LogsService"] {
            // An empty message, and the status where it may stand when nothing follows.
            let taken = Reply::bytes(StatusCode::OK, "application/grpc", &b"\0\0\0\0\0"[..]);
            let path = format!("{PACKAGE}.{service}/Export");
            server.route(Method::POST, &path, taken.header("grpc-status", "0"));
        }
        Ok(Self(server))
    }

    /// What a service takes as its `otlp_endpoint`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.0.address())
    }

    /// The messages so far that came to a service whose name has this word.
    pub fn received(&self, service: &str) -> anyhow::Result<Vec<u8>> {
        let mut messages = Vec::new();
        for request in self.0.all_requests().iter().filter(|request| request.path.contains(service)) {
            let mut rest = &request.body[..];
            while let Some((head, after)) = rest.split_first_chunk::<5>() {
                let [packed, length @ ..] = *head;
                let length = usize::try_from(u32::from_be_bytes(length))?;
                let (message, next) = after.split_at_checked(length).context("a whole message")?;
                match packed {
                    0 => messages.extend_from_slice(message),
                    _ => drop(GzDecoder::new(message).take(MESSAGE_BYTES_MAX).read_to_end(&mut messages)?),
                }
                rest = next;
            }
        }
        Ok(messages)
    }
}
