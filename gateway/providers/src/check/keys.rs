//! Which keys of a provider's table are set.

use crate::config::ProviderConfig;

impl ProviderConfig {
    /// The keys that are set.
    pub(crate) fn keys(&self) -> Vec<&'static str> {
        let keys = [
            ("name", self.name.is_some()),
            ("base_url", self.base_url.is_some()),
            ("wire_api", self.wire_api.is_some()),
            ("env_key", self.env_key.is_some()),
            ("env_key_instructions", self.env_key_instructions.is_some()),
            ("experimental_bearer_token", self.experimental_bearer_token.is_some()),
            ("requires_openai_auth", self.requires_openai_auth.is_some()),
            ("http_headers", !self.http_headers.is_empty()),
            ("env_http_headers", !self.env_http_headers.is_empty()),
            ("query_params", !self.query_params.is_empty()),
            ("request_max_retries", self.request_max_retries.is_some()),
            ("stream_idle_timeout_ms", self.stream_idle_timeout_ms.is_some()),
            ("supports_websockets", self.supports_websockets.is_some()),
            ("models", self.models.is_some()),
            ("model_facts", !self.model_facts.is_empty()),
            ("auth", self.auth.is_some()),
            ("aws", self.aws.is_some()),
            ("stream_max_retries", self.stream_max_retries.is_some()),
            ("websocket_connect_timeout_ms", self.websocket_connect_timeout_ms.is_some()),
            ("key_file", self.key_file.is_some()),
            ("pass_through", self.pass_through.is_some()),
            ("ca_file", self.ca_file.is_some()),
            ("client_certificate_file", self.client_certificate_file.is_some()),
            ("client_key_file", self.client_key_file.is_some()),
            ("proxy", self.proxy.is_some()),
            ("no_proxy", !self.no_proxy.is_empty()),
            ("models_file", self.models_file.is_some()),
            ("redact_workspaces", self.redact_workspaces.is_some()),
            ("trace_context", self.trace_context.is_some()),
        ];
        keys.into_iter().filter(|(_, set)| *set).map(|(key, _)| key).collect()
    }
}
