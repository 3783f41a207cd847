//! The handshake: who the client is, what it asked for, what it does not want to hear.

use std::collections::HashSet;
use std::env::consts;

use crate::PROTOCOL_VERSION;
use crate::call::{Answer, Call};
use crate::connection::Client;
use crate::rpc::Refusal;
use crate::wire::initialize::{Params, Response};

/// How long a client's name and version may be: they travel in headers.
const NAME_BYTES_MAX: usize = 128;
/// How many notifications a client may opt out of.
const OPT_OUTS_MAX: usize = 1_024;

/// `initialize`.
pub(crate) fn initialize(call: &Call<'_>) -> Answer {
    let Params { client_info, capabilities } = call.params()?;
    let capabilities = capabilities.unwrap_or_default();
    if call.connection.client().is_some() {
        return Err(Refusal::invalid("Already initialized"));
    }
    for (name, value) in [("name", &client_info.name), ("version", &client_info.version)] {
        let fits = !value.is_empty() && value.len() <= NAME_BYTES_MAX;
        if !fits || !value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return Err(Refusal::invalid(format!(
                "Invalid clientInfo.{name}: it must be 1 to {NAME_BYTES_MAX} characters that fit a header"
            )));
        }
    }
    let silenced = capabilities.opt_out_notification_methods.unwrap_or_default();
    if silenced.len() > OPT_OUTS_MAX {
        return Err(Refusal::invalid("too many optOutNotificationMethods"));
    }
    let user_agent = format!(
        "{name}/{PROTOCOL_VERSION} ({}; {}) tidegate/{} ({name}; {})",
        consts::OS,
        consts::ARCH,
        env!("CARGO_PKG_VERSION"),
        client_info.version,
        name = client_info.name,
    );
    let client = Client {
        name: client_info.name,
        version: client_info.version,
        experimental: capabilities.experimental_api,
        attests: capabilities.request_attestation,
    };
    call.connection.introduce(client, silenced.into_iter().collect::<HashSet<_>>())?;
    let home = call.connection.shared.options.home.to_string_lossy();
    call.done(&Response {
        user_agent,
        codex_home: &home,
        platform_family: consts::FAMILY,
        platform_os: consts::OS,
    })
}
