//! Error bodies as providers write them and as we write them.

use super::*;
use crate::event::{Status, Terminal};
use crate::sse::{self, Framer, Kind};

#[test]
fn a_built_body_reads_back() {
    let body =
        ErrorBody::new("invalid_request_error", "model_not_found", "no \"such\" model").with_param("model");
    assert_eq!(
        body.to_bytes(),
        r#"{"error":{"message":"no \"such\" model","type":"invalid_request_error","code":"model_not_found","param":"model"}}"#
    );
    assert_eq!(ErrorBody::parse(&body.to_bytes()), Some(body));
}

#[test]
fn bodies_of_other_servers_are_understood() {
    let message = |text: &str| Some(ErrorBody { message: text.into(), kind: None, code: None, param: None });
    assert_eq!(ErrorBody::parse(br#"{"message":"denied"}"#), message("denied"));
    assert_eq!(ErrorBody::parse(br#"{"Message":"denied"}"#), message("denied"));
    assert_eq!(ErrorBody::parse(br#"{"detail":"Unauthorized"}"#), message("Unauthorized"));
    assert_eq!(
        ErrorBody::parse(br#"{"error":{"message":"m","code":429}}"#).unwrap().code.as_deref(),
        Some("429")
    );
    let limit =
        ErrorBody::parse(br#"{"error":{"type":"usage_limit_reached","plan_type":"pro","resets_at":1}}"#)
            .unwrap();
    assert_eq!((limit.kind.as_deref(), limit.message.as_str()), (Some("usage_limit_reached"), ""));
    for body in ["", "<html>", "{}", r#"{"error":{}}"#, r#"{"error":"text"}"#, "[]", "null"] {
        assert_eq!(ErrorBody::parse(body.as_bytes()), None, "{body}");
    }
}

#[test]
fn a_failed_event_is_one_terminal_event() {
    let mut framer = Framer::new(1024);
    let blocks = framer
        .push(sse::encode(
            "response.failed",
            &failed_event("resp_1", 7, "server_is_overloaded", "line\n\"two\""),
        ))
        .unwrap();
    assert_eq!((blocks.len(), framer.pending()), (1, 0));
    let frames: Vec<_> = blocks[0].frames().collect();
    assert_eq!(frames.len(), 1);
    assert_eq!((frames[0].kind(), frames[0].event()), (Kind::Failed, Some(b"response.failed".as_slice())));
    let terminal = Terminal::parse(Kind::Failed, &frames[0].data()).unwrap();
    let error = terminal.error.unwrap();
    assert_eq!((terminal.response_id.as_deref(), terminal.status), (Some("resp_1"), Status::Failed));
    assert_eq!(
        (error.code.as_deref(), error.message.as_deref()),
        (Some("server_is_overloaded"), Some("line\n\"two\""))
    );
    assert_eq!(terminal.usage, None);
    assert!(frames[0].data().starts_with(br#"{"type":"response.failed","sequence_number":7,"#));
}
