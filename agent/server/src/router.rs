//! Which methods there are, and whose code answers each. Nothing else is decided here.

use crate::call::{Answer, Call};
use crate::methods::{
    account, catalog, config, initialize, model, thread, thread_edits, thread_history, thread_lifecycle, turn,
};
use crate::protocol;
use crate::rpc::Refusal;

/// A method of the protocol that this service answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Initialize,
    AccountRead,
    BedrockCheckGovCloudRequirements,
    CollaborationModeList,
    ConfigBatchWrite,
    ConfigRead,
    ConfigRequirementsRead,
    ConfigValueWrite,
    ExperimentalFeatureList,
    HooksList,
    ModelList,
    ModelProviderCapabilitiesRead,
    ModelProviderList,
    PermissionProfileList,
    PluginInstalled,
    RateLimitsRead,
    SkillsList,
    ThreadArchive,
    ThreadCompactStart,
    ThreadBackgroundTerminalsList,
    ThreadDelete,
    ThreadFork,
    ThreadGoalGet,
    ThreadInjectItems,
    ThreadItemsList,
    ThreadList,
    ThreadLoadedList,
    ThreadMetadataUpdate,
    ThreadNameSet,
    ThreadRead,
    ThreadReadStateUpdate,
    ThreadResume,
    ThreadRevert,
    ThreadSettingsUpdate,
    ThreadStart,
    ThreadTurnsList,
    ThreadUnarchive,
    ThreadUnsubscribe,
    TurnInterrupt,
    TurnStart,
    TurnSteer,
}

/// The methods by name.
const METHODS: [(&str, Method); 41] = [
    ("initialize", Method::Initialize),
    ("account/bedrock/checkGovCloudRequirements", Method::BedrockCheckGovCloudRequirements),
    ("account/rateLimits/read", Method::RateLimitsRead),
    ("account/read", Method::AccountRead),
    ("collaborationMode/list", Method::CollaborationModeList),
    ("config/batchWrite", Method::ConfigBatchWrite),
    ("config/read", Method::ConfigRead),
    ("config/value/write", Method::ConfigValueWrite),
    ("configRequirements/read", Method::ConfigRequirementsRead),
    ("experimentalFeature/list", Method::ExperimentalFeatureList),
    ("hooks/list", Method::HooksList),
    ("model/list", Method::ModelList),
    ("modelProvider/capabilities/read", Method::ModelProviderCapabilitiesRead),
    ("modelProvider/list", Method::ModelProviderList),
    ("permissionProfile/list", Method::PermissionProfileList),
    ("plugin/installed", Method::PluginInstalled),
    ("skills/list", Method::SkillsList),
    ("thread/archive", Method::ThreadArchive),
    ("thread/backgroundTerminals/list", Method::ThreadBackgroundTerminalsList),
    ("thread/compact/start", Method::ThreadCompactStart),
    ("thread/delete", Method::ThreadDelete),
    ("thread/fork", Method::ThreadFork),
    ("thread/goal/get", Method::ThreadGoalGet),
    ("thread/inject_items", Method::ThreadInjectItems),
    ("thread/items/list", Method::ThreadItemsList),
    ("thread/list", Method::ThreadList),
    ("thread/loaded/list", Method::ThreadLoadedList),
    ("thread/metadata/update", Method::ThreadMetadataUpdate),
    ("thread/name/set", Method::ThreadNameSet),
    ("thread/read", Method::ThreadRead),
    ("thread/readState/update", Method::ThreadReadStateUpdate),
    ("thread/resume", Method::ThreadResume),
    ("thread/revert", Method::ThreadRevert),
    ("thread/settings/update", Method::ThreadSettingsUpdate),
    ("thread/start", Method::ThreadStart),
    ("thread/turns/list", Method::ThreadTurnsList),
    ("thread/unarchive", Method::ThreadUnarchive),
    ("thread/unsubscribe", Method::ThreadUnsubscribe),
    ("turn/interrupt", Method::TurnInterrupt),
    ("turn/start", Method::TurnStart),
    ("turn/steer", Method::TurnSteer),
];

impl Method {
    /// The method with this name.
    pub(crate) fn of(name: &str) -> Option<Self> {
        METHODS.iter().find(|(known, _)| *known == name).map(|(_, method)| *method)
    }

    /// Whether a client has to ask for it in its handshake.
    pub(crate) const fn is_experimental(self) -> bool {
        matches!(
            self,
            Self::BedrockCheckGovCloudRequirements
                | Self::CollaborationModeList
                | Self::ThreadBackgroundTerminalsList
                | Self::ThreadReadStateUpdate
                | Self::ThreadSettingsUpdate
        )
    }

    /// Whether it may wait for the gateway or for much of the store, so that others overtake it.
    pub(crate) const fn is_slow(self) -> bool {
        matches!(
            self,
            Self::AccountRead
                | Self::RateLimitsRead
                | Self::ModelList
                | Self::ModelProviderList
                | Self::ConfigRead
                | Self::ThreadList
        )
    }
}

/// Why a method that is not there is refused: for one that Codex has the reason, for others the words that clients know.
pub(crate) fn unknown(name: &str) -> Refusal {
    /// How much of a client's own text is repeated to it.
    const NAME_CHARS_MAX: usize = 128;
    if let Some(why) = protocol::why_not(name).filter(|_| name.len() <= NAME_CHARS_MAX) {
        return Refusal::invalid(format!("{name} is not supported by this service: {why}"));
    }
    let name: String = name.chars().take(NAME_CHARS_MAX).collect();
    let known = METHODS.map(|(known, _)| format!("`{known}`")).join(", ");
    Refusal::invalid(format!("Invalid request: unknown variant `{name}`, expected one of {known}"))
}

/// Has a request answered.
pub(crate) async fn route(call: &mut Call<'_>, method: Method) -> Answer {
    match method {
        Method::Initialize => initialize::initialize(call),
        Method::AccountRead => account::read(call).await,
        Method::BedrockCheckGovCloudRequirements => account::check_gov_cloud(call),
        Method::RateLimitsRead => account::rate_limits(call).await,
        Method::CollaborationModeList => catalog::collaboration_modes(call),
        Method::HooksList => catalog::hooks(call),
        Method::PluginInstalled => catalog::plugins(call),
        Method::SkillsList => catalog::skills(call),
        Method::ConfigBatchWrite => config::batch_write(call),
        Method::ConfigValueWrite => config::write(call),
        Method::ConfigRead => config::read(call).await,
        Method::ConfigRequirementsRead => config::requirements(call),
        Method::ExperimentalFeatureList => catalog::features(call),
        Method::PermissionProfileList => catalog::permission_profiles(call),
        Method::ModelList => model::list(call).await,
        Method::ModelProviderList => model::providers(call).await,
        Method::ModelProviderCapabilitiesRead => model::capabilities(call),
        Method::ThreadStart => thread::start(call).await,
        Method::ThreadResume => thread::resume(call).await,
        Method::ThreadFork => thread::fork(call).await,
        Method::ThreadUnsubscribe => thread::unsubscribe(call).await,
        Method::ThreadLoadedList => thread::loaded(call),
        Method::ThreadSettingsUpdate => thread::update_settings(call).await,
        Method::ThreadRead => thread_history::read(call).await,
        Method::ThreadList => thread_history::list(call).await,
        Method::ThreadTurnsList => thread_history::turns(call).await,
        Method::ThreadItemsList => thread_history::items(call).await,
        Method::ThreadReadStateUpdate => thread_edits::update_read_state(call).await,
        Method::ThreadRevert => thread_edits::revert(call).await,
        Method::ThreadInjectItems => thread_edits::inject(call).await,
        Method::ThreadMetadataUpdate => thread_edits::update_metadata(call).await,
        Method::ThreadGoalGet => thread_history::goal(call).await,
        Method::ThreadBackgroundTerminalsList => thread_history::background_terminals(call).await,
        Method::ThreadNameSet => thread_lifecycle::set_name(call).await,
        Method::ThreadArchive => thread_lifecycle::archive(call).await,
        Method::ThreadCompactStart => turn::compact(call).await,
        Method::ThreadUnarchive => thread_lifecycle::unarchive(call).await,
        Method::ThreadDelete => thread_lifecycle::delete(call).await,
        Method::TurnStart => turn::start(call).await,
        Method::TurnSteer => turn::steer(call).await,
        Method::TurnInterrupt => turn::interrupt(call).await,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{METHODS, Method, unknown};

    #[test]
    fn every_name_stands_for_one_method() {
        let names: HashSet<&str> = METHODS.iter().map(|(name, _)| *name).collect();
        assert_eq!(names.len(), METHODS.len());
        for (name, method) in METHODS {
            assert_eq!(Method::of(name), Some(method));
            assert_eq!(METHODS.iter().filter(|(_, other)| *other == method).count(), 1, "{name}");
        }
    }

    #[test]
    fn an_unknown_method_is_told_the_known_ones() {
        let text = unknown("foo/bar").to_string();
        let start = "Invalid request: unknown variant `foo/bar`, expected one of `initialize`, ";
        assert!(text.starts_with(start), "{text}");
        assert!(unknown(&"x".repeat(1 << 20)).to_string().len() < 4_096);
    }
}
