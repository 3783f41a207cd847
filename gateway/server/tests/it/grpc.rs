//! The gRPC surface: one stream carries response after response; events are the provider's payloads.

use bytes::Bytes;
use gateway_testkit::{Gate as Hold, Reply, Turn};
use tidegate_proto::{
    failure_of,
    gateway::v1::{
        DescribeProvidersRequest, Fault, ListModelsRequest, WatchRateLimitsRequest,
        respond_response::Message as Answer,
    },
};
use tokio_stream::StreamExt as _;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::{
    harness::{Gate, KEY, deadline, usage},
    stream::Stream,
};

const CALL: &str = r#"{"model":"scripted-1","stream":true,"input":"hi"}"#;

fn turn() -> Vec<Bytes> {
    Turn::new("resp_1").reasoning(&["Think"], "sealed").text(&["Hel", "lo"]).completed(usage())
}

#[tokio::test]
async fn one_stream_carries_one_response_after_the_other() {
    let gate = Gate::start().await;
    let mut stream = Stream::open(&gate).await;
    for chunk in [1, 7, 100_000] {
        gate.upstream.push(
            Reply::sse(turn())
                .chunks(&[13])
                .header("x-codex-turn-state", "next")
                .header("x-request-id", "req_1"),
        );
        stream.call(CALL, chunk).await;
        let answers = stream.response().await;
        let Some(Answer::Head(head)) = answers.first() else { panic!("{answers:?}") };
        assert_eq!(
            (head.provider.as_str(), head.status, head.model.as_str()),
            ("scripted", 200, "scripted-1")
        );
        assert_eq!((head.turn_state.as_str(), head.request_id.as_str()), ("next", "req_1"));
        let Some(Answer::Completed(completed)) = answers.last() else { panic!("{answers:?}") };
        assert_eq!(completed.response_id, "resp_1");
        let told = completed.usage.unwrap();
        assert_eq!((told.input_tokens, told.cached_input_tokens, told.output_tokens), (11, 3, 7));
        let payloads: Vec<&Bytes> = answers
            .iter()
            .filter_map(|answer| if let Answer::Event(event) = answer { Some(&event.data) } else { None })
            .collect();
        let sent = turn();
        assert_eq!(payloads.len(), sent.len());
        for (payload, frame) in payloads.iter().zip(&sent) {
            assert!(frame.windows(payload.len()).any(|part| part == payload.as_ref()), "{payload:?}");
        }
    }
    let seen = gate.upstream.requests();
    assert_eq!(seen.len(), 3);
    for request in seen {
        // The caller's bytes, and behind them what the envelope says.
        let metadata = r#"{"session_id":"session-1","thread_id":"thread-1","x-codex-turn-metadata":"{\"session_id\":\"session-1\",\"thread_id\":\"thread-1\"}"}"#;
        let (open, _) = CALL.rsplit_once('}').unwrap();
        assert_eq!(request.body, format!("{open},\"client_metadata\":{metadata}}}").as_bytes());
        assert_eq!(request.header("authorization"), Some(format!("Bearer {KEY}").as_str()));
        assert_eq!(request.header("thread-id"), Some("thread-1"));
        assert_eq!(request.header("originator"), Some("codex-tui"));
        assert_eq!(request.header("x-codex-turn-state"), Some("state-1"));
    }
}

#[tokio::test]
async fn before_the_first_head_a_failure_is_a_status_and_afterwards_an_event() {
    let gate = Gate::start().await;
    let told = serde_json::json!({"error": {"message": "slow down", "code": "rate_limit_exceeded"}});
    gate.upstream.push(Reply::json(429, &told).header("retry-after", "3").header("x-request-id", "req_9"));
    let mut stream = Stream::open(&gate).await;
    stream.call(CALL, 1000).await;
    let status = deadline(stream.events.next()).await.unwrap().unwrap_err();
    let failure = failure_of(&status);
    assert_eq!((failure.reason.as_str(), failure.fault()), ("upstream_rate_limited", Fault::Overload));
    assert_eq!(failure.retry_delay.unwrap().seconds, 3);
    let upstream = failure.upstream.unwrap();
    assert_eq!(
        (upstream.status, upstream.request_id.as_str(), upstream.code.as_str()),
        (429, "req_9", "rate_limit_exceeded")
    );
    assert_eq!(upstream.body, told.to_string().as_bytes());

    let mut stream = Stream::open(&gate).await;
    gate.upstream.push(Reply::sse(turn()));
    stream.call(CALL, 1000).await;
    stream.response().await;
    gate.upstream.push(Reply::json(500, &told));
    stream.call(CALL, 1000).await;
    let answers = stream.response().await;
    assert!(matches!(answers.as_slice(), [Answer::Failed(_)]), "{answers:?}");
    stream.call("not json", 1000).await;
    let answers = stream.response().await;
    assert!(
        matches!(answers.as_slice(), [Answer::Failed(failed)] if failed.failure.as_ref().unwrap().reason == "invalid_request")
    );
    gate.upstream.push(Reply::sse(turn()));
    stream.call(CALL, 1000).await;
    assert!(matches!(stream.response().await.last(), Some(Answer::Completed(_))));
}

#[tokio::test]
async fn a_broken_stream_and_a_failed_response_are_told_typed() {
    let gate = Gate::start().await;
    let mut stream = Stream::open(&gate).await;
    gate.upstream.push(Reply::sse(turn()).end_after(600));
    stream.call(CALL, 1000).await;
    let answers = stream.response().await;
    let Some(Answer::Failed(failed)) = answers.last() else { panic!("{answers:?}") };
    let failure = failed.failure.clone().unwrap();
    assert_eq!((failure.reason.as_str(), failure.retryable), ("upstream_disconnected", true));
    assert_eq!(failed.response_id, "resp_1");

    gate.upstream.push(Reply::sse(Turn::new("resp_2").failed("context_length_exceeded", "too long")));
    stream.call(CALL, 1000).await;
    let answers = stream.response().await;
    let Some(Answer::Failed(failed)) = answers.last() else { panic!("{answers:?}") };
    assert_eq!(failed.response_id, "resp_2");
    let failure = failed.failure.clone().unwrap();
    assert_eq!((failure.reason.as_str(), failure.retryable), ("context_window_exceeded", false));
    assert_eq!(failure.message, "too long");
}

#[tokio::test]
async fn a_caller_that_leaves_cancels_the_call_upstream() {
    let gate = Gate::start().await;
    let hold = Hold::closed();
    gate.upstream.push(Reply::sse(turn()).stall_after(700, &hold));
    let mut stream = Stream::open(&gate).await;
    stream.call(CALL, 1000).await;
    assert!(matches!(stream.next().await, Answer::Head(_)));
    drop(stream);
    gate.upstream.wait_cancelled(1).await.unwrap();
    gate.assert_healthy().await;
}

#[tokio::test]
async fn models_and_providers_are_described_without_secrets() {
    let gate = Gate::start().await;
    let mut client = gate.grpc().await;
    let models = client.list_models(ListModelsRequest {}).await.unwrap().into_inner().models;
    assert!(
        models
            .iter()
            .any(|model| model.slug == "scripted-1" && model.provider == "scripted" && model.is_default)
    );
    let providers = client.describe_providers(DescribeProvidersRequest {}).await.unwrap().into_inner();
    assert!(providers.providers.iter().any(|provider| provider.id == "scripted" && provider.is_default));
    assert!(!format!("{providers:?}").contains(KEY));
}

#[tokio::test]
async fn health_is_told_by_service() {
    let gate = Gate::start().await;
    let channel = tonic::transport::Channel::from_shared(format!("http://{}", gate.at)).unwrap();
    let mut health = HealthClient::new(deadline(channel.connect()).await.unwrap());
    for service in ["", "tidegate.gateway.v1.ModelGatewayService"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let answer = deadline(health.check(request)).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
    }
}

#[tokio::test]
async fn an_unknown_service_or_method_is_unimplemented() {
    let gate = Gate::start().await;
    for path in ["/nobody.v1.Knows/This", "/tidegate.gateway.v1.ModelGatewayService/Nothing"] {
        let request = http::Request::post(format!("http://{}{path}", gate.at))
            .header("content-type", "application/grpc")
            .body(http_body_util::Full::<Bytes>::default())
            .unwrap();
        let response = gate.send(request).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["grpc-status"], "12", "{path}");
    }
}

#[tokio::test]
async fn limits_of_an_unknown_provider_are_not_waited_for() {
    let gate = Gate::start().await;
    let mut client = gate.grpc().await;
    let of = |provider: &str| WatchRateLimitsRequest { provider: provider.to_owned() };
    let status = deadline(client.watch_rate_limits(of("nosuch"))).await.unwrap_err();
    let failure = failure_of(&status);
    assert_eq!((status.code(), failure.reason.as_str()), (tonic::Code::NotFound, "provider_not_found"));
    deadline(client.watch_rate_limits(of("scripted"))).await.unwrap();
}

#[tokio::test]
async fn reflection_names_what_is_served() {
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let gate = Gate::start().await;
    let channel = tonic::transport::Channel::from_shared(format!("http://{}", gate.at)).unwrap();
    let mut reflection = ServerReflectionClient::new(deadline(channel.connect()).await.unwrap());
    let ask = MessageRequest::ListServices(String::new());
    let ask = ServerReflectionRequest { host: String::new(), message_request: Some(ask) };
    let mut answers =
        deadline(reflection.server_reflection_info(tokio_stream::iter([ask]))).await.unwrap().into_inner();
    let answer = deadline(answers.next()).await.unwrap().unwrap().message_response;
    let Some(MessageResponse::ListServicesResponse(list)) = answer else { panic!("{answer:?}") };
    let mut names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    names.sort();
    assert_eq!(
        names,
        [
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "tidegate.gateway.v1.ModelGatewayService"
        ]
    );
}
