//! Bad input on the agent's sockets: each kind is answered, passed over as Codex does, or ends its own connection.

use serde_json::json;
use service_e2e::http;
use service_e2e::rpc::Rpc;
use service_e2e::stack;
use tokio_tungstenite::tungstenite::Message;

use super::{Desk, start_thread, start_turn};

async fn assert_healthy(desk: &mut Desk) -> anyhow::Result<()> {
    let mut rpc = desk.client().await?;
    let thread = start_thread(&mut rpc).await?;
    desk.upstream.push(stack::says("resp_well", &["All ", "is well."]));
    start_turn(&mut rpc, &thread, "Well?").await?;
    assert_eq!(rpc.notified("turn/completed").await?["turn"]["status"], "completed");
    assert!(desk.agent.service.is_running()?);
    Ok(())
}

/// Frames that are no requests have no id to answer to.
#[tokio::test]
async fn noise_is_passed_over_and_requests_are_explained() -> anyhow::Result<()> {
    let mut desk = Desk::start().await?;
    let mut rpc = desk.client().await?;
    let noise = ["not json", "", "[]", "{", "{\"id\":null,\"method\":\"model/list\"}", "7", "\"text\""];
    for text in noise {
        rpc.send_text(text.to_owned()).await?;
        rpc.call("model/list", json!({})).await?;
    }
    rpc.send(Message::binary(&b"\xff\xfe\x00"[..])).await?;
    rpc.send(Message::Ping("ping".into())).await?;
    rpc.call("model/list", json!({})).await?;
    let wrong = [
        ("no/method", json!({}), "no/method"),
        ("thread/read", json!({"threadId": 7}), "invalid type"),
        ("thread/read", json!(["x"]), ""),
        ("turn/start", json!({"threadId": "x", "input": []}), "thread id"),
    ];
    for (method, params, word) in wrong {
        let error = rpc.refused(method, params).await?;
        assert_eq!(error["code"], -32600, "{error}");
        assert!(error["message"].as_str().unwrap().contains(word), "{error}");
    }
    assert_healthy(&mut desk).await
}

#[tokio::test]
async fn broken_frames_end_their_own_connection() -> anyhow::Result<()> {
    let mut desk = Desk::start().await?;
    let at = desk.agent.at()?;
    let upgrade = format!(
        "GET / HTTP/1.1\r\nhost: {at}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    // A text that is no UTF-8, a frame that is not masked, an opcode that does not exist, a length beyond all bounds.
    let frames: [&[u8]; 4] = [
        b"\x81\x82\0\0\0\0\xff\xfe",
        b"\x81\x02hi",
        b"\x83\x80\0\0\0\0",
        b"\x81\xff\x00\x00\x00\x7f\xff\xff\xff\xff\0\0\0\0",
    ];
    for frame in frames {
        let mut raw = http::Raw::connect(at).await?;
        raw.send(upgrade.as_bytes()).await?;
        raw.read_until("\r\n\r\n").await?;
        raw.send(frame).await?;
        let rest = raw.finish_bytes().await?;
        // A close frame with the code of a broken rule, and what the rule is about.
        assert_eq!(
            (rest.first(), rest.get(2..4)),
            (Some(&0x88), Some(&1008_u16.to_be_bytes()[..])),
            "{frame:?}: {rest:?}"
        );
        assert!(String::from_utf8_lossy(&rest).contains("over a bound or broken"), "{frame:?}: {rest:?}");
    }
    assert_healthy(&mut desk).await
}

#[tokio::test]
async fn http_that_is_no_upgrade_is_explained() -> anyhow::Result<()> {
    let mut desk = Desk::start().await?;
    let at = desk.agent.at()?;
    let get = |path: &str, headers: &str| {
        format!("GET {path} HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\n{headers}\r\n").into_bytes()
    };
    let upgrade =
        "sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nupgrade: websocket\r\n";
    let foreign =
        format!("GET / HTTP/1.1\r\nhost: evil.example\r\nconnection: upgrade, close\r\n{upgrade}\r\n");
    let page = format!(
        "GET / HTTP/1.1\r\nhost: {at}\r\norigin: https://evil.example\r\nconnection: upgrade, close\r\n{upgrade}\r\n"
    );
    let cases = [
        ("no upgrade", get("/", ""), vec![400, 426]),
        ("an unknown route", http::post(at, "/v1/nothing", "", b"{}"), vec![404, 405, 400]),
        ("a foreign name", foreign.into_bytes(), vec![421]),
        ("a foreign page", page.into_bytes(), vec![403]),
        ("no HTTP", b"hello there\r\n\r\n".to_vec(), vec![400, 0]),
        ("health", get("/readyz", ""), vec![200]),
        ("Codex's own health", get("/healthz", ""), vec![200]),
    ];
    for (what, request, statuses) in cases {
        let answer = http::send(at, &request).await?;
        assert!(statuses.contains(&answer.status), "{what}: {answer:?}");
    }
    assert_healthy(&mut desk).await
}

#[tokio::test]
async fn too_large_a_message_is_refused() -> anyhow::Result<()> {
    let mut desk = Desk::start().await?;
    let mut rpc = desk.client().await?;
    let thread = start_thread(&mut rpc).await?;
    let long = "x".repeat((15 << 20) + 1);
    let params = json!({"threadId": thread, "input": super::input(&long)});
    let error = rpc.refused("turn/start", params).await?;
    assert!(error["message"].as_str().unwrap().len() < 1000, "{error}");
    rpc.call("model/list", json!({})).await?;
    drop(rpc);
    assert_healthy(&mut desk).await
}

/// Clients that say nothing, or stop in the middle, hold up nobody, and those without a whole request are sent away.
#[tokio::test]
async fn half_open_sockets_are_given_up() -> anyhow::Result<()> {
    let mut desk = Desk::configured("[connections]\nheader_read_timeout_ms = 300\n").await?;
    let at = desk.agent.at()?;
    let mut held = Vec::new();
    for beginning in ["", "GET / HT", "GET / HTTP/1.1\r\nhost: x"] {
        let mut raw = http::Raw::connect(at).await?;
        raw.send(beginning.as_bytes()).await?;
        held.push(raw);
    }
    let silent = Rpc::connect(&desk.agent.url).await?;
    assert_healthy(&mut desk).await?;
    for raw in held {
        assert!([408, 0].contains(&raw.finish().await?.status));
    }
    drop(silent);
    assert_healthy(&mut desk).await
}
