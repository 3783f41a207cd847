//! The providers and models that a policy names, compared with those that there are.
//!
//! A name that nothing has is a slip of the pen: a rule that allows it allows nothing, and one that denies it denies
//! nothing. A name with a `*` may be meant for what is still to come.

use crate::config::Problem;
use crate::pattern::Pattern;
use crate::policy::Policy;
use crate::table::{Saying, Table};

/// How many names are told to choose from.
const TOLD_MAX: usize = 8;

/// What there is to be named.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// The ids of providers.
    pub providers: Vec<String>,
    /// The names of models, as they are asked for and as providers know them; none if any name can be one.
    pub models: Option<Vec<String>>,
}

impl Policy {
    /// Every name without a `*` that nothing has, in the order of the keys.
    pub fn unknown_names(&self, known: &Known) -> Vec<Problem> {
        let tenants = self.tenants.values();
        let subjects =
            tenants.clone().flat_map(|tenant| tenant.subjects.values().map(|subject| &subject.own));
        let tables = tenants.flat_map(|tenant| [&tenant.own, &tenant.requirements]).chain(subjects);
        let mut problems = Vec::new();
        for table in tables.chain([&self.default, &self.requirements]) {
            known.compare(table, &mut problems);
        }
        problems.sort_by(|one, other| one.key.cmp(&other.key));
        problems
    }
}

impl Known {
    fn compare(&self, table: &Table, problems: &mut Vec<Problem>) {
        let providers = (&table.providers, "provider", Some(&self.providers));
        let models = (&table.models, "model", self.models.as_ref());
        for (names, what, known) in [providers, models] {
            let Some(known) = known else { continue };
            unknown(&names.allow, Pattern::matches, (what, known), problems);
            unknown(&names.deny, Pattern::matches_any_case, (what, known), problems);
        }
    }
}

fn unknown(
    list: &Saying<Vec<Pattern>>,
    fits: impl Fn(&Pattern, &str) -> bool,
    (what, known): (&str, &[String]),
    problems: &mut Vec<Problem>,
) {
    let Some(list) = list else { return };
    for (index, pattern) in list.value.iter().enumerate() {
        let Some(name) = pattern.whole() else { continue };
        if !known.iter().any(|known| fits(pattern, known)) {
            problems.push(Problem {
                key: format!("{}[{index}]", list.rule),
                message: format!("names the {what} {name:?}, and there is none of that name"),
                fix: choice(known),
            });
        }
    }
}

fn choice(known: &[String]) -> String {
    let mut names: Vec<&str> = known.iter().map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    let more = if names.len() > TOLD_MAX { ", …" } else { "" };
    names.truncate(TOLD_MAX);
    format!("take the name out, or write one of these: {}{more}", names.join(", "))
}
