//! Threads: how they are started, found and shown.

use agent_session::{Status as DomainStatus, ThreadView};
use agent_threads::{Git, ServiceTier, ThreadId, TurnId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::page::{Page, SortDirection};
use super::read_state::ReadState;
use super::seconds;
use super::settings::{
    ActivePermissionProfile, ApprovalPolicy, ApprovalsReviewer, CollaborationMode, SandboxMode,
    SandboxPolicy, active_permission_profile, approval_policy, approvals_reviewer, collaboration_mode,
    sandbox,
};
use super::turn::{ItemsView, Turn};
use crate::PROTOCOL_VERSION;

/// There are no agents beside the one that the user asks for.
pub(crate) const MULTI_AGENT_MODE: &str = "explicitRequestOnly";
/// History is read in pages.
const HISTORY_MODE: &str = "paginated";

/// What a thread is started or resumed with.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StartParams {
    #[serde(default)]
    pub(crate) model_provider: Option<String>,
    #[serde(default)]
    pub(crate) ephemeral: Option<bool>,
    #[serde(default)]
    pub(crate) thread_source: Option<String>,
    #[serde(flatten)]
    pub(crate) settings: Settings,
}

/// The settings that starting and resuming a thread share. A null leaves a setting as it is.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Settings {
    #[serde(default)]
    pub(crate) model: Option<String>,
    #[serde(default)]
    pub(crate) cwd: Option<String>,
    #[serde(default)]
    pub(crate) approval_policy: Option<ApprovalPolicy>,
    #[serde(default)]
    pub(crate) approvals_reviewer: Option<ApprovalsReviewer>,
    #[serde(default)]
    pub(crate) sandbox: Option<SandboxMode>,
    #[serde(default)]
    pub(crate) permissions: Option<String>,
    #[serde(default)]
    pub(crate) service_tier: ServiceTier,
    #[serde(default)]
    pub(crate) base_instructions: Option<String>,
    #[serde(default)]
    pub(crate) developer_instructions: Option<String>,
    #[serde(default)]
    pub(crate) personality: Option<String>,
    /// Keys of Codex's configuration; those that mean something here are read.
    #[serde(default)]
    pub(crate) config: Option<Map<String, Value>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ResumeParams {
    pub(crate) thread_id: String,
    #[serde(default)]
    pub(crate) exclude_turns: bool,
    #[serde(default)]
    pub(crate) initial_turns_page: Option<TurnsPageParams>,
    #[serde(default)]
    pub(crate) model_provider: Option<String>,
    /// A history that the client brings along; not supported.
    #[serde(default)]
    pub(crate) history: Option<Vec<Value>>,
    #[serde(flatten)]
    pub(crate) settings: Settings,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TurnsPageParams {
    #[serde(default)]
    pub(crate) limit: Option<u32>,
    #[serde(default)]
    pub(crate) sort_direction: Option<SortDirection>,
    #[serde(default)]
    pub(crate) items_view: Option<ItemsView>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ForkParams {
    pub(crate) thread_id: String,
    #[serde(default)]
    pub(crate) last_turn_id: Option<String>,
    #[serde(default)]
    pub(crate) before_turn_id: Option<String>,
    #[serde(default)]
    pub(crate) exclude_turns: bool,
    #[serde(default)]
    pub(crate) ephemeral: bool,
    #[serde(default)]
    pub(crate) thread_source: Option<String>,
    #[serde(default)]
    pub(crate) model_provider: Option<String>,
    #[serde(default)]
    pub(crate) attach_to_source: bool,
    #[serde(default)]
    pub(crate) experimental_prediction_mode: bool,
    #[serde(flatten)]
    pub(crate) settings: Settings,
}

/// The parameters of everything that needs a thread and no more.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OfThread {
    pub(crate) thread_id: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReadParams {
    pub(crate) thread_id: String,
    #[serde(default)]
    pub(crate) include_turns: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NameParams {
    pub(crate) thread_id: String,
    pub(crate) name: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SettingsParams {
    pub(crate) thread_id: String,
    #[serde(flatten)]
    pub(crate) settings: super::turn::Settings,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TurnsParams {
    pub(crate) thread_id: String,
    #[serde(default)]
    pub(crate) cursor: Option<String>,
    #[serde(default)]
    pub(crate) limit: Option<u32>,
    #[serde(default)]
    pub(crate) sort_direction: Option<SortDirection>,
    #[serde(default)]
    pub(crate) items_view: Option<ItemsView>,
}

/// Where a thread's commands run.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Environment<'a> {
    environment_id: &'static str,
    cwd: &'a str,
    runtime_workspace_roots: [&'a str; 1],
}

impl<'a> Environment<'a> {
    /// This machine.
    pub(crate) fn local(cwd: &'a str) -> Self {
        Self { environment_id: "local", cwd, runtime_workspace_roots: [cwd] }
    }
}

/// What a thread is doing.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(crate) enum Status {
    NotLoaded,
    Idle,
    SystemError,
    Active { active_flags: [(); 0] },
}

impl From<DomainStatus> for Status {
    fn from(status: DomainStatus) -> Self {
        match status {
            DomainStatus::NotLoaded => Self::NotLoaded,
            DomainStatus::Idle => Self::Idle,
            DomainStatus::Active => Self::Active { active_flags: [] },
            DomainStatus::SystemError => Self::SystemError,
        }
    }
}

/// A thread. The nulls are features of Codex's own server that there is nothing of here.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Thread<'a> {
    id: ThreadId,
    environments: [Environment<'a>; 1],
    extra: (),
    session_id: ThreadId,
    forked_from_id: Option<ThreadId>,
    attached_to_thread_id: (),
    parent_thread_id: Option<ThreadId>,
    preview: &'a str,
    ephemeral: bool,
    section: (),
    section_entered_at: (),
    project_id: (),
    history_mode: &'static str,
    model_provider: &'a str,
    model: &'a str,
    reasoning_effort: Option<&'a str>,
    created_at: i64,
    updated_at: i64,
    recency_at: i64,
    status: Status,
    path: (),
    cwd: &'a str,
    cli_version: &'a str,
    originator: &'a str,
    source: &'a str,
    can_accept_direct_input: bool,
    thread_source: Option<&'a str>,
    agent_nickname: (),
    agent_role: (),
    git_info: Option<GitInfo<'a>>,
    name: Option<&'a str>,
    daybreak_enabled: Option<bool>,
    turns: Vec<Turn<'a>>,
}

impl<'a> Thread<'a> {
    /// A thread without its turns, as in every list and notification.
    pub(crate) fn new(view: &'a ThreadView) -> Self {
        let thread = &view.thread;
        Self {
            id: thread.id,
            environments: [Environment::local(&thread.settings.cwd)],
            extra: (),
            session_id: thread.session_id,
            forked_from_id: thread.forked_from_id,
            attached_to_thread_id: (),
            parent_thread_id: thread.parent_id,
            preview: &thread.preview,
            ephemeral: view.ephemeral,
            section: (),
            section_entered_at: (),
            project_id: (),
            history_mode: HISTORY_MODE,
            model_provider: &thread.origin.provider,
            model: &thread.settings.model,
            reasoning_effort: thread.settings.effort.as_deref(),
            created_at: seconds(thread.created_at_ms),
            updated_at: seconds(thread.updated_at_ms),
            recency_at: seconds(thread.updated_at_ms),
            status: view.status.into(),
            path: (),
            cwd: &thread.settings.cwd,
            // A program that speaks gRPC tells none.
            cli_version: match thread.origin.client_version.as_str() {
                "" => PROTOCOL_VERSION,
                version => version,
            },
            originator: &thread.origin.originator,
            source: &thread.origin.source,
            can_accept_direct_input: true,
            thread_source: thread.origin.thread_source.as_deref(),
            agent_nickname: (),
            agent_role: (),
            git_info: thread.metadata.git.as_ref().map(GitInfo::from),
            name: thread.name.as_deref(),
            daybreak_enabled: thread.metadata.daybreak_enabled,
            turns: Vec::new(),
        }
    }

    /// The thread with these turns.
    pub(crate) fn with(mut self, turns: Vec<Turn<'a>>) -> Self {
        self.turns = turns;
        self
    }
}

/// A Git state that a client has told.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct GitInfo<'a> {
    sha: Option<&'a str>,
    branch: Option<&'a str>,
    origin_url: Option<&'a str>,
}

impl<'a> From<&'a Git> for GitInfo<'a> {
    fn from(Git { sha, branch, origin_url }: &'a Git) -> Self {
        Self { sha: sha.as_deref(), branch: branch.as_deref(), origin_url: origin_url.as_deref() }
    }
}

/// The answer to starting or forking a thread.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Opened<'a> {
    thread: Thread<'a>,
    model: &'a str,
    model_provider: &'a str,
    service_tier: Option<&'a str>,
    disabled_plugin_ids: [(); 0],
    cwd: &'a str,
    runtime_workspace_roots: [&'a str; 1],
    instruction_sources: &'a [String],
    approval_policy: ApprovalPolicy,
    approvals_reviewer: ApprovalsReviewer,
    sandbox: SandboxPolicy,
    active_permission_profile: Option<ActivePermissionProfile<'a>>,
    reasoning_effort: Option<&'a str>,
    multi_agent_mode: &'static str,
}

impl<'a> Opened<'a> {
    pub(crate) fn new(view: &'a ThreadView, sources: &'a [String], turns: Vec<Turn<'a>>) -> Self {
        let settings = &view.thread.settings;
        Self {
            thread: Thread::new(view).with(turns),
            model: &settings.model,
            model_provider: &view.thread.origin.provider,
            service_tier: settings.service_tier.name(),
            disabled_plugin_ids: [],
            cwd: &settings.cwd,
            runtime_workspace_roots: [&settings.cwd],
            instruction_sources: sources,
            approval_policy: approval_policy(settings),
            approvals_reviewer: approvals_reviewer(settings),
            sandbox: sandbox(settings),
            active_permission_profile: active_permission_profile(settings),
            reasoning_effort: settings.effort.as_deref(),
            multi_agent_mode: MULTI_AGENT_MODE,
        }
    }
}

/// The answer to resuming a thread.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Resumed<'a> {
    #[serde(flatten)]
    opened: Opened<'a>,
    collaboration_mode: CollaborationMode,
    initial_turns_page: Option<Page<Turn<'a>>>,
    turns_backwards_cursor: Option<String>,
    items_backwards_cursor: Option<String>,
}

/// Where a client that has resumed a thread begins to read its history, newest first.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    pub(crate) turns: Option<String>,
    pub(crate) items: Option<String>,
}

impl<'a> Resumed<'a> {
    pub(crate) fn new(
        view: &'a ThreadView,
        sources: &'a [String],
        turns: Vec<Turn<'a>>,
        page: Option<Page<Turn<'a>>>,
        ends: Ends,
    ) -> Self {
        Self {
            opened: Opened::new(view, sources, turns),
            collaboration_mode: collaboration_mode(&view.thread.settings),
            initial_turns_page: page,
            turns_backwards_cursor: ends.turns,
            items_backwards_cursor: ends.items,
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReadResponse<'a> {
    pub(crate) thread: Thread<'a>,
    pub(crate) read_state: Option<ReadState>,
}

#[derive(Debug, Serialize)]
pub(crate) struct OfThreadResponse<'a> {
    pub(crate) thread: Thread<'a>,
}

#[derive(Debug, Serialize)]
pub(crate) struct UnsubscribeResponse {
    pub(crate) status: Leaving,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Leaving {
    Unsubscribed,
    NotSubscribed,
    NotLoaded,
}

#[derive(Debug, Serialize)]
pub(crate) struct GoalResponse {
    pub(crate) goal: (),
}

/// A notification that says which thread and no more.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Which {
    pub(crate) thread_id: ThreadId,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StatusNotice {
    pub(crate) thread_id: ThreadId,
    pub(crate) status: Status,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NameNotice<'a> {
    pub(crate) thread_id: ThreadId,
    pub(crate) thread_name: Option<&'a str>,
}

/// Something that a person should know about a thread.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Warning<'a> {
    pub(crate) thread_id: ThreadId,
    pub(crate) message: &'a str,
}

/// More of a text.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Delta<'a> {
    pub(crate) thread_id: ThreadId,
    pub(crate) turn_id: TurnId,
    pub(crate) item_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) summary_index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content_index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) delta: Option<&'a str>,
}
