//! What a turn writes: its commits, what is known of the thread after each, and where in the log stands what is told.

use agent_threads::{Entry, Item, Thread, ThreadUpdate, Usage, UserInput};
use tokio::time::Instant;

use super::Driver;
use crate::{
    clock::now_ms,
    context::{Context, Outcome, tokens_of, with_ids},
    event::{Commit, Event, Published},
    response::Told,
    thread::{Kept, Loaded},
    view::TokenUsage,
};

/// How much of the first message is a thread's preview.
const PREVIEW_CHARS: usize = 400;

/// The last commit.
#[derive(Default)]
pub(super) struct Last {
    sequence: u64,
    entries: usize,
    /// Those at its end that what is told is counted among.
    counted: usize,
}

impl Last {
    fn place(&self) -> Commit {
        let entries = u64::try_from(self.entries).unwrap_or(u64::MAX);
        Commit { before: self.sequence.saturating_sub(entries), last: self.sequence }
    }
}

impl Driver {
    /// Stores that the model's input begins anew, with further entries, and tells how long it is now.
    pub(super) async fn begin_anew(
        &mut self,
        outcome: Outcome,
        total: Usage,
        entries: Vec<Entry>,
    ) -> Result<(), agent_threads::Error> {
        let Some(kept) = &self.kept else { return Ok(()) };
        let remote = matches!(outcome, Outcome::Item(_));
        let mut anew = kept.context.compacted(self.turn_id, outcome, &self.surroundings);
        let total_tokens = tokens_of(&anew, self.calling.instructions);
        let (turn_id, last) = (self.turn_id, Usage { total_tokens, ..Usage::default() });
        anew.push(Entry::Usage { turn_id, last, total });
        let usage = Some(anew.len() - 1);
        let own = entries.len();
        anew.extend(entries);
        self.commit(anew).await?;
        self.watch.compacted(remote);
        self.calling.continuation = None;
        let tokens = TokenUsage { last, total, context_window: self.calling.context_window };
        let told = Told { event: Event::TokenUsage { turn_id, tokens }, entry: usage };
        let published = self.published(told);
        self.thread.thread.publish(published);
        // What is told next was counted without what stands before it.
        self.last.counted = own;
        Ok(())
    }

    pub(super) async fn commit(&mut self, mut entries: Vec<Entry>) -> Result<(), agent_threads::Error> {
        if self.shared.options.item_ids {
            with_ids(&mut entries);
        }
        let Loaded { store, .. } = &*self.thread.thread;
        let since = Instant::now();
        let settings = (self.settings != self.facts.settings).then(|| self.settings.clone());
        let appended = match &self.kept {
            Some(Kept { lease, .. }) => {
                let first = self.facts.preview.is_empty().then(|| preview(&entries));
                let first = first.filter(|text| !text.is_empty());
                let update = ThreadUpdate {
                    settings: settings.clone(),
                    preview: first.clone(),
                    ..ThreadUpdate::default()
                };
                let appended = store.append(lease, entries.clone(), update).await?;
                if let Some(first) = first {
                    self.thread.thread.materialized(&first);
                    self.facts.preview = first;
                }
                appended
            }
            None => {
                let preview = preview(&entries);
                self.facts.metadata.git = self.facts.metadata.git.take().or(self.surroundings.git.clone());
                let facts = Thread {
                    preview: preview.clone(),
                    settings: self.settings.clone(),
                    ..self.facts.clone()
                };
                let (lease, appended) = store.create(facts, &self.shared.owner, entries.clone()).await?;
                self.kept = Some(Kept { lease, context: Context::default() });
                self.materialized = true;
                self.thread.thread.materialized(&preview);
                self.watch.stored();
                appended
            }
        };
        self.watch.committed(since);
        if appended.read_state.revision != self.facts.read_state.revision {
            self.facts.read_state = appended.read_state;
            self.unread = Some(appended.read_state).filter(|_| !self.thread.thread.ephemeral);
        }
        self.last = Last { sequence: appended.last_sequence, entries: entries.len(), counted: entries.len() };
        if let Some(kept) = &mut self.kept {
            entries.iter().for_each(|entry| kept.context.add(entry));
        }
        if let Some(settings) = &settings {
            self.facts.settings.clone_from(settings);
        }
        let event = settings.clone().map(|settings| Event::SettingsChanged { settings: Box::new(settings) });
        let git = self.facts.metadata.git.clone();
        let change = move |facts: &mut Thread| {
            facts.metadata.git = facts.metadata.git.take().or(git);
            facts.updated_at_ms = appended.at_ms;
            facts.read_state = appended.read_state;
            facts.settings = settings.unwrap_or_else(|| facts.settings.clone());
        };
        self.thread.thread.change(change, event, now_ms());
        Ok(())
    }

    pub(super) fn published(&mut self, told: Told) -> Published {
        let Told { mut event, entry } = told;
        let sequence = entry.and_then(|entry| {
            let back = u64::try_from(self.last.counted.checked_sub(entry + 1)?).ok()?;
            self.last.sequence.checked_sub(back)
        });
        match (&mut event, sequence) {
            (Event::ItemCompleted { item: Item::AgentMessage { .. }, .. }, Some(sequence)) => {
                self.answer_sequence = sequence;
            }
            (Event::TurnCompleted { turn }, _) => {
                turn.items.iter_mut().for_each(|item| item.sequence = self.answer_sequence);
            }
            _ => {}
        }
        Published { sequence, at_ms: now_ms(), event, commit: self.last.place() }
    }
}

fn preview(entries: &[Entry]) -> String {
    let said = entries.iter().find_map(|entry| match entry {
        Entry::Item { item: Item::UserMessage { content, .. }, .. } => Some(content),
        _ => None,
    });
    let texts = said.into_iter().flatten().filter_map(|part| match part {
        UserInput::Text { text, .. } => Some(text.as_str()),
        UserInput::Image { .. }
        | UserInput::LocalImage { .. }
        | UserInput::Mention { .. }
        | UserInput::Skill { .. } => None,
    });
    texts.flat_map(str::chars).take(PREVIEW_CHARS).collect()
}
