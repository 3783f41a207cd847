//! Lists of things that a client may offer to its user. What this service does not have is an empty list.

use crate::call::{Answer, Call};
use crate::rpc::Refusal;
use crate::wire::config::{ByDirectory, Hooks, Plugins, Skills};
use crate::wire::page::{Forward, Whole};
use crate::wire::settings::{Mode, ModeMask, PROFILES, PermissionProfile};

/// How many directories one request may ask about.
const DIRECTORIES_MAX: usize = 256;

/// `collaborationMode/list`.
pub(crate) fn collaboration_modes(call: &Call<'_>) -> Answer {
    call.done(&Whole {
        data: vec![ModeMask { name: "Default", mode: Mode::Default, model: (), reasoning_effort: () }],
    })
}

/// `experimentalFeature/list`.
pub(crate) fn features(call: &Call<'_>) -> Answer {
    call.done(&Forward::<()> { data: Vec::new(), next_cursor: None })
}

/// `permissionProfile/list`: those that can be named, and which of them the caller may use.
pub(crate) fn permission_profiles(call: &Call<'_>) -> Answer {
    let requirements = call.connection.shared.options.configuration.requirements(call.tenant());
    let data = PROFILES.iter().map(|(id, mode)| PermissionProfile {
        id,
        description: (),
        allowed: requirements.allows("sandbox_mode", &mode.as_str().into()).is_ok(),
    });
    call.done(&Forward { data: data.collect(), next_cursor: None })
}

/// `hooks/list`.
pub(crate) fn hooks(call: &Call<'_>) -> Answer {
    let data = by_directory(call, |cwd| Hooks { cwd, hooks: [], warnings: [], errors: [] })?;
    call.done(&Whole { data })
}

/// `skills/list`.
pub(crate) fn skills(call: &Call<'_>) -> Answer {
    let data = by_directory(call, |cwd| Skills { cwd, skills: [], errors: [] })?;
    call.done(&Whole { data })
}

/// `plugin/installed`.
pub(crate) fn plugins(call: &Call<'_>) -> Answer {
    call.done(&Plugins { marketplaces: [], marketplace_load_errors: [] })
}

fn by_directory<T>(call: &Call<'_>, entry: impl Fn(String) -> T) -> Result<Vec<T>, Refusal> {
    let ByDirectory { cwds } = call.params()?;
    if cwds.len() > DIRECTORIES_MAX {
        return Err(Refusal::invalid(format!("at most {DIRECTORIES_MAX} cwds")));
    }
    if cwds.is_empty() {
        return Ok(vec![entry(call.connection.shared.cwd()?.to_owned())]);
    }
    Ok(cwds.into_iter().map(entry).collect())
}
