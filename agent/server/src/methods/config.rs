//! Configuration as a client may see and change it: what its new threads begin with, and nothing of the service's own.

use serde_json::{Map, Value};

use crate::call::{Answer, Call};
use crate::preferences::Change;
use crate::wire::config::{
    BatchWriteParams, Edit, MergeStrategy, ReadParams, ReadResponse, Requirements, WriteResponse,
};

/// `config/read`.
pub(crate) async fn read(call: &Call<'_>) -> Answer {
    let ReadParams { include_layers } = call.params()?;
    let shared = &call.connection.shared;
    let principal = &call.connection.principal;
    let (chosen, defaults) = (shared.preferences.of(principal), &shared.options.defaults);
    let text = |value: &Option<String>| value.clone().map_or(Value::Null, Value::String);
    let or = |key: &str, default: &Option<String>| match chosen.text(key) {
        Some(chosen) => Value::from(chosen),
        None => text(default),
    };
    // A gateway that cannot be asked leaves the model open; what asks for it by name will say why.
    let models = shared.sessions.models().await.ok();
    let model = models.as_deref().and_then(|models| shared.default_model(principal, models));
    let provider = defaults.provider.clone().or_else(|| model.map(|model| model.provider.clone()));
    let mut config = Map::new();
    config.insert(
        "model".to_owned(),
        match model {
            Some(model) => Value::from(model.slug.as_str()),
            None => or("model", &defaults.model),
        },
    );
    config.insert("model_provider".to_owned(), text(&provider.filter(|provider| !provider.is_empty())));
    config.insert("model_reasoning_effort".to_owned(), or("model_reasoning_effort", &defaults.effort));
    config.insert("model_reasoning_summary".to_owned(), or("model_reasoning_summary", &defaults.summary));
    config.insert("service_tier".to_owned(), or("service_tier", &defaults.service_tier));
    config.insert("approval_policy".to_owned(), defaults.approval_policy.clone().unwrap_or_default());
    config.insert("sandbox_mode".to_owned(), defaults.sandbox_mode.clone().unwrap_or_default());
    config.insert("developer_instructions".to_owned(), text(&defaults.developer_instructions));
    call.done(&ReadResponse { config, origins: Map::new(), layers: include_layers.then_some([]) })
}

/// `configRequirements/read`: nothing is required beyond what the gateway enforces by itself.
pub(crate) fn requirements(call: &Call<'_>) -> Answer {
    call.done(&Requirements { requirements: () })
}

/// `config/batchWrite`.
pub(crate) fn batch_write(call: &Call<'_>) -> Answer {
    let BatchWriteParams { edits, expected_version } = call.params()?;
    let changes = edits.into_iter().map(|edit| {
        // All values are single ones, for which both strategies mean the same.
        let Edit { key_path, value, merge_strategy: MergeStrategy::Replace | MergeStrategy::Upsert } = edit;
        Change { key: key_path, value }
    });
    let changes = changes.collect();
    let connection = call.connection;
    let shared = &connection.shared;
    let chosen = shared.preferences.write(&connection.principal, changes, expected_version.as_deref())?;
    call.done(&WriteResponse {
        status: "ok",
        version: chosen.version(),
        file_path: shared.options.home.join("preferences").to_string_lossy().into_owned(),
        overridden_metadata: (),
    })
}
