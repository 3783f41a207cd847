//! Models.

use agent_session::{
    AccountKind, Model as Domain, Provider as DomainProvider, ReasoningEffort as DomainEffort,
};
use serde::{Deserialize, Serialize};

/// The effort of a model that has none to choose from.
const NO_EFFORT: &str = "none";
/// What a user message may hold.
const MODALITIES: [&str; 2] = ["text", "image"];

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ListParams {
    #[serde(default)]
    pub(crate) cursor: Option<String>,
    #[serde(default)]
    pub(crate) limit: Option<u32>,
    #[serde(default)]
    pub(crate) model_provider: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Model<'a> {
    id: &'a str,
    model: &'a str,
    upgrade: (),
    upgrade_info: (),
    availability_nux: (),
    display_name: &'a str,
    description: &'a str,
    model_specialty: (),
    hidden: bool,
    supported_reasoning_efforts: Vec<Effort<'a>>,
    default_reasoning_effort: &'a str,
    input_modalities: [&'static str; 2],
    supports_personality: bool,
    multi_agent_version: (),
    additional_speed_tiers: [(); 0],
    service_tiers: [(); 0],
    default_service_tier: (),
    available_access_programs: (),
    is_default: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Effort<'a> {
    reasoning_effort: &'a str,
    description: &'a str,
}

impl<'a> From<&'a DomainEffort> for Effort<'a> {
    fn from(effort: &'a DomainEffort) -> Self {
        Self { reasoning_effort: &effort.effort, description: &effort.description }
    }
}

impl<'a> Model<'a> {
    /// A model; `default` is the one that threads begin with.
    pub(crate) fn new(model: &'a Domain, is_default: bool) -> Self {
        let first = model.reasoning_efforts.first().map(|effort| effort.effort.as_str());
        let display_name = if model.display_name.is_empty() { &model.slug } else { &model.display_name };
        Self {
            id: &model.slug,
            model: &model.slug,
            upgrade: (),
            upgrade_info: (),
            availability_nux: (),
            display_name,
            description: &model.description,
            model_specialty: (),
            hidden: false,
            supported_reasoning_efforts: model.reasoning_efforts.iter().map(Effort::from).collect(),
            default_reasoning_effort: model
                .default_reasoning_effort
                .as_deref()
                .or(first)
                .unwrap_or(NO_EFFORT),
            input_modalities: MODALITIES,
            supports_personality: false,
            multi_agent_version: (),
            additional_speed_tiers: [],
            service_tiers: [],
            default_service_tier: (),
            available_access_programs: (),
            is_default,
        }
    }
}

/// The providers behind the gateway.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Providers<'a> {
    pub(crate) can_change_default: bool,
    pub(crate) data: Vec<Provider<'a>>,
    pub(crate) default_provider_id: String,
}

/// A provider. Where it is and how the gateway identifies to it are not told.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Provider<'a> {
    id: &'a str,
    name: &'a str,
    base_url: (),
    can_edit: bool,
    settings: ProviderSettings,
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "camelCase")]
enum ProviderSettings {
    Openai,
    Bedrock,
    CustomGateway { auth: ProviderAuth },
}

#[derive(Debug, Serialize)]
#[serde(tag = "mode", rename_all = "camelCase")]
enum ProviderAuth {
    None,
    ExternallyConfigured,
}

impl<'a> From<&'a DomainProvider> for Provider<'a> {
    fn from(provider: &'a DomainProvider) -> Self {
        let settings = match (provider.id.as_str(), provider.account_kind) {
            ("openai", _) | (_, AccountKind::ChatGpt) => ProviderSettings::Openai,
            (_, AccountKind::Aws) => ProviderSettings::Bedrock,
            (_, AccountKind::None) => ProviderSettings::CustomGateway { auth: ProviderAuth::None },
            (_, AccountKind::ApiKey | AccountKind::Unknown) => {
                ProviderSettings::CustomGateway { auth: ProviderAuth::ExternallyConfigured }
            }
        };
        let name = if provider.display_name.is_empty() { &provider.id } else { &provider.display_name };
        Self { id: &provider.id, name, base_url: (), can_edit: false, settings }
    }
}

/// What a thread can have of its provider.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Capabilities {
    pub(crate) image_generation: bool,
    pub(crate) web_search: bool,
}
