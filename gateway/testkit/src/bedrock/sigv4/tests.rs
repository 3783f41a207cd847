//! Signatures agree with AWS's published examples and its own signer, and no change goes unseen.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};

use super::Authorization;
use crate::bedrock::rules::{Key, Route, Rules};
use crate::clock::Clock;
use crate::state::Recorded;

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

fn published(target: &str, headers: &[(&str, &str)], signed: &str, signature: &str) {
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
         SignedHeaders={signed}, Signature={signature}"
    );
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let all = headers.iter().copied().chain([("x-amz-date", "20150830T123600Z")]);
    let headers: HeaderMap = HeaderMap::from_iter([]);
    let headers = all.fold(headers, |mut headers, (name, value)| {
        headers.append(HeaderName::try_from(name).unwrap(), HeaderValue::from_str(value).unwrap());
        headers
    });
    let request = Recorded {
        method: Method::GET,
        path: path.to_owned(),
        query: Some(query.to_owned()),
        authority: Some("example.amazonaws.com".to_owned()),
        headers,
        body: Bytes::new(),
        sent: 0,
        cancelled: false,
    };
    let authorization = Authorization::parse(&authorization).unwrap();
    assert_eq!(authorization.expected(&request, SECRET).as_deref(), Some(signature), "{target}");
}

/// The examples of AWS's published test suite.
#[test]
fn published_examples_have_their_signatures() {
    let vanilla = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";
    published("/", &[], "host;x-amz-date", vanilla);
    published("/example1/example2/../..", &[], "host;x-amz-date", vanilla);
    for (target, signature) in [
        ("//example//", "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84"),
        ("/example space/", "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741"),
        ("/ሴ", "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
        (
            "/?Param-3=Value3&Param=Value2&%E1%88%B4=Value1",
            "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac",
        ),
    ] {
        published(target, &[], "host;x-amz-date", signature);
    }
    published(
        "/",
        &[("my-header1", " value1"), ("my-header2", "\"a   b   c\"")],
        "host;my-header1;my-header2;x-amz-date",
        "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
    );
    published(
        "/",
        &[("my-header1", "value2"), ("my-header1", "value2"), ("my-header1", "value1")],
        "host;my-header1;x-amz-date",
        "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
    );
    published(
        "/",
        &[("x-amz-security-token", "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267")],
        "host;x-amz-date;x-amz-security-token",
        "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8",
    );
}

/// Signs with AWS's own signer.
fn signed(method: Method, uri: &str, headers: &[(&str, &str)], body: &'static [u8]) -> Recorded {
    let identity =
        Credentials::new("AKIDEXAMPLE", SECRET, Some("session/token+".into()), None, "test").into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region("us-west-2")
        .name("bedrock-mantle")
        .time(UNIX_EPOCH + Duration::from_secs(1_795_168_784))
        .settings(SigningSettings::default())
        .build()
        .unwrap()
        .into();
    let mut request = Request::builder().method(method).uri(uri).body(()).unwrap();
    for (name, value) in headers {
        request.headers_mut().append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
    }
    let texts = request.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap()));
    let signable =
        SignableRequest::new(request.method().as_str(), uri, texts, SignableBody::Bytes(body)).unwrap();
    let (instructions, _) = sign(signable, &parameters).unwrap().into_parts();
    instructions.apply_to_request_http1x(&mut request);
    Recorded::new(request.into_parts().0, Bytes::from_static(body))
}

fn fits(request: &Recorded) -> bool {
    let authorization = request.header("authorization").and_then(Authorization::parse);
    authorization.is_some_and(|it| it.expected(request, SECRET).as_deref() == Some(&it.signature))
}

#[test]
fn the_official_signer_agrees() {
    let host = "http://bedrock-mantle.us-west-2.api.aws";
    for target in [
        "/openai/v1/responses",
        "/openai/v1/responses/",
        "/openai/v1/models?limit=20&after=a%2Fb&b&empty=",
        "/openai/v1/models?b=2&a=1&a=0&A=3",
        "/model/arn%3Aaws%3Abedrock%2Fmodel/invoke",
        "/v1/%E1%88%B4~-_.!*'()",
    ] {
        for (headers, body) in [
            (&[][..], &b""[..]),
            (
                &[("content-type", "application/json"), ("accept", "text/event-stream")],
                "{\"a\":\"ü\"}".as_bytes(),
            ),
            (&[("x-amzn-mantle-client-agent", "codex"), ("x-twice", "a  b"), ("x-twice", "c")], b"\x00\xff"),
        ] {
            let request = signed(Method::POST, &format!("{host}{target}"), headers, body);
            assert!(fits(&request), "{target} {headers:?}");
        }
    }
}

/// Every text that differs in one letter or digit.
fn spoiled(text: &str) -> impl Iterator<Item = String> {
    text.char_indices().filter(|(_, letter)| letter.is_ascii_alphanumeric()).map(|(at, letter)| {
        let other = if letter == 'z' { "y" } else { "z" };
        format!("{}{other}{}", &text[..at], &text[at + 1..])
    })
}

#[test]
fn any_single_change_is_seen() {
    let headers = [("content-type", "application/json"), ("x-amzn-mantle-client-agent", "codex 1.0")];
    let uri = "http://127.0.0.1:8080/openai/v1/responses?limit=20&b=%2F";
    let body = br#"{"model":"openai.gpt-oss-120b","input":[]}"#;
    let good = signed(Method::POST, uri, &headers, body);
    let key = Key { secret: SECRET.to_owned(), token: Some("session/token+".to_owned()) };
    let route = Route { prefix: "/openai/v1".to_owned(), service: "bedrock-mantle".to_owned() };
    let rules = Rules {
        region: "us-west-2".to_owned(),
        clock: Clock::Fixed(1_795_168_784),
        keys: HashMap::from([("AKIDEXAMPLE".to_owned(), key)]),
        expired: HashSet::new(),
        bearers: HashSet::new(),
        routes: HashMap::from([("openai.gpt-oss-120b".to_owned(), route)]),
    };
    assert_eq!(rules.judge(&good), Ok(()));
    let mut changed = Vec::new();
    let mut change = |edit: &mut dyn FnMut(&mut Recorded)| {
        let mut request = good.clone();
        edit(&mut request);
        changed.push(request);
    };
    for method in [Method::GET, Method::PUT, Method::from_bytes(b"POSU").unwrap()] {
        change(&mut |request| request.method = method.clone());
    }
    for path in spoiled(&good.path) {
        change(&mut |request| request.path.clone_from(&path));
    }
    for query in spoiled(good.query.as_ref().unwrap()) {
        change(&mut |request| request.query = Some(query.clone()));
    }
    for host in spoiled(good.authority.as_ref().unwrap()) {
        change(&mut |request| request.authority = Some(host.clone()));
    }
    change(&mut |request| request.query = None);
    for at in 0..body.len() {
        let mut other = body.to_vec();
        other[at] ^= 1;
        change(&mut |request| request.body = Bytes::from(other.clone()));
        change(&mut |request| request.body.truncate(at));
    }
    let signed = Authorization::parse(good.header("authorization").unwrap()).unwrap().signed;
    assert_eq!(
        signed,
        ["content-type", "host", "x-amz-date", "x-amz-security-token", "x-amzn-mantle-client-agent"]
    );
    for name in signed.iter().map(String::as_str).filter(|name| *name != "host").chain(["authorization"]) {
        let name = HeaderName::try_from(name).unwrap();
        for value in spoiled(good.headers[&name].to_str().unwrap()) {
            change(&mut |request| drop(request.headers.insert(name.clone(), value.parse().unwrap())));
        }
        change(&mut |request| assert!(request.headers.append(name.clone(), "more".parse().unwrap())));
        change(&mut |request| drop(request.headers.remove(&name)));
    }
    let unnoticed: Vec<_> = changed.iter().filter(|request| rules.judge(request).is_ok()).collect();
    assert!(changed.len() > 400 && unnoticed.is_empty(), "{unnoticed:?}");
    // What is not signed may change.
    let mut request = good.clone();
    request.headers.insert("via", "1.1 proxy".parse().unwrap());
    assert_eq!(rules.judge(&request), Ok(()));
}

#[test]
fn other_forms_of_the_header_are_refused() {
    let good = "AWS4-HMAC-SHA256 Credential=A/20261120/us-west-2/bedrock/aws4_request, SignedHeaders=a;b, Signature=0";
    assert!(Authorization::parse(good).is_some());
    for (from, to) in [
        ("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1"),
        ("AWS4-HMAC-SHA256 ", "AWS4-HMAC-SHA256"),
        ("aws4_request", "aws4"),
        ("aws4_request", "aws4_request/more"),
        ("/us-west-2", ""),
        ("SignedHeaders=a;b", "SignedHeaders=b;a"),
        ("SignedHeaders=a;b", "SignedHeaders=A;b"),
        ("SignedHeaders=a;b", "SignedHeaders=a;b, SignedHeaders=a;b"),
        (", Signature=0", ""),
        (", Signature=0", ", Signature=0, More=1"),
        ("Signature=0", "Signature"),
    ] {
        assert_eq!(Authorization::parse(&good.replacen(from, to, 1)), None, "{to}");
    }
}
