//! A thread store that ends its process at a named moment, or that says "written" before it has written.
//!
//! Wraps a real store, so that the product itself has no such moments in it. The moments are the commit barriers of a
//! turn: before and after what is said, done, answered or ended on the strength of a commit. The process ends as by
//! `kill -9`; nothing here speaks of power loss.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use agent_threads::{
    Appended, Entry, Error, Item, ItemRecord, Lease, ListQuery, Mark, OwnerId, Page, PageQuery, ReadState,
    Record, TenantId, Thread, ThreadId, ThreadStore, ThreadUpdate, TraceRecord, TraceRow, TurnId, TurnPlace,
    TurnRecords,
};
use anyhow::Context as _;
use futures_util::future::{BoxFuture, FutureExt as _};
use rustix::process::{Signal, getpid, kill_process};

use early::Early;

/// Everything but `create` and `append`, given on to the `store` of the one that stands in front of it.
macro_rules! delegated {
    () => {
        fn fork<'a>(
            &'a self,
            source: ThreadId,
            through: u64,
            thread: Thread,
            owner: &'a OwnerId,
        ) -> BoxFuture<'a, Result<(Lease, Appended), Error>> {
            self.store.fork(source, through, thread, owner)
        }

        fn acquire<'a>(
            &'a self,
            tenant: &'a TenantId,
            id: ThreadId,
            owner: &'a OwnerId,
        ) -> BoxFuture<'a, Result<(Lease, Thread), Error>> {
            self.store.acquire(tenant, id, owner)
        }

        fn revert<'a>(
            &'a self,
            lease: &'a Lease,
            keep: u64,
            entry: Entry,
        ) -> BoxFuture<'a, Result<Appended, Error>> {
            self.store.revert(lease, keep, entry)
        }

        fn thread<'a>(&'a self, tenant: &'a TenantId, id: ThreadId) -> BoxFuture<'a, Result<Thread, Error>> {
            self.store.thread(tenant, id)
        }

        fn records<'a>(
            &'a self,
            tenant: &'a TenantId,
            id: ThreadId,
            after: u64,
            limit: u32,
        ) -> BoxFuture<'a, Result<Vec<Record>, Error>> {
            self.store.records(tenant, id, after, limit)
        }

        fn turns<'a>(
            &'a self,
            tenant: &'a TenantId,
            id: ThreadId,
            page: PageQuery,
        ) -> BoxFuture<'a, Result<Page<TurnRecords>, Error>> {
            self.store.turns(tenant, id, page)
        }

        fn turn_place<'a>(
            &'a self,
            tenant: &'a TenantId,
            id: ThreadId,
            turn: TurnId,
        ) -> BoxFuture<'a, Result<Option<TurnPlace>, Error>> {
            self.store.turn_place(tenant, id, turn)
        }

        fn items<'a>(
            &'a self,
            tenant: &'a TenantId,
            id: ThreadId,
            turn: Option<TurnId>,
            page: PageQuery,
        ) -> BoxFuture<'a, Result<Page<ItemRecord>, Error>> {
            self.store.items(tenant, id, turn, page)
        }

        fn list<'a>(
            &'a self,
            tenant: &'a TenantId,
            query: ListQuery,
        ) -> BoxFuture<'a, Result<Page<Thread>, Error>> {
            self.store.list(tenant, query)
        }

        fn update<'a>(
            &'a self,
            tenant: &'a TenantId,
            id: ThreadId,
            update: ThreadUpdate,
        ) -> BoxFuture<'a, Result<Thread, Error>> {
            self.store.update(tenant, id, update)
        }

        fn mark<'a>(
            &'a self,
            tenant: &'a TenantId,
            id: ThreadId,
            mark: Mark,
            seen: u64,
        ) -> BoxFuture<'a, Result<ReadState, Error>> {
            self.store.mark(tenant, id, mark, seen)
        }

        fn trace(&self, rows: Vec<TraceRow>) -> BoxFuture<'_, Result<usize, Error>> {
            self.store.trace(rows)
        }

        fn traced<'a>(
            &'a self,
            tenant: &'a TenantId,
            id: ThreadId,
            after: u64,
            limit: u32,
        ) -> BoxFuture<'a, Result<Vec<TraceRecord>, Error>> {
            self.store.traced(tenant, id, after, limit)
        }

        fn delete<'a>(&'a self, tenant: &'a TenantId, id: ThreadId) -> BoxFuture<'a, Result<(), Error>> {
            self.store.delete(tenant, id)
        }
    };
}

mod early;

/// The environment variable that names the moment at which the process ends.
const POINT: &str = "FRAIL_POINT";
/// The environment variable that has writes acknowledged before they are written.
const EARLY: &str = "FRAIL_EARLY";

/// What a commit is a barrier for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Barrier {
    /// The answer to whoever sent a message.
    Message,
    /// Telling that an item is complete.
    Item,
    /// Starting a tool.
    ToolCall,
    /// Giving a tool's result to the model.
    ToolResult,
    /// Telling that a turn is over.
    End,
}

impl Barrier {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Message, Self::Item, Self::ToolCall, Self::ToolResult, Self::End];

    fn name(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Item => "item",
            Self::ToolCall => "tool-call",
            Self::ToolResult => "tool-result",
            Self::End => "end",
        }
    }

    /// The barrier that a commit of these entries is.
    fn of(entries: &[Entry]) -> Option<Self> {
        let model_item = |kind: &str| {
            entries.iter().any(|entry| match entry {
                Entry::ModelItem { json, .. } => json.get().contains(&format!("\"type\":\"{kind}\"")),
                _ => false,
            })
        };
        let has = |wanted: fn(&Entry) -> bool| entries.iter().any(wanted);
        if has(|entry| matches!(entry, Entry::Item { item: Item::UserMessage { .. }, .. })) {
            Some(Self::Message)
        } else if has(|entry| matches!(entry, Entry::TurnEnded { .. })) {
            Some(Self::End)
        } else if model_item("function_call_output") {
            Some(Self::ToolResult)
        } else if model_item("function_call") {
            Some(Self::ToolCall)
        } else {
            has(|entry| matches!(entry, Entry::Item { .. })).then_some(Self::Item)
        }
    }
}

/// On which side of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Nothing of it is written.
    Before,
    /// It is written, and nothing was done on the strength of it.
    After,
}

/// A named moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// On which side.
    pub side: Side,
    /// Of which commit.
    pub barrier: Barrier,
}

impl Point {
    /// All of them.
    pub fn all() -> Vec<Self> {
        let sides = |barrier| [Side::Before, Side::After].map(|side| Self { side, barrier });
        Barrier::ALL.into_iter().flat_map(sides).collect()
    }

    /// The environment of a process that ends there.
    pub fn environment(self) -> (&'static str, String) {
        (POINT, self.to_string())
    }
}

/// The environment of a process that acknowledges too early.
pub fn early() -> (&'static str, String) {
    (EARLY, "1".to_owned())
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self.side {
            Side::Before => "before",
            Side::After => "after",
        };
        write!(f, "{side}-{}", self.barrier.name())
    }
}

impl FromStr for Point {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let known = Self::all().into_iter().find(|point| point.to_string() == text);
        known.with_context(|| format!("no such moment: {text}"))
    }
}

/// The store with the fault that the environment names; as it is if that names none.
pub fn wrapped(store: Arc<dyn ThreadStore>) -> anyhow::Result<Arc<dyn ThreadStore>> {
    if std::env::var_os(EARLY).is_some() {
        return Ok(Arc::new(Early::over(store)));
    }
    match std::env::var(POINT) {
        Ok(point) => Ok(Arc::new(Frail { store, point: point.parse()? })),
        Err(_) => Ok(store),
    }
}

struct Frail {
    store: Arc<dyn ThreadStore>,
    point: Point,
}

impl Frail {
    fn reached(&self, side: Side, barrier: Option<Barrier>) {
        if self.point.side == side && Some(self.point.barrier) == barrier {
            // It ends before this returns.
            let _ = kill_process(getpid(), Signal::KILL);
        }
    }
}

impl ThreadStore for Frail {
    fn create<'a>(
        &'a self,
        thread: Thread,
        owner: &'a OwnerId,
        entries: Vec<Entry>,
    ) -> BoxFuture<'a, Result<(Lease, Appended), Error>> {
        async move {
            let barrier = Barrier::of(&entries);
            self.reached(Side::Before, barrier);
            let created = self.store.create(thread, owner, entries).await;
            self.reached(Side::After, barrier);
            created
        }
        .boxed()
    }

    fn append<'a>(
        &'a self,
        lease: &'a Lease,
        entries: Vec<Entry>,
        update: ThreadUpdate,
    ) -> BoxFuture<'a, Result<Appended, Error>> {
        async move {
            let barrier = Barrier::of(&entries);
            self.reached(Side::Before, barrier);
            let appended = self.store.append(lease, entries, update).await;
            self.reached(Side::After, barrier);
            appended
        }
        .boxed()
    }

    delegated!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_moment_has_a_name_of_its_own() {
        let points = Point::all();
        assert_eq!(points.len(), 10);
        for point in points {
            assert_eq!(point.to_string().parse::<Point>().unwrap(), point);
        }
        assert!("during-message".parse::<Point>().is_err());
    }
}
