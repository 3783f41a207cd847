//! What a call leaves in traces and in the log, and what it leaves out.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    io,
    sync::{Arc, Mutex, OnceLock},
};

use gateway_server::ServerConfig;
use gateway_testkit::{Reply, SocketScript, messages, text_turn};
use http::{HeaderValue, Request};
use http_body_util::Full;
use opentelemetry::{
    Context, KeyValue, TraceId, global,
    trace::{Link, SpanKind, TraceState},
};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    propagation::TraceContextPropagator,
    trace::{
        Sampler, SamplingDecision, SamplingResult, SdkTracerProvider, ShouldSample, SpanData, SpanExporter,
    },
};
use serde_json::{Map, Value};
use tidegate_proto::gateway::v1::{Envelope, RequestKind, ResponseStart, respond_request::Message};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::{
    harness::{Door, Gate, bytes_of, usage},
    stream::Stream,
    talker::{self, Talker},
};

const METADATA: &str =
    r#"{"thread_id":"thread-1","turn_id":"turn-1","request_kind":"turn","workspaces":{"/home/dev":{}}}"#;
const PROMPT: &str = "canary-of-the-prompt-71c2";
const ANSWER: &str = "canary-of-the-answer-93d0";

/// Keeps every span that was sampled in this process; tests find theirs by the trace.
#[derive(Debug, Clone, Default)]
struct Spans(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Spans {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().unwrap().extend(batch);
        Ok(())
    }
}

/// Samples what refers to a sampled trace.
#[derive(Debug, Clone)]
struct Linked;

impl ShouldSample for Linked {
    fn should_sample(
        &self,
        _: Option<&Context>,
        _: TraceId,
        _: &str,
        _: &SpanKind,
        _: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let sampled = links.iter().any(|link| link.span_context.is_sampled());
        let decision = if sampled { SamplingDecision::RecordAndSample } else { SamplingDecision::Drop };
        SamplingResult { decision, attributes: Vec::new(), trace_state: TraceState::default() }
    }
}

impl Spans {
    /// Only what its caller has sampled is kept, and what refers to such a trace, so that other tests are not traced.
    fn collect() -> Self {
        static SPANS: OnceLock<Spans> = OnceLock::new();
        let start = || {
            let spans = Spans::default();
            let linked = Sampler::ParentBased(Box::new(Linked));
            let provider =
                SdkTracerProvider::builder().with_simple_exporter(spans.clone()).with_sampler(linked).build();
            global::set_tracer_provider(provider);
            global::set_text_map_propagator(TraceContextPropagator::new());
            spans
        };
        SPANS.get_or_init(start).clone()
    }

    /// The spans of the calls that refer to a trace, each with the provider's first.
    fn linked(&self, trace: &str) -> Vec<Vec<SpanData>> {
        let refers =
            |span: &SpanData| span.links.iter().any(|link| link.span_context.trace_id().to_string() == trace);
        let calls: Vec<String> = {
            let spans = self.0.lock().unwrap();
            spans
                .iter()
                .filter(|span| refers(span))
                .map(|span| span.span_context.trace_id().to_string())
                .collect()
        };
        calls.iter().map(|call| self.of(call)).collect()
    }

    /// The spans of a trace, the provider's first.
    fn of(&self, trace: &str) -> Vec<SpanData> {
        let spans = self.0.lock().unwrap();
        spans.iter().filter(|span| span.span_context.trace_id().to_string() == trace).cloned().collect()
    }
}

/// The lines of the log of this thread, which runs the whole test.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    pub(crate) fn collect() -> (Self, DefaultGuard) {
        // With one subscriber alone, a line that another test's thread comes to first is switched off for all threads.
        static ANOTHER: OnceLock<tracing::Dispatch> = OnceLock::new();
        ANOTHER.get_or_init(|| tracing::Dispatch::new(tracing_subscriber::registry()));
        let lines = Self::default();
        let to = lines.clone();
        let layer = tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .with_writer(move || to.clone());
        (lines, tracing::subscriber::set_default(tracing_subscriber::registry().with(layer)))
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// The lines of a target, with what changes from run to run replaced by its kind.
    pub(crate) fn of(&self, target: &str) -> Vec<Map<String, Value>> {
        let text = self.text();
        let lines = text.lines().map(|line| serde_json::from_str::<Map<String, Value>>(line).unwrap());
        let mut lines: Vec<_> = lines.filter(|line| line["target"] == target).collect();
        for line in &mut lines {
            line.remove("timestamp");
            for (key, value) in line.iter_mut() {
                if key == "call" {
                    *value = "<id>".into();
                } else if key.ends_with("_ms") || key.ends_with("_us") {
                    assert!(value.is_u64(), "{key}: {value}");
                    *value = "<time>".into();
                }
            }
        }
        lines
    }
}

fn codex_call(gate: &Gate, trace: &[(&'static str, &'static str)]) -> Request<Full<bytes::Bytes>> {
    let body = format!(r#"{{"model":"scripted-1","stream":true,"input":"{PROMPT}"}}"#);
    let mut request = gate.request(body);
    let codex = [
        ("thread-id", "thread-1"),
        ("session-id", "session-1"),
        ("x-codex-window-id", "thread-1:0"),
        ("originator", "codex_exec"),
        ("x-codex-turn-metadata", METADATA),
    ];
    for (name, value) in codex.iter().chain(trace) {
        request.headers_mut().insert(*name, HeaderValue::from_static(value));
    }
    request
}

fn answer() -> Reply {
    Reply::sse(text_turn(&[ANSWER], usage())).header("x-request-id", "req-of-the-provider")
}

/// A span as text, with what changes from run to run replaced by its kind.
fn shown(span: &SpanData) -> String {
    let mut lines: Vec<String> = span
        .attributes
        .iter()
        .map(|attribute| {
            let (name, value) = (attribute.key.as_str(), attribute.value.as_str());
            let time = name.starts_with("tidegate.phase.")
                || matches!(name, "tidegate.overhead" | "gen_ai.response.time_to_first_chunk");
            match name {
                "tidegate.call.id" => format!("{name} = <id>"),
                _ if time => format!("{name} = <seconds>"),
                _ => format!("{name} = {value}"),
            }
        })
        .collect();
    lines.sort();
    format!("{} ({:?}, {:?})\n  {}\n", span.name, span.span_kind, span.status, lines.join("\n  "))
}

#[tokio::test]
async fn a_sampled_call_has_two_spans_and_the_provider_sees_the_inner_one() {
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    let spans = Spans::collect();
    let gate = Gate::start().await;
    gate.upstream.push(answer());
    let trace = [
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("tracestate", "corp=t61rcWkgMzE"),
    ];
    bytes_of(gate.send(codex_call(&gate, &trace)).await).await;

    let spans = spans.of(TRACE);
    let [client, call] = &spans[..] else { panic!("two spans: {spans:?}") };
    assert_eq!(call.parent_span_id.to_string(), "b7ad6b7169203331");
    assert_eq!(client.parent_span_id, call.span_context.span_id());
    assert!(call.start_time <= client.start_time && client.end_time <= call.end_time);
    insta::assert_snapshot!("spans_of_a_call", format!("{}\n{}", shown(call), shown(client)));
    let all = format!("{spans:?}");
    assert!(!all.contains(PROMPT) && !all.contains(ANSWER) && !all.contains("/home/dev"), "{all}");

    let seen = &gate.upstream.requests()[0];
    let inner = format!("00-{TRACE}-{}-01", client.span_context.span_id());
    assert_eq!(seen.header("traceparent"), Some(&*inner));
    assert_eq!(seen.header("tracestate"), Some("corp=t61rcWkgMzE"));
}

#[tokio::test]
async fn a_refused_call_says_so_in_both_spans() {
    const TRACE: &str = "1af7651916cd43dd8448eb211c80319c";
    let spans = Spans::collect();
    let gate = Gate::start().await;
    gate.upstream.push(Reply::bytes(http::StatusCode::IM_A_TEAPOT, "application/json", &b"{}"[..]));
    let trace = [("traceparent", "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")];
    bytes_of(gate.send(codex_call(&gate, &trace)).await).await;
    for span in spans.of(TRACE) {
        let shown = shown(&span);
        assert!(shown.contains("error.type = _OTHER\n") && shown.contains("Error"), "{shown}");
        assert!(shown.contains("http.response.status_code = 418\n"), "{shown}");
    }
}

#[tokio::test]
async fn what_is_not_sampled_passes_byte_for_byte() {
    let spans = Spans::collect();
    let gate = Gate::start().await;
    for parent in ["00-2af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", "not a trace at all"] {
        gate.upstream.push(answer());
        let trace = [("traceparent", parent), ("tracestate", "a=1 ,  b=2")];
        bytes_of(gate.send(codex_call(&gate, &trace)).await).await;
        let requests = gate.upstream.requests();
        let seen = requests.last().unwrap();
        assert_eq!(seen.header("traceparent"), Some(parent));
        assert_eq!(seen.header("tracestate"), Some("a=1 ,  b=2"));
    }
    assert!(spans.of("2af7651916cd43dd8448eb211c80319c").is_empty());
    gate.upstream.push(answer());
    bytes_of(gate.send(codex_call(&gate, &[])).await).await;
    assert_eq!(gate.upstream.requests().last().unwrap().header("traceparent"), None, "none is invented");
}

#[tokio::test]
async fn a_provider_that_may_not_see_traces_sees_none() {
    const TRACE: &str = "3af7651916cd43dd8448eb211c80319c";
    let spans = Spans::collect();
    let gate = Gate::with(ServerConfig::default(), "trace_context = false").await;
    gate.upstream.push(answer());
    let trace = [
        ("traceparent", "00-3af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("tracestate", "corp=secret"),
    ];
    bytes_of(gate.send(codex_call(&gate, &trace)).await).await;
    let seen = &gate.upstream.requests()[0];
    assert_eq!((seen.header("traceparent"), seen.header("tracestate")), (None, None));
    assert_eq!(spans.of(TRACE).len(), 2, "the company still sees the call");
}

/// A message that says which trace it belongs to.
fn traced(parent: &str) -> String {
    format!(
        r#"{{"type":"response.create","model":"scripted-1","stream":true,"input":"hi","client_metadata":{{"a":"b","ws_request_header_traceparent":"{parent}","ws_request_header_tracestate":"corp=x"}}}}"#
    )
}

#[tokio::test]
async fn each_call_on_a_socket_has_the_trace_that_its_message_names() {
    const TRACES: [&str; 2] = ["4af7651916cd43dd8448eb211c80319c", "5af7651916cd43dd8448eb211c80319c"];
    const HANDSHAKE: &str = "6af7651916cd43dd8448eb211c80319c";
    let spans = Spans::collect();
    let gate = talker::gate().await;
    let handshake = format!("00-{HANDSHAKE}-b7ad6b7169203331-01");
    let headers = [("traceparent", handshake.as_str()), ("tracestate", "corp=old")];
    let mut talker = Talker::open_with(&gate, &headers).await.unwrap();
    for trace in TRACES {
        gate.upstream.push(answer());
        talker.say(&traced(&format!("00-{trace}-b7ad6b7169203332-01"))).await;
        talker.response().await;
        let spans = spans.of(trace);
        let [client, call] = &spans[..] else { panic!("two spans: {spans:?}") };
        assert_eq!(call.parent_span_id.to_string(), "b7ad6b7169203332");
        assert_eq!(client.parent_span_id, call.span_context.span_id());
        let requests = gate.upstream.requests();
        let seen = requests.last().unwrap();
        let inner = format!("00-{trace}-{}-01", client.span_context.span_id());
        assert_eq!((seen.header("traceparent"), seen.header("tracestate")), (Some(&*inner), Some("corp=x")));
    }
    assert_eq!(spans.of(HANDSHAKE).len(), 0);
}

#[tokio::test]
async fn a_call_on_a_socket_without_a_trace_of_its_own_refers_to_the_handshake_s() {
    const HANDSHAKE: &str = "7af7651916cd43dd8448eb211c80319c";
    let spans = Spans::collect();
    let gate = talker::gate().await;
    let handshake = format!("00-{HANDSHAKE}-b7ad6b7169203331-01");
    let headers = [("traceparent", handshake.as_str()), ("tracestate", "corp=old")];
    let mut talker = Talker::open_with(&gate, &headers).await.unwrap();
    for _ in 0..2 {
        gate.upstream.push(answer());
        talker.say(r#"{"type":"response.create","model":"scripted-1","stream":true,"input":"hi"}"#).await;
        talker.response().await;
    }
    let calls = spans.linked(HANDSHAKE);
    let [first, second] = &calls[..] else { panic!("two calls: {calls:?}") };
    assert_eq!((first.len(), second.len(), spans.of(HANDSHAKE).len()), (2, 2, 0));
    assert_ne!(first[0].span_context.trace_id(), second[0].span_context.trace_id());
    for seen in gate.upstream.requests() {
        assert_eq!((seen.header("traceparent"), seen.header("tracestate")), (None, None), "none is invented");
    }
}

#[tokio::test]
async fn a_provider_that_may_not_see_traces_sees_none_in_the_metadata_either() {
    const TRACE: &str = "8af7651916cd43dd8448eb211c80319c";
    let spans = Spans::collect();
    let gate = Gate::configured(ServerConfig::default(), |base_url| {
        format!(
            "[model_providers.scripted]\nbase_url = \"{base_url}\"\nmodels = [\"scripted-1\"]\nsupports_websockets = true\n\
             trace_context = false\n"
        )
    })
    .await;
    gate.upstream.push_socket(SocketScript::new().answer(messages(text_turn(&[ANSWER], usage()))));
    let mut talker = Talker::open(&gate).await;
    talker.say(&traced(&format!("00-{TRACE}-b7ad6b7169203332-01"))).await;
    talker.response().await;
    let told = gate.upstream.messages().remove(0).json();
    assert_eq!(told["client_metadata"], serde_json::json!({"a": "b"}));
    let socket = gate.upstream.sockets().remove(0);
    assert_eq!((socket.header("traceparent"), socket.header("tracestate")), (None, None));
    assert_eq!(spans.of(TRACE).len(), 2, "the company still sees the call");
}

#[tokio::test]
async fn a_call_leaves_one_line_with_its_ids_and_tokens() {
    let (lines, _guard) = Lines::collect();
    let gate = Gate::start().await;
    gate.upstream.push(answer());
    bytes_of(gate.send(codex_call(&gate, &[])).await).await;
    let access = lines.of("tidegate::access");
    assert_eq!(access.len(), 1);
    insta::assert_json_snapshot!("access_line", access[0]);
}

#[tokio::test]
async fn the_envelope_s_ids_are_told_too() {
    let (lines, _guard) = Lines::collect();
    let gate = Gate::start().await;
    gate.upstream.push(answer());
    let envelope = Envelope {
        thread_id: "thread-2".to_owned(),
        session_id: "session-2".to_owned(),
        turn_id: "turn-2".to_owned(),
        window_id: "thread-2:1".to_owned(),
        originator: "codex-tui".to_owned(),
        request_kind: RequestKind::Prewarm.into(),
        ..Envelope::default()
    };
    let mut stream = Stream::open(&gate).await;
    let start = ResponseStart { envelope: Some(envelope), ..ResponseStart::default() };
    stream.message(Message::Start(Box::new(start))).await;
    stream.body(r#"{"model":"scripted-1","stream":true,"input":"hi"}"#, 1024).await;
    stream.response().await;
    drop(stream);
    let access = lines.of("tidegate::access");
    let line = &access[0];
    let told = ["surface", "thread", "session", "turn", "window", "originator", "request_kind"];
    let expected = ["grpc", "thread-2", "session-2", "turn-2", "thread-2:1", "codex-tui", "prewarm"];
    assert_eq!(told.map(|key| line[key].as_str().unwrap()), expected);
}

#[tokio::test]
async fn a_call_that_is_not_opened_leaves_a_line_with_its_reason() {
    let (lines, _guard) = Lines::collect();
    let gate = Gate::start().await;
    let mut request = codex_call(&gate, &[]);
    *request.body_mut() = Full::new(r#"{"model":"unknown-model","input":"hi"}"#.into());
    assert_eq!(gate.send(request).await.status(), 400);
    let access = lines.of("tidegate::access");
    assert_eq!(access.len(), 1);
    insta::assert_json_snapshot!("rejected_line", access[0]);
}

#[tokio::test]
async fn content_is_logged_where_a_policy_says_so_and_nowhere_else() {
    let providers = |base_url: &str| {
        format!(
            "model_provider = \"scripted\"\n[model_providers.scripted]\nbase_url = \"{base_url}\"\nmodels = [\"scripted-1\"]\n"
        )
    };
    for (policy, allowed) in
        [("", false), ("default.log_content = false", false), ("default.log_content = true", true)]
    {
        let (lines, _guard) = Lines::collect();
        let door = Door { policy, ..Door::default() };
        let gate = Gate::guarded(ServerConfig::default(), providers, &door).await;
        gate.upstream.push(answer());
        bytes_of(gate.send(codex_call(&gate, &[])).await).await;
        let text = lines.text();
        assert_eq!(lines.of("tidegate::access").len(), 1);
        assert_eq!((text.contains(PROMPT), text.contains(ANSWER)), (allowed, allowed), "{policy}: {text}");
        let content = lines.of("tidegate::content");
        assert_eq!(content.len(), usize::from(allowed));
        if let [line] = &content[..] {
            assert!(line["request"].as_str().unwrap().contains(PROMPT));
            assert_eq!(line["output"], ANSWER);
        }
    }
}

#[tokio::test]
async fn a_denied_call_names_its_rule_and_its_model_on_every_surface() {
    let (lines, _guard) = Lines::collect();
    let providers = |base_url: &str| {
        format!(
            "[model_providers.scripted]\nbase_url = \"{base_url}\"\nmodels = [\"scripted-1\"]\nsupports_websockets = true\n"
        )
    };
    let door = Door { policy: "default.models.deny = [\"scripted-1\"]", ..Door::default() };
    let gate = Gate::guarded(ServerConfig::default(), providers, &door).await;
    let call = r#"{"model":"scripted-1","stream":true,"input":"hi"}"#;
    assert_eq!(gate.post(call).await.status(), 400);
    let mut talker = Talker::open(&gate).await;
    talker.say(&call.replacen('{', r#"{"type":"response.create","#, 1)).await;
    talker.json().await;
    let mut stream = Stream::open(&gate).await;
    stream.call(call, 1000).await;
    assert!(tokio_stream::StreamExt::next(&mut stream.events).await.unwrap().is_err());
    let told = |line: Map<String, Value>| {
        ["surface", "rule", "model"].map(|key| line[key].as_str().unwrap().to_owned())
    };
    let told: Vec<_> = lines.of("tidegate::access").into_iter().map(told).collect();
    let of = |surface: &str| [surface, "default.models.deny", "scripted-1"].map(str::to_owned);
    assert_eq!(told, ["http", "websocket", "grpc"].map(of));
}
