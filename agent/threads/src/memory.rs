//! Threads in this process's memory, for tests and for threads that nobody keeps.
//!
//! Behaves like the durable stores, and keeps what they keep: encoded entries. One lock guards all; it is never held
//! across an await.

mod trace;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use futures_util::future::{BoxFuture, FutureExt, lazy};

use crate::{
    Appended, Clock, Direction, Entry, Error, ItemRecord, Lease, ListQuery, Mark, OwnerId, Page, PageQuery,
    ReadState, Record, TenantId, Thread, ThreadId, ThreadStore, ThreadUpdate, TraceRecord, TraceRow, TurnId,
    TurnPlace, TurnRecords, clock,
    encoded::{self, Encoded, ITEM, MODEL_ITEM, NewThread, Stored, TURN_STARTED, Write},
    limits,
    page::{self, Wanted},
    search,
};

/// Keeps threads as long as it lives.
pub struct MemoryStore {
    clock: Clock,
    threads: Mutex<Threads>,
}

type Threads = BTreeMap<(TenantId, ThreadId), Held>;

struct Held {
    thread: Thread,
    owner: OwnerId,
    epoch: u64,
    log: Vec<Row>,
    last_sequence: u64,
    messages: HashMap<String, Message>,
    traced: trace::Traced,
}

/// Where a message with a client's id stands.
#[derive(Clone, Copy)]
struct Message {
    turn_id: TurnId,
    sequence: u64,
}

#[derive(Clone)]
struct Row {
    kind: &'static str,
    stored: Stored,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::with_clock(clock::system())
    }

    /// An empty store with a clock of its own.
    #[must_use]
    pub fn with_clock(clock: Clock) -> Self {
        Self { clock, threads: Mutex::default() }
    }

    /// A panic elsewhere cannot leave a half-done change: every change is checked first and then only pushed.
    fn threads(&self) -> MutexGuard<'_, Threads> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read<T>(
        &self,
        tenant: &TenantId,
        id: ThreadId,
        read: impl FnOnce(&Held) -> Result<T, Error>,
    ) -> Result<T, Error> {
        read(self.threads().get(&(tenant.clone(), id)).ok_or(Error::NotFound(id))?)
    }

    fn change<T>(
        &self,
        tenant: &TenantId,
        id: ThreadId,
        change: impl FnOnce(&mut Held) -> Result<T, Error>,
    ) -> Result<T, Error> {
        change(self.threads().get_mut(&(tenant.clone(), id)).ok_or(Error::NotFound(id))?)
    }

    fn create_now(
        &self,
        thread: Thread,
        owner: &OwnerId,
        entries: &[Entry],
    ) -> Result<(Lease, Appended), Error> {
        let new = encoded::new_thread(thread, entries)?;
        let mut threads = self.threads();
        let (mut held, lease) = Held::begin(new.thread, owner, &threads)?;
        held.check_messages(&new.entries)?;
        let appended = held.push(new.entries, (self.clock)());
        threads.insert((lease.tenant.clone(), lease.thread_id), held);
        Ok((lease, appended))
    }

    fn fork_now(
        &self,
        source: ThreadId,
        through: u64,
        thread: Thread,
        owner: &OwnerId,
    ) -> Result<(Lease, Appended), Error> {
        let NewThread { thread, .. } = encoded::new_thread(thread, &[])?;
        let mut threads = self.threads();
        let from = threads.get(&(thread.tenant.clone(), source)).ok_or(Error::NotFound(source))?;
        let log: Vec<Row> =
            from.log.iter().take_while(|row| row.stored.sequence <= through).cloned().collect();
        let mut messages = from.messages.clone();
        messages.retain(|_, message| message.sequence <= through);
        let (held, lease) = Held::begin(thread, owner, &threads)?;
        let last_sequence = log.last().map_or(0, |row| row.stored.sequence);
        let held = Held { traced: from.traced.fork(&log), log, last_sequence, messages, ..held };
        let appended = held.appended(held.thread.updated_at_ms);
        threads.insert((lease.tenant.clone(), lease.thread_id), held);
        Ok((lease, appended))
    }

    fn append_now(&self, lease: &Lease, entries: &[Entry], update: ThreadUpdate) -> Result<Appended, Error> {
        let Write { entries, update, ended } = encoded::write(entries, update)?;
        self.owned(lease, |held| {
            held.check_messages(&entries)?;
            update.apply(&mut held.thread);
            held.thread.read_state = held.thread.read_state.after(ended);
            Ok(held.push(entries, (self.clock)()))
        })
    }

    fn revert_now(&self, lease: &Lease, keep: u64, entry: Entry) -> Result<Appended, Error> {
        let Write { entries, .. } = encoded::write(&[entry], ThreadUpdate::default())?;
        self.owned(lease, |held| {
            held.log.retain(|row| row.stored.sequence <= keep);
            held.messages.retain(|_, message| message.sequence <= keep);
            held.thread.read_state = held.thread.read_state.marked(Mark::Read);
            Ok(held.push(entries, (self.clock)()))
        })
    }

    fn mark_now(&self, tenant: &TenantId, id: ThreadId, mark: Mark, seen: u64) -> Result<ReadState, Error> {
        self.change(tenant, id, |held| {
            let now = held.thread.read_state;
            if now.revision != seen {
                return Err(Error::ReadStateChanged(now));
            }
            held.thread.read_state = now.marked(mark);
            Ok(held.thread.read_state)
        })
    }

    fn owned<T>(
        &self,
        lease: &Lease,
        change: impl FnOnce(&mut Held) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.change(&lease.tenant, lease.thread_id, |held| {
            if held.epoch == lease.epoch { change(held) } else { Err(Error::StaleOwner(lease.thread_id)) }
        })
    }

    fn list_now(&self, tenant: &TenantId, query: &ListQuery) -> Result<Page<Thread>, Error> {
        limits::check_list(query)?;
        let wanted = Wanted::parse(page::thread_list(query.sort), &query.page)?;
        let key = |thread: &Thread| page::thread_key(thread, query.sort);
        let threads = self.threads();
        let mut found: Vec<Thread> = threads
            .values()
            .map(|held| &held.thread)
            .filter(|thread| {
                thread.tenant == *tenant && matches(thread, query) && wanted.admits(&key(thread))
            })
            .cloned()
            .collect();
        found.sort_by_key(key);
        if wanted.direction == Direction::Descending {
            found.reverse();
        }
        Ok(wanted.page(found, false, key))
    }
}

fn matches(thread: &Thread, query: &ListQuery) -> bool {
    let among = |values: &[String], value: &String| values.is_empty() || values.contains(value);
    thread.archived == query.archived
        && among(&query.sources, &thread.origin.source)
        && among(&query.cwds, &thread.settings.cwd)
        && among(&query.providers, &thread.origin.provider)
        && !query.except.contains(&thread.id)
        && query.search.as_ref().is_none_or(|wanted| {
            search::text(thread.name.as_deref(), &thread.preview).contains(&search::fold(wanted))
        })
}

impl Held {
    /// A thread without entries, and the right to it.
    fn begin(thread: Thread, owner: &OwnerId, threads: &Threads) -> Result<(Self, Lease), Error> {
        let lease = Lease { tenant: thread.tenant.clone(), thread_id: thread.id, epoch: 1 };
        if threads.contains_key(&(lease.tenant.clone(), lease.thread_id)) {
            return Err(Error::Exists(lease.thread_id));
        }
        let held = Self {
            thread,
            owner: owner.clone(),
            epoch: lease.epoch,
            log: Vec::new(),
            last_sequence: 0,
            messages: HashMap::new(),
            traced: trace::Traced::default(),
        };
        Ok((held, lease))
    }

    fn check_messages(&self, entries: &[Encoded]) -> Result<(), Error> {
        let known = entries.iter().find_map(|entry| self.messages.get(entry.client_id.as_ref()?));
        match known.map(|message| message.turn_id).or_else(|| encoded::repeated_message(entries)) {
            Some(turn_id) => Err(Error::DuplicateMessage { turn_id }),
            None => Ok(()),
        }
    }

    fn push(&mut self, entries: Vec<Encoded>, now_ms: i64) -> Appended {
        let at_ms = now_ms.max(self.thread.updated_at_ms);
        if !entries.is_empty() {
            self.thread.updated_at_ms = at_ms;
        }
        for Encoded { turn_id, kind, client_id, payload } in entries {
            self.last_sequence += 1;
            let sequence = self.last_sequence;
            self.messages.extend(client_id.map(|client_id| (client_id, Message { turn_id, sequence })));
            self.log.push(Row { kind, stored: Stored { sequence, at_ms, turn_id, payload } });
        }
        self.appended(at_ms)
    }

    fn appended(&self, at_ms: i64) -> Appended {
        Appended { last_sequence: self.last_sequence, at_ms, read_state: self.thread.read_state }
    }

    fn turn_place(&self, turn: TurnId) -> Option<TurnPlace> {
        let mut starts = self.log.iter().filter(|row| row.kind == TURN_STARTED);
        let start = starts.find(|row| row.stored.turn_id == turn)?.stored.sequence;
        Some(TurnPlace { start, next: starts.next().map(|row| row.stored.sequence) })
    }

    /// The rows that can be on a page, in its order.
    fn rows<'a>(&'a self, wanted: &'a Wanted<u64>) -> Box<dyn Iterator<Item = &'a Row> + 'a> {
        let admitted = |row: &&Row| wanted.admits(&row.stored.sequence);
        match wanted.direction {
            Direction::Ascending => Box::new(self.log.iter().filter(admitted)),
            Direction::Descending => Box::new(self.log.iter().rev().filter(admitted)),
        }
    }

    fn turns(&self, query: &PageQuery) -> Result<Page<TurnRecords>, Error> {
        let wanted = Wanted::parse("turns", query)?;
        let mut starts = self.rows(&wanted).filter(|row| row.kind == TURN_STARTED).peekable();
        let (mut turns, mut records) = (Vec::new(), 0);
        while turns.len() < wanted.limit && records < limits::RECORDS_MAX {
            let Some(start) = starts.next() else { break };
            let turn = self.turn(start.stored.turn_id)?;
            records += turn.records.len();
            turns.push((start.stored.sequence, turn));
        }
        let more = starts.peek().is_some();
        Ok(page::map(wanted.page(turns, more, |(sequence, _)| *sequence), |(_, turn)| turn))
    }

    fn turn(&self, turn_id: TurnId) -> Result<TurnRecords, Error> {
        let seen = |row: &&Row| row.kind != MODEL_ITEM && row.stored.turn_id == turn_id;
        let records = self.log.iter().filter(seen).map(|row| row.stored.record(self.thread.id));
        Ok(TurnRecords { turn_id, records: records.collect::<Result<_, _>>()? })
    }

    fn items(&self, turn: Option<TurnId>, query: &PageQuery) -> Result<Page<ItemRecord>, Error> {
        let wanted = Wanted::parse(page::ITEMS, query)?;
        let items: Vec<ItemRecord> = self
            .rows(&wanted)
            .filter(|row| row.kind == ITEM && turn.is_none_or(|turn| turn == row.stored.turn_id))
            .take(wanted.limit + 1)
            .map(|row| row.stored.item(self.thread.id))
            .collect::<Result<_, _>>()?;
        Ok(wanted.page(items, false, |item| item.sequence))
    }
}

impl ThreadStore for MemoryStore {
    fn create<'a>(
        &'a self,
        thread: Thread,
        owner: &'a OwnerId,
        entries: Vec<Entry>,
    ) -> BoxFuture<'a, Result<(Lease, Appended), Error>> {
        lazy(move |_| self.create_now(thread, owner, &entries)).boxed()
    }

    fn fork<'a>(
        &'a self,
        source: ThreadId,
        through: u64,
        thread: Thread,
        owner: &'a OwnerId,
    ) -> BoxFuture<'a, Result<(Lease, Appended), Error>> {
        lazy(move |_| self.fork_now(source, through, thread, owner)).boxed()
    }

    fn acquire<'a>(
        &'a self,
        tenant: &'a TenantId,
        id: ThreadId,
        owner: &'a OwnerId,
    ) -> BoxFuture<'a, Result<(Lease, Thread), Error>> {
        lazy(move |_| {
            self.change(tenant, id, |held| {
                if held.owner != *owner {
                    held.owner = owner.clone();
                    held.epoch += 1;
                }
                let lease = Lease { tenant: tenant.clone(), thread_id: id, epoch: held.epoch };
                Ok((lease, held.thread.clone()))
            })
        })
        .boxed()
    }

    fn append<'a>(
        &'a self,
        lease: &'a Lease,
        entries: Vec<Entry>,
        update: ThreadUpdate,
    ) -> BoxFuture<'a, Result<Appended, Error>> {
        lazy(move |_| self.append_now(lease, &entries, update)).boxed()
    }

    fn revert<'a>(
        &'a self,
        lease: &'a Lease,
        keep: u64,
        entry: Entry,
    ) -> BoxFuture<'a, Result<Appended, Error>> {
        lazy(move |_| self.revert_now(lease, keep, entry)).boxed()
    }

    fn thread<'a>(&'a self, tenant: &'a TenantId, id: ThreadId) -> BoxFuture<'a, Result<Thread, Error>> {
        lazy(move |_| self.read(tenant, id, |held| Ok(held.thread.clone()))).boxed()
    }

    fn records<'a>(
        &'a self,
        tenant: &'a TenantId,
        id: ThreadId,
        after: u64,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<Record>, Error>> {
        lazy(move |_| {
            self.read(tenant, id, |held| {
                let later = held.log.iter().filter(|row| row.stored.sequence > after);
                later.take(limits::records(limit)).map(|row| row.stored.record(id)).collect()
            })
        })
        .boxed()
    }

    fn turns<'a>(
        &'a self,
        tenant: &'a TenantId,
        id: ThreadId,
        page: PageQuery,
    ) -> BoxFuture<'a, Result<Page<TurnRecords>, Error>> {
        lazy(move |_| self.read(tenant, id, |held| held.turns(&page))).boxed()
    }

    fn turn_place<'a>(
        &'a self,
        tenant: &'a TenantId,
        id: ThreadId,
        turn: TurnId,
    ) -> BoxFuture<'a, Result<Option<TurnPlace>, Error>> {
        lazy(move |_| self.read(tenant, id, |held| Ok(held.turn_place(turn)))).boxed()
    }

    fn items<'a>(
        &'a self,
        tenant: &'a TenantId,
        id: ThreadId,
        turn: Option<TurnId>,
        page: PageQuery,
    ) -> BoxFuture<'a, Result<Page<ItemRecord>, Error>> {
        lazy(move |_| self.read(tenant, id, |held| held.items(turn, &page))).boxed()
    }

    fn list<'a>(
        &'a self,
        tenant: &'a TenantId,
        query: ListQuery,
    ) -> BoxFuture<'a, Result<Page<Thread>, Error>> {
        lazy(move |_| self.list_now(tenant, &query)).boxed()
    }

    fn update<'a>(
        &'a self,
        tenant: &'a TenantId,
        id: ThreadId,
        update: ThreadUpdate,
    ) -> BoxFuture<'a, Result<Thread, Error>> {
        lazy(move |_| {
            let Write { update, .. } = encoded::write(&[], update)?;
            self.change(tenant, id, |held| {
                update.apply(&mut held.thread);
                Ok(held.thread.clone())
            })
        })
        .boxed()
    }

    fn mark<'a>(
        &'a self,
        tenant: &'a TenantId,
        id: ThreadId,
        mark: Mark,
        seen: u64,
    ) -> BoxFuture<'a, Result<ReadState, Error>> {
        lazy(move |_| self.mark_now(tenant, id, mark, seen)).boxed()
    }

    fn trace(&self, rows: Vec<TraceRow>) -> BoxFuture<'_, Result<usize, Error>> {
        lazy(move |_| {
            let mut threads = self.threads();
            let mut kept = 0;
            for TraceRow { tenant, thread_id, event } in rows {
                if let Some(held) = threads.get_mut(&(tenant, thread_id)) {
                    held.traced.keep(event);
                    kept += 1;
                }
            }
            Ok(kept)
        })
        .boxed()
    }

    fn traced<'a>(
        &'a self,
        tenant: &'a TenantId,
        id: ThreadId,
        after: u64,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<TraceRecord>, Error>> {
        lazy(move |_| self.read(tenant, id, |held| Ok(held.traced(after, limit)))).boxed()
    }

    fn delete<'a>(&'a self, tenant: &'a TenantId, id: ThreadId) -> BoxFuture<'a, Result<(), Error>> {
        lazy(move |_| {
            let removed = self.threads().remove(&(tenant.clone(), id));
            removed.map(|_| ()).ok_or(Error::NotFound(id))
        })
        .boxed()
    }
}
