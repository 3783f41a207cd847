//! Any other endpoint that speaks the Responses API, as a provider.
//!
//! Its requests go as they came, without the fields that are meant for OpenAI alone.

use http::Uri;
use tidegate_responses::{Request, Splices, first_party};
use url::Url;

use crate::config::ModelFacts;
use crate::provider::{Capabilities, Endpoint, Operation, Provider};

pub(crate) struct Custom {
    pub(crate) id: String,
    pub(crate) display_name: String,
    pub(crate) addresses: Addresses,
    pub(crate) websockets: bool,
}

impl Provider for Custom {
    fn id(&self) -> &str {
        &self.id
    }

    fn display_name(&self) -> &str {
        &self.display_name
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            websockets: self.websockets,
            continuation: self.websockets,
            compaction: false,
            first_party: false,
        }
    }

    fn endpoint(&self, operation: Operation, _: &str) -> Option<Endpoint> {
        Some(self.addresses.endpoint(operation))
    }

    fn edits(&self, request: &Request) -> Splices {
        let mut splices = Splices::new();
        first_party::strip(request, &mut splices);
        splices
    }

    fn model_facts(&self, _: &str) -> Option<ModelFacts> {
        Some(ModelFacts { supports_parallel_tool_calls: Some(true), ..ModelFacts::default() })
    }
}

/// The addresses of all operations below a base address, made once.
pub(crate) struct Addresses {
    responses: Uri,
    compact: Uri,
    input_tokens: Uri,
    models: Uri,
}

impl Addresses {
    /// The addresses below `base`, whose query is kept; none if HTTP cannot carry them.
    pub(crate) fn below(base: &Url) -> Option<Addresses> {
        let uri = |name: &str| {
            let mut url = base.clone();
            url.set_path(&format!("{}/{name}", base.path().trim_end_matches('/')));
            Uri::try_from(url.as_str()).ok()
        };
        Some(Addresses {
            responses: uri("responses")?,
            compact: uri("responses/compact")?,
            input_tokens: uri("responses/input_tokens")?,
            models: uri("models")?,
        })
    }

    pub(crate) fn endpoint(&self, operation: Operation) -> Endpoint {
        let uri = match operation {
            Operation::Responses => &self.responses,
            Operation::Compact => &self.compact,
            Operation::InputTokens => &self.input_tokens,
            Operation::Models => &self.models,
        };
        Endpoint { uri: uri.clone(), service: None }
    }
}
