//! Models.

use agent_session::Model as Domain;

use crate::call::{Answer, Call, refusal};
use crate::rpc::Refusal;
use crate::wire::model::{ListParams, Model};
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
    let default = shared.default_model(&call.connection.principal, &models).map(|model| model.slug.as_str());
    let wanted = |model: &&Domain| model_provider.as_ref().is_none_or(|provider| model.provider == *provider);
    let total = models.iter().filter(wanted).count();
    let page = models.iter().filter(wanted).skip(skip).take(limit);
    let data: Vec<_> = page.map(|model| Model::new(model, default == Some(model.slug.as_str()))).collect();
    let end = skip.saturating_add(data.len());
    let next_cursor = (end < total && !data.is_empty()).then(|| end.to_string());
    call.done(&Forward { data, next_cursor })
}
