//! What a client's settings mean for a session.

use agent_session::Overrides;
use agent_threads::ServiceTier;
use serde_json::{Map, Value};

use crate::preferences::Chosen;
use crate::rpc::Refusal;
use crate::server::{Defaults, Shared};
use crate::wire::settings::{self, SandboxPolicy, kept};
use crate::wire::{thread, turn};

/// The settings that a thread is started or resumed with. Fields win over the same key of the client's configuration.
pub(super) fn of_thread(settings: thread::Settings, shared: &Shared) -> Result<Overrides, Refusal> {
    let config = settings.config.unwrap_or_default();
    let sandbox = settings.sandbox.map(SandboxPolicy::from);
    Ok(Overrides {
        model: settings.model.or_else(|| text(&config, "model")),
        cwd: settings.cwd.map(|cwd| absolute(&cwd, shared)).transpose()?,
        effort: text(&config, "model_reasoning_effort"),
        summary: text(&config, "model_reasoning_summary"),
        service_tier: settings.service_tier.or_else(|| ServiceTier::maybe(text(&config, "service_tier"))),
        approval_policy: settings.approval_policy.as_ref().and_then(kept),
        approvals_reviewer: settings.approvals_reviewer.as_ref().and_then(kept),
        sandbox: sandboxed(sandbox, settings.permissions.as_deref())?,
        base_instructions: settings.base_instructions,
        developer_instructions: settings
            .developer_instructions
            .or_else(|| text(&config, "developer_instructions")),
        collaboration_mode: None,
        personality: settings.personality,
    })
}

/// What a new thread begins with where neither its client nor this user's choices say.
pub(super) fn with_defaults(mut overrides: Overrides, chosen: &Chosen, defaults: &Defaults) -> Overrides {
    let pick =
        |key: &str, default: &Option<String>| chosen.text(key).map(str::to_owned).or_else(|| default.clone());
    let Overrides {
        model,
        effort,
        summary,
        service_tier,
        approval_policy,
        sandbox,
        developer_instructions,
        ..
    } = &mut overrides;
    // An effort belongs to the model that it was chosen for.
    if model.is_none() {
        *model = pick("model", &defaults.model);
        *effort = effort.take().or_else(|| pick("model_reasoning_effort", &defaults.effort));
    }
    *summary = summary.take().or_else(|| pick("model_reasoning_summary", &defaults.summary));
    *service_tier = std::mem::take(service_tier)
        .or_else(|| ServiceTier::maybe(pick("service_tier", &defaults.service_tier)));
    *approval_policy = approval_policy.take().or_else(|| defaults.approval_policy.clone());
    *sandbox = sandbox.take().or_else(|| defaults.sandbox_mode.clone().and_then(mode));
    *developer_instructions =
        developer_instructions.take().or_else(|| defaults.developer_instructions.clone());
    overrides
}

fn mode(mode: Value) -> Option<Value> {
    let mode: settings::SandboxMode = serde_json::from_value(mode).ok()?;
    kept(&SandboxPolicy::from(mode))
}

/// The settings of a turn or of a change of settings. A collaboration mode rules over the plain model and effort.
pub(super) fn of_turn(settings: turn::Settings, shared: &Shared) -> Result<Overrides, Refusal> {
    let mode = settings.collaboration_mode;
    let ruled = mode.as_ref().map(|mode| &mode.settings);
    Ok(Overrides {
        model: ruled.map(|ruled| ruled.model.clone()).or(settings.model),
        cwd: settings.cwd.map(|cwd| absolute(&cwd, shared)).transpose()?,
        effort: ruled.and_then(|ruled| ruled.reasoning_effort.clone()).or(settings.effort),
        summary: settings.summary.map(|summary| summary.as_str().to_owned()),
        service_tier: settings.service_tier,
        approval_policy: settings.approval_policy.as_ref().and_then(kept),
        approvals_reviewer: settings.approvals_reviewer.as_ref().and_then(kept),
        sandbox: sandboxed(settings.sandbox_policy, settings.permissions.as_deref())?,
        base_instructions: None,
        developer_instructions: None,
        collaboration_mode: mode.as_ref().and_then(kept),
        personality: settings.personality,
    })
}

fn sandboxed(policy: Option<SandboxPolicy>, profile: Option<&str>) -> Result<Option<Value>, Refusal> {
    let policy = match (policy, profile) {
        (Some(_), Some(_)) => {
            return Err(Refusal::invalid("a sandbox and a permission profile cannot be given together"));
        }
        (None, Some(profile)) => Some(settings::profile(profile)?),
        (policy, None) => policy,
    };
    Ok(policy.as_ref().and_then(kept))
}

/// A working directory, taken from the service's own when it is relative, as text.
fn absolute(cwd: &str, shared: &Shared) -> Result<String, Refusal> {
    if cwd.contains('\0') {
        return Err(Refusal::invalid("cwd is not a path"));
    }
    let path = shared.options.cwd.join(cwd);
    // `.` has no place in a path that clients compare; `..` could mean anything behind a link and stays.
    let clean: std::path::PathBuf = path.components().collect();
    let text =
        clean.to_str().ok_or_else(|| Refusal::internal("the working directory's name is not UTF-8"))?;
    Ok(text.to_owned())
}

fn text(config: &Map<String, Value>, key: &str) -> Option<String> {
    config.get(key)?.as_str().map(str::to_owned)
}
