//! A model name that is served by another provider's model: people keep the name, and are not told of a reroute.
//!
//! Codex takes another model name in an answer for the sign that OpenAI has flagged the account.

use bytes::Bytes;
use gateway_testkit::{Reply, Turn, Upstream};
use service_e2e::stack::{self, CALLER_KEY, CATALOG_MODEL, Gateway};
use service_e2e::{clients, home::Home, provision};
use tidegate_responses::sse;

const SERVED: &str = "corp-large";
/// What Codex says of an answer that names another model.
const WARNINGS: [&str; 2] = ["model rerouted", "flagged for potentially high-risk"];

/// An answer that names the model that served it in a header, or in an event, or in both.
fn served(in_header: bool, in_event: bool) -> Reply {
    let turn = Turn::new("resp_corp").model(SERVED).text(&["At noon."]);
    let mut frames: Vec<Bytes> = turn.completed(stack::usage());
    if in_event {
        let told = format!(r#"{{"type":"response.metadata","headers":{{"openai-model":"{SERVED}"}}}}"#);
        frames.insert(1, sse::encode("response.metadata", told.as_bytes()));
    }
    let reply = Reply::sse(frames);
    if in_header { reply.header("openai-model", SERVED) } else { reply }
}

#[tokio::test]
async fn an_aliased_model_answers_under_the_name_that_was_asked_for() -> anyhow::Result<()> {
    let name = "an_aliased_model_answers_under_the_name_that_was_asked_for";
    let Some(codex) = provision::codex(name).await? else { return Ok(()) };
    let upstream = Upstream::start().await?;
    let gateway = Gateway::start(&format!(
        "model_provider = \"corp\"\n[model_providers.corp]\nbase_url = \"{}\"\nenv_key = \"E2E_UPSTREAM_KEY\"\n\
         models = [\"{SERVED}\"]\n[model_aliases.{CATALOG_MODEL}]\nprovider = \"corp\"\nmodel = \"{SERVED}\"\n",
        upstream.base_url()
    ))
    .await?;
    let home = Home::new()?;
    let prompt = async |base: &str| {
        clients::use_gateway(&home, base, CATALOG_MODEL)?;
        let output = clients::codex_exec(&codex, &home, CALLER_KEY, "When does the tide turn?").await?;
        let output = output.success()?;
        assert!(output.stdout.contains("At noon."), "{output:?}");
        anyhow::Ok(output.stderr)
    };
    // Without the gateway either of the two is enough for the warning.
    for (in_header, in_event) in [(true, false), (false, true)] {
        upstream.push(served(in_header, in_event));
        let told = prompt(&format!("http://{}", upstream.address())).await?;
        assert!(WARNINGS.iter().all(|warning| told.contains(warning)), "{told}");
    }

    upstream.push(served(true, true));
    let told = prompt(&gateway.url()).await?;
    assert!(!WARNINGS.iter().any(|warning| told.contains(warning)), "{told}");
    assert!(!told.contains(SERVED), "{told}");
    let seen = upstream.requests();
    let models: Vec<_> = seen.iter().map(|seen| seen.json()["model"].clone()).collect();
    assert_eq!(models, [CATALOG_MODEL, CATALOG_MODEL, SERVED]);
    Ok(())
}
