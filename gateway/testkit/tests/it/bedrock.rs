//! The fake Bedrock takes what is signed rightly and refuses everything else with AWS's own answers.

use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use gateway_testkit::{Bedrock, Refusal, Reply};
use http::HeaderMap;
use serde_json::{Value, json};

use crate::client::{Client, within_deadline};

const NOW: u64 = 1_795_168_784;
const MODEL: &str = "openai.gpt-oss-120b";

struct Call {
    key: &'static str,
    secret: &'static str,
    token: Option<&'static str>,
    region: &'static str,
    service: &'static str,
    path: &'static str,
    model: &'static str,
    at: u64,
    headers: Vec<(&'static str, &'static str)>,
    unsigned: Vec<(&'static str, &'static str)>,
}

fn call() -> Call {
    Call {
        key: "AKIDEXAMPLE",
        secret: "secretkey",
        token: Some("sess-tok-1"),
        region: "us-west-2",
        service: "bedrock-mantle",
        path: "/v1/responses",
        model: MODEL,
        at: NOW,
        headers: vec![("content-type", "application/json")],
        unsigned: vec![("x-forwarded-for", "10.0.0.1"), ("via", "1.1 proxy"), ("user-agent", "test")],
    }
}

async fn bedrock() -> Bedrock {
    let bedrock = Bedrock::start("us-west-2").await.unwrap();
    bedrock.allow_key("AKIDEXAMPLE", "secretkey", Some("sess-tok-1"));
    bedrock.allow_bearer("opaque");
    bedrock.serve(MODEL, "/v1", "bedrock-mantle");
    bedrock.serve("global.openai.gpt-6-sol", "/openai/v1", "bedrock");
    bedrock.stop_clock(i64::try_from(NOW).unwrap());
    bedrock.upstream().set_default(Reply::json(200, &json!({"ok": true})));
    bedrock
}

/// Sends a request and gives back status, headers and body.
async fn send(bedrock: &Bedrock, path: &str, headers: &HeaderMap, body: &str) -> (u16, HeaderMap, Value) {
    let mut client = Client::connect(bedrock.upstream()).await;
    let host = bedrock.upstream().address();
    let mut head = format!("POST {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {}\r\n", value.to_str().unwrap());
    }
    client.send(&format!("{head}content-length: {}\r\n\r\n{body}", body.len())).await;
    client.read_to_end().await.unwrap();
    let end = client.received.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let head = String::from_utf8(client.received[..end].to_vec()).unwrap();
    let fields = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    let fields = fields.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
    (head[9..12].parse().unwrap(), fields.collect(), serde_json::from_slice(&client.received[end..]).unwrap())
}

/// Signs with AWS's own signer and sends.
async fn run(bedrock: &Bedrock, call: Call) -> (u16, HeaderMap, Value) {
    let identity =
        Credentials::new(call.key, call.secret, call.token.map(str::to_owned), None, "test").into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(call.region)
        .name(call.service)
        .time(UNIX_EPOCH + Duration::from_secs(call.at))
        .settings(SigningSettings::default())
        .build()
        .unwrap()
        .into();
    let body = json!({"model": call.model, "input": []}).to_string();
    let url = bedrock.url(call.path);
    let bytes = SignableBody::Bytes(body.as_bytes());
    let signable = SignableRequest::new("POST", url.as_str(), call.headers.iter().copied(), bytes).unwrap();
    let mut request = http::Request::post(&url).body(()).unwrap();
    sign(signable, &parameters).unwrap().into_parts().0.apply_to_request_http1x(&mut request);
    for (name, value) in call.headers.into_iter().chain(call.unsigned) {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    send(bedrock, call.path, request.headers(), &body).await
}

#[tokio::test]
async fn rightly_signed_requests_get_the_scripted_reply() {
    within_deadline(async {
        let bedrock = bedrock().await;
        bedrock.upstream().push(Reply::json(400, &json!({"error": {}})));
        let (status, headers, _) = run(&bedrock, call()).await;
        assert_eq!((status, &headers["date"]), (400, &"Fri, 20 Nov 2026 09:59:44 GMT".parse().unwrap()));
        assert!(headers.contains_key("x-amzn-requestid"));
        let other = Call { model: "global.openai.gpt-6-sol", path: "/openai/v1/responses", ..call() };
        assert_eq!(run(&bedrock, Call { service: "bedrock", ..other }).await.0, 200);
        for at in [NOW - 300, NOW + 300] {
            assert_eq!(run(&bedrock, Call { at, ..call() }).await.0, 200);
        }
        assert_eq!((bedrock.accepted(), bedrock.refusals()), (4, Vec::new()));
        assert_eq!(bedrock.upstream().requests().len(), 4);
    })
    .await;
}

/// What is wrong with a call, and how it is told.
fn refused_calls() -> Vec<(Call, Refusal, &'static str, &'static str)> {
    let invalid = "The security token included in the request is invalid.";
    vec![
        (Call { key: "AKIDOTHER", ..call() }, Refusal::UnknownKey, "UnrecognizedClientException", invalid),
        (Call { token: None, ..call() }, Refusal::UnknownKey, "UnrecognizedClientException", invalid),
        (Call { token: Some("old"), ..call() }, Refusal::UnknownKey, "UnrecognizedClientException", invalid),
        (
            Call { secret: "wrong", ..call() },
            Refusal::WrongSignature,
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match",
        ),
        (
            Call { at: NOW - 301, ..call() },
            Refusal::Skewed,
            "InvalidSignatureException",
            "Signature expired: 20261120T095443Z is now earlier than 20261120T095444Z (20261120T095944Z - 5 min.)",
        ),
        (
            Call { at: NOW + 301, ..call() },
            Refusal::Skewed,
            "InvalidSignatureException",
            "Signature not yet current: 20261120T100445Z is still later than 20261120T100444Z (20261120T095944Z + 5 min.)",
        ),
        (
            Call { region: "us-east-1", ..call() },
            Refusal::WrongScope,
            "InvalidSignatureException",
            "Credential should be scoped to a valid region",
        ),
        (
            Call { service: "bedrock", ..call() },
            Refusal::WrongScope,
            "InvalidSignatureException",
            "Credential should be scoped to correct service: 'bedrock-mantle'.",
        ),
        (
            Call { headers: vec![("x-forwarded-for", "10.0.0.1")], unsigned: vec![], ..call() },
            Refusal::WrongHeaders,
            "InvalidSignatureException",
            "'x-forwarded-for' is signed",
        ),
        (
            Call { headers: vec![("traceparent", "00-1-2-01")], ..call() },
            Refusal::WrongHeaders,
            "InvalidSignatureException",
            "'traceparent' is signed",
        ),
        (
            Call { unsigned: vec![("content-type", "text/plain")], ..call() },
            Refusal::WrongSignature,
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match",
        ),
        (
            Call { unsigned: vec![("x-amz-content-sha256", "UNSIGNED-PAYLOAD")], ..call() },
            Refusal::WrongHeaders,
            "InvalidSignatureException",
            "'x-amz-content-sha256' must be a 'SignedHeader'",
        ),
        (
            Call { unsigned: vec![("authorization", "Basic eA==")], ..call() },
            Refusal::Malformed,
            "IncompleteSignatureException",
            "Authorization header",
        ),
    ]
}

#[tokio::test]
async fn everything_else_is_refused_with_its_reason() {
    within_deadline(async {
        for (call, refusal, name, message) in refused_calls() {
            let bedrock = bedrock().await;
            let (status, headers, body) = run(&bedrock, call).await;
            assert_eq!((status, headers["x-amzn-errortype"].to_str().unwrap()), (403, name), "{message}");
            assert!(body["message"].as_str().unwrap().starts_with(message), "{body}");
            assert_eq!(headers["date"], "Fri, 20 Nov 2026 09:59:44 GMT");
            assert_eq!((bedrock.refused(refusal), bedrock.refusals().len()), (1, 1));
            assert_eq!((bedrock.accepted(), bedrock.upstream().requests().len()), (0, 1));
        }
    })
    .await;
}

#[tokio::test]
async fn models_are_served_on_their_own_route_only() {
    within_deadline(async {
        let bedrock = bedrock().await;
        let message = format!("model `{MODEL}` isn't supported on this route");
        for path in ["/openai/v1/responses", "/v12/responses"] {
            let (status, _, body) = run(&bedrock, Call { path, ..call() }).await;
            assert_eq!((status, &body["error"]["message"]), (404, &json!(message)), "{path}");
        }
        assert_eq!(run(&bedrock, Call { model: "unheard-of", ..call() }).await.0, 404);
        assert_eq!(bedrock.refused(Refusal::WrongRoute), 3);
    })
    .await;
}

#[tokio::test]
async fn keys_expire_and_clocks_move() {
    within_deadline(async {
        let bedrock = bedrock().await;
        bedrock.expire_key("AKIDEXAMPLE");
        let (status, headers, _) = run(&bedrock, call()).await;
        assert_eq!((status, headers["x-amzn-errortype"].to_str().unwrap()), (403, "ExpiredTokenException"));
        bedrock.allow_key("AKIDNEXT", "next", None);
        let fresh = || Call { key: "AKIDNEXT", secret: "next", token: None, ..call() };
        assert_eq!(run(&bedrock, fresh()).await.0, 200);

        bedrock.shift_clock(3_600);
        bedrock.name_skew("RequestTimeTooSkewed");
        let (status, headers, _) = run(&bedrock, fresh()).await;
        assert_eq!((status, headers["x-amzn-errortype"].to_str().unwrap()), (403, "RequestTimeTooSkewed"));
        assert_eq!((bedrock.refused(Refusal::Expired), bedrock.refused(Refusal::Skewed)), (1, 1));
    })
    .await;
}

#[tokio::test]
async fn bearer_tokens_are_known_or_not() {
    within_deadline(async {
        let bedrock = bedrock().await;
        let body = json!({"model": MODEL}).to_string();
        let with = |token: &str| {
            let value = format!("Bearer {token}").parse().unwrap();
            HeaderMap::from_iter([(http::header::AUTHORIZATION, value)])
        };
        assert_eq!(send(&bedrock, "/v1/responses", &with("opaque"), &body).await.0, 200);
        bedrock.revoke_bearer("opaque");
        let (status, _, answer) = send(&bedrock, "/v1/responses", &with("opaque"), &body).await;
        assert_eq!((status, &answer["error"]["message"]), (401, &json!("Invalid bearer token")));
        let (status, headers, _) = send(&bedrock, "/v1/responses", &HeaderMap::new(), &body).await;
        assert_eq!(
            (status, headers["x-amzn-errortype"].to_str().unwrap()),
            (403, "MissingAuthenticationTokenException")
        );
        assert_eq!((bedrock.refused(Refusal::WrongBearer), bedrock.refused(Refusal::Unsigned)), (1, 1));
    })
    .await;
}
