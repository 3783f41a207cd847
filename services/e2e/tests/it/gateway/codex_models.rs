//! The list of models as Codex reads it: what the gateway tells is what Codex works with.

use gateway_testkit::Upstream;
use serde_json::json;
use service_e2e::stack::{self, CALLER_KEY, Gateway, MODEL};
use service_e2e::{clients, home::Home, provision};

/// Nothing but the list can have told Codex this.
const INSTRUCTIONS: &str = "Speak of tides and of nothing else.";

/// One run of Codex, and what it complained of: the first developer message that the upstream got, and the errors.
async fn first_message(test: &str, facts: &str) -> anyhow::Result<Option<(String, String)>> {
    let Some(codex) = provision::codex(test).await? else { return Ok(None) };
    let upstream = Upstream::start().await?;
    upstream.set_default(stack::says("resp_tide", &["At noon."]));
    let config = format!(
        "{}\n[model_providers.scripted.model_facts.\"{MODEL}\"]\n{facts}",
        stack::provider(&upstream)
    );
    let gateway = Gateway::start(&config).await?;
    let home = Home::new()?;
    clients::use_gateway_by_command(&home, &gateway.url(), MODEL)?;
    let output =
        clients::codex_exec(&codex, &home, CALLER_KEY, "When does the tide turn?").await?.success()?;
    assert!(output.stdout.contains("At noon."), "{}", output.stdout);
    let calls = upstream.requests();
    assert_eq!(calls.len(), 1);
    let message = calls[0].json()["input"][0]["content"][0]["text"].clone();
    Ok(Some((message.as_str().unwrap_or_default().to_owned(), output.stderr)))
}

#[tokio::test]
async fn codex_works_with_a_model_as_the_gateway_tells_it() -> anyhow::Result<()> {
    let name = "codex_works_with_a_model_as_the_gateway_tells_it";
    let facts = format!(
        "base_instructions = {}\nreasoning_efforts = [{{ effort = \"ultra\" }}]\ndefault_reasoning_effort = \"ultra\"\n\
         context_window = 64000\nsupports_reasoning_summaries = true\ndefault_reasoning_summary = \"detailed\"\n",
        json!(INSTRUCTIONS)
    );
    let Some((message, errors)) = first_message(name, &facts).await? else { return Ok(()) };
    assert_eq!(message, INSTRUCTIONS);
    assert!(!errors.contains("metadata for"), "{errors}");
    assert!(!errors.contains("failed to refresh available models"), "{errors}");
    Ok(())
}

/// What the gateway does not know is left to Codex, which has a developer message of its own.
#[tokio::test]
async fn a_model_that_nobody_describes_is_left_to_codex() -> anyhow::Result<()> {
    let name = "a_model_that_nobody_describes_is_left_to_codex";
    let Some((message, errors)) = first_message(name, "context_window = 64000\n").await? else {
        return Ok(());
    };
    assert!(message.contains("Codex"), "{message}");
    assert!(errors.contains("metadata for"), "{errors}");
    assert!(!errors.contains("failed to refresh available models"), "{errors}");
    Ok(())
}
