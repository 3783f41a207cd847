//! The headers that a provider's calls have by configuration.

use http::header::{HeaderMap, HeaderName};
use secrecy::ExposeSecret;

use super::Check;
use crate::credential::sensitive;
use crate::{headers, openai};

impl Check<'_> {
    pub(super) fn headers(&mut self) -> HeaderMap {
        let config = self.config;
        let mut headers = HeaderMap::new();
        if self.is_openai() {
            for (name, variable) in openai::ENV_HEADERS {
                let value = (self.env)(variable).filter(|value| !value.trim().is_empty());
                self.header(&mut headers, "env_http_headers", name, value.as_deref());
            }
        }
        for (name, value) in &config.http_headers {
            self.header(&mut headers, "http_headers", name, Some(value.expose_secret()));
        }
        for (name, variable) in &config.env_http_headers {
            let value = (self.env)(variable).filter(|value| !value.trim().is_empty());
            self.header(&mut headers, "env_http_headers", name, value.as_deref());
        }
        headers
    }

    /// Adds a configured header. Its value may be a secret, so no message shows it.
    fn header(&mut self, headers: &mut HeaderMap, table: &str, name: &str, value: Option<&str>) {
        let key = format!("{table}.{name}");
        let Ok(parsed) = HeaderName::try_from(name) else {
            return self.problem(&key, "not a header name", "use letters, digits and '-'");
        };
        if parsed == http::header::AUTHORIZATION {
            let fix = "use env_key or experimental_bearer_token";
            return self.problem(&key, "the credential has keys of its own", fix);
        }
        if headers::is_owned(&parsed) {
            return self.problem(&key, "the gateway sets this header itself", "remove it");
        }
        match value.map(|value| sensitive(value.trim())) {
            Some(Some(value)) => drop(headers.insert(parsed, value)),
            Some(None) => {
                self.problem(&key, "the value cannot stand in a header", "remove control characters")
            }
            None => {}
        }
    }
}
