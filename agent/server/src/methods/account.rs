//! Accounts. The gateway holds every credential, so a client never signs in here; what is shown is how the gateway
//! identifies to the provider that new threads begin with.

use super::model;
use crate::call::{Answer, Call, refusal};
use crate::rpc::Refusal;
use crate::wire::account::{Account, AccountRead, GovCloud, RateLimits};

/// `account/read`. A gateway that cannot be reached shows no account: clients ask this first and would not start.
pub(crate) async fn read(call: &Call<'_>) -> Answer {
    let providers = call.connection.shared.sessions.providers().await.unwrap_or_default();
    let provider = model::default_provider(call, &providers);
    let account = provider.and_then(|provider| Account::of(provider.account_kind));
    call.done(&AccountRead { account, user_id: (), requires_openai_auth: false, workspace_routing: () })
}

/// `account/bedrock/checkGovCloudRequirements`: no account of the client's is used, so none can be of the wrong kind.
pub(crate) fn check_gov_cloud(call: &Call<'_>) -> Answer {
    call.done(&GovCloud { is_gov_cloud: false, should_warn: false })
}

/// `account/rateLimits/read`. Limits belong to an account; where the gateway needs none there are none.
pub(crate) async fn rate_limits(call: &Call<'_>) -> Answer {
    let sessions = &call.connection.shared.sessions;
    let providers = sessions.providers().await.map_err(refusal)?;
    let provider = model::default_provider(call, &providers);
    let provider = provider.filter(|provider| Account::of(provider.account_kind).is_some());
    let provider = provider
        .ok_or_else(|| Refusal::invalid("codex account authentication required to read rate limits"))?;
    let limits = sessions.rate_limits(&provider.id).await.map_err(refusal)?;
    call.done(&RateLimits::new(&limits))
}
