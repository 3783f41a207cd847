//! How a turn condenses the model's input: alone, because the user asked for it, or before an answer, because the input has
//! grown too long.
//!
//! The call that condenses is a call like others: it is retried, counted and can be interrupted. Until it has succeeded the
//! input stays as it is.

use agent_threads::{Entry, Item, ItemId, TurnEnd, TurnErrorKind};

use super::{Effect, Phase, Purpose, Turn, unfinished};
use crate::{
    context::Trim,
    event::Event,
    gateway::Failure,
    response::{Batch, Told},
    verdict::Verdict,
};

/// How often an input is halved that is too long even to be condensed.
const HALVINGS_MAX: u32 = 4;
/// Answers between two times that the input is condensed in one turn. Where it is too long again after a single answer,
/// condensing does not help.
const ANSWERS_BETWEEN_MIN: u32 = 2;

/// A compaction that is under way.
#[derive(Debug, Clone)]
pub(super) struct Compaction {
    item: Item,
    started_at_ms: i64,
    trim: Trim,
    then: Then,
}

/// What comes after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    End,
    Answer,
}

impl Turn {
    /// What the present call is for.
    pub(crate) fn purpose(&self) -> Purpose {
        match &self.compaction {
            Some(compaction) => Purpose::Compaction(compaction.trim),
            None => Purpose::Answer,
        }
    }

    /// Whether it makes sense to condense the input before the present call.
    pub(crate) fn may_condense(&self) -> bool {
        self.compaction.is_none() && self.answers_since.is_none_or(|answers| answers >= ANSWERS_BETWEEN_MIN)
    }

    /// Makes the first call of the turn one that condenses.
    pub(super) fn condense_alone(&mut self, batch: &mut Batch, item: ItemId, at_ms: i64) {
        batch.told.push(self.condense(item, Then::End, at_ms));
    }

    /// Puts a call that condenses before the one that was to be made.
    pub(super) fn condense_first(&mut self, item: ItemId, at_ms: i64) -> Vec<Effect> {
        let mut effects = vec![Effect::Tell(self.condense(item, Then::Answer, at_ms))];
        self.calls = self.calls.saturating_sub(1);
        effects.extend(self.call(at_ms));
        effects
    }

    fn condense(&mut self, id: ItemId, then: Then, at_ms: i64) -> Told {
        let item = Item::ContextCompaction { id };
        let compaction = Compaction { item: item.clone(), started_at_ms: at_ms, trim: Trim::default(), then };
        self.compaction = Some(compaction);
        Told { event: Event::ItemStarted { turn_id: self.id, item, at_ms }, entry: None }
    }

    /// The user has said something: an answer is wanted, whatever was wanted before.
    pub(super) fn answer_next(&mut self) {
        if let Some(compaction) = &mut self.compaction {
            compaction.then = Then::Answer;
        }
    }

    /// Condenses less of the input, if that was what failed.
    pub(super) fn condense_less(&mut self, verdict: &Verdict, at_ms: i64) -> Option<Vec<Effect>> {
        let Trim(halvings) = &mut self.compaction.as_mut()?.trim;
        if verdict.error.kind != TurnErrorKind::ContextWindowExceeded || *halvings >= HALVINGS_MAX {
            return None;
        }
        *halvings += 1;
        Some(self.call(at_ms))
    }

    /// The call has ended as it should.
    pub(super) fn condensed(&mut self, compaction: Compaction, at_ms: i64) -> Vec<Effect> {
        let Some(outcome) = self.response.outcome() else {
            // As good as a response that broke, and repeated no more often.
            self.compaction = Some(compaction);
            let failure = Failure {
                reason: "no_summary".to_owned(),
                message: "the model wrote no summary of the conversation".to_owned(),
                ..unfinished()
            };
            return self.broken(&failure, at_ms);
        };
        self.retries = 0;
        self.answers_since = Some(0);
        // What is told instead is how long the input is now.
        self.unsaved = None;
        let mut batch = Batch::default();
        batch.complete(self.id, compaction.item, compaction.started_at_ms, at_ms);
        self.save_usage(&mut batch);
        let ends = compaction.then == Then::End;
        let end = TurnEnd::Completed;
        let entry = Some(batch.entries.len());
        if ends {
            self.phase = Phase::Ended;
            batch.entries.push(Entry::TurnEnded { turn_id: self.id, end: end.clone() });
        }
        let mut effects = vec![Effect::BeginAnew { outcome, total: self.total, entries: batch.entries }];
        effects.extend(batch.told.into_iter().map(Effect::Tell));
        if ends {
            effects.push(self.end(&end, entry, at_ms));
        } else {
            effects.extend(self.call(at_ms));
        }
        effects
    }
}
