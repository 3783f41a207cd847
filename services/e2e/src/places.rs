//! Knows where things are on the machine that runs the tests: the repository and cargo's target directory.
//!
//! Derived from the running test binary, so that `CARGO_TARGET_DIR`, profiles and cross targets need no setting.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// The root of the repository that this crate was built from.
pub fn repository() -> anyhow::Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).map(Path::to_path_buf).context("the crate stands two levels below the root")
}

/// Where cargo puts this profile's binaries, such as `target/debug`.
pub fn binaries() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe().context("the program's own path")?;
    let directory = program.parent().context("the program is in a directory")?;
    // Tests are in a directory of their own, other programs are not.
    let profile = if directory.ends_with("deps") { directory.parent() } else { Some(directory) };
    Ok(profile.context("tests are in a profile's directory")?.to_path_buf())
}

/// The target directory's root; what outlives one run of the tests is kept here.
pub fn target() -> anyhow::Result<PathBuf> {
    let profile = binaries()?;
    profile.parent().map(Path::to_path_buf).context("a profile's directory is in the target directory")
}
