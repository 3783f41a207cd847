//! `tidegate policy`: what the gateway's policy says to a call, without making it.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use gateway_policy::{Asked, Explanation, Policy};
use service_runtime::{Exit, cli::report};
use tidegate_responses::Request;

use crate::output;

/// What can be asked of a policy.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Say whether a call is allowed, which rule decides, and what every table says that was looked at. Exits with 0 if it
    /// is allowed and with 1 if it is denied.
    Explain(Box<Explain>),
}

/// Who calls, and what is asked for.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// The policy file.
    #[arg(long, value_name = "FILE", required_unless_present = "config", conflicts_with = "config")]
    policy: Option<PathBuf>,
    /// The gateway's configuration file, which names the policy file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The caller's tenant.
    #[arg(long, value_name = "ID")]
    tenant: String,
    /// The caller's subject.
    #[arg(long, value_name = "ID")]
    subject: String,
    /// A scope that the caller has. Repeatable.
    #[arg(long, value_name = "NAME")]
    scope: Vec<String>,
    /// A file with the body of a request: JSON, not compressed.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["model", "tier", "tool", "max_output_tokens"])]
    request: Option<PathBuf>,
    /// The model that is asked for.
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// The provider that the call would go to.
    #[arg(long, value_name = "ID")]
    provider: Option<String>,
    /// The model's name at that provider, if it has another one there.
    #[arg(long, value_name = "NAME")]
    model_at_provider: Option<String>,
    /// The service tier.
    #[arg(long, value_name = "NAME")]
    tier: Option<String>,
    /// A tool, as `type` or `type:name`. Repeatable.
    #[arg(long, value_name = "TOOL")]
    tool: Vec<String>,
    /// The limit of output tokens that the request names.
    #[arg(long, value_name = "COUNT")]
    max_output_tokens: Option<u64>,
    /// Print one JSON document instead of lines.
    #[arg(long)]
    json: bool,
}

/// Answers.
pub(crate) fn run(command: Command) -> Exit {
    let Command::Explain(wish) = command;
    match explain(&wish).and_then(|explanation| tell(&explanation, wish.json).map(|()| explanation.allowed)) {
        Ok(true) => Exit::Ok,
        Ok(false) => Exit::Failure,
        // A failure's number says that the call is denied; here nothing is known of it.
        Err(error) => match report(&error) {
            Exit::Failure => Exit::Usage,
            exit => exit,
        },
    }
}

fn explain(wish: &Explain) -> anyhow::Result<Explanation> {
    let policy = match (&wish.policy, &wish.config) {
        (Some(file), _) => gatewayd::policy(file)?,
        (None, Some(config)) => gatewayd::policy_of(config)?,
        (None, None) => Policy::default(),
    };
    let scopes: Vec<Box<str>> = wish.scope.iter().map(|scope| scope.as_str().into()).collect();
    let request = wish.request.as_deref().map(read).transpose()?;
    let mut asked = match &request {
        Some(request) => Asked::of(request)?,
        None => Asked {
            model: wish.model.clone(),
            tier: wish.tier.clone(),
            tools: wish.tool.clone(),
            max_output_tokens: wish.max_output_tokens,
            ..Asked::default()
        },
    };
    asked.provider.clone_from(&wish.provider);
    asked.model_at_provider.clone_from(&wish.model_at_provider);
    Ok(policy.explain(&wish.tenant, &wish.subject, &scopes, &asked))
}

fn read(file: &Path) -> anyhow::Result<Request> {
    let body = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(Request::scan(body.into())?)
}

fn tell(explanation: &Explanation, json: bool) -> anyhow::Result<()> {
    let text = match json {
        true => format!("{}\n", serde_json::to_string_pretty(explanation)?),
        false => explanation.to_string(),
    };
    Ok(output::write(&text)?)
}

#[cfg(test)]
mod tests;
