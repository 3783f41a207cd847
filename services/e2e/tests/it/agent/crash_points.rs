//! The process dies at each commit barrier of a turn, on either side of it: nothing accepted is lost, nothing is there
//! twice, nothing is done again that may have been done, and the conversation goes on.

use std::collections::HashSet;

use gateway_testkit::{Reply, Turn, Upstream};
use serde_json::{Value, json};
use service_e2e::frail::{Barrier, Point, Side};
use service_e2e::home::Home;
use service_e2e::rpc::Rpc;
use service_e2e::stack::{self, Agent, Gateway};

use super::{input, start_thread, texts};

const TOOL: &str = "weather";
const CALL: &str = "call_1";

/// The model thinks, calls a tool, and answers once it has its result: every barrier of a turn is met.
fn script(upstream: &Upstream) {
    let calls = Turn::new("resp_calls").model(stack::MODEL).reasoning(&["Let me look."], "sealed");
    let calls = calls.text(&["Looking."]).function_call(CALL, TOOL, &json!({"place": "sea"}));
    upstream.push(Reply::sse(calls.completed(stack::usage())));
    upstream.push(stack::says("resp_after", &["Here ", "it is."]));
    upstream.set_default(stack::says("resp_last", &["And ", "so on."]));
}

struct Scene {
    upstream: Upstream,
    gateway: Gateway,
    home: Home,
    thread: String,
}

impl Scene {
    /// A thread with one turn, whose agent has ended in order.
    async fn set() -> anyhow::Result<Self> {
        let upstream = Upstream::start().await?;
        let gateway = Gateway::before(&upstream).await?;
        let home = Home::new()?;
        let agent = Agent::start(&home, &gateway).await?;
        let mut rpc = Rpc::connect(&agent.url).await?;
        rpc.initialize().await?;
        let thread = start_thread(&mut rpc).await?;
        upstream.push(stack::says("resp_first", &["First."]));
        say(&mut rpc, &thread, "first").await?;
        rpc.notified("turn/completed").await?;
        agent.service.stop(stack::STOP_TIME_MAX).await?;
        Ok(Self { upstream, gateway, home, thread })
    }

    async fn resumed(&self, agent: &Agent) -> anyhow::Result<Rpc> {
        let mut rpc = Rpc::connect(&agent.url).await?;
        rpc.initialize().await?;
        rpc.call("thread/resume", json!({"threadId": self.thread, "excludeTurns": true})).await?;
        Ok(rpc)
    }

    /// The input of the last call that the model got.
    fn last_input(&self) -> Vec<Value> {
        let calls: Vec<_> = self.upstream.requests().into_iter().filter(|asked| asked.is_call()).collect();
        calls.last().map(|call| call.json()["input"].as_array().unwrap().clone()).unwrap_or_default()
    }
}

async fn say(rpc: &mut Rpc, thread: &str, text: &str) -> anyhow::Result<Value> {
    let message = json!({"threadId": thread, "input": input(text), "clientUserMessageId": text});
    rpc.call("turn/start", message).await
}

/// What a client was told of the second turn before the process died.
struct Told {
    accepted: bool,
    items: Vec<Value>,
}

async fn until_the_end(rpc: &mut Rpc, thread: &str) -> Told {
    let accepted = say(rpc, thread, "second").await.is_ok();
    // Ends with the connection, at the latest.
    drop(rpc.notified("turn/completed").await);
    let completed = |message: &Value| {
        (message["method"] == "item/completed").then(|| message["params"]["item"]["id"].clone())
    };
    let items = rpc.received().iter().filter_map(|received| completed(&received.message)).collect();
    Told { accepted, items }
}

async fn dies_at(point: Point) -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    script(&scene.upstream);
    let agent = Agent::frail(&scene.home, &scene.gateway, point.environment()).await?;
    let mut rpc = scene.resumed(&agent).await?;
    let told = until_the_end(&mut rpc, &scene.thread).await;
    agent.service.kill().await?;
    let after_message = !matches!(point.barrier, Barrier::Message);
    assert_eq!(told.accepted, after_message, "{point}");

    let agent = Agent::start(&scene.home, &scene.gateway).await?;
    let mut rpc = scene.resumed(&agent).await?;
    let written = after_message || point.side == Side::After;
    let ended = point == Point { side: Side::After, barrier: Barrier::End };
    let turns = history(&mut rpc, &scene.thread).await?;
    let seen: Vec<_> = turns.iter().map(|turn| turn["status"].as_str().unwrap()).collect();
    let second = if ended { "completed" } else { "interrupted" };
    assert_eq!(seen, if written { vec!["completed", second] } else { vec!["completed"] }, "{point}");
    let ids = once(&turns);
    for item in &told.items {
        assert!(ids.contains(item.as_str().unwrap()), "{point}: {item} was told and is lost");
    }

    // Whoever heard no answer sends the message again; then the conversation goes on.
    say(&mut rpc, &scene.thread, "second").await?;
    if !written {
        rpc.notified("turn/completed").await?;
    }
    say(&mut rpc, &scene.thread, "third").await?;
    let last = rpc.notified("turn/completed").await?;
    assert_eq!(last["turn"]["status"], "completed", "{point}: {last}");
    let turns = history(&mut rpc, &scene.thread).await?;
    once(&turns);
    let said: Vec<String> = turns.iter().flat_map(|turn| texts(turn, "userMessage")).collect();
    assert_eq!(said, ["first", "second", "third"], "{point}");
    check_input(&scene.last_input(), point);
    Ok(())
}

async fn history(rpc: &mut Rpc, thread: &str) -> anyhow::Result<Vec<Value>> {
    let params = json!({"threadId": thread, "itemsView": "full", "sortDirection": "asc"});
    let page = rpc.call("thread/turns/list", params).await?;
    Ok(page["data"].as_array().unwrap().clone())
}

/// The ids of all items, none of which is there twice.
fn once(turns: &[Value]) -> HashSet<String> {
    let items = turns.iter().flat_map(|turn| turn["items"].as_array().unwrap());
    let all: Vec<String> = items.map(|item| item["id"].as_str().unwrap().to_owned()).collect();
    let ids: HashSet<String> = all.iter().cloned().collect();
    assert_eq!(ids.len(), all.len(), "{all:?}");
    ids
}

/// What the model is told at last: each message once, and each tool call with one output, which is unknown where the tool
/// may have run and nobody wrote down what came of it.
fn check_input(items: &[Value], point: Point) {
    for text in ["first", "second", "third"] {
        let told = items.iter().filter(|item| item["content"][0]["text"] == text).count();
        assert_eq!(told, 1, "{point}: {text} in {items:?}");
    }
    let of = |kind: &str| items.iter().filter(|item| item["type"] == kind).collect::<Vec<_>>();
    let (calls, outputs) = (of("function_call"), of("function_call_output"));
    assert_eq!((calls.len(), outputs.len()), (calls.len().min(1), calls.len()), "{point}: {items:?}");
    let is = |barrier, side| point == Point { barrier, side };
    let known = outputs.first().map(|output| !output["output"].as_str().unwrap().contains("unknown"));
    let expected = if is(Barrier::ToolCall, Side::After) || is(Barrier::ToolResult, Side::Before) {
        Some(false)
    } else if point.barrier == Barrier::Item || is(Barrier::ToolCall, Side::Before) {
        // The call was not written, so that the tool was not started.
        None
    } else {
        Some(true)
    };
    assert_eq!(known, expected, "{point}: {outputs:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_process_dies_at_any_commit_barrier() -> anyhow::Result<()> {
    let points = Point::all();
    for pair in points.chunks(2) {
        let [one, other] = pair else { continue };
        tokio::try_join!(dies_at(*one), dies_at(*other))?;
    }
    Ok(())
}
