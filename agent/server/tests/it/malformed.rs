//! Whatever a client sends, it gets a clear answer or none, and the connection stays healthy.

use agent_server::Principal;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio_tungstenite::tungstenite::Message;

use crate::client::Client;
use crate::house::House;

const MISSING: &str = "01a1f863-0000-7f93-9710-f7d10b25b017";

#[tokio::test]
async fn noise_is_passed_over() {
    let house = House::new();
    let mut client = house.client().await;
    let noise = [
        Message::text("this is not json"),
        Message::text(""),
        Message::text(r#"[{"id":70,"method":"thread/loaded/list","params":{}}]"#),
        Message::text(r#"[70,"thread/loaded/list",{}]"#),
        Message::text(r#"{"id":null,"method":"thread/loaded/list","params":{}}"#),
        Message::text(r#"{"id":1.5,"method":"thread/loaded/list","params":{}}"#),
        Message::text(r#"{"id":71,"method":5}"#),
        Message::text(r#"{"id":72,"result":{}}"#),
        Message::text(r#"{"method":"foo/bar"}"#),
        Message::binary(&br#"{"id":73,"method":"thread/loaded/list","params":{}}"#[..]),
        Message::binary(&b"\xff\xfe"[..]),
    ];
    for message in noise {
        client.send(message.clone()).await;
        let id = client.request("thread/loaded/list", json!({})).await;
        assert_eq!(client.next().await.unwrap()["id"], id, "after {message:?}");
    }
}

#[tokio::test]
async fn wrong_requests_are_explained() {
    let house = House::new();
    let mut client = Client::connect(house.listen().await).await;
    assert_eq!(client.refused("model/list", json!({})).await, "Not initialized");
    let text = client.refused("initialize", json!({})).await;
    assert_eq!(text, "Invalid request: missing field `clientInfo`");
    client.refused("initialize", json!({"clientInfo": {"name": "line\nbreak", "version": "1"}})).await;
    client.initialize().await;
    let text = |text: &str| json!([{"type": "text", "text": text}]);
    let table: [(&str, Value, &str); 16] = [
        ("foo/bar", json!({}), "Invalid request: unknown variant `foo/bar`, expected one of `initialize`,"),
        ("thread/start", Value::Null, "Invalid request: missing field `params`"),
        ("turn/start", json!({"threadId": MISSING}), "Invalid request: missing field `input`"),
        (
            "turn/start",
            json!({"threadId": 5}),
            "Invalid request: invalid type: integer `5`, expected a string",
        ),
        ("turn/start", json!({"threadId": "nope", "input": text("x")}), "invalid thread id: "),
        (
            "turn/start",
            json!({"threadId": MISSING, "input": [{"type": "bad"}]}),
            "Invalid request: unknown variant `bad`",
        ),
        (
            "turn/start",
            json!({"threadId": MISSING, "input": [{"type": "localImage", "path": "/x"}]}),
            "the image /x cannot be used: this service reads no files of its machine",
        ),
        (
            "turn/start",
            json!({"threadId": MISSING, "input": [{"type": "localAudio", "path": "/x"}]}),
            "input of type `localAudio` is not supported",
        ),
        ("thread/compact/start", json!({"threadId": "x"}), "invalid thread id: "),
        (
            "turn/start",
            json!({"threadId": MISSING, "input": [{"type": "image", "url": "u", "detail": "best"}]}),
            "Invalid request: unknown variant `best`",
        ),
        (
            "thread/start",
            json!({"config": {"model_auto_compact_token_limit": 0}}),
            "the value of `model_auto_compact_token_limit` must be one of",
        ),
        (
            "turn/start",
            json!({"threadId": MISSING, "input": text("x")}),
            &format!("thread not found: {MISSING}"),
        ),
        ("thread/list", json!({"limit": "5"}), "Invalid request: invalid type: string \"5\", expected u32"),
        ("thread/list", json!({"cursor": "zzz"}), "invalid cursor: zzz"),
        (
            "thread/start",
            json!({"approvalPolicy": "sometimes"}),
            "Invalid request: unknown variant `sometimes`, expected one of `untrusted`, `on-request`, `granular`, `never`",
        ),
        ("thread/name/set", json!({"threadId": MISSING, "name": "  "}), "thread name must not be empty"),
    ];
    for (method, params, expected) in table {
        let text = client.refused(method, params).await;
        assert!(text.starts_with(expected), "{method}: {text}");
    }
    let thread = client.thread().await;
    let text = client.refused("thread/turns/list", json!({"threadId": thread})).await;
    assert!(
        text.ends_with("is not materialized yet; thread/turns/list is unavailable before first user message")
    );
}

#[tokio::test]
async fn lines_carry_the_same_protocol() {
    let house = House::new();
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let (reader, writer) = tokio::io::split(theirs);
    let server = house.server.clone();
    let served = house.tasks.spawn(async move {
        server.lines(Principal::desk(), BufReader::new(reader), writer).await;
    });
    let (reader, mut writer) = tokio::io::split(ours);
    let mut lines = BufReader::new(reader).lines();
    writer.write_all(b"not json\n\xff\xfe\n\n").await.unwrap();
    let hello =
        json!({"id": "a", "method": "initialize", "params": {"clientInfo": {"name": "p", "version": "1"}}});
    writer.write_all(format!("{hello}\r\n").as_bytes()).await.unwrap();
    let answer: Value = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
    assert_eq!(answer["id"], "a");
    assert_eq!(answer["result"]["codexHome"], "/home/agent");
    drop((lines, writer));
    served.await.unwrap();
}
