//! Who calls: what a credential proves, and which tenant and subject it stands for.
//!
//! Both services authenticate their callers with this crate, and nothing else maps a credential to a tenant. It does not
//! decide what a caller may do, and it holds no connection: the owner hands in headers and certificates.

mod callers;
mod certificate;
mod check;
mod config;
mod file;
mod issuer;
mod keys;
mod names;
mod presented;
mod principal;
mod refusal;
mod rows;
mod token;
mod websocket;

pub use callers::{Callers, Host};
pub use certificate::PeerCertificate;
pub use config::{
    Algorithm, Audience, AuthenticationConfig, CallerConfig, CallersConfig, HEADER_DEFAULT, IssuerConfig,
    Problem,
};
pub use file::Trouble;
pub use keys::{CreatedKey, KeyEntry, KeysFile, KeysFileError, NewKey};
pub use presented::{Caller, Presented, Via};
pub use principal::{Principal, Proof};
pub use refusal::Refusal;
pub use websocket::{SignedBearer, WebSocketAuth, WebSocketAuthError, WebSocketRefusal};
