//! Tells the gateway's configuration file from the agent's, for who names the wrong one.

use std::fmt;

use super::{Error, Problem, Source, tree};

/// Keys at the top of the gateway's file that the agent's has not.
pub const GATEWAY_KEYS: [&str; 10] = [
    "bedrock_models",
    "guard",
    "listen",
    "model",
    "model_aliases",
    "model_provider",
    "model_providers",
    "openai_base_url",
    "policy_file",
    "service_tier",
];
/// Keys at the top of the agent's file that the gateway's has not.
pub const AGENT_KEYS: [&str; 8] =
    ["context", "defaults", "gateway", "gateway_access", "health_listen", "requirements", "store", "tenants"];

/// Whose a configuration file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// The gateway's.
    Gateway,
    /// The agent's.
    Agent,
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gateway => "the gateway",
            Self::Agent => "the agent",
        })
    }
}

impl Source {
    /// Refuses the other service's file as a whole: each of its keys would be told as an unknown one.
    pub fn is_of(&self, service: Service) -> Result<(), Error> {
        let nodes = tree::nodes(&self.text);
        let first = |keys: &[&str]| {
            nodes.iter().find(|node| keys.contains(&node.path.as_str())).map(|node| node.path.clone())
        };
        let file = self.file.display();
        let (own, others, other, runs) = match service {
            Service::Gateway => {
                let runs = format!("agentd --service-config {file} app-server");
                (GATEWAY_KEYS.as_slice(), AGENT_KEYS.as_slice(), Service::Agent, runs)
            }
            Service::Agent => {
                let runs = format!("gatewayd --config {file}");
                (AGENT_KEYS.as_slice(), GATEWAY_KEYS.as_slice(), Service::Gateway, runs)
            }
        };
        match (first(own), first(others)) {
            (None, Some(key)) => {
                let message = format!("shows that this is {other}'s file, and here {service}'s is wanted");
                let fix = format!("name {service}'s file, or run this one with `{runs}`");
                Err(self.invalid(vec![Problem::new(key, message).fix(fix)]))
            }
            _ => Ok(()),
        }
    }
}
