//! Which tenants and models have a name of their own in metrics. Users choose models and may choose any number of names:
//! a name becomes a label only once a model has answered under it, and there is a bound to all of them.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
};

/// How many pairs of tenant and model have names of their own. With the outcomes and the types of errors that really occur
/// they stay within what one instrument may hold.
const PAIRS_MAX: usize = 500;
/// The longest name that becomes a label.
const NAME_BYTES_MAX: usize = 128;
/// What anybody else is called.
const OTHER: &str = "other";

/// The pairs so far.
#[derive(Debug, Default)]
pub(super) struct Labels {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    pairs: usize,
    models: HashMap<String, HashSet<String>>,
}

impl Labels {
    /// What a tenant and a model are called.
    pub(super) fn of<'a>(&self, tenant: &'a str, model: &'a str, answered: bool) -> (&'a str, &'a str) {
        if tenant.len() > NAME_BYTES_MAX || model.len() > NAME_BYTES_MAX {
            return (OTHER, OTHER);
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.models.get(tenant).is_some_and(|models| models.contains(model)) {
            return (tenant, model);
        }
        if !answered {
            let tenant = if known.models.contains_key(tenant) { tenant } else { OTHER };
            return (tenant, OTHER);
        }
        if known.pairs >= PAIRS_MAX {
            return (OTHER, OTHER);
        }
        known.pairs += 1;
        known.models.entry(tenant.to_owned()).or_default().insert(model.to_owned());
        (tenant, model)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_and_earned() {
        let labels = Labels::default();
        assert_eq!(labels.of("acme", "made-up", false), (OTHER, OTHER));
        assert_eq!(labels.of("acme", "m1", true), ("acme", "m1"));
        assert_eq!(labels.of("acme", "m1", false), ("acme", "m1"));
        assert_eq!(labels.of("acme", "made-up", false), ("acme", OTHER));
        assert_eq!(labels.of("acme", &"x".repeat(NAME_BYTES_MAX + 1), true), (OTHER, OTHER));
        for n in 1..PAIRS_MAX {
            let model = format!("m{}", n + 1);
            assert_eq!(labels.of("acme", &model, true), ("acme", model.as_str()));
        }
        assert_eq!(labels.of("acme", "one-too-many", true), (OTHER, OTHER));
        assert_eq!(labels.of("acme", "m1", true), ("acme", "m1"));
    }
}
