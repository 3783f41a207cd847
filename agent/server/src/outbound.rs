//! The queue between whatever speaks to a client and the one task that writes to its socket.
//!
//! It is bounded in messages and in bytes. A speaker waits for room, so a client that reads slowly slows down what
//! is said to it and nobody else; the writer gives up on a client that takes nothing at all for a while.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// How many messages wait for a client.
const MESSAGES_MAX: usize = 1_024;
/// How many bytes wait for a client; a message over this counts as this many.
const BYTES_MAX: u32 = 8 << 20;

/// A message on its way, with its share of the queue's bytes.
#[derive(Debug)]
pub(crate) struct Queued {
    /// The text of the message.
    pub(crate) text: String,
    _share: OwnedSemaphorePermit,
}

/// The client is gone: nobody writes any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the client is gone")]
pub(crate) struct Gone;

/// Where messages to a client go.
#[derive(Debug, Clone)]
pub(crate) struct Outbound {
    queue: mpsc::Sender<Queued>,
    bytes: Arc<Semaphore>,
}

/// The queue of a new connection: what is said goes in at the first, the writer reads the second.
pub(crate) fn queue() -> (Outbound, mpsc::Receiver<Queued>) {
    let (sender, receiver) = mpsc::channel(MESSAGES_MAX);
    let permits = usize::try_from(BYTES_MAX).unwrap_or(usize::MAX);
    (Outbound { queue: sender, bytes: Arc::new(Semaphore::new(permits)) }, receiver)
}

impl Outbound {
    /// Puts a message into the queue and waits until it has room. Cancel safe: the message is in or it is not.
    pub(crate) async fn send(&self, text: String) -> Result<(), Gone> {
        let size = u32::try_from(text.len()).unwrap_or(BYTES_MAX).min(BYTES_MAX);
        let share = tokio::select! {
            biased;
            share = Arc::clone(&self.bytes).acquire_many_owned(size) => share.map_err(|_| Gone)?,
            () = self.queue.closed() => return Err(Gone),
        };
        self.queue.send(Queued { text, _share: share }).await.map_err(|_| Gone)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{BYTES_MAX, Gone, MESSAGES_MAX, queue};

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_makes_its_speaker_wait() {
        let (outbound, mut receiver) = queue();
        let half = "x".repeat(usize::try_from(BYTES_MAX / 2 + 1).unwrap());
        outbound.send(half.clone()).await.unwrap();
        let second = tokio::time::timeout(Duration::from_secs(1), outbound.send(half.clone())).await;
        assert!(second.is_err(), "two halves and a bit do not fit");
        drop(receiver.recv().await);
        tokio::time::timeout(Duration::from_secs(1), outbound.send(half)).await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn messages_are_counted_too() {
        let (outbound, _receiver) = queue();
        for _ in 0..MESSAGES_MAX {
            outbound.send(String::new()).await.unwrap();
        }
        assert!(tokio::time::timeout(Duration::from_secs(1), outbound.send(String::new())).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_over_the_bound_passes_alone() {
        let (outbound, mut receiver) = queue();
        let huge = "x".repeat(usize::try_from(BYTES_MAX).unwrap() + 1);
        outbound.send(huge.clone()).await.unwrap();
        assert_eq!(receiver.recv().await.unwrap().text.len(), huge.len());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_a_client_that_is_gone() {
        let (outbound, receiver) = queue();
        let full = "x".repeat(usize::try_from(BYTES_MAX).unwrap());
        outbound.send(full.clone()).await.unwrap();
        let (sent, ()) = tokio::join!(outbound.send(full), async { drop(receiver) });
        assert_eq!(sent, Err(Gone));
    }
}
