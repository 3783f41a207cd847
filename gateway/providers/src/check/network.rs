//! How a provider is reached: certificates, proxy, what goes around the proxy.

use super::Check;

impl Check<'_> {
    pub(super) fn network(&mut self) {}
}
