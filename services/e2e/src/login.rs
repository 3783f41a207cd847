//! A ChatGPT login as Codex keeps it on a laptop, made up: nobody has signed its tokens, and nobody verifies them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::home::Home;

/// The variable that tells Codex where a login is refreshed.
pub const REFRESH_URL: &str = "CODEX_REFRESH_TOKEN_URL_OVERRIDE";
/// The account that every login belongs to.
pub const ACCOUNT: &str = "acc-of-the-person";

/// The tokens of one login.
pub struct Login {
    token: String,
    refresh: String,
}

impl Login {
    /// A login whose tokens differ from those with another number, and end long after any test.
    pub fn new(number: u32) -> Self {
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let account = json!({"chatgpt_account_id": ACCOUNT, "chatgpt_plan_type": "pro", "user_id": "user-1"});
        let claims = json!({"email": "a@b.example", "exp": 4_102_444_800_u32, "jti": number, "https://api.openai.com/auth": account});
        let token = format!("{}.{}.c2ln", part(json!({"alg": "none"})), part(claims));
        Self { token, refresh: format!("refresh-canary-{number}-91b7c2") }
    }

    /// What goes into `Authorization`.
    pub fn authorization(&self) -> String {
        format!("Bearer {}", self.token)
    }

    /// The token that is used to get others.
    pub fn refresh_token(&self) -> &str {
        &self.refresh
    }

    /// What the place where logins are refreshed answers.
    pub fn refreshed(&self) -> Value {
        json!({"id_token": self.token, "access_token": self.token, "refresh_token": self.refresh})
    }

    /// Logs in whoever uses `home`.
    pub fn write(&self, home: &Home) -> anyhow::Result<()> {
        let mut tokens = self.refreshed();
        if let Some(tokens) = tokens.as_object_mut() {
            tokens.insert("account_id".to_owned(), ACCOUNT.into());
        }
        let file = json!({
            "auth_mode": "chatgpt", "OPENAI_API_KEY": null, "tokens": tokens,
            // Codex refreshes by itself what has not been refreshed for days.
            "last_refresh": "2100-01-01T00:00:00Z",
        });
        std::fs::write(home.path("codex").join("auth.json"), file.to_string())?;
        Ok(())
    }
}
