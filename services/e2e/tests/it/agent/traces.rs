//! One trace from a client's turn to the provider, through both services; and what a person sees of a thread's own trace.

use std::collections::HashMap;

use anyhow::Context as _;
use gateway_testkit::Upstream;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use service_e2e::collector::Collector;
use service_e2e::home::Home;
use service_e2e::stack::{self, Agent, Gateway, MODEL, STOP_TIME_MAX};
use tidegate_proto::agent::v1::session_service_client::SessionServiceClient;
use tidegate_proto::agent::v1::subscribe_response::Event;
use tidegate_proto::agent::v1::{CreateThreadRequest, StartTurnRequest, SubscribeRequest};
use tonic::Request;
use tonic::transport::Endpoint;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";
const SAID: &str = "canary-of-the-prompt-5f02";
const ANSWERED: &str = "canary-of-the-answer-77b1";

/// Runs a turn that belongs to the trace, to its end; tells its thread.
async fn turn(agent: &Agent) -> anyhow::Result<String> {
    let channel = Endpoint::from_shared(format!("http://{}", agent.at()?))?.connect().await?;
    let mut sessions = SessionServiceClient::new(channel);
    let created = sessions.create_thread(CreateThreadRequest::default()).await?.into_inner();
    let thread_id = created.thread.context("a thread")?.id;
    let start = StartTurnRequest {
        thread_id: thread_id.clone(),
        text: SAID.to_owned(),
        ..StartTurnRequest::default()
    };
    let mut start = Request::new(start);
    start.metadata_mut().insert("traceparent", format!("00-{TRACE}-{PARENT}-01").parse()?);
    sessions.start_turn(start).await?;
    let subscribe = SubscribeRequest { thread_id: thread_id.clone(), after_sequence: 0 };
    let mut events = sessions.subscribe(subscribe).await?.into_inner();
    while let Some(event) = events.message().await? {
        if matches!(event.event, Some(Event::TurnEnded(_))) {
            return Ok(thread_id);
        }
    }
    anyhow::bail!("the turn did not end")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attribute(span: &Span, name: &str) -> Option<String> {
    let value = span.attributes.iter().find(|attribute| attribute.key == name)?.value.clone()?;
    Some(format!("{:?}", value.value?))
}

#[tokio::test]
async fn a_trace_goes_from_the_turn_to_the_provider() -> anyhow::Result<()> {
    let (upstream, collector) = (Upstream::start().await?, Collector::start().await?);
    // The first answer breaks and is asked for again.
    upstream.push(stack::says("resp_cut", &[ANSWERED]).reset_after(300));
    upstream.push(stack::says("resp_whole", &[ANSWERED]));
    let telemetry = format!("[telemetry]\notlp_endpoint = \"{}\"\n", collector.endpoint());
    let gateway = Gateway::start(&format!("{}{telemetry}", stack::provider(&upstream))).await?;
    let home = Home::new()?;
    let mut agent =
        Agent::configured(&home, &gateway, &format!("{telemetry}[log]\nlevel = \"debug\"\n")).await?;
    let thread = turn(&agent).await?;
    agent.service.signal(rustix::process::Signal::TERM)?;
    agent.service.ended(STOP_TIME_MAX).await?;
    let log = agent.service.output();
    gateway.service.stop(STOP_TIME_MAX).await?;

    let received = collector.received("TraceService")?;
    let export = ExportTraceServiceRequest::decode(received.as_slice())?;
    let scopes = export.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
    let spans: HashMap<String, Span> = scopes
        .flat_map(|scope| scope.spans)
        .filter(|span| hex(&span.trace_id) == TRACE)
        .map(|span| (hex(&span.span_id), span))
        .collect();
    let requests = upstream.requests();
    assert_eq!(requests.len(), 2);
    for (attempt, request) in requests.iter().enumerate() {
        let parent = request.header("traceparent").context("a trace")?;
        let mut ways = parent.split('-');
        assert_eq!((ways.next(), ways.next()), (Some("00"), Some(TRACE)), "{parent}");
        let (mut at, mut names) = (ways.next().context("a span")?.to_owned(), Vec::new());
        while let Some(span) = spans.get(&at) {
            names.push(span.name.clone());
            if names.len() == 3 {
                let told = attribute(span, "tidegate.turn.attempt");
                assert_eq!(told, Some(format!("IntValue({})", attempt + 1)), "{span:?}");
            }
            at = hex(&span.parent_span_id);
        }
        let chat = format!("chat {MODEL}");
        assert_eq!(names, [&chat, "call", &chat, "invoke_agent tidegate"]);
        assert_eq!(at, PARENT);
    }
    let whole = spans.values().find(|span| span.name.starts_with("invoke_agent")).context("the turn")?;
    let conversation = attribute(whole, "gen_ai.conversation.id").context("a conversation")?;
    assert!(conversation.contains(&thread), "{conversation}");

    let line = log.lines().find(|line| line.contains("turn ended")).context("a line for the turn")?;
    for expected in ["thread", "session", "turn", "originator", &thread] {
        assert!(line.contains(expected), "{expected} in {line}");
    }
    for said in [SAID, ANSWERED] {
        assert!(!log.contains(said), "{said} is in the log");
        for signal in ["TraceService", "LogsService", "MetricsService"] {
            let received = collector.received(signal)?;
            assert!(!received.windows(said.len()).any(|window| window == said.as_bytes()), "{signal}");
        }
    }
    Ok(())
}
