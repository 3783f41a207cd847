//! What a turn runs with, as clients name it. Sessions keep these values as the JSON that clients know.

use agent_threads::{Settings as Domain, ThreadId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::thread::Environment;
use crate::rpc::Refusal;

/// When the user is asked.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ApprovalPolicy {
    Untrusted,
    OnRequest,
    Granular(Granular),
    Never,
}

/// Which kinds of question are asked at all.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Granular {
    sandbox_approval: bool,
    rules: bool,
    #[serde(default)]
    skill_approval: bool,
    #[serde(default)]
    request_permissions: bool,
    mcp_elicitations: bool,
}

/// Who is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ApprovalsReviewer {
    User,
    AutoReview,
    GuardianSubagent,
}

/// The short form of a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SandboxMode {
    ReadOnly,
    WorkspaceWrite,
    DangerFullAccess,
}

/// What commands may touch.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(crate) enum SandboxPolicy {
    DangerFullAccess,
    ReadOnly {
        #[serde(default)]
        network_access: bool,
    },
    ExternalSandbox {
        #[serde(default)]
        network_access: NetworkAccess,
    },
    WorkspaceWrite {
        #[serde(default)]
        writable_roots: Vec<String>,
        #[serde(default)]
        network_access: bool,
        #[serde(default)]
        exclude_tmpdir_env_var: bool,
        #[serde(default)]
        exclude_slash_tmp: bool,
    },
}

/// Whether an external sandbox has a network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum NetworkAccess {
    #[default]
    Restricted,
    Enabled,
}

impl SandboxMode {
    /// As it is written.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::ReadOnly => "read-only",
            Self::WorkspaceWrite => "workspace-write",
            Self::DangerFullAccess => "danger-full-access",
        }
    }
}

impl From<SandboxMode> for SandboxPolicy {
    fn from(mode: SandboxMode) -> Self {
        match mode {
            SandboxMode::ReadOnly => Self::ReadOnly { network_access: false },
            SandboxMode::WorkspaceWrite => Self::WorkspaceWrite {
                writable_roots: Vec::new(),
                network_access: false,
                exclude_tmpdir_env_var: false,
                exclude_slash_tmp: false,
            },
            SandboxMode::DangerFullAccess => Self::DangerFullAccess,
        }
    }
}

/// The permission profiles, and the sandbox that each stands for.
pub(crate) const PROFILES: [(&str, SandboxMode); 3] = [
    (":read-only", SandboxMode::ReadOnly),
    (":workspace", SandboxMode::WorkspaceWrite),
    (":danger-full-access", SandboxMode::DangerFullAccess),
];

/// A permission profile as it is listed.
#[derive(Debug, Serialize)]
pub(crate) struct PermissionProfile {
    pub(crate) id: &'static str,
    pub(crate) description: (),
    pub(crate) allowed: bool,
}

/// The sandbox that a permission profile stands for.
pub(crate) fn profile(name: &str) -> Result<SandboxPolicy, Refusal> {
    let known = PROFILES.iter().find(|(known, _)| *known == name);
    let found = known.map(|(_, mode)| SandboxPolicy::from(*mode));
    found.ok_or_else(|| Refusal::invalid(format!("unknown permission profile `{name}`")))
}

/// The permission profile that is in force, where it is one with a name.
#[derive(Debug, Serialize)]
pub(crate) struct ActivePermissionProfile<'a> {
    id: &'a str,
    extends: (),
}

/// The profile that the sandbox comes from: the narrowest, as far as nobody has said otherwise.
pub(crate) fn active_permission_profile(settings: &Domain) -> Option<ActivePermissionProfile<'_>> {
    let id = match (&settings.sandbox, &settings.permission_profile) {
        (None, _) => ":read-only",
        (Some(_), profile) => profile.as_deref()?,
    };
    Some(ActivePermissionProfile { id, extends: () })
}

/// The client's way of working together. Its settings rule over the plain ones.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct CollaborationMode {
    pub(crate) mode: Mode,
    pub(crate) settings: ModeSettings,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    Plan,
    Default,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct ModeSettings {
    pub(crate) model: String,
    #[serde(default)]
    pub(crate) reasoning_effort: Option<String>,
    #[serde(default)]
    pub(crate) developer_instructions: Option<String>,
}

/// A mode as the picker shows it.
#[derive(Debug, Serialize)]
pub(crate) struct ModeMask {
    pub(crate) name: &'static str,
    pub(crate) mode: Mode,
    pub(crate) model: (),
    pub(crate) reasoning_effort: (),
}

/// The value that a session keeps.
pub(crate) fn kept<T: Serialize>(value: &T) -> Option<Value> {
    serde_json::to_value(value).ok()
}

/// Reads a value that a session has kept, or the default.
fn read<T: for<'de> Deserialize<'de>>(kept: Option<&Value>, default: T) -> T {
    kept.and_then(|value| T::deserialize(value).ok()).unwrap_or(default)
}

/// When the user is asked, as far as nobody has said otherwise.
pub(crate) fn approval_policy(settings: &Domain) -> ApprovalPolicy {
    read(settings.approval_policy.as_ref(), ApprovalPolicy::OnRequest)
}

/// Who is asked, as far as nobody has said otherwise.
pub(crate) fn approvals_reviewer(settings: &Domain) -> ApprovalsReviewer {
    read(settings.approvals_reviewer.as_ref(), ApprovalsReviewer::User)
}

/// What commands may touch: nothing, as far as nobody has said otherwise.
pub(crate) fn sandbox(settings: &Domain) -> SandboxPolicy {
    read(settings.sandbox.as_ref(), SandboxMode::ReadOnly.into())
}

/// The collaboration mode with the model and effort that are really in force.
pub(crate) fn collaboration_mode(settings: &Domain) -> CollaborationMode {
    let default = CollaborationMode {
        mode: Mode::Default,
        settings: ModeSettings { model: String::new(), reasoning_effort: None, developer_instructions: None },
    };
    let mut mode = read(settings.collaboration_mode.as_ref(), default);
    mode.settings.model.clone_from(&settings.model);
    mode.settings.reasoning_effort.clone_from(&settings.effort);
    mode
}

/// A thread's settings, as subscribers are told of a change.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Updated<'a> {
    pub(crate) thread_id: ThreadId,
    pub(crate) thread_settings: ThreadSettings<'a>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ThreadSettings<'a> {
    disabled_plugin_ids: [(); 0],
    cwd: &'a str,
    environments: [Environment<'a>; 1],
    approval_policy: ApprovalPolicy,
    approvals_reviewer: ApprovalsReviewer,
    sandbox_policy: SandboxPolicy,
    active_permission_profile: Option<ActivePermissionProfile<'a>>,
    model: &'a str,
    model_provider: &'a str,
    service_tier: Option<&'a str>,
    effort: Option<&'a str>,
    summary: Option<&'a str>,
    collaboration_mode: CollaborationMode,
    multi_agent_mode: &'static str,
    personality: Option<&'a str>,
}

impl<'a> ThreadSettings<'a> {
    pub(crate) fn new(settings: &'a Domain, provider: &'a str) -> Self {
        Self {
            disabled_plugin_ids: [],
            cwd: &settings.cwd,
            environments: [Environment::local(&settings.cwd)],
            approval_policy: approval_policy(settings),
            approvals_reviewer: approvals_reviewer(settings),
            sandbox_policy: sandbox(settings),
            active_permission_profile: active_permission_profile(settings),
            model: &settings.model,
            model_provider: provider,
            service_tier: settings.service_tier.name(),
            effort: settings.effort.as_deref(),
            summary: settings.summary.as_deref(),
            collaboration_mode: collaboration_mode(settings),
            multi_agent_mode: super::thread::MULTI_AGENT_MODE,
            personality: settings.personality.as_deref(),
        }
    }
}
