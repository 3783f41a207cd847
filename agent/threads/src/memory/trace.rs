//! What happened in threads, in memory.

use std::collections::{HashSet, VecDeque};

use super::{Held, Row};
use crate::{TraceEvent, TraceRecord, TurnId, encoded::TURN_STARTED, limits};

/// What happened in one thread.
#[derive(Debug, Clone, Default)]
pub(super) struct Traced {
    last: u64,
    records: VecDeque<TraceRecord>,
}

impl Traced {
    pub(super) fn keep(&mut self, event: TraceEvent) {
        self.last += 1;
        self.records.push_back(TraceRecord { number: self.last, event });
        if self.records.len() > limits::TRACE_ROWS_MAX {
            self.records.pop_front();
        }
    }

    /// What happened in the turns that a fork has copied.
    pub(super) fn fork(&self, log: &[Row]) -> Self {
        let starts = log.iter().filter(|row| row.kind == TURN_STARTED);
        let turns: HashSet<TurnId> = starts.map(|row| row.stored.turn_id).collect();
        let copied = |record: &&TraceRecord| record.event.turn_id.is_some_and(|turn| turns.contains(&turn));
        let records: VecDeque<TraceRecord> = self.records.iter().filter(copied).cloned().collect();
        Self { last: records.back().map_or(0, |record| record.number), records }
    }
}

impl Held {
    pub(super) fn traced(&self, after: u64, limit: u32) -> Vec<TraceRecord> {
        let later = self.traced.records.iter().filter(|record| record.number > after);
        later.take(limits::records(limit)).cloned().collect()
    }
}
