//! Tests across both services with real clients, and of the repository itself.
