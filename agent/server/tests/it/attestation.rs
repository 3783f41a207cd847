//! Clients that attest for model calls, and clients that should and don't.
//!
//! The clock stands still while anybody has something to do, so that a slow machine makes no answer late.

use agent_session::{Attestation, AttestationProblem};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use test_clock::paused;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

use crate::client::Client;
use crate::gateway::Reply;
use crate::house::House;

async fn client(house: &House, attests: bool) -> Client {
    let mut client = Client::connect(house.listen().await).await;
    let capabilities = json!({"experimentalApi": true, "requestAttestation": attests});
    client.initialize_with(capabilities).await;
    client
}

/// Starts a turn whose call is to be attested.
async fn turn(house: &House, client: &mut Client, thread: &str) {
    house.gateway.reply(Reply::Attest);
    let input = json!([{"type": "text", "text": "hello"}]);
    client.request("turn/start", json!({"threadId": thread, "input": input})).await;
}

/// The id of the question that the client is asked next.
async fn question(client: &mut Client) -> Value {
    let mut question = client.until("attestation/generate").await.pop().unwrap();
    let id = question["id"].take();
    assert!(id.is_i64(), "{id}");
    assert_eq!(question, json!({"id": null, "method": "attestation/generate", "params": {}}));
    id
}

async fn say(client: &mut Client, message: Value) {
    client.send(Message::text(message.to_string())).await;
}

/// What came of the questions since the last time, in a word each.
fn outcomes(house: &House) -> Vec<String> {
    let word = |attestation: Attestation| match attestation {
        Attestation::Token(token) => token.expose_secret().to_owned(),
        Attestation::Problem(problem) => format!("{problem:?}"),
    };
    house.gateway.attested().into_iter().map(word).collect()
}

#[test]
fn every_kind_of_answer_is_understood() {
    paused(async {
        let house = House::new();
        let mut client = client(&house, true).await;
        let thread = client.thread().await;
        let longest = "x".repeat(16 << 10);
        for (answer, expected) in [
            (json!({"result": {"token": "opaque-1"}}), "opaque-1"),
            (json!({"jsonrpc": "2.0", "result": {"token": longest, "new": 1}}), longest.as_str()),
            (json!({"error": {"code": -32000, "message": "no"}}), "RequestFailed"),
            (json!({"result": {"token": ""}}), "Malformed"),
            (json!({"result": {"token": "a\r\nx-injected: 1"}}), "Malformed"),
            (json!({"result": {"token": format!("{longest}x")}}), "Malformed"),
            (json!({"result": {"other": "a"}}), "Malformed"),
            (json!({"result": null}), "Malformed"),
            (json!({}), "Malformed"),
        ] {
            turn(&house, &mut client, &thread).await;
            let id = question(&mut client).await;
            // Neither belongs to the question.
            say(&mut client, json!({"id": id.to_string(), "result": {"token": "other"}})).await;
            say(&mut client, json!({"id": 1_000_000, "result": {"token": "other"}})).await;
            let mut message = answer.clone();
            message["id"] = id;
            say(&mut client, message.clone()).await;
            // Whoever answers twice is heard once.
            say(&mut client, message).await;
            client.until("turn/completed").await;
            assert_eq!(outcomes(&house), [expected], "{answer}");
        }
        assert_eq!(house.gateway.can_attest(), [true; 9]);
    })
    .unwrap();
}

#[test]
fn a_client_that_does_not_answer_is_waited_for_100_ms() {
    paused(async {
        let house = House::new();
        let mut client = client(&house, true).await;
        let thread = client.thread().await;
        turn(&house, &mut client, &thread).await;
        let late = question(&mut client).await;
        let start = Instant::now();
        client.until("turn/completed").await;
        assert_eq!(start.elapsed().as_millis() / 10, 10, "{:?}", start.elapsed());
        assert_eq!(outcomes(&house), ["Timeout"]);
        // A late answer is nobody's, also not the next question's.
        turn(&house, &mut client, &thread).await;
        let id = question(&mut client).await;
        assert_ne!(id, late);
        say(&mut client, json!({"id": late, "result": {"token": "late"}})).await;
        say(&mut client, json!({"id": id, "result": {"token": "in time"}})).await;
        client.until("turn/completed").await;
        assert_eq!(outcomes(&house), ["in time"]);
    })
    .unwrap();
}

#[test]
fn the_first_client_of_the_thread_that_can_is_asked() {
    paused(async {
        let house = House::new();
        let mut first = client(&house, false).await;
        let mut stranger = client(&house, true).await;
        let mut second = client(&house, true).await;
        let mut third = client(&house, true).await;
        let thread = first.thread().await;
        for client in [&mut second, &mut third] {
            client.ask("thread/resume", json!({"threadId": thread})).await;
        }
        turn(&house, &mut first, &thread).await;
        let id = question(&mut second).await;
        // Only the one who was asked is heard.
        say(&mut third, json!({"id": id, "result": {"token": "third"}})).await;
        third.ask("thread/loaded/list", json!({})).await;
        say(&mut second, json!({"id": id, "result": {"token": "second"}})).await;
        let told = first.until("turn/completed").await;
        assert!(told.iter().all(|message| message["method"] != "attestation/generate"), "{told:?}");
        assert_eq!(outcomes(&house), ["second"]);

        second.ask("thread/unsubscribe", json!({"threadId": thread})).await;
        turn(&house, &mut first, &thread).await;
        let id = question(&mut third).await;
        say(&mut third, json!({"id": id, "result": {"token": "third"}})).await;
        first.until("turn/completed").await;
        assert_eq!(outcomes(&house), ["third"]);

        // A client that leaves while it is asked.
        turn(&house, &mut first, &thread).await;
        question(&mut third).await;
        let start = Instant::now();
        drop(third);
        first.until("turn/completed").await;
        assert!(start.elapsed().as_millis() < 100, "{:?}", start.elapsed());
        assert_eq!(outcomes(&house), [format!("{:?}", AttestationProblem::Cancelled)]);

        // Nobody is left. One who follows another thread does not count.
        turn(&house, &mut first, &thread).await;
        first.until("turn/completed").await;
        assert_eq!(house.gateway.can_attest(), [true, true, true, false]);
        assert_eq!(outcomes(&house), ["Cancelled"]);
        stranger.request("thread/loaded/list", json!({})).await;
        let told = stranger.until_answer().await;
        assert!(told.iter().all(|message| message["method"] != "attestation/generate"), "{told:?}");
    })
    .unwrap();
}
