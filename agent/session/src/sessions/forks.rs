//! Threads that begin with another thread's history.
//!
//! A fork is a thread of its own: it shares nothing with the other one but what it has copied, and the other one may be
//! deleted. A turn that was running when the history was copied shows in the fork as interrupted, as after a crash.

use agent_threads::{
    Entry, LifecycleEvent, Metadata, Origin, ReadState, TenantId, Thread, ThreadId, TracedLifecycle,
};

use super::{Inner, Sessions, threads};
use crate::{
    Error,
    clock::now_ms,
    event::Lifecycle,
    request::{ForkPoint, ForkThread},
    thread::Kind,
    view::ThreadView,
};

impl Sessions {
    /// Makes a thread of another one's history.
    pub async fn fork(
        &self,
        tenant: &TenantId,
        source: ThreadId,
        fork: ForkThread,
    ) -> Result<ThreadView, Error> {
        if self.inner.turns.is_closed() {
            return Err(Error::Stopping);
        }
        let view = self.read(tenant, source).await?;
        if view.ephemeral {
            return Err(Error::Ephemeral(source));
        }
        if view.thread.archived {
            return Err(Error::Archived(source));
        }
        threads::check_provider(&view.thread, fork.provider.as_deref(), "fork")?;
        let through = self.inner.cut(&view, fork.until).await?;
        let kind = Kind { ephemeral: fork.ephemeral, materialized: through > 0 };
        let facts = facts_of(fork, view.thread, kind);
        // A fork that nothing can be done with is not written.
        drop(self.inner.room(tenant)?);
        if kind.materialized {
            // What the turns have done so far is copied with them.
            self.inner.shared.observer.settle().await;
            self.inner.copy(source, through, &facts, kind).await?;
        }
        if kind.materialized && !kind.ephemeral {
            let forked = TracedLifecycle { event: LifecycleEvent::Forked, other: Some(source) };
            self.inner.shared.observer.lifecycle_with(tenant, facts.id, forked, facts.created_at_ms);
        }
        let thread = self.inner.insert(self.inner.loaded(facts, kind))?;
        if kind.materialized && !kind.ephemeral {
            thread.remember_tokens(threads::last_tokens(&thread).await?);
        }
        let view = thread.view();
        self.inner.tell(tenant, Lifecycle::Started(Box::new(view.clone())));
        Ok(view)
    }
}

impl Inner {
    /// The last sequence number that belongs to the fork; 0 if there is none.
    async fn cut(&self, source: &ThreadView, until: ForkPoint) -> Result<u64, Error> {
        let (ForkPoint::Through(turn) | ForkPoint::Before(turn)) = until else {
            return Ok(if source.materialized { u64::MAX } else { 0 });
        };
        let Thread { tenant, id, .. } = &source.thread;
        let place = match source.materialized {
            true => self.store.turn_place(tenant, *id, turn).await?,
            false => None,
        };
        let place = place.ok_or(Error::TurnNotFound(turn))?;
        if matches!(until, ForkPoint::Before(_)) {
            return Ok(place.start.saturating_sub(1));
        }
        if source.active_turn == Some(turn) {
            let text = format!("lastTurnId '{turn}' identifies an in-progress turn");
            return Err(Error::Invalid(text.into()));
        }
        Ok(place.next.map_or(u64::MAX, |next| next.saturating_sub(1)))
    }

    async fn copy(&self, source: ThreadId, through: u64, facts: &Thread, kind: Kind) -> Result<(), Error> {
        let owner = &self.shared.owner;
        if !kind.ephemeral {
            self.store.fork(source, through, facts.clone(), owner).await?;
            return Ok(());
        }
        // Nobody reads the times of what is not kept.
        let mut entries: Vec<Entry> = Vec::new();
        let mut after = 0;
        loop {
            let records = self.store.records(&facts.tenant, source, after, 0).await?;
            let Some(last) = records.last() else { break };
            after = last.sequence;
            entries.extend(
                records.into_iter().filter(|record| record.sequence <= through).map(|record| record.entry),
            );
            if after >= through {
                break;
            }
        }
        self.ephemeral.create(facts.clone(), owner, entries).await?;
        Ok(())
    }
}

fn facts_of(fork: ForkThread, source: Thread, kind: Kind) -> Thread {
    let (id, now) = (ThreadId::generate(), now_ms());
    Thread {
        id,
        session_id: id,
        parent_id: None,
        forked_from_id: Some(source.id),
        created_at_ms: now,
        updated_at_ms: now,
        preview: if kind.materialized { source.preview } else { String::new() },
        origin: Origin {
            originator: fork.originator,
            client_version: fork.client_version,
            source: fork.source,
            thread_source: fork.thread_source,
            provider: source.origin.provider,
        },
        settings: fork.overrides.taking_up(&source.settings).apply(&source.settings),
        metadata: Metadata { git: None, ..source.metadata },
        read_state: ReadState::default(),
        tenant: source.tenant,
        name: source.name,
        archived: false,
    }
}
