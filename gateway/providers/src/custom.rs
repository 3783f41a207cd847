//! Any other endpoint that speaks the Responses API, as a provider.
//!
//! Its requests go as they came: no edit is needed for an endpoint that follows the API.

use tidegate_responses::{Request, Splices};
use url::Url;

use crate::config::ModelFacts;
use crate::provider::{Capabilities, Destination, Operation, Provider};

pub(crate) struct Custom {
    pub(crate) id: String,
    pub(crate) display_name: String,
    pub(crate) base: Url,
}

impl Provider for Custom {
    fn id(&self) -> &str {
        &self.id
    }

    fn display_name(&self) -> &str {
        &self.display_name
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { websockets: false, continuation: false, first_party: false }
    }

    fn endpoint(&self, operation: Operation) -> Destination {
        Destination::Http(operation_url(&self.base, operation))
    }

    fn edits(&self, _: &Request) -> Splices {
        Splices::new()
    }

    fn model_facts(&self, _: &str) -> Option<ModelFacts> {
        Some(ModelFacts { supports_parallel_tool_calls: Some(true), ..ModelFacts::default() })
    }
}

/// The address of an operation below a base address, whose query is kept.
pub(crate) fn operation_url(base: &Url, operation: Operation) -> Url {
    let mut url = base.clone();
    let name = match operation {
        Operation::Responses => "responses",
        Operation::Models => "models",
    };
    url.set_path(&format!("{}/{name}", base.path().trim_end_matches('/')));
    url
}
