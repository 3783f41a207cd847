//! Tells an idle HTTP/1 connection from one that is slow to send the head of a request, and gives each its own time.
//!
//! hyper has one time-out for both: it sets a timer when it begins to wait for a head. This timer runs for the idle time
//! until a byte arrives, and then for the time of a head. A connection's first head has no idle time.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::{Sleep, Timer};
use tokio::time::Instant;

/// How many bytes a connection has read; clones share the count.
#[derive(Debug, Clone, Default)]
pub(super) struct ReadBytes(Arc<AtomicUsize>);

impl ReadBytes {
    pub(super) fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn total(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts at least this many.
    pub(super) fn raise_to(&self, bytes: usize) {
        self.0.fetch_max(bytes, Ordering::Relaxed);
    }
}

/// Makes the timers of one connection. hyper's own deadlines are ignored.
#[derive(Debug)]
pub(super) struct HeadTimer {
    read: ReadBytes,
    first_until: Instant,
    head: Duration,
    idle: Duration,
    has_begun: AtomicBool,
}

impl HeadTimer {
    pub(super) fn new(read: ReadBytes, first_until: Instant, head: Duration, idle: Duration) -> Self {
        Self { read, first_until, head, idle, has_begun: AtomicBool::new(false) }
    }

    fn wait(&self) -> Wait {
        let is_idle = self.has_begun.swap(true, Ordering::Relaxed);
        let until = if is_idle { Instant::now() + self.idle } else { self.first_until };
        Wait {
            read: self.read.clone(),
            seen: self.read.total(),
            head: self.head,
            is_idle,
            sleep: Box::pin(tokio::time::sleep_until(until)),
        }
    }
}

impl Timer for HeadTimer {
    fn sleep(&self, _: Duration) -> Pin<Box<dyn Sleep>> {
        Box::pin(self.wait())
    }

    fn sleep_until(&self, _: std::time::Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(self.wait())
    }

    fn now(&self) -> std::time::Instant {
        Instant::now().into()
    }
}

/// The wait for one head.
struct Wait {
    read: ReadBytes,
    seen: usize,
    head: Duration,
    is_idle: bool,
    sleep: Pin<Box<tokio::time::Sleep>>,
}

impl Future for Wait {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_idle && self.read.total() != self.seen {
            self.is_idle = false;
            let until = Instant::now() + self.head;
            self.sleep.as_mut().reset(until);
        }
        self.sleep.as_mut().poll(cx)
    }
}

impl Sleep for Wait {}
