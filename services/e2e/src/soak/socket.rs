//! The faults of a day on callers' and providers' WebSockets: streams cut anywhere, callers that hang up, a gateway that
//! stops.
//!
//! A caller's socket may lead to a provider's socket or to a provider that is called over HTTP, and a provider's socket to a
//! caller over gRPC; each scenario takes the ways that it can.

pub mod cancel;
pub mod cut;
pub mod drain;
pub mod relay;

mod caller;

use super::replica::Replica;
use super::upstream::Upstream;

/// The model of the provider that is called over WebSockets. The other one is called over HTTP.
const WIRED: &str = "tide-wired";

/// A gateway before one upstream that is two providers; `tables` are further tables.
async fn gateway(upstream: &Upstream, tables: &str) -> anyhow::Result<Replica> {
    let wired = format!(
        "\n[model_providers.wired]\nbase_url = \"http://{}/v1\"\nmodels = [\"{WIRED}\"]\nsupports_websockets = true\n",
        upstream.at()
    );
    Replica::before(upstream, "", &format!("{wired}\n{tables}")).await
}
