//! Amazon Bedrock, as two providers: Mantle and the Runtime.
//!
//! Both speak the Responses API. Which host, path and signing name serve a model is data, by the model's exact id:
//! AWS assigns them one by one, and a wrong path or name is refused with an error that says neither. A model that
//! nobody has described is therefore not served.

mod check;
mod commands;
mod region;
mod table;

use std::collections::HashMap;
use std::sync::Arc;

use http::Uri;
use tidegate_responses::{Request, Splices, first_party};
use url::Url;

use crate::catalogue;
use crate::config::ModelFacts;
use crate::provider::{Capabilities, Endpoint, Operation, Provider};

pub(crate) use check::check;
pub(crate) use table::{Served, served};

/// The two ways into Bedrock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Bedrock's own front door for the OpenAI APIs.
    Mantle,
    /// The door of Bedrock's older APIs, which has them too.
    Runtime,
}

impl Kind {
    pub(crate) const BOTH: [Kind; 2] = [Kind::Mantle, Kind::Runtime];

    /// The provider of this id, if it is one of the two.
    pub(crate) fn of(id: &str) -> Option<Kind> {
        Kind::BOTH.into_iter().find(|kind| kind.id() == id)
    }

    pub(crate) fn id(self) -> &'static str {
        match self {
            Kind::Mantle => "amazon-bedrock",
            Kind::Runtime => "amazon-bedrock-runtime",
        }
    }

    fn display_name(self) -> &'static str {
        match self {
            Kind::Mantle => "Amazon Bedrock",
            Kind::Runtime => "Amazon Bedrock Runtime",
        }
    }

    /// The service name in signatures, unless a model says otherwise.
    fn signing_name(self) -> &'static str {
        match self {
            Kind::Mantle => "bedrock-mantle",
            Kind::Runtime => "bedrock",
        }
    }

    /// The address of a region, without a path.
    fn origin(self, region: &str) -> String {
        match self {
            Kind::Mantle => format!("https://bedrock-mantle.{region}.api.aws"),
            Kind::Runtime => format!("https://bedrock-runtime.{region}.amazonaws.com"),
        }
    }
}

/// One of the two, at one address.
pub(crate) struct Bedrock {
    kind: Kind,
    /// In the order in which they are offered.
    order: Vec<String>,
    models: HashMap<String, Model>,
    note: String,
}

/// A model and where it is served.
struct Model {
    endpoint: Endpoint,
    facts: ModelFacts,
}

impl Bedrock {
    /// The provider at `base`. An address that has a path has it for all models; without one, each model keeps the path
    /// that AWS serves it under. None if an address comes out that HTTP cannot carry.
    pub(crate) fn new(kind: Kind, base: &Url, served: &[Served], note: String) -> Option<Bedrock> {
        let prefix = base.path().trim_end_matches('/');
        let (mut order, mut models) = (Vec::new(), HashMap::new());
        for served in served.iter().filter(|served| served.kind == kind) {
            let mut url = base.clone();
            let path = if prefix.is_empty() { &*served.path } else { prefix };
            url.set_path(&format!("{path}/responses"));
            let uri = Uri::try_from(url.as_str()).ok()?;
            let service = served.signing_name.as_deref().unwrap_or(kind.signing_name());
            let endpoint = Endpoint { uri, service: Some(Arc::from(service)) };
            order.push(served.id.clone());
            models.insert(served.id.clone(), Model { endpoint, facts: served.facts.clone() });
        }
        Some(Bedrock { kind, order, models, note })
    }

    /// Its catalogue.
    pub(crate) fn models(&self) -> Vec<catalogue::Model> {
        let facts = self.order.iter().filter_map(|id| Some((id, self.models.get(id)?.facts.clone())));
        facts.map(|(id, facts)| catalogue::Model::new(id, self.kind.id(), facts)).collect()
    }
}

impl Provider for Bedrock {
    fn id(&self) -> &str {
        self.kind.id()
    }

    fn display_name(&self) -> &str {
        self.kind.display_name()
    }

    fn capabilities(&self) -> Capabilities {
        // Neither has a WebSocket, and what the gateway sends is not stored.
        Capabilities { websockets: false, continuation: false, compaction: false, first_party: false }
    }

    /// Only responses: compaction goes through them too, nothing counts tokens ahead, and there is no list to ask for that
    /// says what a model takes.
    fn endpoint(&self, operation: Operation, model: &str) -> Option<Endpoint> {
        match operation {
            Operation::Responses => Some(self.models.get(model)?.endpoint.clone()),
            Operation::Compact | Operation::InputTokens | Operation::Models => None,
        }
    }

    fn edits(&self, request: &Request) -> Splices {
        let mut splices = Splices::new();
        first_party::strip(request, &mut splices);
        splices
    }

    fn model_facts(&self, slug: &str) -> Option<ModelFacts> {
        Some(self.models.get(slug)?.facts.clone())
    }

    fn host(&self) -> Option<Uri> {
        // All models have the same.
        Some(self.models.get(self.order.first()?)?.endpoint.uri.clone())
    }

    fn note(&self) -> Option<&str> {
        Some(&self.note)
    }
}

#[cfg(test)]
mod tests;
