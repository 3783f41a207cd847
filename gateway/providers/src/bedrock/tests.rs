//! The two providers as facts: what is served where, and what it takes.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::*;

fn provider(kind: Kind, base: &str) -> Bedrock {
    let served = served(&BTreeMap::new(), &mut Vec::new());
    Bedrock::new(kind, &Url::parse(base).unwrap(), &served, String::new()).unwrap()
}

#[test]
fn each_model_has_its_own_route() {
    let cases = [
        (
            Kind::Mantle,
            "us-east-2",
            "openai.gpt-oss-20b",
            "https://bedrock-mantle.us-east-2.api.aws/v1/responses",
            "bedrock-mantle",
        ),
        (
            Kind::Mantle,
            "eu-west-1",
            "openai.gpt-6.1-sol",
            "https://bedrock-mantle.eu-west-1.api.aws/openai/v1/responses",
            "bedrock-mantle",
        ),
        (
            Kind::Runtime,
            "us-west-2",
            "us.openai.gpt-6-luna",
            "https://bedrock-runtime.us-west-2.amazonaws.com/openai/v1/responses",
            "bedrock",
        ),
    ];
    for (kind, region, model, uri, service) in cases {
        let endpoint = provider(kind, &kind.origin(region)).endpoint(Operation::Responses, model).unwrap();
        assert_eq!((endpoint.uri.to_string().as_str(), endpoint.service.as_deref()), (uri, Some(service)));
    }
}

#[test]
fn a_model_is_served_where_it_is_and_only_for_responses() {
    let mantle = provider(Kind::Mantle, "http://127.0.0.1:9");
    for (operation, model) in [
        (Operation::Responses, "us.openai.gpt-6-luna"),
        (Operation::Responses, "openai.gpt-oss-20b-1:0"),
        (Operation::Compact, "openai.gpt-6-luna"),
        (Operation::Models, ""),
    ] {
        assert!(mantle.endpoint(operation, model).is_none(), "{model}");
    }
    assert_eq!(mantle.models().first().unwrap().slug, "openai.gpt-6.1-sol");
}

#[test]
fn an_address_with_a_path_has_it_for_all_models() {
    for (base, first, second) in [
        ("http://127.0.0.1:9", "http://127.0.0.1:9/v1/responses", "http://127.0.0.1:9/openai/v1/responses"),
        ("http://127.0.0.1:9/", "http://127.0.0.1:9/v1/responses", "http://127.0.0.1:9/openai/v1/responses"),
        ("https://front/aws/v1/", "https://front/aws/v1/responses", "https://front/aws/v1/responses"),
    ] {
        let mantle = provider(Kind::Mantle, base);
        let uri = |model| mantle.endpoint(Operation::Responses, model).unwrap().uri.to_string();
        assert_eq!(
            (uri("openai.gpt-oss-20b"), uri("openai.gpt-6-sol")),
            (first.to_owned(), second.to_owned())
        );
    }
}

#[test]
fn first_party_fields_stay_behind() {
    let body = r#"{"model":"openai.gpt-6-sol","input":[{"type":"message","metadata":{"a":1},"id":"msg_1"}]}"#;
    let request = Request::scan(Bytes::from_static(body.as_bytes())).unwrap();
    let edited = provider(Kind::Mantle, "http://127.0.0.1:9").edits(&request).apply(request.body());
    assert_eq!(edited, r#"{"model":"openai.gpt-6-sol","input":[{"type":"message","id":"msg_1"}]}"#);
}
