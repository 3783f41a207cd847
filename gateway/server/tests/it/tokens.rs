//! `POST /v1/responses/input_tokens`: the request as it came, the provider's count as it came.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use gateway_server::ServerConfig;
use gateway_testkit::Reply;
use http::{Response, StatusCode};
use hyper::body::Incoming;
use serde_json::json;

use crate::harness::{Gate, KEY, bytes_of, json_of};

const BODY: &str =
    r#"{ "model":"scripted-1", "input":[{"type":"odd_item","x":"\u00e9"}],"tools":[], "unknown":1.0 }"#;

#[tokio::test]
async fn a_count_of_tokens_travels_untouched_in_both_directions() {
    let gate = Gate::start().await;
    for path in ["/v1/responses/input_tokens", "/responses/input_tokens"] {
        let counted = "{ \"object\": \"response.input_tokens\",\n \"input_tokens\": 11 }";
        gate.upstream
            .push(Reply::bytes(StatusCode::OK, "application/json", counted).header("x-request-id", "req_1"));
        let mut request = gate.request(BODY);
        *request.uri_mut() = format!("http://{}{path}", gate.at).parse().unwrap();
        request.headers_mut().insert("thread-id", "thread-1".parse().unwrap());
        let response = gate.send(request).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["x-request-id"], "req_1");
        assert_eq!(response.headers()["content-type"], "application/json");
        assert_eq!(bytes_of(response).await, counted);
        let seen = gate.upstream.requests().pop().unwrap();
        assert_eq!((seen.path.as_str(), &seen.body[..]), ("/v1/responses/input_tokens", BODY.as_bytes()));
        assert_eq!(seen.header("accept"), Some("application/json"));
        assert_eq!(seen.header("thread-id"), Some("thread-1"));
        assert_eq!(seen.header("authorization"), Some(format!("Bearer {KEY}").as_str()));
    }
    let refused = json!({"error": {"message": "no such model", "type": "t", "code": "c", "param": null}});
    gate.upstream.push(Reply::json(404, &refused));
    let response = count(&gate, BODY).await;
    assert_eq!(response.status(), 404);
    assert_eq!(json_of(response).await, refused);
}

#[tokio::test]
async fn nothing_is_inserted_and_who_cannot_count_is_not_asked() {
    let gate = Gate::configured(ServerConfig::default(), |base_url| {
        format!(
            "model_provider = \"openai\"\nopenai_base_url = \"{base_url}\"\n[service_tier]\ndefault = \"flex\"\n\
             [model_providers.openai]\nenv_key = \"UPSTREAM_KEY\"\n"
        )
    })
    .await;
    gate.upstream.push(Reply::json(200, &json!({"object": "response.input_tokens", "input_tokens": 3})));
    let body = r#"{"model":"gpt-6-sol","input":"hi"}"#;
    assert_eq!(count(&gate, body).await.status(), 200);
    assert_eq!(gate.upstream.requests()[0].body, body.as_bytes());

    let gate =
        Gate::configured(ServerConfig::default(), |_| "model_provider = \"rehearsal\"".to_owned()).await;
    let response = count(&gate, r#"{"model":"rehearsal","input":"hi"}"#).await;
    assert_eq!(response.status(), 400);
    assert_eq!(json_of(response).await["error"]["code"], "operation_not_offered");
}

async fn count(gate: &Gate, body: &'static str) -> Response<Incoming> {
    let mut request = gate.request(body);
    *request.uri_mut() = format!("http://{}/v1/responses/input_tokens", gate.at).parse().unwrap();
    gate.send(request).await
}
