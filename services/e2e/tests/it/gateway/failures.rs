//! What people see of a provider that fails for a moment: nothing, or the wait that it has asked for.

use std::path::Path;
use std::time::Duration;

use gateway_testkit::{Reply, Upstream};
use serde_json::json;
use service_e2e::clients::NO_REPEATS;
use service_e2e::process::Output;
use service_e2e::stack::{self, CALLER_KEY, Gateway, MODEL};
use service_e2e::{clients, home::Home, provision};
use tokio::time::{Instant, timeout};

const ANSWER: &str = "The tide turns at noon.";
/// What Codex prints when it repeats a call.
const VISIBLE: &str = "Reconnecting";
/// Longer than a prompt may take.
const REPEAT_TIME_MAX: Duration = Duration::from_secs(100);

/// An upstream that answers, once what a test has pushed is played, and a gateway before it.
struct House {
    codex: std::path::PathBuf,
    upstream: Upstream,
    gateway: Gateway,
}

impl House {
    /// Nothing on a machine without Codex.
    async fn of(test: &str) -> anyhow::Result<Option<Self>> {
        let Some(codex) = provision::codex(test).await? else { return Ok(None) };
        let upstream = Upstream::start().await?;
        upstream.set_default(stack::says("resp_tide", &["The tide ", "turns at ", "noon."]));
        let gateway = Gateway::start(&stack::repeating_provider(&upstream)).await?;
        Ok(Some(Self { codex, upstream, gateway }))
    }

    fn direct(&self) -> String {
        format!("http://{}", self.upstream.address())
    }

    /// What one prompt printed, and how many calls it cost.
    async fn prompt(&self, base: &str, keys: &str) -> anyhow::Result<(Output, usize)> {
        let before = self.upstream.requests().len();
        let output = prompt(&self.codex, base, keys).await?;
        Ok((output, self.upstream.requests().len() - before))
    }

    /// When the call with this number has come.
    async fn arrival(&self, number: usize) -> anyhow::Result<Instant> {
        let arrived = async { while self.upstream.wait_for_request(number).await.is_err() {} };
        timeout(REPEAT_TIME_MAX, arrived).await?;
        Ok(Instant::now())
    }
}

async fn prompt(codex: &Path, base: &str, keys: &str) -> anyhow::Result<Output> {
    let home = Home::new()?;
    clients::use_gateway_with(&home, base, MODEL, keys)?;
    clients::codex_exec(codex, &home, CALLER_KEY, "When does the tide turn?").await
}

fn limited(header: Option<(&str, &str)>, message: &str) -> Reply {
    let reply =
        Reply::json(429, &json!({"error": {"message": message, "type": "t", "code": "rate_limit_exceeded"}}));
    header.into_iter().fold(reply, |reply, (name, value)| reply.header(name, value))
}

/// Codex understands whole seconds in `retry-after` alone, and otherwise gives up at once.
#[tokio::test]
async fn a_delay_in_any_form_is_waited_for() -> anyhow::Result<()> {
    let Some(house) = House::of("a_delay_in_any_form_is_waited_for").await? else { return Ok(()) };
    for (header, message, understood) in [
        (Some(("retry-after", "1")), "slow down", true),
        (Some(("retry-after", "0.5")), "slow down", false),
        (Some(("retry-after-ms", "400")), "slow down", false),
        (None, "Rate limit reached. Please try again in 0.4s.", false),
    ] {
        house.upstream.push(limited(header, message));
        let (alone, calls) = house.prompt(&house.direct(), "").await?;
        assert_eq!((alone.status.success(), calls), (understood, 1 + usize::from(understood)), "{alone:?}");

        let before = house.upstream.requests().len();
        house.upstream.push(limited(header, message));
        let waited = async {
            let refused = house.arrival(before + 1).await?;
            anyhow::Ok(house.arrival(before + 2).await? - refused)
        };
        let url = house.gateway.url();
        let (prompted, waited) = tokio::join!(house.prompt(&url, ""), waited);
        let (output, calls) = prompted?;
        let output = output.success()?;
        assert!(output.stdout.contains(ANSWER), "{output:?}");
        assert_eq!(calls, 2, "{header:?} {message}");
        // A whole second, less what this test may notice late.
        assert!(waited? > Duration::from_millis(900), "{header:?} {message}");
    }
    Ok(())
}

#[tokio::test]
async fn a_limit_that_is_used_up_is_told_at_once() -> anyhow::Result<()> {
    let Some(house) = House::of("a_limit_that_is_used_up_is_told_at_once").await? else { return Ok(()) };
    let told = json!({"error": {
        "type": "usage_limit_reached", "message": "The usage limit has been reached", "plan_type": "pro",
        "resets_in_seconds": 3600,
    }});
    house.upstream.push(Reply::json(429, &told).header("retry-after", "1"));
    let (output, calls) = house.prompt(&house.gateway.url(), "").await?;
    assert!(!output.status.success());
    assert!(output.stderr.contains("usage limit"), "{}", output.stderr);
    assert_eq!(calls, 1);
    Ok(())
}

#[tokio::test]
async fn what_fails_before_the_answer_begins_is_repeated_unseen() -> anyhow::Result<()> {
    let name = "what_fails_before_the_answer_begins_is_repeated_unseen";
    let Some(house) = House::of(name).await? else { return Ok(()) };
    let overloaded = || Reply::json(503, &json!({"error": {"message": "the sea is full", "code": "full"}}));
    for fault in [Reply::reset(), Reply::close(), overloaded()] {
        house.upstream.push(fault.clone());
        let (alone, calls) = house.prompt(&house.direct(), NO_REPEATS).await?;
        assert_eq!((alone.status.success(), calls), (false, 1), "{fault:?}: {alone:?}");

        house.upstream.push(fault.clone());
        let (output, calls) = house.prompt(&house.gateway.url(), NO_REPEATS).await?;
        let output = output.success()?;
        assert!(output.stdout.contains(ANSWER) && !output.stderr.contains(VISIBLE), "{fault:?}: {output:?}");
        assert_eq!(calls, 2, "{fault:?}");
    }
    // Codex has its own patience, so the gateway's is short: one repeat, and the fault is told.
    house.upstream.push(overloaded());
    house.upstream.push(overloaded());
    let (output, calls) = house.prompt(&house.gateway.url(), NO_REPEATS).await?;
    assert_eq!((output.status.success(), calls), (false, 2), "{output:?}");
    Ok(())
}

/// A person has read what came before the break; only Codex knows how to begin again.
#[tokio::test]
async fn an_answer_that_has_begun_is_not_repeated_by_the_gateway() -> anyhow::Result<()> {
    let name = "an_answer_that_has_begun_is_not_repeated_by_the_gateway";
    let Some(house) = House::of(name).await? else { return Ok(()) };
    let whole = stack::says("resp_cut", &["The tide ", "turns at ", "noon."]);
    let half = whole.body().len() / 2;
    house.upstream.push(whole.clone().reset_after(half));
    let (output, calls) = house.prompt(&house.gateway.url(), NO_REPEATS).await?;
    assert_eq!((output.status.success(), calls), (false, 1), "{output:?}");

    house.upstream.push(whole.reset_after(half));
    let (output, calls) = house.prompt(&house.gateway.url(), "").await?;
    let output = output.success()?;
    assert!(output.stdout.contains(ANSWER) && output.stderr.contains(VISIBLE), "{output:?}");
    assert_eq!(calls, 2);
    Ok(())
}
