//! Threads that survive a restart: the log, its stores, ownership.
//!
//! A thread is an append-only log of entries, owned by one process at a time. This crate knows formats and stores; it
//! runs nothing and speaks to no client.

mod clock;
mod encoded;
mod entry;
mod ids;
mod item;
mod limits;
mod memory;
mod page;
mod read_state;
mod search;
mod service_tier;
mod sqlite;
mod store;
mod thread;
mod trace;

pub use clock::Clock;
pub use entry::{ContextPart, Entry, Record, TurnEnd, TurnError, TurnErrorKind, TurnStart, Usage};
pub use ids::{InvalidId, ItemId, OwnerId, TenantId, ThreadId, TurnId};
pub use item::{ImageDetail, Item, Phase, UserInput};
pub use memory::MemoryStore;
pub use read_state::{Mark, ReadState, Unread};
pub use service_tier::ServiceTier;
pub use sqlite::SqliteStore;
pub use store::{
    Appended, Direction, Error, ItemRecord, Lease, ListQuery, Page, PageQuery, SortKey, ThreadStore,
    TurnPlace, TurnRecords,
};
pub use thread::{Git, Metadata, Origin, Settings, Thread, ThreadUpdate};
pub use trace::{
    CallPurpose, LifecycleEvent, TraceEvent, TraceKind, TraceOutcome, TraceRecord, TraceRow, TracedCall,
    TracedCompaction, TracedLifecycle, TracedTurn,
};
