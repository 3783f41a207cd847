//! The repository's own rules: who may depend on whom, how manifests and files look, and what must not be in them.
//!
//! Each rule is a function that returns its violations, so that a planted violation shows that it can fail.

mod files;
mod layers;
mod manifests;

/// Fails with every violation at once.
#[track_caller]
fn none(violations: Vec<String>) {
    assert!(violations.is_empty(), "{} violations:\n{}", violations.len(), violations.join("\n"));
}
