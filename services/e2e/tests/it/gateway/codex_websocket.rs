//! `codex exec` over the gateway's WebSocket: what people see, and what the provider gets, over its WebSocket or over HTTP.

use std::path::PathBuf;
use std::time::Duration;

use crate::agent::terminal::{SCREEN_TIME_MAX, quit};
use futures_util::StreamExt as _;
use gateway_testkit::{Reply, Socket, SocketScript, Turn, Upstream, messages};
use serde_json::{Value, json};
use service_e2e::process::Output;
use service_e2e::stack::{self, CALLER_KEY, Gateway, MODEL, STOP_TIME_MAX, UPSTREAM_KEY};
use service_e2e::{clients, home::Home, provision};
use tokio_tungstenite::tungstenite::{Message, protocol::frame::coding::CloseCode};

const PROMPT: &str = "When does the tide turn?";
const SOCKETS: &str = "supports_websockets = true\n";
/// What Codex prints when it repeats a call, or gives its socket up.
const VISIBLE: [&str; 2] = ["Reconnecting", "Falling back"];

fn warmed() -> Vec<String> {
    messages(Turn::new("resp_warm").model(MODEL).completed(tidegate_responses::Usage::default()))
}

fn told() -> Vec<String> {
    messages(
        Turn::new("resp_told")
            .model(MODEL)
            .text(&["The tide ", "turns at ", "noon."])
            .completed(stack::usage()),
    )
}

fn look() -> Turn {
    let look = Turn::new("resp_look").model(MODEL).reasoning(&["I look."], "sealed-thought");
    look.function_call("call_1", "exec_command", &json!({"cmd": "echo ebb"}))
}

struct House {
    codex: PathBuf,
    upstream: Upstream,
}

impl House {
    /// Nothing on a machine without Codex.
    async fn of(test: &str) -> anyhow::Result<Option<Self>> {
        let Some(codex) = provision::codex(test).await? else { return Ok(None) };
        Ok(Some(Self { codex, upstream: Upstream::start().await? }))
    }

    /// A gateway that calls the upstream over WebSockets.
    async fn wired(&self) -> anyhow::Result<Gateway> {
        Gateway::start(&format!("{}{SOCKETS}", stack::provider(&self.upstream))).await
    }

    /// One that calls it over HTTP, and has another provider that could be called over WebSockets.
    async fn bridging(&self) -> anyhow::Result<Gateway> {
        Gateway::start(&format!(
            "{}[model_providers.wired]\nbase_url = \"{}\"\nmodels = [\"another\"]\n{SOCKETS}",
            stack::provider(&self.upstream),
            self.upstream.base_url()
        ))
        .await
    }

    async fn exec(&self, home: &Home, base: &str) -> anyhow::Result<Output> {
        clients::use_gateway_with(home, base, MODEL, SOCKETS)?;
        clients::codex_exec(&self.codex, home, CALLER_KEY, PROMPT).await?.success()
    }

    /// What came on sockets, from this message on.
    fn said(&self, from: usize) -> Vec<(usize, Value)> {
        self.upstream.messages().split_off(from).iter().map(|said| (said.socket, said.json())).collect()
    }
}

/// Ids, times and digests differ from run to run, in these characters alone.
fn without_ids(text: &str) -> String {
    text.chars().map(|letter| if letter.is_ascii_hexdigit() { '0' } else { letter }).collect()
}

/// The same value without what differs from run to run; Codex writes some objects in any order.
fn settled(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, settled(value))).collect(),
        Value::Array(values) => values.into_iter().map(settled).collect(),
        Value::String(text) => match serde_json::from_str(&text) {
            Ok(inner @ Value::Object(_)) => settled(inner),
            _ => without_ids(&text).into(),
        },
        Value::Number(number) => without_ids(&number.to_string()).into(),
        other => other,
    }
}

/// The headers of a handshake that describe who speaks.
fn described(socket: &Socket) -> Vec<String> {
    let own = ["host", "authorization", "connection", "upgrade"];
    let told = socket.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap()));
    let told = told.filter(|(name, _)| !own.contains(name) && !name.starts_with("sec-websocket-"));
    let mut told: Vec<String> = told.map(|(name, value)| without_ids(&format!("{name}: {value}"))).collect();
    told.sort();
    told
}

fn assert_quiet(output: &Output) {
    assert!(!VISIBLE.iter().any(|word| output.stderr.contains(word)), "{}", output.stderr);
}

#[tokio::test]
async fn codex_speaks_to_the_provider_s_socket_as_if_there_were_no_gateway() -> anyhow::Result<()> {
    let name = "codex_speaks_to_the_provider_s_socket_as_if_there_were_no_gateway";
    let Some(house) = House::of(name).await? else { return Ok(()) };
    house.upstream.set_default_socket(SocketScript::new().answer(warmed()).answer(told()));
    let gateway = house.wired().await?;
    let home = Home::new()?;
    house.exec(&home, &format!("http://{}", house.upstream.address())).await?;
    let without = house.said(0);
    let output = house.exec(&home, &gateway.url()).await?;
    assert!(output.stdout.contains("The tide turns at noon."), "{output:?}");
    assert_quiet(&output);

    let through = house.said(without.len());
    let bodies =
        |said: Vec<(usize, Value)>| said.into_iter().map(|(_, said)| settled(said)).collect::<Vec<_>>();
    assert_eq!((without.len(), through.len()), (2, 2));
    assert_eq!(through[0].1["generate"], json!(false));
    assert_eq!(through[1].1["previous_response_id"], json!("resp_warm"));
    // Not `assert_eq!`: the bodies are too long to be read.
    assert!(bodies(through) == bodies(without));
    let sockets = house.upstream.sockets();
    let [without, through] = sockets.as_slice() else { anyhow::bail!("{} sockets", sockets.len()) };
    assert_eq!(described(through), described(without));
    assert_eq!(through.header("authorization"), Some(format!("Bearer {UPSTREAM_KEY}").as_str()));
    assert!(!format!("{through:?}").contains(CALLER_KEY));
    assert_eq!(house.upstream.requests().len(), 0);
    Ok(())
}

#[tokio::test]
async fn a_person_holds_a_conversation_in_the_terminal_over_a_socket() -> anyhow::Result<()> {
    let name = "a_person_holds_a_conversation_in_the_terminal_over_a_socket";
    let Some(house) = House::of(name).await? else { return Ok(()) };
    let ebb = Turn::new("resp_ebb").model(MODEL).text(&["Then it ", "ebbs until dusk."]);
    let script = SocketScript::new().answer(warmed()).answer(told());
    house.upstream.set_default_socket(script.answer(messages(ebb.completed(stack::usage()))));
    let gateway = house.wired().await?;
    let home = Home::new()?;
    clients::use_gateway_with(&home, &gateway.url(), MODEL, SOCKETS)?;
    let mut terminal = clients::codex_terminal(&house.codex, &home, CALLER_KEY)?;
    terminal.wait_for_text(MODEL, SCREEN_TIME_MAX).await?;
    terminal.enter(PROMPT, SCREEN_TIME_MAX).await?;
    terminal.wait_for_text("The tide turns at noon.", SCREEN_TIME_MAX).await?;
    terminal.enter("And then?", SCREEN_TIME_MAX).await?;
    terminal.wait_for_text("Then it ebbs until dusk.", SCREEN_TIME_MAX).await?;
    assert!(!VISIBLE.iter().any(|word| terminal.screen().contains(word)), "{}", terminal.screen());
    quit(terminal).await?;
    assert_eq!(home.end_processes()?, Vec::<String>::new(), "Codex leaves nothing running");

    let continued: Vec<Value> =
        house.said(0).into_iter().map(|(_, said)| said["previous_response_id"].clone()).collect();
    assert!(
        continued.contains(&json!("resp_warm")) && continued.contains(&json!("resp_told")),
        "{continued:?}"
    );
    assert_eq!(house.upstream.requests().len(), 0, "nothing went over HTTP");
    Ok(())
}

#[tokio::test]
async fn a_turn_with_a_tool_goes_on_from_its_last_response() -> anyhow::Result<()> {
    let name = "a_turn_with_a_tool_goes_on_from_its_last_response";
    let Some(house) = House::of(name).await? else { return Ok(()) };
    let looks = messages(look().completed(stack::usage()));
    house.upstream.push_socket(SocketScript::new().answer(warmed()).answer(looks).answer(told()));
    let gateway = house.wired().await?;
    let output = house.exec(&Home::new()?, &gateway.url()).await?;
    assert!(output.stdout.contains("The tide turns at noon."), "{output:?}");
    assert_quiet(&output);
    let said = house.said(0);
    assert_eq!(said.iter().map(|(socket, _)| *socket).collect::<Vec<_>>(), [0, 0, 0]);
    assert_eq!(said[2].1["previous_response_id"], json!("resp_look"));
    let items: Vec<_> = stack::items(&said[2].1).into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(items, ["function_call_output"]);
    Ok(())
}

/// A provider without WebSockets costs nothing that people see: Codex sends everything each time, on one socket.
#[tokio::test]
async fn a_provider_that_is_called_over_http_gets_the_whole_history() -> anyhow::Result<()> {
    let name = "a_provider_that_is_called_over_http_gets_the_whole_history";
    let Some(house) = House::of(name).await? else { return Ok(()) };
    let looks = Reply::sse(look().completed(stack::usage())).header("x-codex-turn-state", "sticky-7");
    house.upstream.push(looks);
    house.upstream.push(stack::says("resp_told", &["The tide ", "turns at ", "noon."]));
    let gateway = house.bridging().await?;
    let output = house.exec(&Home::new()?, &gateway.url()).await?;
    assert!(output.stdout.contains("The tide turns at noon."), "{output:?}");
    assert_quiet(&output);
    let calls = house.upstream.requests();
    let [first, second] = calls.as_slice() else { anyhow::bail!("two calls, not {}", calls.len()) };
    assert_eq!(
        (first.header("x-codex-turn-state"), second.header("x-codex-turn-state")),
        (None, Some("sticky-7"))
    );
    for call in &calls {
        let body = call.json();
        assert!(body.get("type").is_none() && body.get("generate").is_none());
        assert_eq!((body.get("previous_response_id"), &body["stream"]), (None, &json!(true)));
        let metadata: Value = serde_json::from_str(call.header("x-codex-turn-metadata").unwrap())?;
        assert_eq!(
            metadata["turn_id"], body["client_metadata"]["turn_id"],
            "the metadata is that of the turn"
        );
    }
    let items = stack::items(&second.json());
    let kinds: Vec<&str> = items.iter().map(|(kind, _)| kind.as_str()).collect();
    assert!(kinds.ends_with(&["reasoning", "function_call", "function_call_output"]), "{kinds:?}");
    assert!(std::str::from_utf8(&second.body)?.contains("sealed-thought"));
    // The prewarm and the two calls have each an account.
    let ended = |output: &str| {
        let ended = output.lines().filter(|line| line.contains("call ended") && line.contains("websocket"));
        ended.filter(|line| line.contains("completed")).count()
    };
    assert_eq!(ended(&gateway.service.output()), 3, "{}", gateway.service.output());
    Ok(())
}

#[tokio::test]
async fn a_provider_s_socket_that_is_lost_amid_a_response_costs_one_more_call() -> anyhow::Result<()> {
    let name = "a_provider_s_socket_that_is_lost_amid_a_response_costs_one_more_call";
    let Some(house) = House::of(name).await? else { return Ok(()) };
    house.upstream.push_socket(SocketScript::new().answer(warmed()).request().send(&told()[..4]).reset());
    house.upstream.push_socket(SocketScript::new().answer(told()));
    let gateway = house.wired().await?;
    let output = house.exec(&Home::new()?, &gateway.url()).await?;
    assert_eq!(output.stdout.matches("The tide turns at noon.").count(), 1, "{output:?}");
    let said = house.said(0);
    assert_eq!(said.iter().map(|(socket, _)| *socket).collect::<Vec<_>>(), [0, 0, 1]);
    assert_eq!(said[2].1.get("previous_response_id"), None);
    Ok(())
}

#[tokio::test]
async fn a_gateway_without_such_a_provider_sends_codex_to_http() -> anyhow::Result<()> {
    let name = "a_gateway_without_such_a_provider_sends_codex_to_http";
    let Some(house) = House::of(name).await? else { return Ok(()) };
    house.upstream.push(stack::says("resp_told", &["The tide ", "turns at ", "noon."]));
    let gateway = Gateway::before(&house.upstream).await?;
    let output = house.exec(&Home::new()?, &gateway.url()).await?;
    assert!(output.stdout.contains("The tide turns at noon."), "{output:?}");
    assert_eq!(house.upstream.requests().len(), 1);
    Ok(())
}

#[tokio::test]
async fn an_idle_websocket_does_not_hold_up_the_end() -> anyhow::Result<()> {
    let upstream = Upstream::start().await?;
    let gateway = Gateway::start(&format!("{}{SOCKETS}", stack::provider(&upstream))).await?;
    let url = format!("ws://{}/v1/responses", gateway.at);
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await?;
    gateway.service.signal(rustix::process::Signal::TERM)?;
    let said = tokio::time::timeout(Duration::from_secs(10), socket.next()).await?;
    let Some(Ok(Message::Close(Some(frame)))) = said else { anyhow::bail!("{said:?} instead of a goodbye") };
    assert_eq!(frame.code, CloseCode::Restart);
    let Gateway { mut service, .. } = gateway;
    assert_eq!(service.ended(STOP_TIME_MAX).await?.code(), Some(0));
    Ok(())
}
