//! `tidegate up`: both services until Ctrl-C, and what to paste where.

use std::{net::SocketAddr, path::PathBuf, pin::pin};

use agentd::AccessConfig;
use service_runtime::listen::Address;
use tidegate_proto::{
    failure_of,
    gateway::v1::{ListModelsRequest, Model, model_gateway_service_client::ModelGatewayServiceClient},
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{
    address::AddressFile,
    child::Log,
    connect::channel,
    desk::{Desk, Plan},
    home::Home,
    key::Key,
    output,
};

/// What `tidegate up` was asked for.
#[derive(Debug)]
pub(crate) struct Wish {
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) gateway: SocketAddr,
    pub(crate) agent: SocketAddr,
}

/// Runs a desk until it is told to stop or one of its services ends.
pub(crate) async fn up(wish: Wish) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let home = Home::find(wish.data_dir.clone())?;
    let _taken = home.take()?;
    let plan = Plan {
        gateway_socket: home.gateway_socket(),
        gateway_listen: Some(Address::Tcp(wish.gateway)),
        gateway_config: home.gateway_config(),
        agent_listen: Address::Tcp(wish.agent),
        agent_config: home.agent_config(),
        home: home.path().to_owned(),
    };
    let mut desk = tokio::select! {
        desk = Desk::start(&plan, Log::Shown) => desk?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    let model = default_model(&plan).await;
    let address_file = AddressFile::write(home.agent_address_file(), &plan.agent_listen)?;
    output::write(&banner(&wish, &home, &model))?;
    let ended = tokio::select! {
        error = desk.broken() => Err(error),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    output::note("stopping: running turns and calls may finish first; a second Ctrl-C stops at once");
    // Gone or not, nobody shall find an agent there any more.
    drop(address_file);
    let at_once = CancellationToken::new();
    let mut stop = pin!(desk.stop(&at_once));
    let hurried = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        output::note("stopping at once");
        at_once.cancel();
        std::future::pending().await
    };
    let stopped = tokio::select! {
        stopped = &mut stop => stopped,
        never = hurried => never,
    };
    ended.and(stopped)
}

/// The model that clients begin with, as far as the gateway tells.
enum DefaultModel {
    Known(Model),
    /// A provider that cannot be reached now may be there in a minute.
    NoneYet,
    /// Why it is not told, and what to do. The desk stays: what it serves to others may be fine, and this may be put right.
    Untold(String),
}

/// Asks as the agent does, for it is the agent's way to the gateway that has to be open; the user's own `TIDEGATE_KEY` may be
/// good for it and hide that the agent has none.
async fn default_model(plan: &Plan) -> DefaultModel {
    match models(plan).await {
        Ok(Ok(models)) => match models.iter().find(|model| model.is_default).or_else(|| models.first()) {
            Some(model) => DefaultModel::Known(model.clone()),
            None => DefaultModel::NoneYet,
        },
        Ok(Err(status)) => {
            let failure = failure_of(&status);
            match failure.reason.as_str() {
                "unauthenticated" => DefaultModel::Untold(unknown_agent(plan, &failure.message)),
                reason => {
                    DefaultModel::Untold(format!("the gateway does not tell: {} ({reason})", failure.message))
                }
            }
        }
        Err(error) => DefaultModel::Untold(format!("the gateway cannot be asked: {error:#}")),
    }
}

async fn models(plan: &Plan) -> anyhow::Result<Result<Vec<Model>, tonic::Status>> {
    let shown = plan.agent_config.as_deref().map(agentd::shown_beside).transpose()?.flatten();
    let key = Key::in_file(shown.and_then(|AccessConfig { token_file, .. }| token_file).as_deref())?;
    let channel = channel(&Address::Unix(plan.gateway_socket.clone())).await?;
    let mut gateway = ModelGatewayServiceClient::with_interceptor(channel, key);
    Ok(gateway.list_models(ListModelsRequest {}).await.map(|models| models.into_inner().models))
}

fn unknown_agent(plan: &Plan, message: &str) -> String {
    let home = plan.home.display();
    format!(
        "the gateway does not know the agent: {message}.
  Give the agent a key of its own, then start again:
    tidegate keys create --file KEYS_FILE --tenant TENANT --subject agent > {home}/agent.key
  with the `keys_file` of {home}/gateway.toml for KEYS_FILE, and in {home}/agent.toml
    [gateway_access]
    token_file = \"agent.key\""
    )
}

fn banner(wish: &Wish, home: &Home, model: &DefaultModel) -> String {
    let (gateway, agent) = (wish.gateway, wish.agent);
    let (slug, account) = match model {
        DefaultModel::Untold(why) => ("MODEL", format!("not known: {why}")),
        DefaultModel::NoneYet => (
            "MODEL",
            "none is known: no provider has told its models yet.\n  Put one that you know where it says MODEL below, or \
             into `models` of a provider in gateway.toml."
                .to_owned(),
        ),
        DefaultModel::Known(Model { slug, provider, .. }) if provider == "rehearsal" => (
            slug.as_str(),
            "rehearsal, a scripted model that needs no network and no account.\n  Set OPENAI_API_KEY and start again to \
             use OpenAI."
                .to_owned(),
        ),
        DefaultModel::Known(Model { slug, provider, .. }) => {
            (slug.as_str(), format!("{slug} by {provider}; the key is in the gateway's process alone."))
        }
    };
    format!(
        "\
Tidegate is up.
  Model: {account}
  Data:  {data}

One prompt through both services:
  tidegate ask \"What is a tide gate?\"

Codex CLI on the agent service:
  codex --remote ws://{agent}

Codex CLI through the gateway, in ~/.codex/config.toml:
  model = \"{slug}\"
  model_provider = \"tidegate\"

  [model_providers.tidegate]
  name = \"Tidegate\"
  base_url = \"http://{gateway}/v1\"
  wire_api = \"responses\"

OpenAI SDK through the gateway (Python):
  client = OpenAI(base_url=\"http://{gateway}/v1\", api_key=\"unused\")
  client.responses.create(model=\"{slug}\", input=\"Hello\")

Codex SDK on the agent service (Python):
  Codex(CodexConfig(codex_bin=\"{program}\"))

Ctrl-C stops both.
",
        data = home.path().display(),
        program = std::env::current_exe().unwrap_or_else(|_| "tidegate".into()).display(),
    )
}
