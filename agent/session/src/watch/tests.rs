//! What spans, metrics and the log say of turns, as those who run the service receive it.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, SystemTime},
};

use agent_threads::{
    CallPurpose, MemoryStore, Metadata, Origin, ReadState, Settings, TenantId, Thread, ThreadId, TurnEnd,
    TurnError, TurnErrorKind, TurnId, Usage,
};
use bytes::Bytes;
use opentelemetry::{
    KeyValue, SpanId, Value,
    global::{self, BoxedTracer},
    trace::{Status, TracerProvider as _},
};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    metrics::{
        PeriodicReader, SdkMeterProvider, Temporality,
        data::{AggregatedMetrics, MetricData, ResourceMetrics},
        exporter::PushMetricExporter,
    },
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracerProvider, SpanData, SpanExporter},
};
use tokio::time::{Instant, advance};
use tracing_subscriber::layer::SubscriberExt as _;

use super::{Metrics, Observer, Recorder, Subject, TurnWatch};
use crate::{
    event::Event,
    gateway::{CallEvent, Failure, FailureFault},
    response::Told,
    trace_context::TraceContext,
    view::TurnView,
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";
const FIRST: Usage = Usage {
    input_tokens: 1_000,
    cached_input_tokens: 200,
    output_tokens: 30,
    reasoning_output_tokens: 4,
    total_tokens: 1_030,
};
const SECOND: Usage = Usage {
    input_tokens: 5_000,
    cached_input_tokens: 600,
    output_tokens: 70,
    reasoning_output_tokens: 8,
    total_tokens: 5_070,
};

#[derive(Debug, Clone, Default)]
struct Spans(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Spans {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().unwrap().extend(batch);
        Ok(())
    }
}

/// What was last told of each series: its sum, and how many values there were where it has them.
#[derive(Debug, Clone, Default)]
struct Series(Arc<Mutex<BTreeMap<String, (f64, u64)>>>);

fn labels<'a>(attributes: impl Iterator<Item = &'a KeyValue>) -> String {
    let mut labels: Vec<String> = attributes.map(|label| format!("{}={}", label.key, label.value)).collect();
    labels.sort();
    labels.join(",")
}

fn wide(number: u64) -> f64 {
    f64::from(u32::try_from(number).unwrap())
}

impl PushMetricExporter for Series {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let mut series = self.0.lock().unwrap();
        for metric in metrics.scope_metrics().flat_map(|scope| scope.metrics()) {
            let mut put = |labels: String, sum: f64, count: u64| {
                series.insert(format!("{}{{{labels}}}", metric.name()), (sum, count));
            };
            match metric.data() {
                AggregatedMetrics::U64(MetricData::Sum(sum)) => sum
                    .data_points()
                    .for_each(|point| put(labels(point.attributes()), wide(point.value()), 1)),
                AggregatedMetrics::U64(MetricData::Histogram(times)) => times
                    .data_points()
                    .for_each(|point| put(labels(point.attributes()), wide(point.sum()), point.count())),
                AggregatedMetrics::F64(MetricData::Histogram(times)) => times
                    .data_points()
                    .for_each(|point| put(labels(point.attributes()), point.sum(), point.count())),
                _ => {}
            }
        }
        Ok(())
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }

    fn temporality(&self) -> Temporality {
        Temporality::Cumulative
    }
}

/// What all observers of this process measure, together: series are told apart by their tenants.
fn measured() -> (SdkMeterProvider, Series) {
    static ALL: OnceLock<(SdkMeterProvider, Series)> = OnceLock::new();
    let start = || {
        let series = Series::default();
        let provider =
            SdkMeterProvider::builder().with_reader(PeriodicReader::builder(series.clone()).build()).build();
        global::set_meter_provider(provider.clone());
        (provider, series)
    };
    ALL.get_or_init(start).clone()
}

/// An observer whose spans are kept, if they are sampled.
fn observer(sampler: Sampler) -> (Arc<Observer>, Spans) {
    measured();
    global::set_text_map_propagator(TraceContextPropagator::new());
    let spans = Spans::default();
    let provider =
        SdkTracerProvider::builder().with_simple_exporter(spans.clone()).with_sampler(sampler).build();
    let (recorder, _) = Recorder::over(Arc::new(MemoryStore::new()));
    let tracer = BoxedTracer::new(Box::new(provider.tracer("agent")));
    (Arc::new(Observer { tracer, metrics: Metrics::new(&recorder), recorder }), spans)
}

fn said() -> TraceContext {
    TraceContext::said(&format!("00-{TRACE}-{PARENT}-01"), "corp=x")
}

fn subject(tenant: &str, model: &str) -> Subject {
    let id = ThreadId::generate();
    let settings = Settings { model: model.to_owned(), ..Settings::default() };
    let facts = Thread {
        tenant: TenantId::new(tenant),
        id,
        session_id: id,
        parent_id: None,
        forked_from_id: None,
        created_at_ms: 1,
        updated_at_ms: 1,
        name: None,
        preview: String::new(),
        archived: false,
        origin: Origin { provider: "asked-for".to_owned(), ..Origin::default() },
        settings: settings.clone(),
        metadata: Metadata::default(),
        read_state: ReadState::default(),
    };
    Subject::of(&facts, &settings, TurnId::generate(), false, said())
}

fn head() -> CallEvent {
    CallEvent::Head {
        provider: "answered".to_owned(),
        turn_state: None,
        rate_limits: Vec::new(),
        continues: false,
    }
}

fn piece() -> CallEvent {
    CallEvent::Event { kind: "response.created".to_owned(), data: Bytes::from_static(b"{}") }
}

fn failed(usage: Usage) -> CallEvent {
    let failure = Failure {
        reason: "upstream_overloaded".to_owned(),
        fault: FailureFault::Overload,
        message: "a text of the provider's".to_owned(),
        retryable: true,
        retry_delay: None,
        http_status: None,
        code: None,
    };
    CallEvent::Failed { failure, usage: Some(usage) }
}

fn completed(usage: Usage) -> CallEvent {
    CallEvent::Completed { response_id: String::new(), usage: Some(usage) }
}

/// The end of a turn, as its subscribers are told.
fn told(end: &TurnEnd) -> Vec<Told> {
    let turn = TurnView::ended(TurnId::generate(), end, 1, 2);
    vec![Told { event: Event::TurnCompleted { turn }, entry: None }]
}

fn over_limit() -> TurnEnd {
    let error = TurnError {
        kind: TurnErrorKind::UsageLimitExceeded,
        reason: "usage_limit_reached".to_owned(),
        message: "a text of the provider's".to_owned(),
        http_status: None,
    };
    TurnEnd::Failed { error }
}

fn attribute(span: &SpanData, name: &str) -> Option<Value> {
    let found = span.attributes.iter().find(|attribute| attribute.key.as_str() == name)?;
    Some(found.value.clone())
}

fn number(span: &SpanData, name: &str) -> Option<i64> {
    match attribute(span, name)? {
        Value::I64(number) => Some(number),
        other => panic!("{name} is {other:?}"),
    }
}

fn word(span: &SpanData, name: &str) -> Option<String> {
    attribute(span, name).map(|value| value.as_str().into_owned())
}

/// Input, cached, output, reasoning.
fn tokens(span: &SpanData) -> [Option<i64>; 4] {
    ["input_tokens", "cache_read.input_tokens", "output_tokens", "reasoning.output_tokens"]
        .map(|kind| number(span, &format!("gen_ai.usage.{kind}")))
}

/// A turn that was called twice and once more: a failed attempt, one that answered, and a call that is under way at the end.
async fn three_calls(watch: &mut TurnWatch) -> Vec<TraceContext> {
    advance(Duration::from_millis(50)).await;
    watch.began();
    let mut contexts = vec![watch.calls(CallPurpose::Turn)];
    watch.event(&head());
    watch.event(&failed(FIRST));
    contexts.push(watch.calls(CallPurpose::Turn));
    watch.event(&head());
    advance(Duration::from_millis(250)).await;
    watch.event(&piece());
    advance(Duration::from_secs(1)).await;
    watch.event(&piece());
    watch.event(&completed(SECOND));
    for milliseconds in [99, 100] {
        let since = Instant::now();
        advance(Duration::from_millis(milliseconds)).await;
        watch.committed(since);
    }
    contexts.push(watch.calls(CallPurpose::Compaction));
    contexts
}

#[tokio::test(start_paused = true)]
async fn a_turn_is_a_span_and_each_attempt_at_a_call_one_below_it() {
    let (observer, spans) = observer(Sampler::AlwaysOn);
    let before = SystemTime::now();
    let mut watch = TurnWatch::new(&observer, subject("spans", "m1"), 1);
    let contexts = three_calls(&mut watch).await;
    watch.ended(&told(&over_limit()));
    drop(watch);
    let spans = spans.0.lock().unwrap();
    let [one, two, three, turn] = &spans[..] else { panic!("{spans:?}") };
    assert!(spans.iter().all(|span| span.span_context.trace_id().to_string() == TRACE));
    assert_eq!(
        (turn.name.as_ref(), turn.parent_span_id.to_string().as_str()),
        ("invoke_agent tidegate", PARENT)
    );
    assert!(turn.start_time < before, "it began when it was asked for");
    for (span, context) in [one, two, three].into_iter().zip(&contexts) {
        assert_eq!((span.name.as_ref(), span.parent_span_id), ("chat m1", turn.span_context.span_id()));
        // The gateway goes on from there.
        let id: SpanId = span.span_context.span_id();
        assert_eq!(context.traceparent, format!("00-{TRACE}-{id}-01"));
        assert_eq!(context.tracestate, "corp=x");
    }
    let place =
        |span| (number(span, "tidegate.turn.call").unwrap(), number(span, "tidegate.turn.attempt").unwrap());
    assert_eq!([place(one), place(two), place(three)], [(1, 1), (1, 2), (2, 1)]);
    let kinds = [one, two, three].map(|span| word(span, "tidegate.request.kind").unwrap());
    assert_eq!(kinds, ["turn", "turn", "compaction"]);
    let ends = [one, two, three, turn].map(|span| word(span, "tidegate.outcome").unwrap());
    assert_eq!(ends, ["failed", "completed", "interrupted", "failed"]);
    let providers = [one, two, three, turn].map(|span| word(span, "gen_ai.provider.name").unwrap());
    assert_eq!(providers, ["answered", "answered", "asked-for", "asked-for"]);
    let errors = [one, two, three, turn].map(|span| word(span, "error.type"));
    assert_eq!(
        errors,
        [Some("upstream_overloaded".to_owned()), None, None, Some("usage_limit_exceeded".to_owned())]
    );
    assert_eq!(
        [one, two, three, turn].map(|span| matches!(span.status, Status::Error { .. })),
        [true, false, false, true]
    );
    assert_eq!(tokens(one), [1_000, 200, 30, 4].map(Some));
    assert_eq!(tokens(two), [5_000, 600, 70, 8].map(Some));
    assert_eq!(tokens(three), [None; 4]);
    assert_eq!(tokens(turn), [6_000, 800, 100, 12].map(Some));
    let first = "gen_ai.response.time_to_first_chunk";
    assert_eq!(
        [one, three].map(|span| attribute(span, first)),
        [None, None],
        "a head is no piece of an answer"
    );
    assert_eq!(attribute(two, first), Some(Value::F64(0.25)));
    let counts = ["tidegate.turn.calls", "tidegate.turn.commits"].map(|name| number(turn, name));
    assert_eq!(counts, [Some(2), Some(2)]);
    assert_eq!(turn.events.iter().map(|event| event.name.as_ref()).collect::<Vec<_>>(), ["slow commit"]);
    let all = format!("{spans:?}");
    assert!(!all.contains("a text of the provider's"), "{all}");
}

#[tokio::test(start_paused = true)]
async fn where_nobody_samples_the_client_s_trace_goes_on_as_it_came() {
    let (observer, spans) = observer(Sampler::AlwaysOff);
    let mut watch = TurnWatch::new(&observer, subject("unsampled", "m1"), 1);
    assert_eq!(three_calls(&mut watch).await, [said(), said(), said()]);
    drop(watch);
    assert!(spans.0.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_turn_whose_driver_is_gone_has_failed_and_one_that_never_began_is_none() {
    let (observer, spans) = observer(Sampler::AlwaysOn);
    drop(TurnWatch::new(&observer, subject("gone", "m1"), 1));
    let mut watch = TurnWatch::new(&observer, subject("gone", "m1"), 1);
    watch.began();
    drop(watch);
    let spans = spans.0.lock().unwrap();
    assert_eq!(spans.len(), 1);
    assert_eq!(word(&spans[0], "tidegate.reason").as_deref(), Some("driver_gone"));
    assert!(matches!(spans[0].status, Status::Error { .. }));
}

#[tokio::test(start_paused = true)]
async fn turns_are_counted_with_what_they_took_and_used() {
    let (observer, _) = observer(Sampler::AlwaysOff);
    let mut watch = TurnWatch::new(&observer, subject("metered", "m1"), 1);
    three_calls(&mut watch).await;
    watch.ended(&told(&over_limit()));
    // What is told once more changes nothing.
    watch.ended(&told(&TurnEnd::Completed));
    drop(watch);
    let mut answered = TurnWatch::new(&observer, subject("metered", "m1"), 1);
    answered.began();
    answered.calls(CallPurpose::Turn);
    answered.event(&head());
    answered.event(&completed(FIRST));
    answered.ended(&told(&TurnEnd::Completed));
    // Nobody has answered under this name.
    let mut made_up = TurnWatch::new(&observer, subject("metered", "made-up"), 1);
    made_up.began();
    made_up.ended(&told(&TurnEnd::Interrupted));
    let (provider, series) = measured();
    provider.force_flush().unwrap();
    let series = series.0.lock().unwrap();
    let of = |name: &str, more: &str, model: &str| {
        let mut labels = vec![
            "gen_ai.agent.name=tidegate".to_owned(),
            format!("gen_ai.request.model={model}"),
            "tidegate.tenant=metered".to_owned(),
        ];
        labels.extend(more.split(',').filter(|label| !label.is_empty()).map(str::to_owned));
        labels.sort();
        series.get(&format!("{name}{{{}}}", labels.join(","))).copied()
    };
    let failed = "error.type=usage_limit_exceeded,tidegate.outcome=failed";
    assert_eq!(of("tidegate.agent.turns", failed, "m1"), Some((1.0, 1)), "{series:?}");
    assert_eq!(of("tidegate.agent.turns", "tidegate.outcome=completed", "m1"), Some((1.0, 1)));
    assert_eq!(of("tidegate.agent.turns", "tidegate.outcome=interrupted", "other"), Some((1.0, 1)));
    let (seconds, count) = of("gen_ai.invoke_agent.duration", failed, "m1").unwrap();
    assert!((seconds - 1.499).abs() < 1e-6 && count == 1, "{seconds}");
    assert_eq!(of("gen_ai.invoke_agent.inference_calls", "", "m1"), Some((4.0, 2)), "attempts");
    assert_eq!(of("tidegate.agent.turn.tokens", "gen_ai.token.type=input", "m1"), Some((7_000.0, 2)));
    assert_eq!(of("tidegate.agent.turn.tokens", "gen_ai.token.type=output", "m1"), Some((130.0, 2)));
    assert!(!series.keys().any(|name| name.contains("made-up")));
    // These are of the whole process, so other tests add to them.
    let (retries, _) = series["tidegate.agent.retries{}"];
    let (_, commits) = series["tidegate.agent.store.commit.duration{}"];
    assert!(retries >= 1.0 && commits >= 2, "{retries} {commits}");
}

/// The log of this thread, which runs the whole test.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_turn_is_one_line_of_the_log() {
    // With one subscriber alone, a line that another test's thread comes to first is switched off for all threads.
    static ANOTHER: OnceLock<tracing::Dispatch> = OnceLock::new();
    ANOTHER.get_or_init(|| tracing::Dispatch::new(tracing_subscriber::registry()));
    let lines = Lines::default();
    let to = lines.clone();
    let layer = tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(move || to.clone());
    let collecting = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    let (observer, _) = observer(Sampler::AlwaysOff);
    let mut watch = TurnWatch::new(&observer, subject("logged", "m1"), 1);
    three_calls(&mut watch).await;
    watch.ended(&told(&over_limit()));
    drop((watch, collecting));
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let told: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|line: &serde_json::Value| line["target"] == "tidegate::turn")
        .collect();
    let [line] = &told[..] else { panic!("{text}") };
    for (name, value) in [
        ("input_tokens", 6_000),
        ("cached_input_tokens", 800),
        ("output_tokens", 100),
        ("reasoning_output_tokens", 12),
        ("calls", 2),
        ("attempts", 3),
        ("commits", 2),
        ("duration_ms", 1_499),
    ] {
        assert_eq!(line[name], value, "{name} in {line}");
    }
    for (name, value) in [("tenant", "logged"), ("outcome", "failed"), ("reason", "usage_limit_reached")] {
        assert_eq!(line[name], value, "{name} in {line}");
    }
    assert!(!text.contains("a text of the provider's"), "{text}");
}
