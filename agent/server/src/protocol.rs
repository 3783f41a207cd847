//! How each method of the protocol is answered, and why some are not.
//!
//! What a method does is in `methods`. Here stands only what a reader of the documentation and a client that asks in vain are
//! told.

use crate::router::Method;

/// How a method of the protocol is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// As Codex does.
    Whole,
    /// With nothing in it, because there is nothing of the kind.
    Empty(&'static str),
    /// With a refusal that says why.
    Refused(&'static str),
}

/// What is answered with nothing in it.
const EMPTY: [(&str, &str); 8] = [
    ("account/bedrock/checkGovCloudRequirements", NO_ACCOUNT),
    ("collaborationMode/list", "there is the default mode alone"),
    ("experimentalFeature/list", "there are no features to switch"),
    ("hooks/list", "there are no hooks here"),
    ("plugin/installed", "there are no plugins here"),
    ("skills/list", "there are no skills here"),
    ("thread/backgroundTerminals/list", NO_TOOLS),
    ("thread/goal/get", NO_GOALS),
];

const NO_ACCOUNT: &str = "credentials live in the gateway, and clients have no account here";
const NO_TOOLS: &str = "there are no tools here yet";
const NO_GOALS: &str = "threads have no goals here";
const NO_MACHINE: &str = "clients have no access to the machine that the service runs on";
const NO_SECTIONS: &str = "threads are in no projects and sections here";
const NO_PLUGINS: &str = "there are no plugins and apps here";
const NO_MEMORY: &str = "nothing is remembered from one thread to another here";
const NO_MCP: &str = "there are no MCP servers here yet";
const NO_REMOTE: &str = "clients connect to the service itself";
const NO_REVIEWS: &str = "there are no reviews here yet";
const NOT_YET: &str = "it is not built yet";

/// Why methods are refused: those of this name, or below it where it ends in a slash. The first that fits counts.
const REFUSED: [(&str, &str); 49] = [
    ("account/", NO_ACCOUNT),
    ("accountSession/", NO_ACCOUNT),
    ("app/", NO_PLUGINS),
    ("command/", NO_MACHINE),
    ("config/mcpServer/reload", NO_MCP),
    ("environment/", NO_MACHINE),
    ("experimentalFeature/", "there are no features to switch"),
    ("externalAgentConfig/", NO_MACHINE),
    ("feedback/", "feedback is sent to nobody from here"),
    ("fs/", NO_MACHINE),
    ("fuzzyFileSearch", NO_MACHINE),
    ("fuzzyFileSearch/", NO_MACHINE),
    ("marketplace/", NO_PLUGINS),
    ("mcpServer/", NO_MCP),
    ("mcpServerStatus/", NO_MCP),
    ("memory/", NO_MEMORY),
    ("mock/", "it is for Codex's own tests"),
    ("modelProvider/", "providers are configured in the gateway"),
    ("plugin/", NO_PLUGINS),
    ("process/", NO_MACHINE),
    ("project/", NO_SECTIONS),
    ("remoteControl/", NO_REMOTE),
    ("review/", NO_REVIEWS),
    ("rollout/", "threads are kept in the store"),
    ("server/", "what the process does is told at /metrics"),
    ("skills/", "there are no skills here"),
    ("thread/approveGuardianDeniedAction", NO_REVIEWS),
    ("thread/attachment/", NOT_YET),
    ("thread/attachmentOwner/", NOT_YET),
    ("thread/backgroundTerminals/", NO_TOOLS),
    ("thread/decrement_elicitation", NO_TOOLS),
    ("thread/goal/", NO_GOALS),
    ("thread/guardianReview", NO_REVIEWS),
    ("thread/increment_elicitation", NO_TOOLS),
    ("thread/memory/", NO_MEMORY),
    ("thread/memoryMode/", NO_MEMORY),
    ("thread/prediction/", "nothing is predicted here"),
    ("thread/prepareApprovedPlan", NO_TOOLS),
    ("thread/queue/", "a message to a running turn joins it"),
    ("thread/realtime/", "there is no speech here"),
    ("thread/sample", NOT_YET),
    ("thread/sample/", NOT_YET),
    ("thread/section/", NO_SECTIONS),
    ("thread/shellCommand", NO_MACHINE),
    ("thread/", NOT_YET),
    ("threadSection/", NO_SECTIONS),
    ("turn/", NOT_YET),
    ("userVerification/", NO_ACCOUNT),
    ("windowsSandbox/", "the service does not run on Windows"),
];

/// How a method of the protocol is answered; `None` if this service has never heard of it.
#[must_use]
pub fn answered(method: &str) -> Option<Answered> {
    if Method::of(method).is_none() {
        return why_not(method).map(Answered::Refused);
    }
    let empty = EMPTY.iter().find(|(name, _)| *name == method);
    Some(empty.map_or(Answered::Whole, |(_, why)| Answered::Empty(why)))
}

/// Why a method of the protocol is not answered; `None` if this service has never heard of it.
pub(crate) fn why_not(method: &str) -> Option<&'static str> {
    let fits = |known: &str| match known.ends_with('/') {
        true => method.starts_with(known),
        false => method == known,
    };
    REFUSED.iter().find(|(known, _)| fits(known)).map(|(_, why)| *why)
}

#[cfg(test)]
mod tests {
    use super::{Answered, EMPTY, REFUSED, answered, why_not};
    use crate::router::Method;

    #[test]
    fn every_reason_is_used() {
        for (index, (known, _)) in REFUSED.iter().enumerate() {
            let before = REFUSED.iter().take(index);
            let hidden = before.clone().any(|(other, _)| other.ends_with('/') && known.starts_with(other));
            assert!(!hidden, "{known} comes after what hides it");
        }
        for (name, _) in EMPTY {
            assert!(Method::of(name).is_some(), "{name}");
        }
    }

    #[test]
    fn methods_have_one_state() {
        assert_eq!(answered("thread/start"), Some(Answered::Whole));
        assert!(matches!(answered("skills/list"), Some(Answered::Empty(_))));
        assert_eq!(answered("account/rateLimits/read"), Some(Answered::Whole));
        assert!(matches!(answered("account/logout"), Some(Answered::Refused(_))));
        assert!(matches!(answered("fs/readFile"), Some(Answered::Refused(_))));
        assert_eq!(answered("foo/bar"), None);
        assert_eq!(why_not("fuzzyFileSearches"), None);
    }
}
