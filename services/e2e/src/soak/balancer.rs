//! The smallest load balancer: asks replicas whether they are ready, and gives each new connection to one that is.
//!
//! It never tries a second replica for a connection, so that a replica which refuses one is seen.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::gauges;

/// How often each replica is asked.
pub(super) const ASK_EVERY: Duration = Duration::from_millis(25);

#[derive(Debug, Clone, Copy)]
struct Backend {
    at: SocketAddr,
    ready: bool,
}

#[derive(Default)]
struct Shared {
    backends: Mutex<Vec<Backend>>,
    next: AtomicUsize,
    refused: AtomicU64,
    taken: AtomicU64,
}

/// A running balancer.
pub(super) struct Balancer {
    at: SocketAddr,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

impl Balancer {
    /// Before these replicas; one that is `blind` takes each for ready.
    pub(super) async fn before(replicas: &[SocketAddr], blind: bool) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let at = listener.local_addr()?;
        let backends = replicas.iter().map(|at| Backend { at: *at, ready: true }).collect();
        let shared = Arc::new(Shared { backends: Mutex::new(backends), ..Shared::default() });
        let mut tasks = JoinSet::new();
        let balancing = Arc::clone(&shared);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((caller, _)) = listener.accept().await {
                connections.spawn(pass(caller, Arc::clone(&balancing)));
                while connections.try_join_next().is_some() {}
            }
        });
        if !blind {
            for index in 0..replicas.len() {
                tasks.spawn(ask(index, Arc::clone(&shared)));
            }
        }
        Ok(Self { at, shared, _tasks: tasks })
    }

    pub(super) fn at(&self) -> SocketAddr {
        self.at
    }

    /// A replica came back at another address.
    pub(super) fn replace(&self, index: usize, at: SocketAddr) {
        let mut backends = self.shared.backends.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(backend) = backends.get_mut(index) {
            *backend = Backend { at, ready: true };
        }
    }

    /// How many connections replicas took, and how many they refused.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.shared.taken.load(Ordering::Relaxed), self.shared.refused.load(Ordering::Relaxed))
    }
}

impl Shared {
    fn backend(&self, index: usize) -> Option<Backend> {
        self.backends.lock().unwrap_or_else(PoisonError::into_inner).get(index).copied()
    }

    fn pick(&self) -> Option<SocketAddr> {
        let backends = self.backends.lock().unwrap_or_else(PoisonError::into_inner);
        let ready: Vec<SocketAddr> =
            backends.iter().filter(|backend| backend.ready).map(|backend| backend.at).collect();
        let turn = self.next.fetch_add(1, Ordering::Relaxed).checked_rem(ready.len())?;
        ready.get(turn).copied()
    }
}

async fn ask(index: usize, shared: Arc<Shared>) {
    loop {
        if let Some(backend) = shared.backend(index) {
            let ready = gauges::readiness(backend.at).await.is_ok_and(|(status, _)| status == 200);
            let mut backends = shared.backends.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(now) = backends.get_mut(index).filter(|now| now.at == backend.at) {
                now.ready = ready;
            }
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

async fn pass(mut caller: TcpStream, shared: Arc<Shared>) {
    let connected = match shared.pick() {
        Some(at) => TcpStream::connect(at).await.ok(),
        None => None,
    };
    let Some(mut replica) = connected else {
        shared.refused.fetch_add(1, Ordering::Relaxed);
        return;
    };
    shared.taken.fetch_add(1, Ordering::Relaxed);
    // Either side may be gone; what that means is for its peer to say.
    let _ = (caller.set_nodelay(true), replica.set_nodelay(true));
    let _ = tokio::io::copy_bidirectional(&mut caller, &mut replica).await;
}
