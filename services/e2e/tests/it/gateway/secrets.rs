//! The provider's key leaves gatewayd towards the provider and nowhere else, and what people say is not logged.

use gateway_testkit::{Reply, Upstream};
use serde_json::json;
use service_e2e::http;
use service_e2e::stack::{self, CALLER_KEY, Gateway, MODEL, STOP_TIME_MAX, UPSTREAM_KEY};

const SAID: &str = "canary-of-the-prompt-0b61";
const ANSWERED: &str = "canary-of-the-answer-90fe";

#[tokio::test]
async fn the_key_and_the_content_stay_where_they_belong() -> anyhow::Result<()> {
    let upstream = Upstream::start().await?;
    let config = format!(
        "{}\n[model_providers.gone]\nbase_url = \"http://127.0.0.1:9/v1\"\nenv_key = \"E2E_UPSTREAM_KEY\"\n\
         request_max_retries = 0\nmodels = [\"gone-1\"]\n\n[log]\nlevel = \"trace\"\n",
        stack::provider(&upstream)
    );
    let mut gateway = Gateway::start(&config).await?;
    let call = |model: &str| {
        let body = json!({"model": model, "stream": true, "input": SAID}).to_string();
        let headers = format!("authorization: Bearer {CALLER_KEY}\r\n");
        http::post(gateway.at, "/v1/responses", &headers, body.as_bytes())
    };
    let mut answers = Vec::new();
    upstream.push(stack::says("resp_fine", &[ANSWERED]));
    answers.push(http::send(gateway.at, &call(MODEL)).await?);
    assert!(answers[0].text.contains(ANSWERED));
    let refusal = json!({"error": {"message": "incorrect API key", "code": "invalid_api_key"}});
    upstream.push(Reply::json(401, &refusal));
    answers.push(http::send(gateway.at, &call(MODEL)).await?);
    upstream.push(Reply::reset());
    answers.push(http::send(gateway.at, &call(MODEL)).await?);
    upstream.push(stack::says("resp_cut", &[ANSWERED]).reset_after(300));
    answers.push(http::send(gateway.at, &call(MODEL)).await?);
    for model in ["gone-1", "nobody-s"] {
        answers.push(http::send(gateway.at, &call(model)).await?);
    }
    for path in ["/metrics", "/readyz", "/v1/models"] {
        answers.push(http::get(gateway.at, path).await?);
    }
    assert_eq!(upstream.requests().len(), 4);
    for asked in upstream.requests() {
        assert_eq!(asked.header("authorization"), Some(format!("Bearer {UPSTREAM_KEY}").as_str()));
        assert!(!format!("{asked:?}").contains(CALLER_KEY));
    }
    for answer in &answers {
        for secret in [UPSTREAM_KEY, CALLER_KEY] {
            assert!(!answer.text.contains(secret), "{answer:?}");
        }
    }
    let metrics = &answers[answers.len() - 3].text;
    assert!(metrics.contains("gen_ai_client_token_usage"), "{metrics}");
    assert!(!metrics.contains(SAID) && !metrics.contains(ANSWERED));

    gateway.service.signal(rustix::process::Signal::TERM)?;
    gateway.service.ended(STOP_TIME_MAX).await?;
    let log = gateway.service.output();
    // The log did tell of these calls.
    assert!(log.contains("upstream_unreachable") || log.contains("gone"), "{log}");
    for secret in [UPSTREAM_KEY, CALLER_KEY, SAID, ANSWERED] {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret} was logged");
    }
    Ok(())
}
