//! Accounts and usage limits. Credentials live in the gateway: an account is shown by its kind and nothing more.

use std::collections::BTreeMap;

use agent_session::{AccountKind, RateLimit, RateLimitWindow};
use serde::Serialize;

/// The limit that clients show when they show one.
const MAIN_LIMIT: &str = "codex";
/// How a limit can have been reached, in the words of the protocol.
const REACHED_TYPES: [&str; 5] = [
    "rate_limit_reached",
    "workspace_owner_credits_depleted",
    "workspace_member_credits_depleted",
    "workspace_owner_usage_limit_reached",
    "workspace_member_usage_limit_reached",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(crate) enum Account {
    ApiKey,
    #[serde(rename = "chatgpt")]
    ChatGpt {
        email: (),
        plan_type: &'static str,
    },
    AmazonBedrock {
        uses_codex_managed_credentials: bool,
    },
}

impl Account {
    /// The account behind a provider, if it has one.
    pub(crate) const fn of(kind: AccountKind) -> Option<Self> {
        match kind {
            AccountKind::Unknown | AccountKind::None => None,
            AccountKind::ApiKey => Some(Self::ApiKey),
            AccountKind::ChatGpt => Some(Self::ChatGpt { email: (), plan_type: "unknown" }),
            AccountKind::Aws => Some(Self::AmazonBedrock { uses_codex_managed_credentials: false }),
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AccountRead {
    pub(crate) account: Option<Account>,
    pub(crate) user_id: (),
    pub(crate) requires_openai_auth: bool,
    pub(crate) workspace_routing: (),
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct GovCloud {
    pub(crate) is_gov_cloud: bool,
    pub(crate) should_warn: bool,
}

/// One usage limit.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Snapshot<'a> {
    limit_id: Option<&'a str>,
    limit_name: Option<&'a str>,
    normal_model_slug: (),
    primary: Option<Window>,
    secondary: Option<Window>,
    credits: (),
    individual_limit: (),
    spend_control_reached: (),
    plan_type: (),
    rate_limit_reached_type: Option<&'a str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Window {
    used_percent: i64,
    window_duration_mins: Option<u64>,
    resets_at: Option<i64>,
}

impl From<&RateLimitWindow> for Window {
    fn from(window: &RateLimitWindow) -> Self {
        Self {
            used_percent: whole_percent(window.used_percent),
            window_duration_mins: window.window_minutes,
            resets_at: window.resets_at,
        }
    }
}

impl<'a> From<&'a RateLimit> for Snapshot<'a> {
    fn from(limit: &'a RateLimit) -> Self {
        Self {
            limit_id: Some(&limit.id),
            limit_name: limit.name.as_deref(),
            primary: limit.primary.as_ref().map(Window::from),
            secondary: limit.secondary.as_ref().map(Window::from),
            rate_limit_reached_type: limit
                .reached_type
                .as_deref()
                .filter(|reached| REACHED_TYPES.contains(reached)),
            ..Self::default()
        }
    }
}

/// All usage limits of an account.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RateLimits<'a> {
    account_id: (),
    ordinary_usage_allowed: (),
    rate_limit_reset_credits: (),
    /// The main one; all of it is unknown before the provider has reported any.
    rate_limits: Snapshot<'a>,
    rate_limits_by_limit_id: BTreeMap<&'a str, Snapshot<'a>>,
}

impl<'a> RateLimits<'a> {
    pub(crate) fn new(limits: &'a [RateLimit]) -> Self {
        let main = limits.iter().find(|limit| limit.id == MAIN_LIMIT).or_else(|| limits.first());
        Self {
            account_id: (),
            ordinary_usage_allowed: (),
            rate_limit_reset_credits: (),
            rate_limits: main.map(Snapshot::from).unwrap_or_default(),
            rate_limits_by_limit_id: limits
                .iter()
                .map(|limit| (limit.id.as_str(), Snapshot::from(limit)))
                .collect(),
        }
    }
}

/// The protocol has whole percents: they are rounded up, so that anything used counts as something, and end at a hundred.
fn whole_percent(percent: f64) -> i64 {
    (0..100).find(|whole| f64::from(*whole) >= percent).map_or(100, i64::from)
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Updated<'a> {
    pub(crate) rate_limits: Snapshot<'a>,
}

#[cfg(test)]
mod tests {
    use super::whole_percent;

    #[test]
    fn percents_are_whole_and_in_range() {
        for (percent, expected) in [
            (0.0, 0),
            (0.2, 1),
            (41.0, 41),
            (41.5, 42),
            (99.9, 100),
            (250.0, 100),
            (-3.0, 0),
            (f64::NAN, 100),
        ] {
            assert_eq!(whole_percent(percent), expected, "{percent}");
        }
    }
}
