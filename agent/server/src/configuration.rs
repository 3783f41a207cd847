//! What holds for a user where a request says nothing: layers of defaults, each with its origin, under what is required.
//!
//! From weakest to strongest: the service's file, the tenant's part of it, the environment, the user's own choices, the
//! command line. Requirements are no layer: they say what none of these and no request may go beyond. Nothing here is read from
//! a file or written to one.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use agent_threads::TenantId;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::wire::settings::{ApprovalPolicy, SandboxMode, SandboxPolicy};

/// The keys that mean something, with Codex's own names. All are texts but for an approval policy, which may be a table,
/// and a number of tokens.
pub const KEYS: [&str; 9] = [
    "model",
    "model_auto_compact_token_limit",
    "model_provider",
    "model_reasoning_effort",
    "model_reasoning_summary",
    "service_tier",
    "approval_policy",
    "sandbox_mode",
    "developer_instructions",
];

/// Values by key.
pub type Values = Map<String, Value>;

/// A value that a key cannot have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// It means nothing here.
    #[error("`{0}` means nothing here: this service uses {known}", known = KEYS.join(", "))]
    Unknown(String),
    /// It is of the wrong type.
    #[error("the value of `{0}` must be a text")]
    NotText(String),
    /// It is none of those that there are.
    #[error("the value of `{key}` must be one of {known}")]
    NotOneOf {
        /// The key.
        key: String,
        /// Those that there are.
        known: &'static str,
    },
}

/// Whether a key can have this value.
pub fn check(key: &str, value: &Value) -> Result<(), ValueError> {
    match (key, value) {
        ("approval_policy", value) => match serde_json::from_value::<ApprovalPolicy>(value.clone()) {
            Ok(_) => Ok(()),
            Err(_) => Err(not_one_of(key, "`untrusted`, `on-request`, `never` and a `granular` table")),
        },
        ("sandbox_mode", value) => match serde_json::from_value::<SandboxMode>(value.clone()) {
            Ok(_) => Ok(()),
            Err(_) => Err(not_one_of(key, "`read-only`, `workspace-write` and `danger-full-access`")),
        },
        ("model_auto_compact_token_limit", value) => match value.as_u64() {
            Some(1..) => Ok(()),
            _ => Err(not_one_of(key, "the numbers from 1 up")),
        },
        (key, _) if !KEYS.contains(&key) => Err(ValueError::Unknown(key.to_owned())),
        (_, Value::String(_)) => Ok(()),
        (key, _) => Err(ValueError::NotText(key.to_owned())),
    }
}

fn not_one_of(key: &str, known: &'static str) -> ValueError {
    ValueError::NotOneOf { key: key.to_owned(), known }
}

/// Where a layer comes from, as the protocol names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub(crate) enum Source {
    /// The service's file.
    System {
        /// The file.
        file: PathBuf,
    },
    /// Somebody who runs the service.
    EnterpriseManaged {
        /// Never changes.
        id: &'static str,
        /// For people.
        name: &'static str,
    },
    /// The user's own choices.
    User {
        /// Where they would be if they were a file; clients show it.
        file: PathBuf,
        /// There are no profiles.
        profile: (),
    },
    /// The command line.
    SessionFlags,
}

/// What all users begin with, by where it was said.
#[derive(Debug, Clone, Default)]
pub struct Configuration {
    /// The service's file, if there is one.
    pub file: Option<PathBuf>,
    /// What it says of everybody.
    pub of_file: Values,
    /// What it says of tenants.
    pub tenants: HashMap<TenantId, Tenant>,
    /// What the environment says.
    pub of_environment: Values,
    /// What the command line says.
    pub of_flags: Values,
    /// What everybody is kept within.
    pub requirements: Requirements,
}

/// What holds for one tenant.
#[derive(Debug, Clone, Default)]
pub struct Tenant {
    /// What its users begin with.
    pub values: Values,
    /// What they are kept within, besides what everybody is.
    pub requirements: Requirements,
    /// How many connections it may have, if not as many as others.
    pub connections_max: Option<usize>,
}

/// What no default and no request may go beyond. Nothing said is nothing required.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requirements {
    /// When the user may ask to be asked; the first is what holds where nobody says.
    pub approval_policies: Option<Vec<Value>>,
    /// What may be touched; the first is what holds where nobody says.
    pub sandbox_modes: Option<Vec<Value>>,
}

impl Requirements {
    /// What is within both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let both = |ours: &Option<Vec<Value>>, theirs: &Option<Vec<Value>>| match (ours, theirs) {
            (Some(ours), Some(theirs)) => {
                Some(ours.iter().filter(|value| theirs.contains(value)).cloned().collect())
            }
            (ours, theirs) => ours.clone().or_else(|| theirs.clone()),
        };
        Self {
            approval_policies: both(&self.approval_policies, &other.approval_policies),
            sandbox_modes: both(&self.sandbox_modes, &other.sandbox_modes),
        }
    }

    /// Whether nothing would satisfy them.
    #[must_use]
    pub fn is_impossible(&self) -> bool {
        [&self.approval_policies, &self.sandbox_modes].into_iter().flatten().any(Vec::is_empty)
    }

    /// Whether a key may have this value.
    pub(crate) fn allows(&self, key: &str, value: &Value) -> Result<(), NotAllowed> {
        match self.allowed(key).filter(|allowed| !allowed.contains(value)) {
            None => Ok(()),
            Some(allowed) => {
                let (key, value, allowed) = (key.to_owned(), value.clone(), allowed.to_vec());
                Err(NotAllowed { key, value, allowed })
            }
        }
    }

    /// The first thing that is required instead of this value of a key, if it is not allowed.
    pub(crate) fn instead(&self, key: &str, value: &Value) -> Option<&Value> {
        self.allowed(key)?.first().filter(|_| self.allows(key, value).is_err())
    }

    fn allowed(&self, key: &str) -> Option<&[Value]> {
        match key {
            "approval_policy" => self.approval_policies.as_deref(),
            "sandbox_mode" => self.sandbox_modes.as_deref(),
            _ => None,
        }
    }
}

/// A request goes beyond what is required. The caller has to ask for something else.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("`{key}` cannot be {value}: the service's operator allows {}", listed(allowed))]
pub(crate) struct NotAllowed {
    key: String,
    value: Value,
    allowed: Vec<Value>,
}

fn listed(values: &[Value]) -> String {
    values.iter().map(Value::to_string).collect::<Vec<_>>().join(", ")
}

/// The mode that a sandbox stands for in requirements; one that somebody else keeps is as good as none.
pub(crate) fn mode_of(policy: &SandboxPolicy) -> &'static str {
    match policy {
        SandboxPolicy::ReadOnly { .. } => "read-only",
        SandboxPolicy::WorkspaceWrite { .. } => "workspace-write",
        SandboxPolicy::DangerFullAccess | SandboxPolicy::ExternalSandbox { .. } => "danger-full-access",
    }
}

/// A layer and its version.
#[derive(Debug)]
pub(crate) struct Layer<'a> {
    pub(crate) source: Source,
    pub(crate) version: String,
    pub(crate) values: &'a Values,
}

impl Layer<'_> {
    pub(crate) fn is_user(&self) -> bool {
        matches!(self.source, Source::User { .. })
    }
}

/// What holds for one user.
#[derive(Debug, Default)]
pub(crate) struct Effective {
    values: Values,
    /// The layer that each value comes from, by its place from the weakest on.
    origins: BTreeMap<String, usize>,
}

impl Configuration {
    /// The layers for a user with these choices, weakest first.
    pub(crate) fn layers<'a>(
        &'a self,
        tenant: &TenantId,
        chosen: (&'a Values, String),
        home: &std::path::Path,
    ) -> Vec<Layer<'a>> {
        /// What does not change while the process runs.
        const FIXED: &str = "fixed";
        let fixed = |source, values| Layer { source, version: FIXED.to_owned(), values };
        let managed = |id, name| Source::EnterpriseManaged { id, name };
        let (values, version) = chosen;
        let file = self.file.clone().unwrap_or_else(|| home.join("agent.toml"));
        let mut layers = vec![fixed(Source::System { file }, &self.of_file)];
        let of_tenant = self.tenants.get(tenant).map(|tenant| &tenant.values);
        layers.extend(
            of_tenant
                .map(|values| fixed(managed("tenant", "the tenant's part of the service's file"), values)),
        );
        layers.push(fixed(managed("environment", "the service's environment"), &self.of_environment));
        let user = Source::User { file: home.join("preferences"), profile: () };
        layers.push(Layer { source: user, version, values });
        layers.push(fixed(Source::SessionFlags, &self.of_flags));
        layers.retain(|layer| !layer.values.is_empty() || layer.is_user());
        layers
    }

    /// What a tenant is kept within.
    pub(crate) fn requirements(&self, tenant: &TenantId) -> Requirements {
        let of_tenant = self.tenants.get(tenant).map(|tenant| &tenant.requirements);
        of_tenant.map_or_else(|| self.requirements.clone(), |theirs| self.requirements.and(theirs))
    }
}

impl Effective {
    /// Lays the layers over each other and keeps the result within what is required.
    pub(crate) fn of(layers: &[Layer<'_>], requirements: &Requirements) -> Self {
        let (mut values, mut origins) = (Values::new(), BTreeMap::new());
        for (place, layer) in layers.iter().enumerate() {
            for (key, value) in layer.values {
                values.insert(key.clone(), value.clone());
                origins.insert(key.clone(), place);
            }
        }
        for (key, unsaid) in [("approval_policy", "on-request"), ("sandbox_mode", "read-only")] {
            let value = values.get(key).cloned().unwrap_or_else(|| unsaid.into());
            if let Some(instead) = requirements.instead(key, &value) {
                values.insert(key.to_owned(), instead.clone());
                origins.remove(key);
            }
        }
        Self { values, origins }
    }

    /// The value of a key.
    pub(crate) fn value(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// The text of a key.
    pub(crate) fn text(&self, key: &str) -> Option<String> {
        self.value(key)?.as_str().map(str::to_owned)
    }

    /// The place of the layer that a key's value comes from.
    pub(crate) fn origins(&self) -> impl Iterator<Item = (&str, usize)> {
        self.origins.iter().map(|(key, place)| (key.as_str(), *place))
    }

    /// The place of the layer that this key's value comes from.
    pub(crate) fn origin(&self, key: &str) -> Option<usize> {
        self.origins.get(key).copied()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use agent_threads::TenantId;
    use serde_json::{Value, json};

    use super::{Configuration, Effective, Requirements, Tenant, Values, check, mode_of};
    use crate::wire::settings::SandboxPolicy;

    fn values(value: Value) -> Values {
        value.as_object().unwrap().clone()
    }

    fn effective(configuration: &Configuration, tenant: &str, chosen: Value) -> (Effective, Vec<String>) {
        let (tenant, chosen) = (TenantId::new(tenant), values(chosen));
        let layers = configuration.layers(&tenant, (&chosen, "revision:1".to_owned()), Path::new("/home"));
        let effective = Effective::of(&layers, &configuration.requirements(&tenant));
        let kinds = layers.iter().map(|layer| serde_json::to_value(&layer.source).unwrap());
        let kinds = kinds.map(|source| source["type"].as_str().unwrap().to_owned()).collect();
        (effective, kinds)
    }

    #[test]
    fn stronger_layers_win_and_each_value_has_its_origin() {
        let all = |name: &str| json!({"model": name, "service_tier": name, "model_provider": name});
        let of_tenant = Tenant {
            values: values(json!({"model": "tenant", "service_tier": "tenant"})),
            ..Tenant::default()
        };
        let configuration = Configuration {
            of_file: values(all("file")),
            tenants: [(TenantId::new("acme"), of_tenant)].into(),
            of_environment: values(json!({"model_reasoning_effort": "environment"})),
            of_flags: values(json!({"model_reasoning_summary": "flags", "model": "flags"})),
            ..Configuration::default()
        };
        let (found, kinds) =
            effective(&configuration, "acme", json!({"model": "user", "service_tier": "user"}));
        assert_eq!(kinds, ["system", "enterpriseManaged", "enterpriseManaged", "user", "sessionFlags"]);
        let expected = [
            ("model", "flags", 4),
            ("service_tier", "user", 3),
            ("model_provider", "file", 0),
            ("model_reasoning_effort", "environment", 2),
            ("model_reasoning_summary", "flags", 4),
        ];
        for (key, text, place) in expected {
            assert_eq!((found.text(key).as_deref(), found.origin(key)), (Some(text), Some(place)), "{key}");
        }
        let (found, kinds) = effective(&configuration, "other", json!({}));
        assert_eq!(kinds, ["system", "enterpriseManaged", "user", "sessionFlags"]);
        assert_eq!(found.text("service_tier").as_deref(), Some("file"));
    }

    #[test]
    fn nothing_goes_beyond_what_is_required() {
        let modes = |modes: &[&str]| Some(modes.iter().map(|mode| json!(mode)).collect());
        let narrower = Requirements { approval_policies: modes(&["untrusted"]), ..Requirements::default() };
        let configuration = Configuration {
            of_file: values(json!({"approval_policy": "never", "sandbox_mode": "danger-full-access"})),
            tenants: [(TenantId::new("acme"), Tenant { requirements: narrower, ..Tenant::default() })].into(),
            requirements: Requirements {
                approval_policies: modes(&["on-request", "untrusted"]),
                sandbox_modes: modes(&["workspace-write"]),
            },
            ..Configuration::default()
        };
        let (found, _) = effective(&configuration, "other", json!({}));
        assert_eq!(found.text("approval_policy").as_deref(), Some("on-request"));
        assert_eq!(
            (found.text("sandbox_mode").as_deref(), found.origin("sandbox_mode")),
            (Some("workspace-write"), None)
        );
        let (found, _) = effective(&configuration, "acme", json!({"approval_policy": "on-request"}));
        assert_eq!(found.text("approval_policy").as_deref(), Some("untrusted"));
        let nothing = Requirements { sandbox_modes: modes(&["read-only"]), ..Requirements::default() };
        assert!(configuration.requirements.and(&nothing).is_impossible());
        assert!(!configuration.requirements(&TenantId::new("acme")).is_impossible());
    }

    #[test]
    fn without_requirements_nothing_is_made_up() {
        let (found, kinds) = effective(&Configuration::default(), "acme", json!({}));
        assert_eq!((found.value("sandbox_mode"), found.value("approval_policy")), (None, None));
        assert_eq!(kinds, ["user"]);
    }

    #[test]
    fn values_are_checked() {
        for (key, good, bad) in [
            ("model", json!("x"), json!(5)),
            ("approval_policy", json!("never"), json!("sometimes")),
            (
                "approval_policy",
                json!({"granular": {"sandbox_approval": true, "rules": true, "mcp_elicitations": true}}),
                json!({}),
            ),
            ("sandbox_mode", json!("read-only"), json!("workspaceWrite")),
        ] {
            check(key, &good).unwrap();
            assert!(check(key, &bad).is_err(), "{key} {bad}");
        }
        assert!(check("tui.theme", &json!("x")).unwrap_err().to_string().contains("model_provider"));
        let external = SandboxPolicy::ExternalSandbox { network_access: Default::default() };
        assert_eq!(mode_of(&external), "danger-full-access");
    }
}
