//! Configuration as a client may see and change it: what its new threads begin with, and nothing of the service's own.

use serde_json::Value;

use crate::call::{Answer, Call};
use crate::configuration::{Effective, KEYS, Layer};
use crate::preferences::Change;
use crate::rpc::Refusal;
use crate::wire::config::{
    BatchWriteParams, Edit, LayerName, MergeStrategy, Overridden, ReadParams, ReadResponse, Required,
    Requirements, ShownLayer, WriteParams, WriteResponse,
};

/// `config/read`: the values that hold, each with the layer that it comes from.
pub(crate) async fn read(call: &Call<'_>) -> Answer {
    let ReadParams { include_layers } = call.params()?;
    let (shared, principal) = (&call.connection.shared, &call.connection.principal);
    let chosen = shared.preferences.of(principal);
    let layers = shared.layers(principal, &chosen);
    let effective = shared.effective(principal);
    let mut config: serde_json::Map<String, Value> = KEYS
        .iter()
        .map(|key| ((*key).to_owned(), effective.value(key).cloned().unwrap_or_default()))
        .collect();
    // A gateway that cannot be asked leaves the model open; what asks for it by name will say why.
    let models = shared.sessions.models().await.ok();
    if let Some(model) = models.as_deref().and_then(|models| shared.default_model(&effective, models)) {
        config.insert("model".to_owned(), Value::from(model.slug.as_str()));
        if effective.text("model_provider").is_none() && !model.provider.is_empty() {
            config.insert("model_provider".to_owned(), Value::from(model.provider.as_str()));
        }
    }
    let name = |place: usize| {
        layers.get(place).map(|layer| LayerName { name: &layer.source, version: &layer.version })
    };
    let origins = effective.origins().filter_map(|(key, place)| Some((key, name(place)?))).collect();
    // Clients expect the strongest first.
    let shown = include_layers.then(|| layers.iter().rev().map(ShownLayer::from).collect());
    call.done(&ReadResponse { config, origins, layers: shown })
}

/// `configRequirements/read`: what the agent keeps its users within. Models, tiers and providers are the gateway's to rule;
/// what it denies, it does not list.
pub(crate) fn requirements(call: &Call<'_>) -> Answer {
    let requirements = call.connection.shared.options.configuration.requirements(call.tenant());
    let required = requirements != crate::configuration::Requirements::default();
    let required = required.then_some(Required {
        allowed_approval_policies: requirements.approval_policies,
        allowed_sandbox_modes: requirements.sandbox_modes,
    });
    call.done(&Requirements { requirements: required })
}

/// `config/value/write`.
pub(crate) fn write(call: &Call<'_>) -> Answer {
    let WriteParams { edit, expected_version } = call.params()?;
    change(call, vec![edit], expected_version.as_deref())
}

/// `config/batchWrite`.
pub(crate) fn batch_write(call: &Call<'_>) -> Answer {
    let BatchWriteParams { edits, expected_version } = call.params()?;
    change(call, edits, expected_version.as_deref())
}

/// Takes the user's choices, all of them or none. Other users and files stay as they are.
fn change(call: &Call<'_>, edits: Vec<Edit>, expected: Option<&str>) -> Answer {
    let (shared, principal) = (&call.connection.shared, &call.connection.principal);
    let keys: Vec<String> = edits.iter().map(|edit| edit.key_path.clone()).collect();
    let changes = edits.into_iter().map(|edit| {
        // All values are single ones, for which both strategies mean the same.
        let Edit { key_path, value, merge_strategy: MergeStrategy::Replace | MergeStrategy::Upsert } = edit;
        Change { key: key_path, value }
    });
    let changes = changes.collect::<Vec<_>>();
    let requirements = shared.options.configuration.requirements(&principal.tenant);
    let chosen = shared.preferences.write(principal, (changes, expected), &requirements)?;
    let layers = shared.layers(principal, &chosen);
    let effective = shared.effective(principal);
    let user =
        layers.iter().position(Layer::is_user).ok_or_else(|| Refusal::internal("there are no choices"))?;
    let overridden = keys.iter().find_map(|key| ruled_by(key, user, &effective, &layers));
    call.done(&WriteResponse {
        status: if overridden.is_some() { "okOverridden" } else { "ok" },
        version: chosen.version(),
        file_path: shared.options.home.join("preferences").to_string_lossy().into_owned(),
        overridden_metadata: overridden,
    })
}

/// What rules over the user's choice of a key, if something does.
fn ruled_by<'a>(
    key: &str,
    user: usize,
    effective: &Effective,
    layers: &'a [Layer<'_>],
) -> Option<Overridden<'a>> {
    let layer = layers.get(effective.origin(key).filter(|place| *place > user)?)?;
    Some(Overridden {
        effective_value: effective.value(key).cloned().unwrap_or_default(),
        message: format!("`{key}` is set on the command line of the service"),
        overriding_layer: LayerName { name: &layer.source, version: &layer.version },
    })
}
