//! Changes of a thread's log that are no turn: taking its end back, adding to what the model is told.

use std::sync::Arc;

use agent_threads::{Entry, Lease, LifecycleEvent, TenantId, Thread, ThreadId, ThreadUpdate, TurnId};
use serde_json::value::RawValue;
use tokio::sync::oneshot;

use super::{Inner, Sessions, threads, turns::ATTEMPTS_MAX};
use crate::{
    Error,
    clock::now_ms,
    context::Context,
    event::{Commit, Event, Lifecycle, Published},
    thread::{Command, Kept, Loaded},
    view::ThreadView,
};

impl Sessions {
    /// Takes a turn and all that came after it out of a thread's history; stops the turn that is running. Files that
    /// those turns have changed stay as they are.
    pub async fn revert(&self, tenant: &TenantId, id: ThreadId, before: TurnId) -> Result<ThreadView, Error> {
        let thread = self.inner.load(tenant, id).await?;
        self.inner.history(tenant, id)?;
        let place = self.inner.store.turn_place(tenant, id, before).await?;
        let place = place.ok_or(Error::TurnNotFound(before))?;
        let _edit = self.quiet(&thread).await?;
        let keep = place.start.saturating_sub(1);
        let (lease, _) = self.inner.store.acquire(tenant, id, &self.inner.shared.owner).await?;
        let entry = Entry::Reverted { turn_id: before, keep };
        let done = self.inner.store.revert(&lease, keep, entry).await?;
        let event = Event::Reverted { turn_id: before, keep };
        let commit = Commit { before: done.last_sequence.saturating_sub(1), last: done.last_sequence };
        let published = Published { sequence: Some(done.last_sequence), at_ms: done.at_ms, event, commit };
        let change = |facts: &mut Thread| {
            facts.updated_at_ms = done.at_ms;
            facts.read_state = done.read_state;
        };
        thread.reverted(change, published);
        self.inner.shared.observer.lifecycle(tenant, id, LifecycleEvent::Reverted);
        thread.remember_tokens(threads::last_tokens(&thread).await?);
        self.inner.tell(tenant, Lifecycle::Reverted(id));
        Ok(thread.view())
    }

    /// Adds items to what the model is told from its next call on, exactly as they are.
    pub async fn inject(
        &self,
        tenant: &TenantId,
        id: ThreadId,
        items: Vec<Box<RawValue>>,
    ) -> Result<(), Error> {
        let bytes: usize = items.iter().map(|item| item.get().len()).sum();
        if bytes > self.inner.shared.options.message_bytes_max {
            return Err(Error::Invalid("the items are too large".into()));
        }
        let turn_id = TurnId::generate();
        let entries: Vec<Entry> = items.into_iter().map(|json| Entry::ModelItem { turn_id, json }).collect();
        for _ in 0..ATTEMPTS_MAX {
            let thread = self.inner.load(tenant, id).await?;
            if let Some(running) = thread.running() {
                let (reply, replied) = oneshot::channel();
                let command = Command::Inject { entries: entries.clone(), reply };
                // Either fails only because the turn has ended.
                if running.commands.send(command).await.is_ok()
                    && let Ok(result) = replied.await
                {
                    return result;
                }
                continue;
            }
            let _edit = thread.edits.lock().await;
            if thread.running().is_none() {
                return self.inner.add(&thread, entries).await;
            }
        }
        Err(Error::Overloaded { what: "attempts to add items", limit: ATTEMPTS_MAX })
    }
}

impl Inner {
    /// Adds entries to the log of a thread without turn. A thread without history begins it with them.
    async fn add(&self, thread: &Arc<Loaded>, entries: Vec<Entry>) -> Result<(), Error> {
        let Loaded { store, tenant, id, .. } = &**thread;
        let view = thread.view();
        if !view.materialized {
            let created = store.create(view.thread, &self.shared.owner, entries.clone()).await;
            let (lease, appended) = created?;
            thread.materialized("");
            put(thread, lease, Context::default(), &entries);
            thread.change(|facts| facts.updated_at_ms = appended.at_ms, None, now_ms());
            return Ok(());
        }
        let kept = thread.take_kept();
        let lease = match &kept {
            Some(kept) => kept.lease.clone(),
            None => store.acquire(tenant, *id, &self.shared.owner).await?.0,
        };
        let no_update = ThreadUpdate::default();
        match (store.append(&lease, entries.clone(), no_update.clone()).await, kept) {
            (Ok(appended), kept) => {
                if let Some(Kept { lease, context }) = kept {
                    put(thread, lease, context, &entries);
                }
                thread.change(|facts| facts.updated_at_ms = appended.at_ms, None, now_ms());
                Ok(())
            }
            // Another process had the thread while it was idle here.
            (Err(agent_threads::Error::StaleOwner(_)), Some(_)) => {
                let (lease, _) = store.acquire(tenant, *id, &self.shared.owner).await?;
                store.append(&lease, entries, no_update).await?;
                Ok(())
            }
            (Err(error), _) => Err(error.into()),
        }
    }
}

fn put(thread: &Loaded, lease: Lease, mut context: Context, entries: &[Entry]) {
    entries.iter().for_each(|entry| context.add(entry));
    thread.put_kept(Kept { lease, context });
}
