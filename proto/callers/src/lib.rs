//! Who calls: what a credential proves, and which tenant and subject it stands for.
//!
//! Both services authenticate their callers with this crate, and nothing else maps a credential to a tenant. It does not
//! decide what a caller may do.

mod principal;

pub use principal::{Principal, Proof};
