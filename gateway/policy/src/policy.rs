//! All rules of a policy file, looked up by who calls.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::config::{PolicyConfig, Problem, TenantConfig};
use crate::denied::Denied;
use crate::rules::{Rules, Tables};
use crate::table::{Role, Table, dotted};

/// A checked policy. Its default allows everything.
#[derive(Debug)]
pub struct Policy {
    pub(crate) default: Table,
    pub(crate) requirements: Table,
    pub(crate) tenants: HashMap<String, Tenant>,
    rules: Arc<Rules>,
}

/// A tenant that the policy file names.
#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) own: Table,
    pub(crate) requirements: Table,
    pub(crate) subjects: HashMap<String, Subject>,
    rules: Arc<Rules>,
}

/// A subject that the policy file names.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) own: Table,
    rules: Arc<Rules>,
}

impl Default for Policy {
    fn default() -> Self {
        Policy::check(&PolicyConfig::default(), &mut Vec::new())
    }
}

impl Policy {
    /// Checks a policy as a whole; tells every problem at once.
    pub fn build(config: &PolicyConfig) -> Result<Policy, Vec<Problem>> {
        let mut problems = Vec::new();
        let policy = Policy::check(config, &mut problems);
        if problems.is_empty() { Ok(policy) } else { Err(problems) }
    }

    fn check(config: &PolicyConfig, problems: &mut Vec<Problem>) -> Policy {
        let default = Table::check("default", &config.default, Role::Layer, problems);
        let requirements = Table::check("requirements", &config.requirements, Role::Requirement, problems);
        let general = Tables { layers: vec![&default], requirements: vec![&requirements] };
        let tenants = config
            .tenants
            .iter()
            .map(|(id, tenant)| (id.clone(), Tenant::check(id, tenant, &general, problems)));
        let (tenants, rules) = (tenants.collect(), Arc::new(Rules::of(&general)));
        let policy = Policy { default, requirements, tenants, rules };
        idle_insertions(&policy, problems);
        policy
    }

    /// The rules for who calls. Fails for a caller that lacks a required scope.
    pub fn rules(&self, tenant: &str, subject: &str, scopes: &[Box<str>]) -> Result<Arc<Rules>, Denied> {
        let rules = self.rules_of(tenant, subject);
        rules.judge_scopes(scopes)?;
        Ok(Arc::clone(rules))
    }

    /// The rules for who calls, whatever its scopes.
    pub(crate) fn rules_of(&self, tenant: &str, subject: &str) -> &Arc<Rules> {
        match self.tenants.get(tenant) {
            None => &self.rules,
            Some(tenant) => tenant.subjects.get(subject).map_or(&tenant.rules, |subject| &subject.rules),
        }
    }
}

impl Tenant {
    fn check(id: &str, config: &TenantConfig, general: &Tables<'_>, problems: &mut Vec<Problem>) -> Tenant {
        let name = dotted(&["tenants", id]);
        let own = Table::check(&name, &config.rules(), Role::Layer, problems);
        let required = format!("{name}.requirements");
        let requirements = Table::check(&required, &config.requirements, Role::Requirement, problems);
        let tables = general.and(&own).requiring(&requirements);
        let mut subjects = HashMap::with_capacity(config.subjects.len());
        for (id, config) in &config.subjects {
            let name = format!("{name}.{}", dotted(&["subjects", id]));
            let own = Table::check(&name, config, Role::Layer, problems);
            let rules = Arc::new(Rules::of(&tables.and(&own)));
            subjects.insert(id.clone(), Subject { own, rules });
        }
        Tenant { rules: Arc::new(Rules::of(&tables)), own, requirements, subjects }
    }
}

/// An insertion that no principal has a limit for would be accepted and do nothing.
fn idle_insertions(policy: &Policy, problems: &mut Vec<Problem>) {
    let tenants = policy.tenants.values();
    let subjects = tenants.clone().flat_map(|tenant| tenant.subjects.values().map(|subject| &subject.rules));
    let all = tenants.map(|tenant| &tenant.rules).chain(subjects).chain([&policy.rules]);
    let mut useful: BTreeMap<&str, bool> = BTreeMap::new();
    for (rule, limited) in all.filter_map(|rules| rules.insertion()) {
        *useful.entry(rule).or_default() |= limited;
    }
    problems.extend(useful.into_iter().filter(|(_, useful)| !useful).map(|(rule, _)| Problem {
        key: rule.to_owned(),
        message: "has no limit to insert".to_owned(),
        fix: "set `max_output_tokens` in this table or a more general one".to_owned(),
    }));
}
