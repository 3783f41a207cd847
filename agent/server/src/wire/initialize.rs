//! The handshake.

use serde::{Deserialize, Serialize};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Params {
    pub(crate) client_info: ClientInfo,
    #[serde(default)]
    pub(crate) capabilities: Option<Capabilities>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ClientInfo {
    pub(crate) name: String,
    pub(crate) version: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Capabilities {
    #[serde(default)]
    pub(crate) experimental_api: bool,
    #[serde(default)]
    pub(crate) request_attestation: bool,
    #[serde(default)]
    pub(crate) opt_out_notification_methods: Option<Vec<String>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Response<'a> {
    pub(crate) user_agent: String,
    pub(crate) codex_home: &'a str,
    pub(crate) platform_family: &'static str,
    pub(crate) platform_os: &'static str,
}
