//! Models.

use agent_session::{Model as Domain, Provider as DomainProvider};

use crate::call::{Answer, Call, refusal};
use crate::rpc::Refusal;
use crate::wire::model::{Capabilities, ListParams, Model, Provider, Providers};
use crate::wire::page::Forward;

/// `model/list`. The cursor is the number of models that the client has seen.
pub(crate) async fn list(call: &Call<'_>) -> Answer {
    let ListParams { cursor, limit, model_provider } = call.params()?;
    let skip: usize = match &cursor {
        None => 0,
        Some(text) => text.parse().map_err(|_| Refusal::invalid(format!("invalid cursor: {text}")))?,
    };
    let limit = limit.and_then(|limit| usize::try_from(limit.max(1)).ok()).unwrap_or(usize::MAX);
    let shared = &call.connection.shared;
    let models = shared.sessions.models().await.map_err(refusal)?;
    let effective = shared.effective(&call.connection.principal);
    let default = shared.default_model(&effective, &models).map(|model| model.slug.as_str());
    let wanted = |model: &&Domain| model_provider.as_ref().is_none_or(|provider| model.provider == *provider);
    let total = models.iter().filter(wanted).count();
    let page = models.iter().filter(wanted).skip(skip).take(limit);
    let data: Vec<_> = page.map(|model| Model::new(model, default == Some(model.slug.as_str()))).collect();
    let end = skip.saturating_add(data.len());
    let next_cursor = (end < total && !data.is_empty()).then(|| end.to_string());
    call.done(&Forward { data, next_cursor })
}

/// `modelProvider/list`: the gateway's providers, which no client can change.
pub(crate) async fn providers(call: &Call<'_>) -> Answer {
    let shared = &call.connection.shared;
    let providers = shared.sessions.providers().await.map_err(refusal)?;
    let default = default_provider(call, &providers).map(|provider| provider.id.clone());
    let named = || shared.effective(&call.connection.principal).text("model_provider");
    let default = default.or_else(named).unwrap_or_default();
    let data = providers.iter().map(Provider::from).collect();
    call.done(&Providers { can_change_default: false, data, default_provider_id: default })
}

/// The provider that new threads of this caller begin with, of those there are.
pub(super) fn default_provider<'a>(
    call: &Call<'_>,
    providers: &'a [DomainProvider],
) -> Option<&'a DomainProvider> {
    let named = call.connection.shared.effective(&call.connection.principal).text("model_provider");
    match named {
        Some(named) => providers.iter().find(|provider| provider.id == named),
        None => providers.iter().find(|provider| provider.is_default).or_else(|| providers.first()),
    }
}

/// `modelProvider/capabilities/read`: what a thread here can have of its provider. Tools are not built yet.
pub(crate) fn capabilities(call: &Call<'_>) -> Answer {
    call.done(&Capabilities { image_generation: false, web_search: false })
}
