//! The gateway's list of models, asked for at most once in a while.
//!
//! A list that has grown old is still used when the gateway cannot be reached, so that a thread goes on with the same
//! instructions.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Mutex, time::Instant};

use crate::{
    gateway::{Failure, ModelGateway},
    model::Model,
};

/// Knows the models.
pub(crate) struct Catalogue {
    gateway: Arc<dyn ModelGateway>,
    ttl: Duration,
    /// Held while the gateway is asked, so that many callers ask it once.
    known: Mutex<Option<Known>>,
}

struct Known {
    models: Arc<Vec<Model>>,
    until: Instant,
}

impl Catalogue {
    pub(crate) fn new(gateway: Arc<dyn ModelGateway>, ttl: Duration) -> Self {
        Self { gateway, ttl, known: Mutex::new(None) }
    }

    /// All models.
    pub(crate) async fn models(&self) -> Result<Arc<Vec<Model>>, Failure> {
        let mut known = self.known.lock().await;
        if let Some(known) = known.as_ref().filter(|known| Instant::now() < known.until) {
            return Ok(Arc::clone(&known.models));
        }
        match (self.gateway.models().await, known.as_ref()) {
            (Ok(models), _) => {
                let models = Arc::new(models);
                *known = Some(Known { models: Arc::clone(&models), until: Instant::now() + self.ttl });
                Ok(models)
            }
            (Err(_), Some(old)) => Ok(Arc::clone(&old.models)),
            (Err(failure), None) => Err(failure),
        }
    }
}

/// The model that is called `slug`.
pub(crate) fn find<'a>(models: &'a [Model], slug: &str) -> Option<&'a Model> {
    models.iter().find(|model| model.slug == slug)
}
