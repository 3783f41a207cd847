//! A thread's own facts, apart from its log.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{ReadState, ServiceTier, TenantId, ThreadId};

/// A thread's facts.
#[derive(Debug, Clone, PartialEq)]
pub struct Thread {
    /// Whose it is.
    pub tenant: TenantId,
    /// Its id.
    pub id: ThreadId,
    /// Shared by a tree of threads; the root's own id.
    pub session_id: ThreadId,
    /// The thread that started this one.
    pub parent_id: Option<ThreadId>,
    /// The thread that this one was forked from.
    pub forked_from_id: Option<ThreadId>,
    /// When it was started, in Unix milliseconds.
    pub created_at_ms: i64,
    /// When its log last grew, in Unix milliseconds.
    pub updated_at_ms: i64,
    /// The name that a user gave it.
    pub name: Option<String>,
    /// The beginning of the first user message.
    pub preview: String,
    /// Whether it is archived.
    pub archived: bool,
    /// Where it comes from.
    pub origin: Origin,
    /// What the next turn runs with.
    pub settings: Settings,
    /// What clients keep with it.
    pub metadata: Metadata,
    /// What its user has not seen yet. A new thread is read.
    pub read_state: ReadState,
}

/// What clients keep with a thread and the service does not use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// The Git state that the thread belongs to; `None` if nobody told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<Git>,
    /// A choice of the client's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daybreak_enabled: Option<bool>,
}

/// A Git state as a client told it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Git {
    /// The commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha: Option<String>,
    /// The branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Where the repository comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin_url: Option<String>,
}

/// Where a thread comes from; never changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The client program, for example `codex-tui`.
    pub originator: String,
    /// Its version.
    pub client_version: String,
    /// The session source as clients filter by it, for example `vscode`, `cli` or `appServer`.
    pub source: String,
    /// Why the thread exists, for example `user` or `thread_title`.
    pub thread_source: Option<String>,
    /// The provider that the thread began with and stays with.
    pub provider: String,
}

/// What a turn runs with. Open strings are the client's own and kept as they came.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The model's slug.
    pub model: String,
    /// The working directory.
    pub cwd: String,
    /// The reasoning effort.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effort: Option<String>,
    /// How much of the reasoning is summarized.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// The service tier.
    #[serde(default, skip_serializing_if = "ServiceTier::is_unset")]
    pub service_tier: ServiceTier,
    /// When the user is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval_policy: Option<serde_json::Value>,
    /// Who is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approvals_reviewer: Option<serde_json::Value>,
    /// What commands may touch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<serde_json::Value>,
    /// The name of the permission profile that the sandbox came from, if it came from one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permission_profile: Option<String>,
    /// Replaces the model's base instructions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_instructions: Option<String>,
    /// Added after the base instructions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub developer_instructions: Option<String>,
    /// The client's collaboration mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collaboration_mode: Option<serde_json::Value>,
    /// The client's personality choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub personality: Option<String>,
    /// What the client wants told with each model call.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub client_metadata: BTreeMap<String, String>,
    /// How many tokens the model's input may have before it is condensed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compact_at_tokens: Option<u64>,
}

/// A change of a thread's facts; `None` leaves a fact as it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ThreadUpdate {
    /// Sets or, with an empty text, removes the name.
    pub name: Option<String>,
    /// Archives or unarchives.
    pub archived: Option<bool>,
    /// What the next turn runs with.
    pub settings: Option<Settings>,
    /// The beginning of the first user message.
    pub preview: Option<String>,
    /// What clients keep with it.
    pub metadata: Option<Metadata>,
}
