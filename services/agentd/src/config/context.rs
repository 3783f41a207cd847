//! What the model is told beside the conversation, as configured.

use agent_session::ContextOptions;
use schemars::JsonSchema;
use serde::Deserialize;
use service_runtime::config::Problem;

/// What the model is told beside the conversation, and when the conversation is made shorter. What is read from files of
/// this machine is told by default only where everybody who can connect is the machine's own user: with credentials
/// configured, users could read with it what is not theirs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ContextConfig {
    /// What it may do. On by default.
    pub permissions: bool,
    /// The working directory and the date. On by default.
    pub environment: bool,
    /// The `AGENTS.md` files from the root of the project down to the working directory, 32 KiB at most.
    pub project_docs: Option<bool>,
    /// Branch, commit and origin of the repository that the working directory is in.
    pub git: Option<bool>,
    /// Whether messages may name image files of this machine.
    pub local_images: Option<bool>,
    /// How full the model's context window may be, in percent, before the conversation is condensed; 0 means never. A
    /// thread's `model_auto_compact_token_limit` wins.
    pub compact_at_percent: u8,
    /// Whether the items that the agent adds to a conversation have ids of their own, as Codex's have.
    pub item_ids: bool,
}

impl Default for ContextConfig {
    fn default() -> Self {
        Self {
            permissions: true,
            environment: true,
            project_docs: None,
            git: None,
            local_images: None,
            compact_at_percent: 90,
            item_ids: false,
        }
    }
}

impl ContextConfig {
    /// Puts it into the options. `desk` is whether everybody who can connect is the machine's own user.
    pub(super) fn build(
        &self,
        desk: bool,
        options: &mut agent_session::Options,
        problems: &mut Vec<Problem>,
    ) {
        if self.compact_at_percent > 100 {
            let message = format!("is {}, outside 0 to 100", self.compact_at_percent);
            problems.push(Problem::new("context.compact_at_percent", message));
        }
        options.context = ContextOptions {
            permissions: self.permissions,
            environment: self.environment,
            project_docs: self.project_docs.unwrap_or(desk),
            git: self.git.unwrap_or(desk),
            local_images: self.local_images.unwrap_or(desk),
        };
        options.compact_at_percent = Some(self.compact_at_percent).filter(|percent| *percent > 0);
        options.item_ids = self.item_ids;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_machine_are_for_its_own_user_unless_somebody_says_otherwise() {
        let built = |config: ContextConfig, desk| {
            let mut options = agent_session::Options::default();
            config.build(desk, &mut options, &mut Vec::new());
            options.context
        };
        let desk = built(ContextConfig::default(), true);
        assert!(desk.project_docs && desk.git && desk.local_images && desk.permissions && desk.environment);
        let shared = built(ContextConfig::default(), false);
        assert!(!shared.project_docs && !shared.git && !shared.local_images);
        assert!(shared.permissions && shared.environment);
        let asked = ContextConfig { git: Some(true), ..ContextConfig::default() };
        assert!(built(asked, false).git);
        let mut problems = Vec::new();
        let wrong = ContextConfig { compact_at_percent: 101, ..ContextConfig::default() };
        wrong.build(true, &mut agent_session::Options::default(), &mut problems);
        assert_eq!(problems.len(), 1);
    }
}
