//! Starts each real client the way a user does, on a fresh machine, under a deadline.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;

use crate::home::Home;
use crate::process::{self, Output};
use crate::pty::Terminal;

/// A client that is not done by then hangs.
const CLIENT_TIME_MAX: Duration = Duration::from_secs(90);

/// The environment variable that holds what clients show to the gateway.
pub const GATE_KEY: &str = "TEST_GATE_KEY";

/// The environment variable that holds what clients show to the agent.
const AGENT_TOKEN: &str = "TEST_AGENT_TOKEN";

/// Keys of a provider with which Codex repeats nothing by itself.
pub const NO_REPEATS: &str = "request_max_retries = 0\nstream_max_retries = 0\n";

/// Points Codex at a gateway's HTTP address, as a user would in `config.toml`.
pub fn use_gateway(home: &Home, gateway: &str, model: &str) -> anyhow::Result<()> {
    use_gateway_with(home, gateway, model, "")
}

/// The same with more keys of the provider.
pub fn use_gateway_with(home: &Home, gateway: &str, model: &str, keys: &str) -> anyhow::Result<()> {
    home.configure_codex(&format!(
        "model = \"{model}\"\nmodel_provider = \"gate\"\n\n[model_providers.gate]\nname = \"gate\"\n\
         base_url = \"{gateway}/v1\"\nenv_key = \"{GATE_KEY}\"\nwire_api = \"responses\"\n{keys}"
    ))
}

/// The same, but Codex asks a command for its key; it then asks the gateway for its models too.
pub fn use_gateway_by_command(home: &Home, gateway: &str, model: &str) -> anyhow::Result<()> {
    home.configure_codex(&format!(
        "model = \"{model}\"\nmodel_provider = \"gate\"\n\n[model_providers.gate]\nname = \"gate\"\n\
         base_url = \"{gateway}/v1\"\nwire_api = \"responses\"\n\n[model_providers.gate.auth]\n\
         command = \"printenv\"\nargs = [\"{GATE_KEY}\"]\n"
    ))
}

/// Points Codex's built-in provider at a gateway.
pub fn use_gateway_as_openai(home: &Home, gateway: &str, model: &str) -> anyhow::Result<()> {
    home.configure_codex(&format!("model = \"{model}\"\nopenai_base_url = \"{gateway}/v1\"\n"))
}

/// Runs one prompt through `codex exec`. The key is there for the provider of [`use_gateway`] and the built-in one.
pub async fn codex_exec(codex: &Path, home: &Home, key: &str, prompt: &str) -> anyhow::Result<Output> {
    codex_exec_with(codex, home, &[(GATE_KEY, key), ("CODEX_API_KEY", key)], prompt).await
}

/// The same with these variables in its environment and no key.
pub async fn codex_exec_with(
    codex: &Path,
    home: &Home,
    variables: &[(&str, &str)],
    prompt: &str,
) -> anyhow::Result<Output> {
    let mut command = on(home, codex);
    command.envs(variables.iter().copied()).args(["exec", "--skip-git-repo-check", prompt]);
    process::run(command, CLIENT_TIME_MAX).await
}

/// Opens Codex's terminal interface on the provider of [`use_gateway`].
pub fn codex_terminal(codex: &Path, home: &Home, key: &str) -> anyhow::Result<Terminal> {
    let mut environment = home.environment();
    environment.push((GATE_KEY, key.into()));
    Terminal::start(codex, &[], &environment, &home.work())
}

/// Opens Codex's terminal interface on an app-server.
pub fn codex_remote(codex: &Path, home: &Home, server: &str) -> anyhow::Result<Terminal> {
    Terminal::start(codex, &["--remote", server], &home.environment(), &home.work())
}

/// The same on a server that asks for a token and shows a certificate of this authority's.
pub fn codex_remote_as(
    codex: &Path,
    home: &Home,
    server: &str,
    (token, authority): (&str, &Path),
) -> anyhow::Result<Terminal> {
    let mut environment = home.environment();
    environment.push((AGENT_TOKEN, token.into()));
    environment.push(("SSL_CERT_FILE", authority.into()));
    let arguments = ["--remote", server, "--remote-auth-token-env", AGENT_TOKEN];
    Terminal::start(codex, &arguments, &environment, &home.work())
}

/// Opens a stored thread in Codex's terminal interface.
pub fn codex_resume(codex: &Path, home: &Home, server: &str, thread: &str) -> anyhow::Result<Terminal> {
    Terminal::start(codex, &["--remote", server, "resume", thread], &home.environment(), &home.work())
}

/// Opens Codex's list of stored threads to choose from.
pub fn codex_resume_picker(codex: &Path, home: &Home, server: &str) -> anyhow::Result<Terminal> {
    Terminal::start(codex, &["--remote", server, "resume"], &home.environment(), &home.work())
}

/// One of the scripts in `clients/` with its arguments; `key` is what it shows to the gateway.
pub fn python(interpreter: &Path, home: &Home, key: &str, script: &str, arguments: &[&str]) -> Command {
    let mut command = on(home, interpreter);
    // No bytecode lands beside the scripts.
    command.env(GATE_KEY, key).arg("-B").arg(scripts().join(script)).args(arguments);
    command
}

/// The same for Node; the script's first argument is the directory that has its packages.
pub fn node(packages: &Path, home: &Home, key: &str, script: &str, arguments: &[&str]) -> Command {
    let mut command = on(home, Path::new("node"));
    command.env(GATE_KEY, key).arg(scripts().join(script)).arg(packages).args(arguments);
    command
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}

/// Runs a client to its end.
pub async fn run(client: Command) -> anyhow::Result<Output> {
    process::run(client, CLIENT_TIME_MAX).await
}

/// A command that runs on `home` and nowhere else.
pub fn on(home: &Home, program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().envs(home.environment()).current_dir(home.work());
    command
}
