//! What one listener allows: connections, header sizes, HTTP/2 windows and times.

use std::time::Duration;

use hyper_util::rt::TokioTimer;
use hyper_util::server::conn::auto;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::connection::Tracked;
use super::head_timer::{HeadTimer, ReadBytes};
use crate::config::Problem;

/// The limits of a listener, as configured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServeConfig {
    /// How many connections may be open at once; further ones wait to be accepted.
    pub max_connections: usize,
    /// How long a client may take to send the head of a request, in milliseconds, from its first byte; for the first
    /// request of a connection, from its beginning, and there with all of the body or its first KiB where TLS is not spoken.
    pub header_read_timeout_ms: u64,
    /// How long an HTTP/1.1 connection may stay open without a request, in milliseconds. It should be longer than a load
    /// balancer in front keeps its own connections, so that none is closed while a request is on its way.
    pub idle_timeout_ms: u64,
    /// The largest head of a request, in bytes.
    pub max_header_bytes: u32,
    /// After this time a connection is asked to finish, in milliseconds, so that clients spread over replicas;
    /// running streams go on. It varies by up to a tenth. 0 means never.
    pub max_connection_age_ms: u64,
    /// HTTP/2.
    pub http2: Http2Config,
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            header_read_timeout_ms: 10_000,
            idle_timeout_ms: 180_000,
            max_header_bytes: 64 * 1024,
            max_connection_age_ms: 3_600_000,
            http2: Http2Config::default(),
        }
    }
}

/// The limits of HTTP/2 connections, as configured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Http2Config {
    /// How many streams one connection may have open.
    pub max_concurrent_streams: u32,
    /// How many request bytes of one stream may be under way unread.
    pub stream_window_bytes: u32,
    /// How many request bytes of one connection may be under way unread.
    pub connection_window_bytes: u32,
    /// How often a silent connection is probed, in milliseconds.
    pub keepalive_interval_ms: u64,
    /// How long a probe may stay unanswered before the connection is dropped, in milliseconds.
    pub keepalive_timeout_ms: u64,
}

impl Default for Http2Config {
    fn default() -> Self {
        Self {
            max_concurrent_streams: 1_000,
            stream_window_bytes: 1 << 20,
            connection_window_bytes: 2 << 20,
            keepalive_interval_ms: 30_000,
            keepalive_timeout_ms: 20_000,
        }
    }
}

/// Checked limits.
#[derive(Debug, Clone)]
pub struct Limits {
    pub(super) connections: usize,
    pub(super) header_read: Duration,
    idle: Duration,
    pub(super) age: Option<Duration>,
    header_bytes: u32,
    http2: Http2Config,
}

/// Stream resets that a client may leave unread: the bound that stops rapid-reset floods.
const PENDING_RESETS_MAX: usize = 20;
/// Stream errors that a client may cause on one connection before it is dropped.
const LOCAL_RESETS_MAX: usize = 1_024;
/// Response bytes of one HTTP/2 stream that wait for a slow reader.
const STREAM_SEND_BYTES_MAX: usize = 32 * 1024;
/// The smallest and largest head that HTTP/1.1 parsing can be told.
const HEADER_BYTES: std::ops::RangeInclusive<u64> = 8 * 1024..=1024 * 1024;
/// The bounds of every time-out, in milliseconds.
const TIMEOUT_MS: std::ops::RangeInclusive<u64> = 10..=3_600_000;
/// The bounds of a flow-control window; the protocol ends at 2^31 - 1.
const WINDOW_BYTES: std::ops::RangeInclusive<u64> = 65_535..=(1 << 30);

impl ServeConfig {
    /// Checks every bound; `at` is the dotted key of this table.
    pub fn build(&self, at: &str) -> Result<Limits, Vec<Problem>> {
        let connections = u64::try_from(self.max_connections).unwrap_or(u64::MAX);
        let rows = [
            ("max_connections", connections, 1..=1_000_000),
            ("header_read_timeout_ms", self.header_read_timeout_ms, TIMEOUT_MS),
            ("idle_timeout_ms", self.idle_timeout_ms, TIMEOUT_MS),
            ("max_header_bytes", self.max_header_bytes.into(), HEADER_BYTES),
            ("max_connection_age_ms", self.max_connection_age_ms, 0..=604_800_000),
            ("http2.max_concurrent_streams", self.http2.max_concurrent_streams.into(), 1..=1_000_000),
            ("http2.stream_window_bytes", self.http2.stream_window_bytes.into(), WINDOW_BYTES),
            ("http2.connection_window_bytes", self.http2.connection_window_bytes.into(), WINDOW_BYTES),
            ("http2.keepalive_interval_ms", self.http2.keepalive_interval_ms, TIMEOUT_MS),
            ("http2.keepalive_timeout_ms", self.http2.keepalive_timeout_ms, TIMEOUT_MS),
        ];
        let wrong = rows.into_iter().filter(|(_, value, range)| !range.contains(value));
        let problems: Vec<Problem> = wrong
            .map(|(name, value, range)| {
                let message = format!("is {value}, outside {} to {}", range.start(), range.end());
                Problem::new(format!("{at}.{name}"), message)
            })
            .collect();
        if !problems.is_empty() {
            return Err(problems);
        }
        let age = Duration::from_millis(self.max_connection_age_ms);
        Ok(Limits {
            connections: self.max_connections,
            header_read: Duration::from_millis(self.header_read_timeout_ms),
            idle: Duration::from_millis(self.idle_timeout_ms),
            age: (!age.is_zero()).then_some(age),
            header_bytes: self.max_header_bytes,
            http2: self.http2.clone(),
        })
    }
}

impl Limits {
    /// The HTTP server with all of this set, for a connection that counts here what it reads, and whose first head has to
    /// be there by then.
    pub(super) fn builder(
        &self,
        executor: Tracked,
        read: ReadBytes,
        head_until: Instant,
    ) -> auto::Builder<Tracked> {
        let mut builder = auto::Builder::new(executor);
        builder
            .http1()
            .timer(HeadTimer::new(read, head_until, self.header_read, self.idle))
            .header_read_timeout(self.header_read)
            .max_buf_size(usize::try_from(self.header_bytes).unwrap_or(usize::MAX));
        builder
            .http2()
            .timer(TokioTimer::new())
            .adaptive_window(false)
            .initial_stream_window_size(self.http2.stream_window_bytes)
            .initial_connection_window_size(self.http2.connection_window_bytes)
            .max_concurrent_streams(self.http2.max_concurrent_streams)
            .max_header_list_size(self.header_bytes)
            .max_send_buf_size(STREAM_SEND_BYTES_MAX)
            .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
            .max_local_error_reset_streams(LOCAL_RESETS_MAX)
            .keep_alive_interval(Duration::from_millis(self.http2.keepalive_interval_ms))
            .keep_alive_timeout(Duration::from_millis(self.http2.keepalive_timeout_ms));
        builder
    }
}
