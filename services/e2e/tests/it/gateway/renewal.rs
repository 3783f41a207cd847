//! A credential that the provider stops taking in the middle of people's work, which go on without noticing.

use std::path::Path;
use std::time::Duration;

use futures_util::future::try_join_all;
use gateway_testkit::{Gate, Reply, Upstream};
use serde_json::json;
use service_e2e::clients::{self, NO_REPEATS};
use service_e2e::process::Output;
use service_e2e::stack::{self, CALLER_KEY, Gateway, MODEL};
use service_e2e::{home::Home, provision};
use tokio::time::timeout;

const ANSWER: &str = "The tide turns at noon.";
/// How many people work at once.
const PEOPLE: usize = 4;
/// The slowest of them has asked by then.
const ASK_TIME_MAX: Duration = Duration::from_secs(80);

/// A command that prints the token of a file, and the note that it keeps of its runs.
struct Vault(Home);

impl Vault {
    fn new(token: &str) -> anyhow::Result<Self> {
        let vault = Self(Home::new()?);
        let script = "echo run >> \"$1/runs\"\ncat \"$1/token\"\n";
        std::fs::write(vault.0.path("print.sh"), script)?;
        vault.hold(token)?;
        Ok(vault)
    }

    fn hold(&self, token: &str) -> anyhow::Result<()> {
        Ok(std::fs::write(self.0.path("token"), format!("{token}\n"))?)
    }

    fn runs(&self) -> usize {
        std::fs::read_to_string(self.0.path("runs")).map_or(0, |runs| runs.lines().count())
    }

    /// The table that makes it a provider's credential.
    fn table(&self) -> String {
        let root = self.0.path("");
        format!(
            "[model_providers.scripted.auth]\ncommand = \"/bin/sh\"\nargs = [{:?}, {root:?}]\n\
             refresh_interval_ms = 0\n",
            self.0.path("print.sh")
        )
    }
}

fn answering() -> Reply {
    stack::says("resp_tide", &["The tide ", "turns at ", "noon."])
}

fn revoked() -> Reply {
    Reply::json(401, &json!({"error": {"message": "this token was revoked", "code": "token_revoked"}}))
}

/// How a person's Codex knows the gateway.
#[derive(Clone, Copy)]
enum As {
    CustomProvider,
    OpenAi,
}

async fn prompt(codex: &Path, gateway: &Gateway, way: As) -> anyhow::Result<Output> {
    let home = Home::new()?;
    match way {
        As::CustomProvider => clients::use_gateway_with(&home, &gateway.url(), MODEL, NO_REPEATS)?,
        As::OpenAi => clients::use_gateway_as_openai(&home, &gateway.url(), MODEL)?,
    }
    let output =
        clients::codex_exec(codex, &home, CALLER_KEY, "When does the tide turn?").await?.success()?;
    assert!(output.stdout.contains(ANSWER), "{output:?}");
    assert!(!output.stderr.contains("Reconnecting"), "{output:?}");
    Ok(output)
}

/// What the calls since the first `known` ones showed to the provider.
fn shown(upstream: &Upstream, known: usize) -> Vec<String> {
    let calls = upstream.requests().split_off(known);
    calls.iter().map(|call| call.header("authorization").unwrap_or("nothing").to_owned()).collect()
}

#[tokio::test]
async fn a_revoked_token_is_replaced_by_one_run_of_its_command() -> anyhow::Result<()> {
    let name = "a_revoked_token_is_replaced_by_one_run_of_its_command";
    let Some(codex) = provision::codex(name).await? else { return Ok(()) };
    let upstream = Upstream::start().await?;
    upstream.set_default(answering());
    let vault = Vault::new("token-1")?;
    let gateway = Gateway::start(&(stack::keyless_provider(&upstream) + &vault.table())).await?;

    prompt(&codex, &gateway, As::CustomProvider).await?;
    assert_eq!((shown(&upstream, 0), vault.runs()), (vec!["Bearer token-1".to_owned()], 1));
    for (way, old, new) in [(As::CustomProvider, "token-1", "token-2"), (As::OpenAi, "token-2", "token-3")] {
        let (known, runs) = (upstream.requests().len(), vault.runs());
        vault.hold(new)?;
        upstream.push(revoked());
        prompt(&codex, &gateway, way).await?;
        assert_eq!(shown(&upstream, known), [format!("Bearer {old}"), format!("Bearer {new}")]);
        assert_eq!(vault.runs(), runs + 1);
    }
    Ok(())
}

#[tokio::test]
async fn several_people_who_meet_a_revoked_token_cost_one_run() -> anyhow::Result<()> {
    let name = "several_people_who_meet_a_revoked_token_cost_one_run";
    let Some(codex) = provision::codex(name).await? else { return Ok(()) };
    let upstream = Upstream::start().await?;
    upstream.set_default(answering());
    let vault = Vault::new("token-1")?;
    let gateway = Gateway::start(&(stack::keyless_provider(&upstream) + &vault.table())).await?;
    prompt(&codex, &gateway, As::CustomProvider).await?;

    // Nobody hears of the revocation before all have asked.
    let all_asked = Gate::closed();
    for _ in 0..PEOPLE {
        upstream.push(revoked().delay_headers(&all_asked));
    }
    vault.hold("token-2")?;
    let ways = [As::CustomProvider, As::OpenAi].into_iter().cycle().take(PEOPLE);
    let people = try_join_all(ways.map(|way| prompt(&codex, &gateway, way)));
    let asked = async {
        timeout(ASK_TIME_MAX, async { while upstream.wait_for_request(1 + PEOPLE).await.is_err() {} })
            .await?;
        assert_eq!(vault.runs(), 1);
        all_asked.open();
        anyhow::Ok(())
    };
    tokio::try_join!(people, asked)?;
    let mut expected = vec!["Bearer token-1".to_owned(); PEOPLE];
    expected.extend(vec!["Bearer token-2".to_owned(); PEOPLE]);
    assert_eq!(shown(&upstream, 1), expected);
    assert_eq!(vault.runs(), 2);
    Ok(())
}

/// A key that was replaced in its file before the provider stopped taking the old one, as rotations are done.
#[tokio::test]
async fn a_key_file_that_was_replaced_is_read_again() -> anyhow::Result<()> {
    let name = "a_key_file_that_was_replaced_is_read_again";
    let Some(codex) = provision::codex(name).await? else { return Ok(()) };
    let upstream = Upstream::start().await?;
    upstream.set_default(answering());
    upstream.accept_only("Bearer key-1");
    let vault = Vault::new("key-1")?;
    let file = format!("key_file = {:?}\n", vault.0.path("token"));
    let gateway = Gateway::start(&(stack::keyless_provider(&upstream) + &file)).await?;
    prompt(&codex, &gateway, As::CustomProvider).await?;

    vault.hold("key-2")?;
    upstream.accept_only("Bearer key-2");
    for way in [As::CustomProvider, As::OpenAi] {
        prompt(&codex, &gateway, way).await?;
    }
    assert_eq!(shown(&upstream, upstream.requests().len() - 2), ["Bearer key-2", "Bearer key-2"]);
    assert!(upstream.faults().unauthorized <= 1, "{:?}", upstream.faults());
    Ok(())
}
