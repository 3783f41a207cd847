//! Accounts. The gateway holds every credential, so a client never signs in here.

use crate::call::{Answer, Call};
use crate::rpc::Refusal;
use crate::wire::account::{Account, GovCloud};

/// `account/read`.
pub(crate) fn read(call: &Call<'_>) -> Answer {
    call.done(&Account { account: (), user_id: (), requires_openai_auth: false, workspace_routing: () })
}

/// `account/bedrock/checkGovCloudRequirements`: no account of the client's is used, so none can be of the wrong kind.
pub(crate) fn check_gov_cloud(call: &Call<'_>) -> Answer {
    call.done(&GovCloud { is_gov_cloud: false, should_warn: false })
}

/// `account/rateLimits/read`: limits belong to an account, and clients have none here.
pub(crate) fn rate_limits() -> Answer {
    Err(Refusal::invalid("codex account authentication required to read rate limits"))
}
