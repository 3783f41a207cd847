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
