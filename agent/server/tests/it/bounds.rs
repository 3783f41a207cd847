//! Clients that do not keep up, have gone without a word, or send too much; and a server that stops.

use std::time::Duration;

use agent_server::Principal;
use futures_util::StreamExt as _;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::client::Client;
use crate::doors::{Keys, upgrade};
use crate::gateway::Reply;
use crate::house::House;

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_is_let_go_and_nobody_waits_for_it() {
    let house = House::new();
    let (mut ours, theirs) = tokio::io::duplex(512);
    let (reader, writer) = tokio::io::split(theirs);
    let server = house.server.clone();
    let served = house.tasks.spawn(async move {
        server.lines(Principal::desk(), BufReader::new(reader), writer).await;
    });
    let hello =
        json!({"id": 1, "method": "initialize", "params": {"clientInfo": {"name": "p", "version": "1"}}});
    let start = json!({"id": 2, "method": "thread/start", "params": {}});
    ours.write_all(format!("{hello}\n{start}\n").as_bytes()).await.unwrap();
    tokio::time::timeout(Duration::from_secs(40), served).await.expect("let go").unwrap();
    let mut rest = Vec::new();
    ours.read_to_end(&mut rest).await.unwrap();
    assert!(rest.len() <= 512);
}

/// Clients that open a thread and then read nothing any more, beside one that reads.
#[tokio::test]
async fn clients_that_stop_reading_are_let_go_and_the_one_that_reads_gets_everything() {
    const STOPPED: usize = 20;
    const TURNS: usize = 4;
    let house = House::new();
    let mut reader = house.client().await;
    let thread = reader.thread().await;
    let (mut held, mut served) = (Vec::new(), Vec::new());
    for _ in 0..STOPPED {
        let (mut ours, theirs) = tokio::io::duplex(4 << 10);
        let (read, write) = tokio::io::split(theirs);
        let server = house.server.clone();
        served.push(house.tasks.spawn(async move {
            server.lines(Principal::desk(), BufReader::new(read), write).await;
        }));
        let hello =
            json!({"id": 1, "method": "initialize", "params": {"clientInfo": {"name": "p", "version": "1"}}});
        let open = json!({"id": 2, "method": "thread/resume", "params": {"threadId": thread}});
        ours.write_all(format!("{hello}\n{open}\n").as_bytes()).await.unwrap();
        held.push(ours);
    }
    let text = "a tide gate lets water out ".repeat(600);
    for turn in 0..TURNS {
        house.gateway.reply(Reply::Say(text.clone()));
        reader.turn(&thread, &format!("turn {turn}")).await;
        let told = reader.until("turn/completed").await;
        let deltas = told.iter().filter(|message| message["method"] == "item/agentMessage/delta");
        let said: String = deltas.map(|delta| delta["params"]["delta"].as_str().unwrap()).collect();
        assert!(said == text, "turn {turn}: {} of {} bytes", said.len(), text.len());
    }
    // More was said than waits for anybody. Nobody had to wait for them, and they are not waited for much longer.
    tokio::time::pause();
    let mut gone = 0;
    for served in served {
        tokio::time::timeout(Duration::from_secs(40), served).await.expect("let go").unwrap();
        gone += 1;
    }
    assert_eq!(gone, STOPPED);
    tokio::time::resume();
    reader.ask("thread/loaded/list", json!({})).await;
}

#[tokio::test]
async fn notifications_are_left_out_by_their_exact_names() {
    let house = House::new();
    let mut client = Client::connect(house.listen().await).await;
    let unwanted =
        ["turn/started", "item/agentMessage", "item/agentMessage/delt", "ITEM/COMPLETED", "item/*", ""];
    client.initialize_with(json!({"optOutNotificationMethods": unwanted})).await;
    let thread = client.thread().await;
    client.turn(&thread, "hi").await;
    let told = client.until("turn/completed").await;
    let heard = |method: &str| told.iter().any(|message| message["method"] == method);
    assert!(!heard("turn/started"));
    assert!(heard("item/agentMessage/delta") && heard("item/completed") && heard("item/started"));

    let mut deaf = Client::connect(house.listen().await).await;
    let too_many: Vec<String> = (0..2_000).map(|number| format!("a/{number}")).collect();
    let info = json!({"name": "p", "version": "1"});
    let capabilities = json!({"optOutNotificationMethods": too_many});
    let refused = deaf.refused("initialize", json!({"clientInfo": info, "capabilities": capabilities})).await;
    assert_eq!(refused, "too many optOutNotificationMethods");
}

#[tokio::test]
async fn a_tenant_has_only_so_many_connections() {
    let house = House::new();
    let (keys, mut held) = (Keys::new(), Vec::new());
    let (ours, theirs) = (keys.create("acme"), keys.create("other"));
    let at = house.listen_for(keys.callers(), false).await;
    for _ in 0..100 {
        held.push(Client::connect_with(at, &ours).await);
    }
    let answer = upgrade(at, &format!("Authorization: Bearer {ours}\r\n")).await;
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.to_lowercase().contains("retry-after: 5\r\n"),
        "{answer}"
    );
    assert!(answer.contains("too many connections of this tenant, at most 100"), "{answer}");
    Client::connect_with(at, &theirs).await.initialize().await;
    drop(held.pop());
    let room = async {
        while !upgrade(at, &format!("Authorization: Bearer {ours}\r\n")).await.starts_with("HTTP/1.1 101 ") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), room).await.unwrap();
}

#[tokio::test]
async fn a_client_that_is_silent_for_too_long_is_let_go() {
    let house = House::new();
    let address = house.listen().await;
    let mut half_open = TcpStream::connect(address).await.unwrap();
    let upgrade = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: lvcncMcrT1c5rmlTDl3rkg==\r\n\r\n";
    half_open.write_all(upgrade.as_bytes()).await.unwrap();
    let mut head = [0; 512];
    let read = half_open.read(&mut head).await.unwrap();
    let head = String::from_utf8_lossy(&head[..read]).into_owned();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.contains("pC/LSQN1ObVCBTFwtfzTy/TdVB8="), "{head}");
    // From here on time passes as soon as nobody has anything to do.
    tokio::time::pause();
    let start = tokio::time::Instant::now();
    let mut rest = Vec::new();
    half_open.read_to_end(&mut rest).await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(100), "{:?}", start.elapsed());
    let pings = rest.iter().filter(|byte| **byte == 0x89).count();
    assert!(pings >= 3, "{rest:?}");
    let code = u16::from(CloseCode::Again).to_be_bytes();
    assert!(rest.windows(2).any(|bytes| bytes == code), "{rest:?}");
}

#[tokio::test]
async fn a_message_over_the_bound_ends_its_connection_and_no_other() {
    let house = House::new();
    let (mut greedy, mut other) = (house.client().await, house.client().await);
    let size = (16 << 20) + 1;
    // The server does not wait for the rest, so the client may find the connection closed while it still sends.
    let _ = greedy.try_send(Message::text("x".repeat(size))).await;
    assert_eq!(greedy.next().await, None);
    other.ask("thread/loaded/list", json!({})).await;
}

#[tokio::test]
async fn a_turn_goes_on_without_its_client() {
    let house = House::new();
    let mut gone = house.client().await;
    let thread = gone.thread().await;
    house.gateway.reply(Reply::Hold);
    gone.turn(&thread, "hold").await;
    gone.until("item/agentMessage/delta").await;
    drop(gone);
    let mut client = house.client().await;
    let read = client.ask("thread/read", json!({"threadId": thread})).await;
    assert_eq!(read["thread"]["status"]["type"], "active");
    assert_eq!(client.ask("thread/loaded/list", json!({})).await["data"], json!([thread]));
}

#[tokio::test]
async fn a_server_that_stops_says_so() {
    let house = House::new();
    let address = house.listen().await;
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async(format!("ws://{address}"), stream).await.unwrap();
    house.stop.cancel();
    let last = tokio::time::timeout(Duration::from_secs(5), socket.next()).await.unwrap();
    match last {
        Some(Ok(Message::Close(Some(frame)))) => assert_eq!(frame.code, CloseCode::Restart),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn other_http_is_answered_plainly() {
    let house = House::new();
    let address = house.listen().await;
    for (request, expected) in [
        ("GET /foo HTTP/1.1\r\nHost: a\r\n", "HTTP/1.1 400 "),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n", "HTTP/1.1 405 "),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h3\r\n", "HTTP/1.1 400 "),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
            "HTTP/1.1 400 ",
        ),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("{request}\r\n").as_bytes()).await.unwrap();
        let mut head = [0; 512];
        let read =
            tokio::time::timeout(Duration::from_secs(5), stream.read(&mut head)).await.unwrap().unwrap();
        let head = String::from_utf8_lossy(&head[..read]).into_owned();
        assert!(head.starts_with(expected), "{request}: {head}");
    }
    Client::connect(address).await.initialize().await;
}
