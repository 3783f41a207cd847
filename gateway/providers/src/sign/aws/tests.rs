//! What is signed, by which clock, and that botocore signs the same.

use std::time::UNIX_EPOCH;

use bytes::Bytes;
use http::{Method, Uri};

use super::*;
use crate::provider::Endpoint;
use crate::sign::Payload;

const ID: &str = "AKIDEXAMPLE";
const KEY: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const URI: &str = "https://bedrock-mantle.us-west-2.api.aws/openai/v1/responses";

fn credentials(session: Option<&str>) -> Credentials {
    Credentials::new(ID, KEY, session.map(str::to_owned), None, "test")
}

fn sign(headers: &mut HeaderMap, uri: &'static str, session: Option<&str>) -> Result<(), SignError> {
    let endpoint = Endpoint { uri: Uri::from_static(uri), service: Some("bedrock-mantle".into()) };
    let payload = Payload::new(Bytes::from_static(b"{\"model\":\"m\"}"));
    let subject = Subject { method: &Method::POST, endpoint: &endpoint, payload: &payload };
    let time = UNIX_EPOCH + Duration::from_secs(1_795_168_784);
    Signer::new("us-west-2").sign_at(time, headers, &subject, &credentials(session))
}

fn authorization(headers: &HeaderMap) -> String {
    headers["authorization"].to_str().unwrap().to_owned()
}

#[test]
fn only_headers_of_the_list_are_signed_and_others_cannot_break_it() {
    let mut plain = HeaderMap::new();
    plain.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    plain.insert("x-amzn-mantle-client-agent", HeaderValue::from_static("codex"));
    let mut loaded = plain.clone();
    for name in [
        "accept",
        "session_id",
        "session-id",
        "traceparent",
        "user-agent",
        "via",
        "x-amzn-trace-id",
        "x-codex-turn-metadata",
        "x-forwarded-for",
    ] {
        loaded.insert(name, HeaderValue::from_static("anything"));
    }
    sign(&mut plain, URI, Some("session")).unwrap();
    sign(&mut loaded, URI, Some("session")).unwrap();
    assert_eq!(authorization(&plain), authorization(&loaded));
    let names = "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amzn-mantle-client-agent,";
    assert!(authorization(&plain).contains(names), "{}", authorization(&plain));
    assert_eq!(plain["x-amz-date"], "20261120T095944Z");
    assert!(!plain.contains_key("x-amz-content-sha256"));
    assert!(plain["authorization"].is_sensitive() && plain["x-amz-security-token"].is_sensitive());
}

#[test]
fn a_second_attempt_leaves_nothing_of_the_first() {
    let mut headers = HeaderMap::new();
    headers.insert("x-amz-content-sha256", HeaderValue::from_static("of-a-caller"));
    sign(&mut headers, URI, Some("old")).unwrap();
    assert!(!headers.contains_key("x-amz-content-sha256"));
    sign(&mut headers, URI, None).unwrap();
    assert!(!headers.contains_key("x-amz-security-token"));
    assert!(!authorization(&headers).contains("security-token"));
}

#[test]
fn the_host_is_signed_with_its_port() {
    let mut signatures = std::collections::BTreeSet::new();
    for uri in ["http://127.0.0.1:9101/v1/responses", "http://127.0.0.1/v1/responses"] {
        let mut headers = HeaderMap::new();
        sign(&mut headers, uri, None).unwrap();
        signatures.insert(authorization(&headers));
    }
    assert_eq!(signatures.len(), 2);
}

#[test]
fn white_space_in_signed_values_is_single() {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(" application/json;  \tcharset=utf-8 "));
    headers.insert("x-other", HeaderValue::from_static("as  it   is"));
    sign(&mut headers, URI, None).unwrap();
    assert_eq!(headers["content-type"], "application/json; charset=utf-8");
    assert_eq!(headers["x-other"], "as  it   is");
}

#[test]
fn what_cannot_be_signed_is_told() {
    let mut headers = HeaderMap::new();
    headers.insert("x-amz-note", HeaderValue::from_bytes(b"\xff").unwrap());
    assert!(matches!(sign(&mut headers, URI, None), Err(SignError::Header { .. })));
}

#[test]
fn a_clock_is_followed_once_and_in_both_directions() {
    for ahead in [3600_i64, -3600] {
        let signer = Signer::new("us-west-2");
        let date = |ahead: i64| {
            let now = DateTime::from(SystemTime::now()).secs();
            let text = DateTime::from_secs(now + ahead).fmt(Format::HttpDate).unwrap();
            HeaderMap::from_iter([(DATE, HeaderValue::from_str(&text).unwrap())])
        };
        assert!(!signer.follow(&HeaderMap::new()));
        assert!(!signer.follow(&date(2)), "a clock that is right is not why");
        assert!(signer.follow(&date(ahead)));
        assert!(!signer.follow(&date(ahead)), "the same again changes nothing");
        let moved = DateTime::from(signer.now()).secs() - DateTime::from(SystemTime::now()).secs();
        assert!((moved - ahead).abs() <= 2, "{moved}");
    }
}

/// What botocore 1.44.5 signs, made by `services/e2e/clients/botocore_sign.py`.
#[derive(serde::Deserialize)]
struct Vector {
    method: String,
    url: String,
    headers: Vec<(String, String)>,
    body: String,
    access_key: String,
    secret_key: String,
    session_token: Option<String>,
    region: String,
    service: String,
    date: String,
    authorization: String,
}

#[test]
fn botocore_signs_the_same() {
    let vectors: Vec<Vector> = serde_json::from_str(include_str!("vectors.json")).unwrap();
    assert!(vectors.len() > 20);
    for vector in vectors {
        let mut headers = HeaderMap::new();
        for (name, value) in &vector.headers {
            headers.insert(HeaderName::try_from(name).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let endpoint = Endpoint { uri: vector.url.parse().unwrap(), service: Some(vector.service.into()) };
        let payload = Payload::new(vector.body.into());
        let method = vector.method.parse().unwrap();
        let subject = Subject { method: &method, endpoint: &endpoint, payload: &payload };
        let credentials =
            Credentials::new(vector.access_key, vector.secret_key, vector.session_token, None, "test");
        let time = extended(&vector.date);
        Signer::new(&vector.region).sign_at(time, &mut headers, &subject, &credentials).unwrap();
        assert_eq!(authorization(&headers), vector.authorization, "{}", vector.url);
        assert_eq!(headers["x-amz-date"], vector.date);
    }
}

/// The time of an `x-amz-date`.
fn extended(date: &str) -> SystemTime {
    let (day, clock) = date.split_once('T').unwrap();
    let text = format!(
        "{}-{}-{}T{}:{}:{}",
        &day[..4],
        &day[4..6],
        &day[6..],
        &clock[..2],
        &clock[2..4],
        &clock[4..]
    );
    DateTime::from_str(&text, Format::DateTime).unwrap().try_into().unwrap()
}
