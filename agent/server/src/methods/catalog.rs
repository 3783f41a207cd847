//! Lists of things that a client may offer to its user. What this service does not have is an empty list.

use crate::call::{Answer, Call};
use crate::rpc::Refusal;
use crate::wire::config::{ByDirectory, Hooks, Plugins, Skills};
use crate::wire::page::Whole;
use crate::wire::settings::{Mode, ModeMask};

/// How many directories one request may ask about.
const DIRECTORIES_MAX: usize = 256;

/// `collaborationMode/list`.
pub(crate) fn collaboration_modes(call: &Call<'_>) -> Answer {
    call.done(&Whole {
        data: vec![ModeMask { name: "Default", mode: Mode::Default, model: (), reasoning_effort: () }],
    })
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
