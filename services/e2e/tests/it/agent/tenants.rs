//! Tenants are invisible to each other: every method of the protocol, asked with ids of a foreign tenant, answers byte for
//! byte what it answers for ids that nobody has, tells nothing, and changes nothing.

use anyhow::Context as _;
use std::fmt::Write as _;

use gateway_testkit::{Gate, Upstream};
use serde_json::{Value, json};
use service_e2e::home::Home;
use service_e2e::rpc::Rpc;
use service_e2e::schema::{Fillings, Protocol};
use service_e2e::stack::{self, Agent, Gateway};

use super::{input, key, start_thread, start_turn};

/// Names of one shape that nobody has.
const NOBODY_S: Ids<'static> = Ids {
    thread: "01a1f863-0000-7f93-9710-f7d10b25b017",
    turn: "01a1f863-0000-7f93-9710-f7d10b25b018",
    item: "01a1f863-0000-7f93-9710-f7d10b25b019",
};
/// What the owner says, and what it is told.
const SAID: &str = "said-by-the-owner-5d1c";
const ANSWERED: &str = "answered-to-the-owner-77e0";

/// Ids that a client could ask about.
#[derive(Clone, Copy)]
struct Ids<'a> {
    thread: &'a str,
    turn: &'a str,
    item: &'a str,
}

impl<'a> Ids<'a> {
    /// The id for a field of this name, if it holds one.
    fn of(self, name: &str) -> Option<&'a str> {
        let name = name.to_ascii_lowercase();
        let ends = |end: &str| name.ends_with(end) || name.ends_with(&format!("{end}s"));
        match () {
            () if ends("turnid") => Some(self.turn),
            () if ends("itemid") || ends("messageid") => Some(self.item),
            () if ends("id") && name != "modelproviderid" => Some(self.thread),
            () => None,
        }
    }

    fn all(self) -> [&'a str; 3] {
        [self.thread, self.turn, self.item]
    }
}

/// An answer without what differs from one time to the next.
fn normal(answer: &Value, ids: Ids<'_>) -> String {
    let mut text = answer.to_string();
    for (id, name) in ids.all().into_iter().zip(["<thread>", "<turn>", "<item>"]) {
        text = text.replace(id, name);
    }
    // Ids of new threads and times.
    let mut normal = String::new();
    for piece in text.split('"') {
        let id = piece.len() == 36 && piece.bytes().filter(|byte| *byte == b'-').count() == 4;
        let digits = piece.bytes().filter(u8::is_ascii_digit).count();
        let shown = if id {
            "<new>"
        } else if digits >= 10 {
            "<number>"
        } else {
            piece
        };
        write!(normal, "{shown}\"").unwrap();
    }
    normal
}

/// Asks for every method twice over: with what it needs alone, and with every id that it takes besides.
async fn walk(rpc: &mut Rpc, protocol: &Protocol, ids: Ids<'_>) -> anyhow::Result<Vec<(String, String)>> {
    let text = |name: &str| ids.of(name).unwrap_or("/nowhere").to_owned();
    let mut answers = Vec::new();
    for method in protocol.methods() {
        for more in [false, true] {
            let optional = |name: &str| more && ids.of(name).is_some();
            let params = protocol.sample(method, &Fillings { text: &text, optional: &optional })?;
            let answer = rpc.ask(method, params.clone()).await?;
            let mut answer = answer;
            answer["id"] = Value::Null;
            answers.push((format!("{method} {params}"), normal(&answer, ids)));
        }
    }
    Ok(answers)
}

/// What the owner sees of its thread.
async fn state(owner: &mut Rpc, thread: &str) -> anyhow::Result<[Value; 3]> {
    let read = owner.call("thread/read", json!({"threadId": thread, "includeTurns": true})).await?;
    let items = owner.call("thread/items/list", json!({"threadId": thread})).await?;
    Ok([read, items, owner.call("thread/list", json!({})).await?])
}

#[tokio::test]
async fn every_method_with_a_foreign_id_answers_as_with_an_unknown_one() -> anyhow::Result<()> {
    let Some(protocol) = Protocol::pinned().await? else { return Ok(()) };
    let upstream = Upstream::start().await?;
    let (gateway, home) = (Gateway::before(&upstream).await?, Home::new()?);
    let (ours, theirs) = (key(&home, "acme").await?, key(&home, "other").await?);
    let agent = Agent::configured(&home, &gateway, "[authentication]\nkeys_file = \"keys.toml\"\n").await?;
    let mut owner = Rpc::connect_with(&agent.url, &ours).await?;
    owner.initialize().await?;
    let thread = start_thread(&mut owner).await?;
    upstream.push(stack::says("resp_done", &[ANSWERED, "."]));
    start_turn(&mut owner, &thread, SAID).await?;
    let done = owner.notified("turn/completed").await?;
    let items = owner.call("thread/items/list", json!({"threadId": thread})).await?;
    let item =
        items["data"][0]["item"]["id"].as_str().or(items["data"][0]["id"].as_str()).unwrap().to_owned();
    // A turn that runs all the while.
    let (gate, reply) = (Gate::closed(), stack::says("resp_held", &[ANSWERED, "."]));
    // Held after the first piece, which is waited for: nothing is told to the owner from then on.
    let body = String::from_utf8(reply.body().to_vec())?;
    let piece = body.find("response.output_text.delta").context("a piece")?;
    let said = piece + body[piece..].find("\n\n").context("its end")? + 2;
    upstream.push(reply.stall_after(said, &gate));
    let running = start_turn(&mut owner, &thread, SAID).await?;
    // A piece of the first turn's may not have been asked for yet.
    while owner.notified("item/agentMessage/delta").await?["turnId"] != json!(running) {}
    let before = state(&mut owner, &thread).await?;

    let mut stranger = Rpc::connect_with(&agent.url, &theirs).await?;
    stranger.initialize().await?;
    let unknown = walk(&mut stranger, &protocol, NOBODY_S).await?;
    let done = done["turn"]["id"].as_str().unwrap();
    let mut compared = 0;
    for turn in [running.as_str(), done] {
        let foreign = Ids { thread: &thread, turn, item: &item };
        let mut rpc = Rpc::connect_with(&agent.url, &theirs).await?;
        rpc.initialize().await?;
        for ((asked, expected), (foreign, answer)) in
            unknown.iter().zip(walk(&mut rpc, &protocol, foreign).await?)
        {
            // What takes no id is answered by what the stranger has itself.
            if asked != &foreign {
                assert_eq!(answer, *expected, "{foreign}, and with unknown ids {asked}");
                compared += 1;
            }
        }
        for (kind, seen) in [("first", &stranger), ("second", &rpc)] {
            for received in seen.received() {
                let text = received.message.to_string();
                let leak = [SAID, ANSWERED].into_iter().find(|secret| text.contains(secret));
                assert_eq!(leak, None, "the {kind} stranger was told {text}");
                // Its own ids are echoed to whoever asks for them, and nobody tells them unasked.
                let told = received.asked.is_none() && text.contains(&thread);
                assert!(!told, "the {kind} stranger was told {text}");
            }
        }
    }
    // More than a hundred methods take an id, twice.
    assert!(compared > 150, "{compared}");
    let heard = owner.received().len();
    let after = state(&mut owner, &thread).await?;
    assert_eq!(after[1..], before[1..]);
    assert_eq!(after[0]["thread"]["turns"], before[0]["thread"]["turns"]);
    assert_eq!(owner.received().len(), heard + 3, "the owner was told {:?}", &owner.received()[heard..]);

    gate.open();
    let ended = owner.notified("turn/completed").await?;
    assert_eq!((&ended["turn"]["id"], &ended["turn"]["status"]), (&json!(running), &json!("completed")));
    still_works(&mut owner, &upstream, &thread).await
}

async fn still_works(owner: &mut Rpc, upstream: &Upstream, thread: &str) -> anyhow::Result<()> {
    upstream.push(stack::says("resp_after", &["Still mine."]));
    let params = json!({"threadId": thread, "input": input("Mine?")});
    owner.call("turn/start", params).await?;
    assert_eq!(owner.notified("turn/completed").await?["turn"]["status"], "completed");
    Ok(())
}
