//! One message of the protocol: what a frame from a client says, and how ours are printed.
//!
//! One JSON object a frame, without `"jsonrpc"`. A request's id is a text or an integer and is echoed byte for byte.
//! What is not such an object (a batch, an id that is null, no method) is nobody's message: there is no id to answer
//! to, so it is dropped and the connection goes on, as Codex does.

use std::borrow::Cow;
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use agent_session::TraceContext;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, Value};

use crate::questions::Question;

/// What most messages fit in, so that printing one allocates once.
const MESSAGE_BYTES: usize = 512;
/// Everything that is wrong with a request has this code; clients read the text.
const INVALID_REQUEST: i32 = -32600;
/// Something is wrong on our side.
const INTERNAL: i32 = -32603;
/// The code that, with [`OVERLOADED_DATA`], tells a client to come again.
const OVERLOADED: i32 = -32001;
const OVERLOADED_DATA: &str = "server_overloaded";

/// The longest trace context that is looked at.
const TRACE_BYTES_MAX: usize = 1_024;
/// How deep a message may nest. What is deeper is passed over, as Codex does.
const DEPTH_MAX: usize = 127;

/// What a frame says.
#[derive(Debug)]
pub(crate) enum Incoming<'a> {
    /// A request, to be answered.
    Request(Request<'a>),
    /// A notification.
    Notification,
    /// An answer to a request of ours. One that says nothing says null.
    Answer {
        /// The id as it came.
        id: &'a RawValue,
        /// What was answered.
        result: Result<&'a RawValue, Refused>,
    },
    /// Nothing that could be answered.
    Noise,
}

/// An answer that is an error. What it says is for people at the client's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused;

/// A request.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    /// The id as it came.
    pub(crate) id: &'a RawValue,
    /// The method.
    pub(crate) method: Cow<'a, str>,
    /// The parameters; null counts as none.
    pub(crate) params: Option<&'a RawValue>,
    /// The trace that the client's request belongs to.
    pub(crate) trace: TraceContext,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    trace: Option<&'a RawValue>,
}

/// A W3C trace context as the protocol has it.
#[derive(Default, Deserialize)]
struct W3cTraceContext {
    #[serde(default)]
    traceparent: Option<String>,
    #[serde(default)]
    tracestate: Option<String>,
}

/// The trace context of a request. One that is of no use is none: it must not keep a request from being answered.
fn trace(told: Option<&RawValue>) -> TraceContext {
    let told = told.filter(|told| told.get().len() <= TRACE_BYTES_MAX);
    let context = told.and_then(|told| serde_json::from_str::<Option<W3cTraceContext>>(told.get()).ok());
    let W3cTraceContext { traceparent, tracestate } = context.flatten().unwrap_or_default();
    TraceContext::said(&traceparent.unwrap_or_default(), &tracestate.unwrap_or_default())
}

/// Reads a frame.
pub(crate) fn parse(frame: &str) -> Incoming<'_> {
    // serde would take an array for the fields of a struct in their order.
    if !frame.trim_ascii_start().starts_with('{') || is_too_deep(frame) {
        return Incoming::Noise;
    }
    match serde_json::from_str::<Envelope<'_>>(frame) {
        Ok(Envelope { id: Some(id), method: Some(method), params, trace, .. }) if is_id(id) => {
            Incoming::Request(Request { id, method, params, trace: self::trace(trace) })
        }
        Ok(Envelope { id: None, method: Some(_), .. }) => Incoming::Notification,
        Ok(Envelope { id: Some(id), method: None, result, error, .. }) => {
            let result = if error.is_some() { Err(Refused) } else { Ok(result.unwrap_or(RawValue::NULL)) };
            Incoming::Answer { id, result }
        }
        Ok(_) | Err(_) => Incoming::Noise,
    }
}

/// Whether a text nests deeper than a message may. Counts brackets outside of strings and takes no other notice of what
/// is wrong with it.
fn is_too_deep(frame: &str) -> bool {
    if frame.len() <= 2 * DEPTH_MAX {
        return false;
    }
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for byte in frame.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' | b'[' if !quoted => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return true;
                }
            }
            b'}' | b']' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

fn is_id(id: &RawValue) -> bool {
    let text = id.get();
    text.starts_with('"') || text.parse::<i64>().is_ok()
}

/// Reads a method's parameters.
pub(crate) fn params<P: DeserializeOwned>(params: Option<&RawValue>) -> Result<P, Refusal> {
    let Some(params) = params else {
        return Err(Refusal::invalid("Invalid request: missing field `params`"));
    };
    // serde would take an array for the fields of a struct in their order.
    if params.get().starts_with('[') {
        return Err(Refusal::invalid("Invalid request: invalid type: sequence, expected a map"));
    }
    serde_json::from_str(params.get()).map_err(|error| {
        // serde_json adds where in our copy of the parameters it stood, which says nothing to the client.
        let text = error.to_string();
        let place = format!(" at line {} column {}", error.line(), error.column());
        Refusal::invalid(format!("Invalid request: {}", text.strip_suffix(&place).unwrap_or(&text)))
    })
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    code: i32,
    message: Cow<'static, str>,
    data: Option<Value>,
}

impl Refusal {
    /// The client has to change something; a retry does not help.
    pub(crate) fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self { code: INVALID_REQUEST, message: message.into(), data: None }
    }

    /// Something is wrong with this service or what it stands on.
    pub(crate) fn internal(message: impl Into<Cow<'static, str>>) -> Self {
        Self { code: INTERNAL, message: message.into(), data: None }
    }

    /// There is too much to do at the moment; a retry helps.
    pub(crate) fn overloaded(message: impl Into<Cow<'static, str>>) -> Self {
        Self { code: OVERLOADED, message: message.into(), data: Some(OVERLOADED_DATA.into()) }
    }

    /// The same with something that programs read.
    pub(crate) fn with(self, data: Value) -> Self {
        Self { data: Some(data), ..self }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

#[derive(Serialize)]
struct Answer<'a, R> {
    id: &'a RawValue,
    result: R,
}

#[derive(Serialize)]
struct Failure<'a> {
    error: FailureBody<'a>,
    id: &'a RawValue,
}

#[derive(Serialize)]
struct FailureBody<'a> {
    code: i32,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Notification<'a, P> {
    method: &'static str,
    params: &'a P,
    emitted_at_ms: i64,
}

/// The answer to a request.
pub(crate) fn answer<R: Serialize>(id: &RawValue, result: &R) -> String {
    print(&Answer { id, result })
        .unwrap_or_else(|| failure(id, &Refusal::internal("the answer cannot be printed")))
}

/// The refusal of a request.
pub(crate) fn failure(id: &RawValue, refusal: &Refusal) -> String {
    let error = FailureBody { code: refusal.code, message: &refusal.message, data: refusal.data.as_ref() };
    print(&Failure { error, id }).unwrap_or_default()
}

/// A question of ours.
pub(crate) fn question<P: Serialize>(question: &Question<'_, P>) -> String {
    print(question).unwrap_or_default()
}

/// A notification of something that happened at this time, in Unix milliseconds.
pub(crate) fn notification<P: Serialize>(method: &'static str, params: &P, emitted_at_ms: i64) -> String {
    print(&Notification { method, params, emitted_at_ms }).unwrap_or_default()
}

/// Prints a message of ours. They are made of texts and numbers with text keys, which always print.
fn print<M: Serialize>(message: &M) -> Option<String> {
    let mut bytes = Vec::with_capacity(MESSAGE_BYTES);
    serde_json::to_writer(&mut bytes, message).ok()?;
    String::from_utf8(bytes).ok()
}

/// The wall clock in Unix milliseconds.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
