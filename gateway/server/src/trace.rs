//! The spans of a call, joined to its caller's trace: one for the call as its caller sees it, and below it one for what is
//! asked of the provider.
//!
//! They are made without the log's machinery, so that a call which is not sampled pays for one decision and for nothing
//! else: whatever is known of a call is written into its spans when it ends. Never holds content.

use std::{fmt, time::SystemTime};

use gateway_providers::{Call, Upstream};
use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{
    Context, KeyValue, Value,
    global::{self, BoxedSpan, BoxedTracer},
    propagation::Extractor,
    trace::{Link, Span as _, SpanContext, SpanKind, Status, TraceContextExt as _, Tracer as _},
};
use tokio::time::Instant;

use crate::conventions as names;

pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Begins the spans of calls.
pub(crate) struct Tracing(BoxedTracer);

/// The spans of a call; nothing if it is not sampled.
#[derive(Debug, Default)]
pub(crate) struct CallSpan(Option<Box<Sampled>>);

struct Sampled {
    /// Holds the span of the call.
    context: Context,
    /// What is asked of the provider, once it is asked.
    client: Option<BoxedSpan>,
}

/// Which trace a call belongs to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Trace<'a> {
    /// The one that these headers tell of, or one of its own if they tell of none.
    Of(&'a HeaderMap),
    /// One of its own, with a link to the one that these headers tell of. For a call on a connection that outlives it: a
    /// socket stays for hours and many turns, and a trace that gathers them all is never whole, is sampled for all by what
    /// its first call was, and says of no call whose it is.
    Beside(&'a HeaderMap),
}

/// Attributes of a span.
#[derive(Debug, Default)]
pub(crate) struct Attributes(Vec<KeyValue>);

impl Tracing {
    /// Traces go where those of the process go.
    pub(crate) fn new() -> Self {
        Self(global::tracer("gateway"))
    }

    /// Begins the span of a call that arrived at `began`.
    pub(crate) fn open(&self, trace: Trace<'_>, began: Instant) -> CallSpan {
        let arrived = SystemTime::now() - began.elapsed();
        let mut call = self.0.span_builder("call").with_kind(SpanKind::Server).with_start_time(arrived);
        let parent = match trace {
            Trace::Of(headers) => told(headers),
            Trace::Beside(headers) => {
                let linked = told(headers).span().span_context().clone();
                if linked.is_valid() {
                    call = call.with_links(vec![Link::with_context(linked)]);
                }
                Context::new()
            }
        };
        let call = self.0.build_with_context(call, &parent);
        if !call.is_recording() {
            return CallSpan(None);
        }
        CallSpan(Some(Box::new(Sampled { context: Context::new().with_span(call), client: None })))
    }
}

impl CallSpan {
    /// Whether anybody will see it.
    pub(crate) fn is_sampled(&self) -> bool {
        self.0.is_some()
    }

    /// What log lines of the call are joined by.
    pub(crate) fn context(&self) -> Context {
        self.0.as_ref().map(|sampled| sampled.context.clone()).unwrap_or_default()
    }

    /// Begins the span of what is asked of the provider. A provider that may see traces sees this span where the call came
    /// with a trace, and what the caller sent, byte for byte, if it is not sampled.
    pub(crate) fn leaves(&mut self, tracing: &Tracing, upstream: &Upstream, call: &mut Call) {
        let headers = &mut call.headers;
        if !upstream.sees_traces() {
            headers.remove(&TRACEPARENT);
            headers.remove(&TRACESTATE);
        }
        let Some(sampled) = &mut self.0 else { return };
        let name = format!("{} {}", names::operation(call.operation), call.model);
        let client = tracing.0.span_builder(name).with_kind(SpanKind::Client);
        let mut client = tracing.0.build_with_context(client, &sampled.context);
        client.set_attribute(KeyValue::new(names::REQUEST_STREAM, call.stream));
        if let Some(host) = upstream.host() {
            client.set_attribute(KeyValue::new(names::SERVER_ADDRESS, host));
        }
        if headers.contains_key(&TRACEPARENT) {
            join(client.span_context(), headers);
        }
        sampled.client = Some(client);
    }

    /// Ends both spans, with an error's type if the call failed.
    pub(crate) fn close(&mut self, call: Attributes, client: Attributes, error: Option<&'static str>) {
        let Some(sampled) = self.0.take() else { return };
        let status = || error.map(Status::error);
        let error = error.map(|error| KeyValue::new(names::ERROR_TYPE, error));
        if let Some(mut span) = sampled.client {
            span.set_attributes(client.0.into_iter().chain(error.clone()));
            if let Some(status) = status() {
                span.set_status(status);
            }
            span.end();
        }
        let span = sampled.context.span();
        span.set_attributes(call.0.into_iter().chain(error));
        if let Some(status) = status() {
            span.set_status(status);
        }
        span.end();
    }
}

impl Attributes {
    /// Adds what is known.
    pub(crate) fn add(&mut self, name: &'static str, value: Option<impl Into<Value>>) {
        self.0.extend(value.map(|value| KeyValue::new(name, value)));
    }

    /// Adds a count. OpenTelemetry has no unsigned numbers.
    pub(crate) fn count(&mut self, name: &'static str, count: u64) {
        self.0.push(KeyValue::new(name, i64::try_from(count).unwrap_or(i64::MAX)));
    }

    /// Adds a text that lives elsewhere.
    pub(crate) fn text(&mut self, name: &'static str, text: Option<&str>) {
        self.add(name, text.map(str::to_owned));
    }
}

/// The trace that headers tell of.
fn told(headers: &HeaderMap) -> Context {
    let nobody = Context::new();
    match headers.contains_key(&TRACEPARENT) {
        true => global::get_text_map_propagator(|propagator| {
            propagator.extract_with_context(&nobody, &Headers(headers))
        }),
        false => nobody,
    }
}

/// Puts a span in the place of the caller's.
fn join(span: &SpanContext, headers: &mut HeaderMap) {
    let flags = span.trace_flags().to_u8();
    let parent = format!("00-{}-{}-{flags:02x}", span.trace_id(), span.span_id());
    if let Ok(parent) = HeaderValue::try_from(parent) {
        headers.insert(TRACEPARENT, parent);
    }
    // It is the caller's as long as the trace is; a trace that begins here has none.
    if span.trace_state().header().is_empty() {
        headers.remove(&TRACESTATE);
    }
}

impl fmt::Debug for Tracing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracing").finish_non_exhaustive()
    }
}

impl fmt::Debug for Sampled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sampled").finish_non_exhaustive()
    }
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}
