//! The address of a provider.

use secrecy::ExposeSecret;
use url::Url;

use super::Check;
use crate::openai;

impl Check<'_> {
    pub(super) fn base(&mut self) -> Option<Url> {
        let text = match (&self.config.base_url, self.is_openai()) {
            (Some(text), _) => text.as_str(),
            (None, true) => openai::BASE_URL,
            (None, false) => {
                let fix = "base_url = \"https://host/v1\", the address up to and without /responses";
                self.problem("base_url", "missing", fix);
                return None;
            }
        };
        let mut url = match Url::parse(text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => url,
            _ => {
                self.problem("base_url", "not an http or https address", "for example https://host/v1");
                return None;
            }
        };
        if !url.username().is_empty() || url.password().is_some() {
            self.problem("base_url", "holds a credential", "take it out and use env_key");
        }
        if url.query().is_some() || url.fragment().is_some() {
            self.problem("base_url", "has a query or a fragment", "use query_params for the query");
        }
        if url.path().trim_end_matches('/').ends_with("/responses") {
            self.problem("base_url", "names the operation", "write the address up to and without /responses");
        }
        if !self.config.query_params.is_empty() {
            let pairs = self.config.query_params.iter().map(|(name, value)| (name, value.expose_secret()));
            url.query_pairs_mut().extend_pairs(pairs);
        }
        Some(url)
    }
}
