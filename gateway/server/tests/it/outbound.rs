//! What a provider gets beside the caller's bytes, and what the caller hears of the provider.

use std::time::Duration;

use bytes::Bytes;
use gateway_server::ServerConfig;
use gateway_testkit::{Reply, text_turn};
use serde_json::{Value, json};
use test_clock::paused;
use tidegate_proto::gateway::v1::{
    AccountKind, AttestationAnswer, AttestationProblem, Operation, ResponseStart, WatchRateLimitsRequest,
    attestation_answer, respond_request::Message, respond_response::Message as Answer,
};
use tidegate_responses::sse;
use tokio_stream::StreamExt as _;

use crate::{
    harness::{Gate, KEY, bytes_of, deadline, json_of, usage},
    stream::Stream,
};

const CALL: &str = r#"{"model":"gpt-6-sol","stream":true,"input":"hi"}"#;

/// OpenAI with a ChatGPT account that the gateway holds, beside a custom provider `corp` with an alias.
async fn gate() -> Gate {
    Gate::configured(ServerConfig::default(), |base_url| {
        format!(
            r#"
            model_provider = "openai"
            [model_providers.openai]
            base_url = "{base_url}"
            env_key = "UPSTREAM_KEY"
            supports_websockets = false
            http_headers = {{ chatgpt-account-id = "acc-1" }}
            [model_providers.corp]
            base_url = "{base_url}/corp"
            env_key = "UPSTREAM_KEY"
            models = ["corp-large"]
            redact_workspaces = true
            [model_providers.own]
            base_url = "{base_url}/own"
            pass_through = true
            models = ["own-1"]
            [model_providers.open]
            base_url = "{base_url}/open"
            models = ["open-1"]
            [model_aliases.gpt-6-astra]
            provider = "corp"
            model = "corp-large"
            [service_tier]
            default = "flex"
            tenants = {{ local = "fast" }}
            "#
        )
    })
    .await
}

fn turn() -> Vec<Bytes> {
    text_turn(&["fine"], usage())
}

#[test]
fn the_caller_is_asked_for_an_attestation_where_the_route_wants_one() {
    paused(async {
        let token = |token: &str| Some(attestation_answer::Answer::Token(token.to_owned()));
        let problem = |problem: AttestationProblem| Some(attestation_answer::Answer::Problem(problem.into()));
        let gate = gate().await;
        let mut stream = Stream::open(&gate).await;
        for (answer, header) in [
            (token("v1.tok"), r#"{"v":1,"s":0,"t":"v1.tok"}"#),
            (problem(AttestationProblem::RequestFailed), r#"{"v":1,"s":2}"#),
            (problem(AttestationProblem::Malformed), r#"{"v":1,"s":4}"#),
            (None, r#"{"v":1,"s":4}"#),
        ] {
            gate.upstream.push(Reply::sse(turn()));
            stream.start(ResponseStart { can_attest: true, ..Default::default() }, CALL, 1000).await;
            let Answer::AttestationRequest(question) = stream.next().await else { panic!("no question") };
            // The answer to another question does not count.
            let id = question.id;
            let stale = AttestationAnswer { id: id + 7, answer: token("stale") };
            stream.message(Message::AttestationAnswer(stale)).await;
            stream.message(Message::AttestationAnswer(AttestationAnswer { id, answer })).await;
            stream.response().await;
            assert_eq!(gate.upstream.requests().last().unwrap().header("x-oai-attestation"), Some(header));
        }
        // A caller that says nothing costs its time limit and no more. The clock stands still while anybody has
        // something to do, so that a slow machine makes it no longer.
        gate.upstream.push(Reply::sse(turn()));
        let began = tokio::time::Instant::now();
        stream.start(ResponseStart { can_attest: true, ..Default::default() }, CALL, 1000).await;
        assert!(matches!(stream.next().await, Answer::AttestationRequest(_)));
        let asked = tokio::time::Instant::now();
        stream.response().await;
        assert!(began.elapsed() >= Duration::from_millis(250), "the answer was not waited for");
        assert!(asked.elapsed() <= Duration::from_millis(255), "{:?}", asked.elapsed());
        assert_eq!(
            gate.upstream.requests().last().unwrap().header("x-oai-attestation"),
            Some(r#"{"v":1,"s":1}"#)
        );
        // A late answer is of no further meaning.
        let late = AttestationAnswer { id: 5, answer: token("late") };
        stream.message(Message::AttestationAnswer(late)).await;
        // A caller that cannot answer is not asked, and the provider is told nothing.
        gate.upstream.push(Reply::sse(turn()));
        stream.call(CALL, 1000).await;
        assert!(matches!(stream.response().await.first(), Some(Answer::Head(_))));
        assert_eq!(gate.upstream.requests().last().unwrap().header("x-oai-attestation"), None);
        // A route that is not in scope asks for nothing.
        gate.upstream.push(Reply::sse(turn()));
        let start = ResponseStart { can_attest: true, ..Default::default() };
        stream.start(start, r#"{"model":"corp-large","stream":true}"#, 1000).await;
        assert!(matches!(stream.response().await.first(), Some(Answer::Head(_))));
        assert_eq!(gate.upstream.requests().last().unwrap().header("x-oai-attestation"), None);
    })
    .unwrap();
}

#[tokio::test]
async fn a_caller_s_own_attestation_passes_only_where_the_route_wants_one() {
    let gate = gate().await;
    for (path, body, seen) in [
        ("/v1/responses", CALL, Some("mine")),
        ("/v1/responses/compact", CALL, Some("mine")),
        ("/v1/responses", r#"{"model":"corp-large","stream":true}"#, None),
        // A ChatGPT account, but not before OpenAI.
        ("/v1/responses", r#"{"model":"own-1","stream":true}"#, None),
    ] {
        gate.upstream.push(Reply::sse(turn()));
        let mut request = gate.request(body);
        *request.uri_mut() = format!("http://{}{path}", gate.at).parse().unwrap();
        request.headers_mut().insert("x-oai-attestation", "mine".parse().unwrap());
        request.headers_mut().insert("chatgpt-account-id", "acc-of-the-caller".parse().unwrap());
        bytes_of(gate.send(request).await).await;
        let told = gate.upstream.requests().pop().unwrap();
        assert_eq!(told.header("x-oai-attestation"), seen, "{path} {body}");
    }
}

#[tokio::test]
async fn a_compaction_travels_over_both_surfaces_with_nothing_inserted() {
    let gate = gate().await;
    let body = r#"{"model":"gpt-6-sol","input":[{"type":"message","role":"user","content":"hi"}]}"#;
    let compacted = json!({"id": "resp_c", "object": "response.compaction", "output": [{"type": "compaction"}],
        "usage": {"input_tokens": 11, "output_tokens": 7, "total_tokens": 18}});
    gate.upstream.push(Reply::json(200, &compacted));
    let mut request = gate.request(body);
    *request.uri_mut() = format!("http://{}/v1/responses/compact", gate.at).parse().unwrap();
    assert_eq!(json_of(gate.send(request).await).await, compacted);

    gate.upstream.push(Reply::json(200, &compacted));
    let mut stream = Stream::open(&gate).await;
    let start = ResponseStart { operation: Operation::Compact.into(), ..Default::default() };
    stream.start(start, body, 10).await;
    let answers = stream.response().await;
    let document: Vec<u8> = answers
        .iter()
        .filter_map(
            |answer| if let Answer::DocumentChunk(chunk) = answer { Some(&chunk.data[..]) } else { None },
        )
        .flatten()
        .copied()
        .collect();
    assert_eq!(serde_json::from_slice::<Value>(&document).unwrap(), compacted);
    let Some(Answer::Completed(completed)) = answers.last() else { panic!("{answers:?}") };
    assert_eq!(completed.usage.unwrap().input_tokens, 11);
    let seen = gate.upstream.requests();
    assert_eq!(seen.len(), 2);
    for request in seen {
        assert_eq!((request.path.as_str(), &request.body[..]), ("/v1/responses/compact", body.as_bytes()));
        assert_eq!(request.header("accept"), Some("application/json"));
    }
    // The other form is a response like any other.
    gate.upstream.push(Reply::sse(turn()));
    let trigger = r#"{"model":"gpt-6-sol","stream":true,"service_tier":"default","input":[{"type":"compaction_trigger"}]}"#;
    bytes_of(gate.post(trigger).await).await;
    assert_eq!(gate.upstream.requests()[2].json()["input"], json!([{"type": "compaction_trigger"}]));
}

#[tokio::test]
async fn the_tier_is_the_caller_s_choice_or_else_the_tenant_s() {
    let gate = gate().await;
    for (chosen, sent, told) in [
        ("", json!("priority"), "priority"),
        (r#","service_tier":"flex""#, json!("flex"), "flex"),
        (r#","service_tier":"fast""#, json!("priority"), "priority"),
        (r#","service_tier":null"#, Value::Null, ""),
        (r#","service_tier":"standard""#, Value::Null, "default"),
    ] {
        gate.upstream.push(Reply::sse(turn()));
        let mut stream = Stream::open(&gate).await;
        stream.call(&format!(r#"{{"model":"gpt-6-sol","stream":true{chosen}}}"#), 1000).await;
        let answers = stream.response().await;
        let Some(Answer::Head(head)) = answers.first() else { panic!("{answers:?}") };
        assert_eq!(head.service_tier, told, "{chosen}");
        assert_eq!(head.account_kind(), AccountKind::Chatgpt);
        let seen = gate.upstream.requests().pop().unwrap().json();
        assert_eq!(seen["service_tier"], sent, "{chosen}");
        assert_eq!(seen.get("service_tier").is_some(), !sent.is_null(), "{chosen}");
    }
}

#[tokio::test]
async fn a_model_that_is_served_elsewhere_keeps_its_name_for_the_caller() {
    let gate = gate().await;
    let metadata = br#"{"type":"response.metadata","headers":{"openai-model":"corp-large-2"}}"#;
    let mut frames = turn();
    frames.insert(1, sse::encode("response.metadata", metadata));
    gate.upstream.push(Reply::sse(frames.clone()).header("openai-model", "corp-large-2").chunks(&[7]));
    let call = r#"{"model":"gpt-6-astra","stream":true}"#;
    let response = gate.post(call).await;
    assert_eq!(response.headers()["openai-model"], "gpt-6-astra");
    assert_eq!(response.headers()["x-tidegate-model"], "corp-large");
    assert_eq!(response.headers()["x-tidegate-provider"], "corp");
    let expected: Vec<Bytes> = frames
        .iter()
        .map(|frame| String::from_utf8_lossy(frame).replace("corp-large-2", "gpt-6-astra").into())
        .collect();
    assert_eq!(bytes_of(response).await, expected.concat());
    assert_eq!(gate.upstream.requests()[0].json()["model"], "corp-large");
    // Agents are told the same, and so is a caller that asked for the model by its provider's name.
    for (call, told) in [(call, "gpt-6-astra"), (r#"{"model":"corp-large","stream":true}"#, "corp-large")] {
        gate.upstream.push(Reply::sse(frames.clone()).header("openai-model", "corp-large-2"));
        let mut stream = Stream::open(&gate).await;
        stream.call(call, 1000).await;
        let answers = format!("{:?}", stream.response().await);
        assert!(answers.contains(&format!(r#"name: "openai-model", value: "{told}""#)), "{answers}");
        assert!(!answers.contains("corp-large-2"), "{answers}");
    }
    // What OpenAI says of its own model is the truth and passes.
    gate.upstream.push(Reply::sse(frames.clone()).header("openai-model", "gpt-6-luna"));
    let response = gate.post(CALL).await;
    assert_eq!(response.headers()["openai-model"], "gpt-6-luna");
    assert_eq!(bytes_of(response).await, frames.concat());
}

#[tokio::test]
async fn a_provider_that_is_not_openai_sees_no_first_party_fields_and_no_local_paths() {
    let gate = gate().await;
    gate.upstream.push(Reply::sse(turn()));
    let turn_metadata = r#"{"turn_id":"t","workspaces":{"/home/me/secret-project":{"has_changes":true}}}"#;
    let body = json!({
        "model": "corp-large", "stream": true,
        "input": [{"type": "message", "id": "msg_1", "metadata": {"a": 1}, "content": "hi"},
            {"type": "odd", "internal_chat_message_metadata_passthrough": {"turn_id": "t"}}],
        "client_metadata": {"thread_id": "t1", "mcp_attribution": "x", "x-codex-turn-metadata": turn_metadata},
    });
    let mut request = gate.request(body.to_string());
    request.headers_mut().insert("x-codex-turn-metadata", turn_metadata.parse().unwrap());
    request.headers_mut().insert("x-codex-routing-hint", "model=x".parse().unwrap());
    bytes_of(gate.send(request).await).await;
    let seen = gate.upstream.requests().pop().unwrap();
    let text = String::from_utf8_lossy(&seen.body).into_owned() + &format!("{:?}", seen.headers);
    for gone in ["secret-project", "internal_chat", "mcp_attribution", "\"metadata\"", "routing-hint"] {
        assert!(!text.contains(gone), "{gone} in {text}");
    }
    assert_eq!(seen.json()["input"][0]["id"], "msg_1");
    assert_eq!(seen.json().get("service_tier"), None, "only OpenAI is known to have tiers");
    assert_eq!(seen.json()["client_metadata"]["thread_id"], "t1");
}

#[tokio::test]
async fn a_provider_that_takes_the_caller_s_credential_gets_it_and_no_other_does() {
    let gate = gate().await;
    let own = |model: &str| {
        let mut request = gate.request(format!(r#"{{"model":"{model}","stream":true}}"#));
        request.headers_mut().insert("chatgpt-account-id", "acc-of-the-caller".parse().unwrap());
        request
    };
    for (model, authorization, account) in [
        ("own-1", Some("Bearer sk-of-the-caller".to_owned()), Some("acc-of-the-caller")),
        ("corp-large", Some(format!("Bearer {KEY}")), None),
        ("gpt-6-sol", Some(format!("Bearer {KEY}")), Some("acc-1")),
        ("open-1", None, None),
    ] {
        gate.upstream.push(Reply::sse(turn()));
        bytes_of(gate.send(own(model)).await).await;
        let seen = gate.upstream.requests().pop().unwrap();
        assert_eq!(seen.header("authorization"), authorization.as_deref(), "{model}");
        assert_eq!(seen.header("chatgpt-account-id"), account, "{model}");
    }
    let mut without = own("own-1");
    without.headers_mut().remove("authorization");
    let response = gate.send(without).await;
    assert_eq!(response.status(), 401);
    assert_eq!(json_of(response).await["error"]["code"], "caller_credential_missing");
}

#[tokio::test]
async fn too_many_requests_always_tell_whole_seconds() {
    let gate = Gate::start().await;
    let error = |message: &str| json!({"error": {"message": message, "code": "rate_limit_exceeded"}});
    for (headers, message, told) in [
        (vec![("retry-after", "7")], "slow down", Some("7")),
        (vec![("retry-after", "1.5")], "slow down", Some("2")),
        (vec![("retry-after-ms", "300")], "slow down", Some("1")),
        (vec![("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "2m1s")], "", Some("121")),
        (vec![], "Rate limit reached. Please try again in 3.2s.", Some("4")),
        (vec![], "no idea when", None),
    ] {
        let reply = headers
            .iter()
            .fold(Reply::json(429, &error(message)), |reply, (name, value)| reply.header(name, value));
        gate.upstream.push(reply);
        let response = gate.post(r#"{"model":"scripted-1","stream":true}"#).await;
        assert_eq!(response.status(), 429);
        let seen = response.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(seen.as_deref(), told, "{headers:?} {message}");
        assert_eq!(json_of(response).await, error(message), "the body is the provider's");
    }
}

#[tokio::test]
async fn usage_limits_can_be_watched() {
    let gate = gate().await;
    let mut client = gate.grpc().await;
    let all = WatchRateLimitsRequest::default();
    let mut watch = deadline(client.watch_rate_limits(all)).await.unwrap().into_inner();
    let other = WatchRateLimitsRequest { provider: "corp".to_owned() };
    let mut corp = deadline(client.watch_rate_limits(other)).await.unwrap().into_inner();
    for used in ["12", "12", "55.5"] {
        let reply = Reply::sse(turn()).header("x-codex-primary-used-percent", used);
        gate.upstream.push(reply.header("x-codex-primary-window-minutes", "300"));
        bytes_of(gate.post(CALL).await).await;
    }
    let first = deadline(watch.next()).await.unwrap().unwrap();
    assert_eq!(first.provider, "openai");
    let mut last = first;
    while last.rate_limits[0].primary.unwrap().used_percent < 55.0 {
        last = deadline(watch.next()).await.unwrap().unwrap();
    }
    assert_eq!(last.rate_limits[0].primary.unwrap().window_minutes, 300);
    // What a caller's own account is told concerns nobody else.
    gate.upstream.push(Reply::sse(turn()).header("x-codex-primary-used-percent", "99"));
    bytes_of(gate.post(r#"{"model":"own-1","stream":true}"#).await).await;
    gate.upstream.push(Reply::sse(turn()).header("x-codex-primary-used-percent", "3"));
    bytes_of(gate.post(r#"{"model":"corp-large","stream":true}"#).await).await;
    let seen = deadline(corp.next()).await.unwrap().unwrap();
    assert_eq!((seen.provider.as_str(), seen.rate_limits[0].primary.unwrap().used_percent), ("corp", 3.0));
    let next = deadline(watch.next()).await.unwrap().unwrap();
    assert_eq!(next.provider, "corp");
}

#[tokio::test]
async fn a_list_of_models_is_announced_with_the_gateway_s_own_tag() {
    let gate = Gate::configured(ServerConfig::default(), |base_url| {
        format!("model_provider = \"up\"\n[model_providers.up]\nbase_url = \"{base_url}\"\n")
    })
    .await;
    let call = async |etag: &str| {
        gate.upstream.push(Reply::sse(turn()).header("x-models-etag", etag));
        let response = gate.post(CALL).await;
        let seen = response.headers().get("x-models-etag").map(|tag| tag.to_str().unwrap().to_owned());
        bytes_of(response).await;
        seen
    };
    let list = async || {
        let response = gate.get("/v1/models?client_version=0.169.0").await;
        response.headers()["etag"].to_str().unwrap().to_owned()
    };
    assert_eq!(call("\"one\"").await, None, "there is no list yet");
    let tag = list().await;
    assert_eq!(call("\"one\"").await, Some(tag), "the tag of the list that Codex would get here");
}

#[tokio::test]
async fn an_http_caller_s_call_is_repeated_once_at_most_and_an_agent_s_as_configured() {
    let gate = Gate::configured(ServerConfig::default(), |base_url| {
        format!(
            "model_provider = \"scripted\"\n[model_providers.scripted]\nbase_url = \"{base_url}\"\n\
             request_max_retries = 3\nmodels = [\"scripted-1\"]\n"
        )
    })
    .await;
    gate.upstream.set_default(Reply::json(503, &json!({"error": {"message": "busy"}})));
    let call = r#"{"model":"scripted-1","stream":true}"#;
    assert_eq!(gate.post(call).await.status(), 503);
    assert_eq!(gate.upstream.requests().len(), 2);
    let stream = Stream::open(&gate);
    let opened = async {
        let mut stream = stream.await;
        stream.call(call, 1000).await;
        deadline(stream.events.next()).await.unwrap().unwrap_err()
    };
    let status = opened.await;
    assert_eq!(tidegate_proto::failure_of(&status).reason, "upstream_overloaded");
    assert_eq!(gate.upstream.requests().len(), 2 + 4);
}
