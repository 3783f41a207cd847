//! Who may call what: rules and a request in, a verdict out.
//!
//! Pure: no clock, no network, no file. What no rule denies is allowed. A policy has layers, from general to specific,
//! and requirements that no layer can weaken.

mod config;
mod denied;
mod explain;
mod known;
mod pattern;
mod policy;
mod rules;
mod table;

pub use config::{NamesConfig, PolicyConfig, Problem, RulesConfig, TenantConfig, TiersConfig};
pub use denied::Denied;
pub use explain::{Asked, Check, Explanation, Looked, Saying, Section, Setting};
pub use known::Known;
pub use policy::Policy;
pub use rules::Rules;
