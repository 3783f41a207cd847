//! Models and providers in the contract's words.

use gateway_providers::{AccountKind, Providers};
use tidegate_proto::gateway::v1::{self as contract, DescribeProvidersResponse, ListModelsResponse};

use crate::generation::Admitted;

/// The models that the caller may offer.
pub(crate) async fn list(providers: &Providers, admitted: &Admitted) -> ListModelsResponse {
    let offered = |model: &gateway_providers::Model| !model.hidden && admitted.sees(model);
    let models = providers.models_for(None, &offered).await;
    ListModelsResponse { models: models.into_iter().map(model).collect() }
}

fn model(model: gateway_providers::Model) -> contract::Model {
    contract::Model {
        slug: model.slug,
        display_name: model.display_name,
        description: model.description,
        provider: model.provider,
        is_default: model.is_default,
        reasoning_efforts: model
            .reasoning_efforts
            .into_iter()
            .map(|(effort, description)| contract::ReasoningEffort { effort, description })
            .collect(),
        default_reasoning_effort: model.default_reasoning_effort.unwrap_or_default(),
        context_window: model.context_window.unwrap_or_default(),
        supports_parallel_tool_calls: model.supports_parallel_tool_calls,
        supports_reasoning_summaries: model.supports_reasoning_summaries,
        base_instructions: model.base_instructions.unwrap_or_default(),
        default_reasoning_summary: model.default_reasoning_summary.unwrap_or_default(),
        supports_image_detail_original: model.supports_image_detail_original,
        prefer_websockets: model.prefer_websockets,
    }
}

/// The providers that the caller may use.
pub(crate) fn describe(providers: &Providers, admitted: &Admitted) -> DescribeProvidersResponse {
    let providers = providers
        .describe()
        .into_iter()
        .filter(|facts| admitted.rules.visible_provider(&facts.id))
        .map(|facts| contract::Provider {
            id: facts.id,
            display_name: facts.display_name,
            is_default: facts.is_default,
            account_kind: account_kind(facts.account).into(),
            supports_websockets: facts.capabilities.websockets,
            supports_continuation: facts.capabilities.continuation,
            request_max_retries: facts.request_max_retries,
            stream_max_retries: facts.stream_max_retries,
            stream_idle_timeout: facts
                .stream_idle_timeout
                .and_then(|limit| prost_types::Duration::try_from(limit).ok()),
            supports_compaction: facts.capabilities.compaction,
        })
        .collect();
    DescribeProvidersResponse { providers }
}

pub(crate) fn account_kind(kind: AccountKind) -> contract::AccountKind {
    match kind {
        AccountKind::None => contract::AccountKind::None,
        AccountKind::ApiKey => contract::AccountKind::ApiKey,
        AccountKind::ChatGpt => contract::AccountKind::Chatgpt,
        AccountKind::Aws => contract::AccountKind::Aws,
    }
}
