//! What a client's settings mean for a session.

use agent_session::{ClientMetadata, Overrides};
use agent_threads::ServiceTier;
use serde_json::{Map, Value};

use crate::call::Call;
use crate::configuration::{self, Effective, mode_of};
use crate::rpc::Refusal;
use crate::server::Shared;
use crate::wire::settings::{self, ApprovalPolicy, SandboxPolicy, kept};
use crate::wire::{thread, turn};

/// How many tokens the model's input may have before it is condensed.
const COMPACT_AT: &str = "model_auto_compact_token_limit";

/// The settings that a thread is started or resumed with. Fields win over the same key of the client's configuration.
pub(super) fn of_thread(settings: thread::Settings, call: &Call<'_>) -> Result<Overrides, Refusal> {
    let config = settings.config.unwrap_or_default();
    for key in ["approval_policy", "sandbox_mode"] {
        if let Some(value) = config.get(key) {
            configuration::check(key, value).map_err(|error| Refusal::invalid(error.to_string()))?;
        }
    }
    let read = |key: &str| config.get(key).cloned();
    let approval_policy =
        settings.approval_policy.or_else(|| serde_json::from_value(read("approval_policy")?).ok());
    let mode = settings.sandbox.or_else(|| {
        // A permission profile rules over what the configuration says of a sandbox.
        let mode = read("sandbox_mode").filter(|_| settings.permissions.is_none())?;
        serde_json::from_value(mode).ok()
    });
    let sandbox = sandboxed(mode.map(SandboxPolicy::from), settings.permissions.as_deref())?;
    within(approval_policy.as_ref(), sandbox.as_ref(), call)?;
    let shared = &call.connection.shared;
    Ok(Overrides {
        model: settings.model.or_else(|| text(&config, "model")),
        cwd: settings.cwd.map(|cwd| absolute(&cwd, shared)).transpose()?,
        effort: text(&config, "model_reasoning_effort"),
        summary: text(&config, "model_reasoning_summary"),
        service_tier: settings.service_tier.or_else(|| ServiceTier::maybe(text(&config, "service_tier"))),
        approval_policy: approval_policy.as_ref().and_then(kept),
        approvals_reviewer: settings.approvals_reviewer.as_ref().and_then(kept),
        sandbox: sandbox.as_ref().and_then(kept),
        permission_profile: settings.permissions,
        base_instructions: settings.base_instructions,
        developer_instructions: settings
            .developer_instructions
            .or_else(|| text(&config, "developer_instructions")),
        collaboration_mode: None,
        personality: settings.personality,
        client_metadata: ClientMetadata::default(),
        compact_at_tokens: config.get(COMPACT_AT).map(|value| tokens(COMPACT_AT, value)).transpose()?,
    })
}

/// What a new thread begins with where its client does not say.
pub(crate) fn with_defaults(mut overrides: Overrides, defaults: &Effective) -> Overrides {
    let Overrides {
        model,
        effort,
        summary,
        service_tier,
        approval_policy,
        sandbox,
        developer_instructions,
        compact_at_tokens,
        ..
    } = &mut overrides;
    *compact_at_tokens = compact_at_tokens.or_else(|| defaults.value(COMPACT_AT)?.as_u64());
    // An effort belongs to the model that it was chosen for.
    if model.is_none() {
        *model = defaults.text("model");
        *effort = effort.take().or_else(|| defaults.text("model_reasoning_effort"));
    }
    *summary = summary.take().or_else(|| defaults.text("model_reasoning_summary"));
    *service_tier =
        std::mem::take(service_tier).or_else(|| ServiceTier::maybe(defaults.text("service_tier")));
    *approval_policy = approval_policy.take().or_else(|| defaults.value("approval_policy").cloned());
    *sandbox = sandbox.take().or_else(|| defaults.value("sandbox_mode").cloned().and_then(mode));
    *developer_instructions =
        developer_instructions.take().or_else(|| defaults.text("developer_instructions"));
    overrides
}

fn mode(mode: Value) -> Option<Value> {
    let mode: settings::SandboxMode = serde_json::from_value(mode).ok()?;
    kept(&SandboxPolicy::from(mode))
}

fn tokens(key: &str, value: &Value) -> Result<u64, Refusal> {
    configuration::check(key, value).map_err(|error| Refusal::invalid(error.to_string()))?;
    value.as_u64().ok_or_else(|| Refusal::invalid(format!("`{key}` must be a number of tokens")))
}

/// The settings of a turn or of a change of settings. A collaboration mode rules over the plain model and effort.
pub(super) fn of_turn(settings: turn::Settings, call: &Call<'_>) -> Result<Overrides, Refusal> {
    let shared = &call.connection.shared;
    let sandbox = sandboxed(settings.sandbox_policy, settings.permissions.as_deref())?;
    within(settings.approval_policy.as_ref(), sandbox.as_ref(), call)?;
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
        sandbox: sandbox.as_ref().and_then(kept),
        permission_profile: settings.permissions,
        base_instructions: None,
        developer_instructions: None,
        collaboration_mode: mode.as_ref().and_then(kept),
        personality: settings.personality,
        client_metadata: ClientMetadata::default(),
        compact_at_tokens: None,
    })
}

fn sandboxed(policy: Option<SandboxPolicy>, profile: Option<&str>) -> Result<Option<SandboxPolicy>, Refusal> {
    match (policy, profile) {
        (Some(_), Some(_)) => {
            Err(Refusal::invalid("a sandbox and a permission profile cannot be given together"))
        }
        (None, Some(profile)) => settings::profile(profile).map(Some),
        (policy, None) => Ok(policy),
    }
}

/// Refuses what goes beyond what the caller is kept within.
fn within(
    approval: Option<&ApprovalPolicy>,
    sandbox: Option<&SandboxPolicy>,
    call: &Call<'_>,
) -> Result<(), Refusal> {
    let requirements = call.connection.shared.options.configuration.requirements(call.tenant());
    let asked = [
        ("approval_policy", approval.and_then(kept)),
        ("sandbox_mode", sandbox.map(|policy| Value::from(mode_of(policy)))),
    ];
    for (key, value) in asked {
        if let Some(value) = value {
            requirements.allows(key, &value).map_err(|error| Refusal::invalid(error.to_string()))?;
        }
    }
    Ok(())
}

/// A working directory, taken from the service's own when it is relative, as text.
pub(crate) fn absolute(cwd: &str, shared: &Shared) -> Result<String, Refusal> {
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
