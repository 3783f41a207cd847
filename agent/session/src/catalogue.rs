//! The gateway's lists of models and providers, asked for at most once in a while.
//!
//! A list that has grown old is still used when the gateway cannot be reached, so that a thread goes on with the same
//! instructions.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Mutex, time::Instant};

use crate::{
    gateway::{Failure, ModelGateway},
    model::{Model, Provider},
};

/// What the gateway serves.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) models: Arc<Vec<Model>>,
    pub(crate) providers: Vec<Provider>,
}

impl Facts {
    /// The model that is called `slug`.
    pub(crate) fn model(&self, slug: &str) -> Option<&Model> {
        self.models.iter().find(|model| model.slug == slug)
    }

    /// The provider that a thread stays with, or else the one that serves its model.
    pub(crate) fn provider(&self, id: &str, slug: &str) -> Option<&Provider> {
        let id = if id.is_empty() { self.model(slug)?.provider.as_str() } else { id };
        self.providers.iter().find(|provider| provider.id == id)
    }
}

/// Knows the models and their providers.
pub(crate) struct Catalogue {
    gateway: Arc<dyn ModelGateway>,
    ttl: Duration,
    /// Held while the gateway is asked, so that many callers ask it once.
    known: Mutex<Option<Known>>,
}

struct Known {
    facts: Arc<Facts>,
    until: Instant,
}

impl Catalogue {
    pub(crate) fn new(gateway: Arc<dyn ModelGateway>, ttl: Duration) -> Self {
        Self { gateway, ttl, known: Mutex::new(None) }
    }

    /// Everything that is served.
    pub(crate) async fn facts(&self) -> Result<Arc<Facts>, Failure> {
        let mut known = self.known.lock().await;
        if let Some(known) = known.as_ref().filter(|known| Instant::now() < known.until) {
            return Ok(Arc::clone(&known.facts));
        }
        let (models, providers) = tokio::join!(self.gateway.models(), self.gateway.providers());
        match (models, known.as_ref()) {
            (Ok(models), _) => {
                // What is known of providers makes a turn better; it goes on without.
                let (models, providers) = (Arc::new(models), providers.unwrap_or_default());
                let facts = Arc::new(Facts { models, providers });
                *known = Some(Known { facts: Arc::clone(&facts), until: Instant::now() + self.ttl });
                Ok(facts)
            }
            (Err(_), Some(old)) => Ok(Arc::clone(&old.facts)),
            (Err(failure), None) => Err(failure),
        }
    }
}
