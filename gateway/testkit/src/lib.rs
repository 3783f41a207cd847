//! A scripted upstream for tests: chunk cuts, stalls, resets, statuses.
//!
//! Plays what a test wrote down and records what it was asked; the upstream understands no request and checks
//! none. Beside it stand fakes that do check: Bedrock, the places where AWS hands out credentials, and proxies.

mod aws_endpoints;
mod bedrock;
mod clock;
mod dice;
mod exchange;
mod gate;
mod percent;
mod proxy;
mod reply;
mod socket;
mod state;
mod tls;
mod turn;
mod upstream;
mod wire;

pub use aws_endpoints::{AwsCredentials, AwsEndpoint, AwsEndpoints};
pub use bedrock::{Bedrock, Refusal};
pub use dice::Dice;
pub use gate::Gate;
pub use proxy::{ConnectMode, ConnectProxy, ForwardingProxy, Tunnel};
pub use reply::Reply;
pub use socket::{Socket, SocketEnd, SocketMessage, SocketScript, messages};
pub use state::{Faults, Recorded};
pub use tls::{Identity, Tls, TlsCounts, TlsOptions};
pub use turn::{Turn, text_turn};
pub use upstream::{Timeout, Upstream, WAIT_MAX};
