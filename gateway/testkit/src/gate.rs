//! A door that a test opens, for replies that wait.

use std::sync::Arc;

use tokio::sync::watch;

/// Closed until opened, then open for ever. Clones are the same gate.
#[derive(Debug, Clone)]
pub struct Gate {
    open: Arc<watch::Sender<bool>>,
}

impl Gate {
    /// A closed gate. One that nobody opens holds until the connection is dropped.
    pub fn closed() -> Gate {
        Gate { open: Arc::new(watch::Sender::new(false)) }
    }

    /// Lets everything pass that waits or will come.
    pub fn open(&self) {
        self.open.send_replace(true);
    }

    /// Whether it was opened.
    pub fn is_open(&self) -> bool {
        *self.open.borrow()
    }

    pub(crate) async fn passed(&self) {
        // The sender lives as long as this gate, so the wait ends only by opening.
        let mut open = self.open.subscribe();
        drop(open.wait_for(|open| *open).await);
    }
}
