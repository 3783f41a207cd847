//! Codex at a gateway that asks for a key: how it shows one, and what people see of a refusal.

use std::path::PathBuf;
use std::time::Duration;

use gateway_testkit::{Gate, Upstream};
use service_e2e::clients::{self, GATE_KEY, NO_REPEATS};
use service_e2e::door::{DENYING_RULE, Door, SUBJECT, TENANT};
use service_e2e::http::{self, Raw};
use service_e2e::login::{ACCOUNT, Login};
use service_e2e::process::Output;
use service_e2e::stack::{self, CATALOG_MODEL, MODEL, UPSTREAM_KEY};
use service_e2e::tap::Tap;
use service_e2e::{home::Home, provision};

const PROMPT: &str = "When does the tide turn?";
const ANSWER: &str = "The tide turns at noon.";
/// What Codex prints when it repeats a call in a way that people see.
const VISIBLE: &str = "Reconnecting";
/// A key of the right form that nobody has made.
const UNKNOWN_KEY: &str = "tg_0123456789ab_0000";
/// How every model call of Codex begins.
const CALL: &str = "POST /v1/responses HTTP/1.1";

struct House {
    codex: PathBuf,
    door: Door,
    tap: Tap,
    home: Home,
}

impl House {
    async fn of(test: &str, tables: &str) -> anyhow::Result<Option<Self>> {
        let Some(codex) = provision::codex(test).await? else { return Ok(None) };
        let door = Door::open(tables).await?;
        door.upstream.set_default(stack::says("resp_tide", &["The tide ", "turns at ", "noon."]));
        Self::at(codex, door).await.map(Some)
    }

    async fn at(codex: PathBuf, door: Door) -> anyhow::Result<Self> {
        let tap = Tap::before(door.gateway.at).await?;
        Ok(Self { codex, door, tap, home: Home::new()? })
    }

    async fn prompt(&self, variables: &[(&str, &str)]) -> anyhow::Result<Output> {
        clients::codex_exec_with(&self.codex, &self.home, variables, PROMPT).await
    }

    /// One prompt with a key in the environment.
    async fn prompt_with(&self, key: &str) -> anyhow::Result<Output> {
        self.prompt(&[(GATE_KEY, key)]).await
    }

    /// How many calls the gateway was asked for, and how many it has passed on.
    fn calls(&self) -> (usize, usize) {
        (self.tap.asked(CALL).len(), self.door.upstream.requests().len())
    }
}

fn answered(output: anyhow::Result<Output>) -> anyhow::Result<Output> {
    let output = output?.success()?;
    assert!(output.stdout.contains(ANSWER), "{output:?}");
    Ok(output)
}

#[tokio::test]
async fn a_key_in_the_environment_or_by_a_command_opens_the_door() -> anyhow::Result<()> {
    let name = "a_key_in_the_environment_or_by_a_command_opens_the_door";
    let Some(house) = House::of(name, "").await? else { return Ok(()) };
    let url = house.tap.url();
    clients::use_gateway(&house.home, &url, MODEL)?;
    answered(house.prompt_with(&house.door.key).await)?;
    clients::use_gateway_by_command(&house.home, &url, MODEL)?;
    answered(house.prompt_with(&house.door.key).await)?;
    assert_eq!(house.calls(), (2, 2));
    for call in house.door.upstream.requests() {
        assert_eq!(call.header("authorization"), Some(format!("Bearer {UPSTREAM_KEY}").as_str()));
        assert!(!format!("{call:?}").contains(&house.door.key));
    }
    let log = house.door.gateway.service.output();
    let lines = log.lines().filter(|line| line.contains("call ended"));
    let named = lines.filter(|line| {
        line.contains(&format!("\"tenant\":\"{TENANT}\""))
            && line.contains(&format!("\"subject\":\"{SUBJECT}\""))
    });
    assert_eq!(named.count(), 2, "{log}");
    Ok(())
}

/// Codex asks its command again when its key is refused, and nobody sees that it did.
#[tokio::test]
async fn a_key_that_has_ended_is_replaced_unseen() -> anyhow::Result<()> {
    let name = "a_key_that_has_ended_is_replaced_unseen";
    let Some(house) = House::of(name, "").await? else { return Ok(()) };
    let (command, runs) = (house.home.path("key.sh"), house.home.path("runs"));
    // The first run prints a key of the right form that nobody knows.
    let script = format!(
        "if [ -e {runs} ]; then echo $REAL_KEY; else echo {UNKNOWN_KEY}; fi\necho run >> {runs}\n",
        runs = runs.display(),
    );
    std::fs::write(&command, script)?;
    house.home.configure_codex(&format!(
        "model = \"{MODEL}\"\nmodel_provider = \"gate\"\n\n[model_providers.gate]\nname = \"gate\"\n\
         base_url = \"{}/v1\"\nwire_api = \"responses\"\n\n[model_providers.gate.auth]\n\
         command = \"/bin/sh\"\nargs = [\"{}\"]\nrefresh_interval_ms = 0\n",
        house.tap.url(),
        command.display()
    ))?;
    let output = answered(house.prompt(&[("REAL_KEY", &house.door.key)]).await)?;
    assert!(!output.stderr.contains(VISIBLE), "{output:?}");
    assert_eq!(std::fs::read_to_string(runs)?.lines().count(), 2, "the command was run again, once");
    assert_eq!(house.calls(), (2, 1), "the call was repeated, and nothing has passed with the refused key");
    Ok(())
}

#[tokio::test]
async fn a_refusal_is_told_in_its_own_words_and_once() -> anyhow::Result<()> {
    let name = "a_refusal_is_told_in_its_own_words_and_once";
    let Some(house) = House::of(name, "").await? else { return Ok(()) };
    // With Codex's usual patience: a rule that says no would say so six times.
    clients::use_gateway(&house.home, &house.tap.url(), CATALOG_MODEL)?;
    let output = house.prompt_with(&house.door.key).await?;
    assert!(!output.status.success(), "{output:?}");
    assert!(output.stderr.contains(DENYING_RULE) && !output.stderr.contains(VISIBLE), "{output:?}");
    assert_eq!(house.calls(), (1, 0));

    clients::use_gateway_with(&house.home, &house.tap.url(), MODEL, NO_REPEATS)?;
    let output = house.prompt_with(UNKNOWN_KEY).await?;
    assert!(!output.status.success(), "{output:?}");
    assert!(output.stderr.contains("the key is unknown"), "{output:?}");
    assert_eq!(house.calls(), (2, 0));
    Ok(())
}

/// A call of `key` that runs until `gate` is open.
async fn hold(door: &Door, key: &str, gate: &Gate) -> anyhow::Result<Raw> {
    let reply = stack::says("resp_held", &["One ", "two."]);
    let half = reply.body().len() / 2;
    door.upstream.push(reply.stall_after(half, gate));
    let body = format!(r#"{{"model":"{MODEL}","stream":true,"input":"hold"}}"#);
    let headers = format!("authorization: Bearer {key}\r\n");
    let mut raw = Raw::connect(door.gateway.at).await?;
    raw.send(&http::post(door.gateway.at, "/v1/responses", &headers, body.as_bytes())).await?;
    raw.read_until("response.created").await?;
    Ok(raw)
}

/// A gateway without room says when to come back, and Codex comes back then.
async fn waits_for_room(test: &str, tables: &str, narrow: bool, refusal: &str) -> anyhow::Result<()> {
    let Some(house) = House::of(test, tables).await? else { return Ok(()) };
    let key = if narrow { &house.door.narrow_key } else { &house.door.key };
    let gate = Gate::closed();
    let held = hold(&house.door, key, &gate).await?;
    clients::use_gateway(&house.home, &house.tap.url(), MODEL)?;
    let opened = async {
        house.tap.wait_for_answer(refusal).await?;
        gate.open();
        held.finish().await
    };
    let (output, held) = tokio::join!(house.prompt_with(key), opened);
    assert!(held?.text.contains("response.completed"));
    answered(output)?;
    let asked = house.tap.asked(CALL);
    let [first, second] = asked.as_slice() else { anyhow::bail!("two calls, not {}", asked.len()) };
    // A whole second, less what this test may notice late.
    assert!(*second - *first > Duration::from_millis(900), "{:?}", *second - *first);
    assert_eq!(house.calls(), (2, 2), "the one that held the place, and the one that waited");
    Ok(())
}

#[tokio::test]
async fn codex_waits_for_a_place_of_its_own() -> anyhow::Result<()> {
    waits_for_room("codex_waits_for_a_place_of_its_own", "", true, "HTTP/1.1 429").await
}

#[tokio::test]
async fn codex_waits_for_a_place_in_the_gateway() -> anyhow::Result<()> {
    let tables = "\n[limits]\nconcurrent_calls_max = 1\n";
    waits_for_room("codex_waits_for_a_place_in_the_gateway", tables, false, "HTTP/1.1 503").await
}

/// A person's own login goes to the provider and the gateway's key to the gateway; the body comes compressed then.
#[tokio::test]
async fn a_login_and_a_key_travel_together() -> anyhow::Result<()> {
    let name = "a_login_and_a_key_travel_together";
    let Some(codex) = provision::codex(name).await? else { return Ok(()) };
    let upstream = Upstream::start().await?;
    upstream.set_default(stack::says("resp_tide", &["The tide ", "turns at ", "noon."]));
    let config = format!(
        "model_provider = \"openai\"\nmodel = \"{CATALOG_MODEL}\"\n\n[model_providers.openai]\nbase_url = \"{}\"\n\
         pass_through = true\nsupports_websockets = false\n",
        upstream.base_url()
    );
    let house = House::at(codex, Door::before(upstream, &config, "").await?).await?;
    // Codex compresses for a provider that is called like its own.
    house.home.configure_codex(&format!(
        "model = \"{CATALOG_MODEL}\"\nmodel_provider = \"gate\"\n\n[model_providers.gate]\nname = \"OpenAI\"\n\
         base_url = \"{}/v1\"\nwire_api = \"responses\"\nrequires_openai_auth = true\nsupports_websockets = false\n\
         {NO_REPEATS}env_http_headers = {{ \"x-tidegate-authorization\" = \"{GATE_KEY}\" }}\n",
        house.tap.url()
    ))?;
    let login = Login::new(1);
    login.write(&house.home)?;
    let shown = format!("Bearer {}", house.door.key);
    answered(house.prompt_with(&shown).await)?;

    assert_eq!(house.tap.asked("content-encoding: zstd").len(), 1, "what there is to inflate");
    let calls = house.door.upstream.requests();
    let [call] = calls.as_slice() else { anyhow::bail!("one call, not {}", calls.len()) };
    assert_eq!(call.header("authorization"), Some(login.authorization().as_str()));
    assert_eq!(call.header("chatgpt-account-id"), Some(ACCOUNT));
    assert_eq!(call.header("content-encoding"), None);
    assert_eq!(call.json()["model"], CATALOG_MODEL);
    for request in house.door.upstream.all_requests() {
        assert!(!format!("{request:?}").contains(&house.door.key), "{}", request.path);
    }

    // The login alone opens nothing.
    let output = house.prompt_with(&format!("Bearer {UNKNOWN_KEY}")).await?;
    assert!(!output.status.success() && output.stderr.contains("the key is unknown"), "{output:?}");
    assert_eq!(house.door.upstream.requests().len(), 1);
    Ok(())
}
