//! Accounts and usage limits. Credentials live in the gateway, so there is no account to show here.

use agent_session::{RateLimit, RateLimitWindow};
use serde::Serialize;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Account {
    pub(crate) account: (),
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
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Snapshot<'a> {
    limit_id: &'a str,
    limit_name: Option<&'a str>,
    normal_model_slug: (),
    primary: Option<Window>,
    secondary: Option<Window>,
    credits: (),
    individual_limit: (),
    spend_control_reached: (),
    plan_type: (),
    rate_limit_reached_type: (),
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
            limit_id: &limit.id,
            limit_name: limit.name.as_deref(),
            normal_model_slug: (),
            primary: limit.primary.as_ref().map(Window::from),
            secondary: limit.secondary.as_ref().map(Window::from),
            credits: (),
            individual_limit: (),
            spend_control_reached: (),
            plan_type: (),
            rate_limit_reached_type: (),
        }
    }
}

/// The protocol has whole percents; anything used counts as something, and a limit is not full before it is.
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
