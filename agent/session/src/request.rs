//! What callers ask for when they start a thread or a turn, and how a thread's settings follow from it.

use std::collections::BTreeMap;

use agent_threads::{Git, Metadata, ServiceTier, Settings, ThreadId, TurnId, UserInput};

use crate::{Error, trace_context::TraceContext};

/// How much a client may want told with each model call: it travels in a header.
const METADATA_KEYS_MAX: usize = 64;
const METADATA_BYTES_MAX: usize = 4 << 10;

/// A thread to be started.
#[derive(Debug, Clone, Default)]
pub struct NewThread {
    /// The client program, for example `codex-tui`.
    pub originator: String,
    /// Its version.
    pub client_version: String,
    /// The session source as clients filter by it, for example `vscode`, `cli` or `appServer`.
    pub source: String,
    /// Why the thread exists, for example `user` or `thread_title`.
    pub thread_source: Option<String>,
    /// The provider to stay with; otherwise the one that serves the model.
    pub provider: Option<String>,
    /// The thread that starts this one.
    pub parent_id: Option<ThreadId>,
    /// Whether it is never stored.
    pub ephemeral: bool,
    /// What its turns run with.
    pub overrides: Overrides,
}

/// A thread to be made of another one's history.
#[derive(Debug, Clone, Default)]
pub struct ForkThread {
    /// How much of the history.
    pub until: ForkPoint,
    /// The new thread's client program.
    pub originator: String,
    /// Its version.
    pub client_version: String,
    /// The session source as clients filter by it.
    pub source: String,
    /// Why the new thread exists.
    pub thread_source: Option<String>,
    /// The provider that the client wants; a thread and its forks stay with the first one's.
    pub provider: Option<String>,
    /// Whether the new thread is never stored.
    pub ephemeral: bool,
    /// Changes of the settings that it begins with, which are the other one's.
    pub overrides: Overrides,
}

/// How much of a history a fork begins with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ForkPoint {
    /// All of it. A turn that is running is there as interrupted.
    #[default]
    Whole,
    /// All through this turn, which has ended.
    Through(TurnId),
    /// All before this turn.
    Before(TurnId),
}

/// A change of what clients keep with a thread. `None` leaves a fact as it is, `Some(None)` takes it away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetadataChange {
    /// The Git commit.
    pub sha: Option<Option<String>>,
    /// The Git branch.
    pub branch: Option<Option<String>>,
    /// Where the Git repository comes from.
    pub origin_url: Option<Option<String>>,
    /// A choice of the client's own.
    pub daybreak_enabled: Option<bool>,
}

impl MetadataChange {
    /// The metadata after these changes.
    #[must_use]
    pub fn apply(self, metadata: &Metadata) -> Metadata {
        let Self { sha, branch, origin_url, daybreak_enabled } = self;
        let mut git = metadata.git.clone();
        if sha.is_some() || branch.is_some() || origin_url.is_some() {
            let before = git.unwrap_or_default();
            git = Some(Git {
                sha: sha.unwrap_or(before.sha),
                branch: branch.unwrap_or(before.branch),
                origin_url: origin_url.unwrap_or(before.origin_url),
            });
        }
        Metadata { git, daybreak_enabled: daybreak_enabled.or(metadata.daybreak_enabled) }
    }
}

/// A turn to be started, or a message to steer the running one.
#[derive(Debug, Clone, Default)]
pub struct StartTurn {
    /// The parts of the user's message.
    pub input: Vec<UserInput>,
    /// The client's own id of the message; a repeat with the same id is the same message.
    pub client_message_id: Option<String>,
    /// Changes of the thread's settings, from this turn on. When the message steers a running turn, only the client's
    /// metadata change.
    pub overrides: Overrides,
    /// The service tier of this turn alone, over that of the settings. Ignored like those.
    pub service_tier_for_turn: Option<String>,
    /// A JSON schema that the model's answers in this turn follow.
    pub output_schema: Option<serde_json::Value>,
    /// The turn that started the tree of work which this one belongs to, if it is another one.
    pub root_turn_id: Option<TurnId>,
    /// The trace that the request belongs to; that of a turn which begins with it goes on from there.
    pub trace: TraceContext,
}

/// A message that steers a running turn.
#[derive(Debug, Clone)]
pub struct SteerTurn {
    /// The turn that its sender means.
    pub expected: TurnId,
    /// The parts of the user's message.
    pub input: Vec<UserInput>,
    /// The client's own id of the message; a repeat with the same id is the same message.
    pub client_message_id: Option<String>,
    /// What is told with the model calls from here on.
    pub client_metadata: ClientMetadata,
}

/// A change of what a client wants told with each model call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientMetadata {
    /// Takes the place of what it wanted before.
    pub whole: Option<BTreeMap<String, String>>,
    /// Is added to that, key by key.
    pub patch: BTreeMap<String, String>,
}

impl ClientMetadata {
    pub(crate) fn apply(self, before: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut metadata = self.whole.unwrap_or_else(|| before.clone());
        metadata.extend(self.patch);
        metadata
    }

    /// Whether it is within bounds what is told then.
    pub(crate) fn check(metadata: &BTreeMap<String, String>) -> Result<(), Error> {
        let bytes: usize = metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
        if metadata.len() > METADATA_KEYS_MAX || bytes > METADATA_BYTES_MAX {
            return Err(Error::Invalid(
                format!(
                    "responsesapiClientMetadata must not have over {METADATA_KEYS_MAX} keys or \
                     {METADATA_BYTES_MAX} bytes, what was given before included"
                )
                .into(),
            ));
        }
        Ok(())
    }
}

/// Changes of settings. `None` leaves a setting as it is, an empty text takes it away.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overrides {
    /// The model's slug.
    pub model: Option<String>,
    /// The working directory.
    pub cwd: Option<String>,
    /// The reasoning effort.
    pub effort: Option<String>,
    /// How much of the reasoning is summarized.
    pub summary: Option<String>,
    /// The service tier; unset leaves it as it is.
    pub service_tier: ServiceTier,
    /// When the user is asked.
    pub approval_policy: Option<serde_json::Value>,
    /// Who is asked.
    pub approvals_reviewer: Option<serde_json::Value>,
    /// What commands may touch.
    pub sandbox: Option<serde_json::Value>,
    /// The name of the permission profile that the sandbox comes from; without a sandbox it says nothing.
    pub permission_profile: Option<String>,
    /// Replaces the model's base instructions.
    pub base_instructions: Option<String>,
    /// Added after the base instructions.
    pub developer_instructions: Option<String>,
    /// The client's collaboration mode.
    pub collaboration_mode: Option<serde_json::Value>,
    /// The client's personality choice.
    pub personality: Option<String>,
    /// What the client wants told with each model call.
    pub client_metadata: ClientMetadata,
    /// How many tokens the model's input may have before it is condensed.
    pub compact_at_tokens: Option<u64>,
}

impl Overrides {
    /// The same for a thread that is taken up again: an effort belongs to the model that it was chosen for.
    #[must_use]
    pub(crate) fn taking_up(mut self, settings: &Settings) -> Self {
        let other = self.model.as_ref().is_some_and(|model| !model.is_empty() && *model != settings.model);
        if other && self.effort.is_none() {
            self.effort = Some(String::new());
        }
        self
    }

    /// The settings after these changes.
    #[must_use]
    pub fn apply(self, settings: &Settings) -> Settings {
        fn required(new: Option<String>, old: &str) -> String {
            new.filter(|text| !text.is_empty()).unwrap_or_else(|| old.to_owned())
        }
        fn text(new: Option<String>, old: Option<&String>) -> Option<String> {
            match new {
                Some(text) => Some(text).filter(|text| !text.is_empty()),
                None => old.cloned(),
            }
        }
        let permission_profile = match self.sandbox {
            Some(_) => self.permission_profile,
            None => settings.permission_profile.clone(),
        };
        Settings {
            permission_profile,
            model: required(self.model, &settings.model),
            cwd: required(self.cwd, &settings.cwd),
            effort: text(self.effort, settings.effort.as_ref()),
            summary: text(self.summary, settings.summary.as_ref()),
            service_tier: self.service_tier.or_else(|| settings.service_tier.clone()),
            approval_policy: self.approval_policy.or_else(|| settings.approval_policy.clone()),
            approvals_reviewer: self.approvals_reviewer.or_else(|| settings.approvals_reviewer.clone()),
            sandbox: self.sandbox.or_else(|| settings.sandbox.clone()),
            base_instructions: text(self.base_instructions, settings.base_instructions.as_ref()),
            developer_instructions: text(
                self.developer_instructions,
                settings.developer_instructions.as_ref(),
            ),
            collaboration_mode: self.collaboration_mode.or_else(|| settings.collaboration_mode.clone()),
            personality: text(self.personality, settings.personality.as_ref()),
            client_metadata: self.client_metadata.apply(&settings.client_metadata),
            compact_at_tokens: self.compact_at_tokens.or(settings.compact_at_tokens),
        }
    }
}
