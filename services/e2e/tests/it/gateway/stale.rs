//! Files that say something else than what holds: what `/readyz` tells of them, the metrics tell too, until they are mended.

use std::time::Duration;

use ::http::Method;
use gateway_testkit::{Gate, Reply, Upstream};
use serde_json::json;
use service_e2e::home::Home;
use service_e2e::http;
use service_e2e::stack::{self, Gateway};
use tokio::time::{sleep, timeout};

const SOON: Duration = Duration::from_secs(20);

/// Waits until what a path shows is so.
async fn shows(gateway: &Gateway, path: &str, wanted: impl Fn(&str) -> bool) -> anyhow::Result<()> {
    let mut seen = String::new();
    let shown = async {
        while !wanted(&seen) {
            sleep(Duration::from_millis(20)).await;
            seen = http::get(gateway.at, path).await?.text;
        }
        anyhow::Ok(())
    };
    match timeout(SOON, shown).await {
        Ok(shown) => shown,
        Err(_) => Err(anyhow::anyhow!("{path} shows\n{seen}")),
    }
}

/// Waits until the metrics say whether something is stale, and how often a change was refused.
async fn stale(gateway: &Gateway, value: u8, refused: usize) -> anyhow::Result<()> {
    let of = |text: &str, name: &str, label: &str| {
        let line = text.lines().find(|line| line.starts_with(name) && line.contains(label));
        line.and_then(|line| line.rsplit(' ').next()).unwrap_or("0").to_owned()
    };
    shows(gateway, "/metrics", |text| {
        !text.is_empty()
            && of(text, "tidegate_configuration_stale", "") == value.to_string()
            && of(text, "tidegate_configuration_changes_total", "\"refused\"") == refused.to_string()
    })
    .await
}

#[tokio::test]
async fn a_keys_file_that_is_wrong_or_missing_is_stale_until_it_is_mended() -> anyhow::Result<()> {
    let upstream = Upstream::start().await?;
    let home = Home::new()?;
    let keys = home.path("keys.toml");
    std::fs::write(&keys, "")?;
    let callers = "[authentication]\nkeys_file = \"keys.toml\"\nanonymous = true\n";
    let gateway = Gateway::start_with(home, &(stack::provider(&upstream) + callers), &[]).await?;
    stale(&gateway, 0, 0).await?;
    std::fs::write(&keys, "keys")?;
    shows(&gateway, "/readyz", |text| text.contains("keys.toml: line 1, column ")).await?;
    stale(&gateway, 1, 1).await?;
    std::fs::write(&keys, "")?;
    stale(&gateway, 0, 1).await?;
    std::fs::remove_file(&keys)?;
    stale(&gateway, 1, 2).await?;
    std::fs::write(&keys, "")?;
    stale(&gateway, 0, 2).await
}

/// The fetch is not begun anew each time that somebody looks: it ends, and what came of it is told.
#[tokio::test]
async fn an_issuer_that_never_answers_is_told_of_and_makes_nothing_stale() -> anyhow::Result<()> {
    let upstream = Upstream::start().await?;
    let silent = Gate::closed();
    upstream.route(Method::GET, "/keys", Reply::json(200, &json!({"keys": []})).delay_headers(&silent));
    let callers = format!(
        "[authentication]\nanonymous = true\n[[authentication.issuers]]\nname = \"corp\"\nissuer = \"https://sso.example\"\n\
         audience = \"tidegate\"\njwks_url = {:?}\n[[callers]]\nissuer = \"corp\"\ntenant = \"acme\"\n",
        upstream.url("/keys")
    );
    let gateway = Gateway::start(&(stack::provider(&upstream) + &callers)).await?;
    shows(&gateway, "/readyz", |text| text.contains("corp: no answer within 4 seconds")).await?;
    stale(&gateway, 0, 0).await
}
