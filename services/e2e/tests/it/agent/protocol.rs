//! Every method of the protocol: its state in the documentation, and what a client must have asked for to use it.

use agent_server::{Answered, answered};
use serde_json::json;
use service_e2e::places;
use service_e2e::rpc::Rpc;
use service_e2e::schema::{Fillings, Protocol};

use super::Desk;

/// Rewrites the table instead of comparing it.
const UPDATE: &str = "UPDATE_TABLES";
const BEGIN: &str = "<!-- methods -->\n";
const END: &str = "<!-- end of methods -->\n";

fn table(protocol: &Protocol) -> anyhow::Result<String> {
    let mut lines = vec!["| method | state | why |".to_owned(), "|---|---|---|".to_owned()];
    let mut methods = protocol.methods();
    methods.sort_unstable();
    for method in methods {
        let (state, why) = match answered(method) {
            Some(Answered::Whole) => ("answered", ""),
            Some(Answered::Empty(why)) => ("answered empty", why),
            Some(Answered::Refused(why)) => ("refused", why),
            None => anyhow::bail!("{method} has no state; give it one in agent/server/src/protocol.rs"),
        };
        lines.push(format!("| `{method}` | {state} | {why} |"));
    }
    Ok(format!("{BEGIN}{}\n{END}", lines.join("\n")))
}

#[tokio::test]
async fn the_documentation_lists_every_method_with_its_state() -> anyhow::Result<()> {
    let Some(protocol) = Protocol::pinned().await? else { return Ok(()) };
    let file = places::repository()?.join("agent/README.md");
    let text = std::fs::read_to_string(&file)?;
    let (begin, end) = (text.find(BEGIN).unwrap(), text.find(END).unwrap() + END.len());
    let current = table(&protocol)?;
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(&file, format!("{}{current}{}", &text[..begin], &text[end..]))?;
        return Ok(());
    }
    let shown = &text[begin..end];
    assert!(shown == current, "agent/README.md is not as the code is; run this test with {UPDATE}=1");
    Ok(())
}

/// A method is answered as its state says, and one that is experimental only to who has asked for such.
#[tokio::test]
async fn methods_are_as_they_are_listed() -> anyhow::Result<()> {
    let Some(protocol) = Protocol::pinned().await? else { return Ok(()) };
    let desk = Desk::start().await?;
    let mut rpc = desk.client().await?;
    let mut plain = Rpc::connect(&desk.agent.url).await?;
    plain.initialize_with(json!({"experimentalApi": false})).await?;
    for method in protocol.methods() {
        // A thread for each, because some end theirs.
        let thread = super::start_thread(&mut rpc).await?;
        let text = |name: &str| if name.ends_with("Id") { thread.clone() } else { "x".to_owned() };
        let fillings = Fillings { text: &text, optional: &|_| false };
        let params = protocol.sample(method, &fillings)?;
        let answer = rpc.ask(method, params.clone()).await?;
        let told = answer["error"]["message"].as_str().unwrap_or_default();
        let unsupported = told.contains("is not supported by this service: ");
        match answered(method) {
            Some(Answered::Refused(why)) => assert!(told.contains(why), "{method}: {answer}"),
            Some(Answered::Empty(_)) => assert!(answer["result"].is_object(), "{method}: {answer}"),
            // Whatever else is wrong with such a request.
            _ => assert!(!unsupported && !told.contains("unknown variant"), "{method}: {answer}"),
        }
        let answer = plain.ask(method, params).await?;
        let told = answer["error"]["message"].as_str().unwrap_or_default();
        let withheld = told == format!("{method} requires experimentalApi capability");
        let expected = protocol.is_experimental(method) && !unsupported;
        assert_eq!(withheld, expected, "{method}: {answer}");
    }
    Ok(())
}
