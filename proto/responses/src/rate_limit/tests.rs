//! Rate-limit headers as Codex reads them.

use super::*;

#[test]
fn families_windows_and_credits_are_read() {
    let headers = [
        ("x-codex-primary-used-percent", "12.5"),
        ("X-Codex-Primary-Window-Minutes", "300"),
        ("x-codex-primary-reset-at", " 1795168759 "),
        ("x-codex-secondary-used-percent", "3"),
        ("x-codex-credits-has-credits", "true"),
        ("x-codex-credits-unlimited", "False"),
        ("x-codex-credits-balance", "7.50"),
        ("x-codex-limit-name", ""),
        ("x-gpt-6-astra-primary-used-percent", "90"),
        ("x-gpt-6-astra-limit-name", "gpt-6-astra"),
        ("x-request-id", "r"),
        ("content-type", "text/event-stream"),
    ];
    let codex = RateLimit {
        limit_id: "codex".into(),
        limit_name: None,
        primary: Some(Window {
            used_percent: 12.5,
            window_minutes: Some(300),
            resets_at: Some(1_795_168_759),
        }),
        secondary: Some(Window { used_percent: 3.0, window_minutes: None, resets_at: None }),
        credits: Some(Credits { has_credits: true, unlimited: false, balance: Some("7.50".into()) }),
        ..RateLimit::default()
    };
    let astra = RateLimit {
        limit_id: "gpt_6_astra".into(),
        limit_name: Some("gpt-6-astra".into()),
        primary: Some(Window { used_percent: 90.0, window_minutes: None, resets_at: None }),
        ..RateLimit::default()
    };
    assert_eq!(RateLimit::from_headers(headers), [codex, astra]);
}

#[test]
fn what_cannot_be_read_is_missing() {
    let headers = [
        ("x-codex-primary-used-percent", "NaN"),
        ("x-codex-secondary-used-percent", "much"),
        ("x-codex-credits-has-credits", "maybe"),
        ("x-codex-limit-name", "name alone"),
        ("x--primary-used-percent", "5"),
        ("x-primary-used-percent", "5"),
    ];
    assert_eq!(RateLimit::from_headers(headers), []);
}

#[test]
fn families_are_bounded() {
    let names: Vec<_> = (0..100).map(|n| format!("x-family{n}-primary-used-percent")).collect();
    assert_eq!(RateLimit::from_headers(names.iter().map(|name| (name.as_str(), "1"))).len(), FAMILIES_MAX);
}

#[test]
fn buckets_of_the_api_are_limits_too() {
    let headers = [
        ("x-ratelimit-limit-requests", "200"),
        ("X-RateLimit-Remaining-Requests", "50"),
        ("x-ratelimit-reset-requests", "1m30s"),
        ("x-ratelimit-remaining-tokens", "0"),
        ("x-ratelimit-limit-", "1"),
        ("x-ratelimit-limit-odd", "5"),
        ("x-ratelimit-remaining-odd", "9"),
        ("x-ratelimit-reset-none", "never"),
    ];
    let limits = RateLimit::from_headers(headers);
    let odd = Bucket { limit: Some(5), remaining: Some(9), reset_after: None };
    let requests =
        Bucket { limit: Some(200), remaining: Some(50), reset_after: Some(Duration::from_secs(90)) };
    let tokens = Bucket { remaining: Some(0), ..Bucket::default() };
    let used = Window { used_percent: 75.0, window_minutes: None, resets_at: None };
    let limit = |id: &str, primary, bucket| RateLimit {
        limit_id: id.into(),
        primary,
        bucket: Some(bucket),
        ..RateLimit::default()
    };
    assert_eq!(
        limits,
        [limit("odd", None, odd), limit("requests", Some(used), requests), limit("tokens", None, tokens)]
    );
}

#[test]
fn the_kind_of_limit_that_was_reached_is_told() {
    let limits = RateLimit::from_headers([("x-codex-rate-limit-reached-type", "workspace_owner_credits")]);
    let expected = RateLimit {
        limit_id: "codex".into(),
        reached_type: Some("workspace_owner_credits".into()),
        ..RateLimit::default()
    };
    assert_eq!(limits, [expected]);
}
