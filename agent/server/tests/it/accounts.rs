//! What clients learn of the account that the gateway uses, and of its limits.

use agent_session::{AccountKind, RateLimit, RateLimitWindow};
use serde_json::{Value, json};

use crate::house::House;

#[tokio::test]
async fn an_account_is_shown_by_its_kind() {
    let house = House::new();
    let mut client = house.client().await;
    let read = client.ask("account/read", json!({})).await;
    assert_eq!((&read["account"], &read["requiresOpenaiAuth"]), (&Value::Null, &json!(false)));
    for (kind, account) in [
        (AccountKind::None, Value::Null),
        (AccountKind::ApiKey, json!({"type": "apiKey"})),
        (AccountKind::ChatGpt, json!({"type": "chatgpt", "email": null, "planType": "unknown"})),
        (AccountKind::Aws, json!({"type": "amazonBedrock", "usesCodexManagedCredentials": false})),
    ] {
        house.gateway.account(kind, Vec::new());
        assert_eq!(client.ask("account/read", json!({})).await["account"], account);
    }
}

fn limit(id: &str, used_percent: f64, reached: &str) -> RateLimit {
    RateLimit {
        id: id.to_owned(),
        name: None,
        primary: Some(RateLimitWindow { used_percent, window_minutes: Some(300), resets_at: Some(7) }),
        secondary: None,
        reached_type: Some(reached.to_owned()),
    }
}

#[tokio::test]
async fn limits_are_those_of_the_gateways_account() {
    let house = House::new();
    let mut client = house.client().await;
    house.gateway.account(AccountKind::None, Vec::new());
    let text = client.refused("account/rateLimits/read", json!(null)).await;
    assert_eq!(text, "codex account authentication required to read rate limits");
    house.gateway.account(AccountKind::ChatGpt, Vec::new());
    let read = client.ask("account/rateLimits/read", json!(null)).await;
    assert_eq!(
        (&read["rateLimits"]["limitId"], &read["rateLimits"]["primary"]),
        (&Value::Null, &Value::Null)
    );
    let limits = vec![limit("other", 3.0, "novelty"), limit("codex", 99.5, "rate_limit_reached")];
    house.gateway.account(AccountKind::ChatGpt, limits);
    let read = client.ask("account/rateLimits/read", json!(null)).await;
    let window = json!({"usedPercent": 100, "windowDurationMins": 300, "resetsAt": 7});
    assert_eq!(read["rateLimits"]["limitId"], "codex");
    assert_eq!(read["rateLimits"]["primary"], window);
    assert_eq!(read["rateLimits"]["rateLimitReachedType"], "rate_limit_reached");
    let other = &read["rateLimitsByLimitId"]["other"];
    assert_eq!((&other["primary"]["usedPercent"], &other["rateLimitReachedType"]), (&json!(3), &Value::Null));
}

#[tokio::test]
async fn every_connection_is_told_how_far_limits_are_used_up() {
    let house = House::new();
    house.gateway.account(AccountKind::ChatGpt, Vec::new());
    let (mut ours, mut theirs) = (house.client_of("acme").await, house.client_of("other").await);
    house.gateway.report(&[limit("codex", 41.5, "novelty")]);
    for client in [&mut ours, &mut theirs] {
        let told = client.until("account/rateLimits/updated").await;
        assert_eq!(told.last().unwrap()["params"]["rateLimits"]["primary"]["usedPercent"], 42);
    }
}
