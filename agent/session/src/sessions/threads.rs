//! Threads: starting, finding and changing them, and reading their history.

use agent_threads::{
    Direction, Entry, ItemRecord, LifecycleEvent, ListQuery, Mark, Metadata, Origin, Page, PageQuery,
    ReadState, Settings, TenantId, Thread, ThreadId, ThreadUpdate, TraceRecord, TurnId,
};
use futures_util::FutureExt as _;

use super::{Inner, Sessions};
use crate::{
    Error,
    clock::now_ms,
    event::{Event, Lifecycle, Status},
    request::{MetadataChange, NewThread, Overrides},
    surroundings,
    thread::{Kind, Loaded},
    view::{Resumed, ThreadView, TokenUsage, TurnView},
};

/// Turns that are looked through for the last token usage.
const USAGE_TURNS: u32 = 5;

impl Sessions {
    /// Starts a thread. Nothing is stored before its first user message, and nothing at all of an ephemeral one.
    pub async fn start(&self, tenant: &TenantId, new: NewThread) -> Result<ThreadView, Error> {
        if self.inner.turns.is_closed() {
            return Err(Error::Stopping);
        }
        let (settings, provider) = self.inner.settings(&new).await?;
        let id = ThreadId::generate();
        let session_id = match new.parent_id {
            Some(parent) => self.read(tenant, parent).await?.thread.session_id,
            None => id,
        };
        let now = now_ms();
        let facts = Thread {
            tenant: tenant.clone(),
            id,
            session_id,
            parent_id: new.parent_id,
            forked_from_id: None,
            created_at_ms: now,
            updated_at_ms: now,
            name: None,
            preview: String::new(),
            archived: false,
            origin: Origin {
                originator: new.originator,
                client_version: new.client_version,
                source: new.source,
                thread_source: new.thread_source,
                provider,
            },
            settings,
            metadata: Metadata::default(),
            read_state: ReadState::default(),
        };
        let kind = Kind { ephemeral: new.ephemeral, materialized: false };
        let thread = self.inner.insert(self.inner.loaded(facts, kind))?;
        let view = thread.view();
        self.inner.tell(tenant, Lifecycle::Started(Box::new(view.clone())));
        Ok(view)
    }

    /// Loads a thread and applies `overrides` to it. It stays with its provider: another one is refused.
    pub async fn resume(
        &self,
        tenant: &TenantId,
        id: ThreadId,
        provider: Option<&str>,
        overrides: Overrides,
    ) -> Result<Resumed, Error> {
        let thread = self.inner.load(tenant, id).await?;
        let before = thread.view().thread;
        check_provider(&before, provider, "resume")?;
        let overrides = overrides.taking_up(&before.settings);
        self.inner.change_settings(&thread, overrides).await?;
        let view = thread.view();
        if view.materialized && view.tokens.is_none() {
            thread.remember_tokens(last_tokens(&thread).await?);
        }
        let view = thread.view();
        if view.materialized && !view.ephemeral {
            self.inner.shared.observer.lifecycle(tenant, id, LifecycleEvent::Resumed);
        }
        let other = view.materialized && view.thread.settings.model != before.settings.model;
        Ok(Resumed { view, model_before: other.then_some(before.settings.model) })
    }

    /// A thread, without loading it.
    pub async fn read(&self, tenant: &TenantId, id: ThreadId) -> Result<ThreadView, Error> {
        match self.inner.find(tenant, id) {
            Some(thread) => Ok(thread.view()),
            None => Ok(not_loaded(self.inner.store.thread(tenant, id).await?)),
        }
    }

    /// The files of the project whose instructions the model is told in this thread.
    pub async fn instruction_sources(&self, view: &ThreadView) -> Vec<String> {
        surroundings::sources(self.inner.shared.options.context, &view.thread.settings).await
    }

    /// A page of the tenant's stored threads.
    pub async fn list(&self, tenant: &TenantId, query: ListQuery) -> Result<Page<ThreadView>, Error> {
        let Page { elements, next, backwards } = self.inner.store.list(tenant, query).await?;
        let view = |facts: Thread| match self.inner.find(tenant, facts.id) {
            Some(thread) => ThreadView { thread: facts, ..thread.view() },
            None => not_loaded(facts),
        };
        Ok(Page { elements: elements.into_iter().map(view).collect(), next, backwards })
    }

    /// A page of a thread's turns, each with all its items.
    pub async fn turns(
        &self,
        tenant: &TenantId,
        id: ThreadId,
        page: PageQuery,
    ) -> Result<Page<TurnView>, Error> {
        let running = self.inner.history(tenant, id)?;
        let Page { elements, next, backwards } = self.inner.store.turns(tenant, id, page).await?;
        let elements = elements.into_iter().map(|turn| TurnView::stored(turn, running)).collect();
        Ok(Page { elements, next, backwards })
    }

    /// A page of a thread's items, of one turn or of all.
    pub async fn items(
        &self,
        tenant: &TenantId,
        id: ThreadId,
        turn: Option<TurnId>,
        page: PageQuery,
    ) -> Result<Page<ItemRecord>, Error> {
        self.inner.history(tenant, id)?;
        Ok(self.inner.store.items(tenant, id, turn, page).await?)
    }

    /// At most `limit` things that the thread did, after the one with number `after`, in order. Kept at best.
    pub async fn trace(
        &self,
        tenant: &TenantId,
        id: ThreadId,
        after: u64,
        limit: u32,
    ) -> Result<Vec<TraceRecord>, Error> {
        self.inner.history(tenant, id)?;
        self.inner.shared.observer.settle().await;
        Ok(self.inner.store.traced(tenant, id, after, limit).await?)
    }

    /// The cursor of a list of a turn's items that goes on past one of them, in either direction.
    pub async fn item_cursor(
        &self,
        tenant: &TenantId,
        id: ThreadId,
        turn: TurnId,
        item: &str,
    ) -> Result<Option<String>, Error> {
        let mut page = PageQuery::default();
        loop {
            let items = self.items(tenant, id, Some(turn), page.clone()).await?;
            if let Some(found) = items.elements.iter().find(|found| found.item.id().as_str() == item) {
                return Ok(Some(found.cursor()));
            }
            match items.next {
                Some(next) => page.cursor = Some(next),
                None => return Ok(None),
            }
        }
    }

    /// Names a thread; an empty name takes the name away.
    pub async fn set_name(&self, tenant: &TenantId, id: ThreadId, name: String) -> Result<(), Error> {
        let shown = Some(name.clone()).filter(|name| !name.is_empty());
        let change = ThreadUpdate { name: Some(name), ..ThreadUpdate::default() };
        let event = Event::NameChanged { name: shown.clone() };
        let named = shown.clone();
        self.inner.update(tenant, id, change, Some(event), move |facts| facts.name = named).await?;
        self.inner.tell(tenant, Lifecycle::NameChanged { id, name: shown });
        Ok(())
    }

    /// Changes what clients keep with a thread.
    pub async fn update_metadata(
        &self,
        tenant: &TenantId,
        id: ThreadId,
        change: MetadataChange,
    ) -> Result<ThreadView, Error> {
        let view = self.read(tenant, id).await?;
        let metadata = change.apply(&view.thread.metadata);
        let update = ThreadUpdate { metadata: Some(metadata.clone()), ..ThreadUpdate::default() };
        let changed = metadata.clone();
        self.inner.update(tenant, id, update, None, move |facts| facts.metadata = changed).await?;
        Ok(ThreadView { thread: Thread { metadata, ..view.thread }, ..view })
    }

    /// Marks a thread as read or unread for a user who has seen it at this revision of its read state.
    pub async fn mark(
        &self,
        tenant: &TenantId,
        id: ThreadId,
        mark: Mark,
        seen: u64,
    ) -> Result<ReadState, Error> {
        self.inner.history(tenant, id)?;
        let read_state = self.inner.store.mark(tenant, id, mark, seen).await?;
        if let Some(thread) = self.inner.find(tenant, id) {
            let event = Event::ReadStateChanged(read_state);
            thread.change(|facts| facts.read_state = read_state, Some(event), now_ms());
        }
        Ok(read_state)
    }

    /// Archives a thread: its turn is stopped, and it leaves memory.
    pub async fn archive(&self, tenant: &TenantId, id: ThreadId) -> Result<(), Error> {
        let loaded = self.inner.find(tenant, id);
        let _edit = match &loaded {
            Some(thread) => Some(self.quiet(thread).await?),
            None => None,
        };
        self.inner.set_archived(tenant, id, true).await?;
        if let Some(thread) = &loaded {
            self.inner.close(thread);
        }
        self.inner.tell(tenant, Lifecycle::Archived(id));
        Ok(())
    }

    /// Brings a thread back from the archive.
    pub async fn unarchive(&self, tenant: &TenantId, id: ThreadId) -> Result<ThreadView, Error> {
        self.inner.set_archived(tenant, id, false).await?;
        self.inner.tell(tenant, Lifecycle::Unarchived(id));
        self.read(tenant, id).await
    }

    /// Stops a thread's turn and deletes the thread.
    pub async fn delete(&self, tenant: &TenantId, id: ThreadId) -> Result<(), Error> {
        let loaded = self.inner.find(tenant, id);
        if let Some(thread) = &loaded {
            while !self.inner.close(thread) {
                match self.interrupt(tenant, id, None).await {
                    Ok(()) | Err(Error::NoActiveTurn) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        match loaded.map(|thread| thread.view()) {
            Some(view) if view.ephemeral || !view.materialized => {
                self.inner.drop_ephemeral(tenant, id);
            }
            _ => self.inner.store.delete(tenant, id).await?,
        }
        self.inner.tell(tenant, Lifecycle::Deleted(id));
        Ok(())
    }

    /// Changes what the thread's next turn runs with.
    pub async fn update_settings(
        &self,
        tenant: &TenantId,
        id: ThreadId,
        overrides: Overrides,
    ) -> Result<ThreadView, Error> {
        let thread = self.inner.load(tenant, id).await?;
        self.inner.change_settings(&thread, overrides).await?;
        Ok(thread.view())
    }
}

impl Inner {
    /// A new thread's settings, and the provider that it stays with.
    async fn settings(&self, new: &NewThread) -> Result<(Settings, String), Error> {
        let options = &self.shared.options;
        let defaults = Settings {
            model: options.default_model.clone().unwrap_or_default(),
            cwd: options.default_cwd.clone(),
            ..Settings::default()
        };
        let mut settings = new.overrides.clone().apply(&defaults);
        if let (Some(provider), false) = (&new.provider, settings.model.is_empty()) {
            return Ok((settings, provider.clone()));
        }
        let known = self.shared.catalogue.facts().await?;
        let model = match settings.model.is_empty() {
            true => known.models.iter().find(|model| model.is_default).or(known.models.first()),
            false => known.model(&settings.model),
        };
        if settings.model.is_empty() {
            settings.model = model
                .ok_or(Error::Invalid("no model was named, and the gateway offers none".into()))?
                .slug
                .clone();
        }
        let served_by = model.map(|model| model.provider.clone()).unwrap_or_default();
        Ok((settings, new.provider.clone().unwrap_or(served_by)))
    }

    async fn change_settings(&self, thread: &Loaded, overrides: Overrides) -> Result<(), Error> {
        let view = thread.view();
        let settings = overrides.apply(&view.thread.settings);
        if settings == view.thread.settings {
            return Ok(());
        }
        let change = ThreadUpdate { settings: Some(settings.clone()), ..ThreadUpdate::default() };
        let event = Event::SettingsChanged { settings: Box::new(settings.clone()) };
        let Loaded { tenant, id, .. } = thread;
        self.update(tenant, *id, change, Some(event), move |facts| facts.settings = settings).await
    }

    /// Moves a thread into the archive or out of it. One that is there already is refused, as Codex does.
    async fn set_archived(&self, tenant: &TenantId, id: ThreadId, archived: bool) -> Result<(), Error> {
        self.history(tenant, id)?;
        if self.store.thread(tenant, id).await?.archived == archived {
            let kind = if archived { "rollout" } else { "archived rollout" };
            return Err(Error::Invalid(format!("no {kind} found for thread id {id}").into()));
        }
        let change = ThreadUpdate { archived: Some(archived), ..ThreadUpdate::default() };
        self.update(tenant, id, change, None, move |facts| facts.archived = archived).await
    }

    /// Changes a thread's facts where they are stored, and where they are in memory.
    async fn update(
        &self,
        tenant: &TenantId,
        id: ThreadId,
        update: ThreadUpdate,
        event: Option<Event>,
        change: impl FnOnce(&mut Thread),
    ) -> Result<(), Error> {
        match self.find(tenant, id) {
            Some(thread) => {
                if thread.view().materialized {
                    thread.store.update(tenant, id, update).await?;
                }
                thread.change(change, event, now_ms());
            }
            None => {
                self.store.update(tenant, id, update).await?;
            }
        }
        Ok(())
    }

    /// Whether the thread has a history that can be read; and the turn that is running in it.
    pub(super) fn history(&self, tenant: &TenantId, id: ThreadId) -> Result<Option<TurnId>, Error> {
        let Some(thread) = self.find(tenant, id) else { return Ok(None) };
        let view = thread.view();
        match view {
            ThreadView { ephemeral: true, .. } => Err(Error::Ephemeral(id)),
            ThreadView { materialized: false, .. } => Err(Error::NotMaterialized(id)),
            ThreadView { active_turn, .. } => Ok(active_turn),
        }
    }

    /// Drops what the memory store holds of a thread that nobody keeps.
    pub(super) fn drop_ephemeral(&self, tenant: &TenantId, id: ThreadId) {
        // The memory store answers at once. The thread is not there if it never had a turn.
        let _ = self.ephemeral.delete(tenant, id).now_or_never();
    }
}

/// Encrypted history is bound to its provider, so a thread and its forks stay with it.
pub(super) fn check_provider(thread: &Thread, wanted: Option<&str>, doing: &str) -> Result<(), Error> {
    let provider = &thread.origin.provider;
    match wanted {
        Some(wanted) if wanted != provider => Err(Error::Invalid(
            format!("Cannot change this thread's model provider from `{provider}` to `{wanted}` on {doing}.")
                .into(),
        )),
        _ => Ok(()),
    }
}

fn not_loaded(thread: Thread) -> ThreadView {
    ThreadView {
        thread,
        status: Status::NotLoaded,
        ephemeral: false,
        materialized: true,
        active_turn: None,
        tokens: None,
    }
}

/// The tokens of a thread, as its log tells.
pub(super) async fn last_tokens(thread: &Loaded) -> Result<Option<(TurnId, TokenUsage)>, Error> {
    let page = PageQuery { cursor: None, limit: USAGE_TURNS, direction: Direction::Descending };
    let turns = thread.store.turns(&thread.tenant, thread.id, page).await?;
    let records = turns.elements.iter().flat_map(|turn| turn.records.iter().rev());
    Ok(records
        .filter_map(|record| match &record.entry {
            Entry::Usage { turn_id, last, total } => {
                Some((*turn_id, TokenUsage { last: *last, total: *total, context_window: None }))
            }
            _ => None,
        })
        .next())
}
