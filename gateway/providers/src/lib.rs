//! Upstream providers, their credentials and the connections to them.
