//! Proxies that stand between a client and an upstream.

mod connect;
mod forwarding;

pub use connect::{ConnectMode, ConnectProxy, Tunnel};
pub use forwarding::ForwardingProxy;
