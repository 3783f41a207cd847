//! What a scenario counts, and the row of the report that it comes to.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::scale::Scale;
use super::vitals::Course;

/// The first violations are told in words; the others are counted.
const WORDS_MAX: usize = 20;

/// Counts while a scenario runs; clones count together.
#[derive(Debug, Clone, Default)]
pub struct Tally(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    attempted: AtomicU64,
    fired: AtomicU64,
    violations: AtomicU64,
    words: Mutex<Vec<String>>,
}

impl Tally {
    /// One more operation was tried.
    pub fn attempted(&self) {
        self.0.attempted.fetch_add(1, Ordering::Relaxed);
    }

    /// One more fault was really done to the gateway.
    pub fn fired(&self) {
        self.0.fired.fetch_add(1, Ordering::Relaxed);
    }

    /// Something happened that must not.
    pub fn violation(&self, what: impl Into<String>) {
        self.0.violations.fetch_add(1, Ordering::Relaxed);
        let mut words = self.0.words.lock().unwrap_or_else(PoisonError::into_inner);
        if words.len() < WORDS_MAX {
            words.push(what.into());
        }
    }

    /// Something must hold.
    pub fn expect(&self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.violation(otherwise());
        }
    }

    /// So many operations more were tried, and faults more were really done.
    pub fn add(&self, attempted: u64, fired: u64) {
        self.0.attempted.fetch_add(attempted, Ordering::Relaxed);
        self.0.fired.fetch_add(fired, Ordering::Relaxed);
    }

    /// How many operations were tried so far.
    pub fn attempts(&self) -> u64 {
        self.0.attempted.load(Ordering::Relaxed)
    }
}

/// What came of a scenario.
#[derive(Debug)]
pub struct Row {
    /// Which scenario.
    pub scenario: &'static str,
    /// What an operation is, in the plural.
    pub operations: &'static str,
    /// How many operations were tried.
    pub attempted: u64,
    /// What a fault is, in the plural.
    pub faults: &'static str,
    /// How many faults were really done to the gateway.
    pub fired: u64,
    /// How many things happened that must not.
    pub violations: u64,
    /// The first of them in words.
    pub words: Vec<String>,
    /// What the dice started from.
    pub seed: u64,
    /// How long it took.
    pub duration: Duration,
    /// How the gateway's process fared.
    pub course: Course,
    /// What else is worth telling.
    pub facts: Vec<String>,
    /// What is worth a table of its own.
    pub table: Option<Table>,
}

/// A table of its own.
#[derive(Debug, Clone)]
pub struct Table {
    /// Names of columns.
    pub titles: &'static [&'static str],
    /// Cells, line by line.
    pub lines: Vec<Vec<String>>,
}

/// A scenario that runs.
#[derive(Debug)]
pub struct Run {
    /// Its counts.
    pub tally: Tally,
    scale: Scale,
    began: Instant,
    names: [&'static str; 3],
}

impl Run {
    /// Begins `scenario`, which counts `operations` and `faults`.
    pub fn begin(names: [&'static str; 3], scale: Scale) -> Self {
        Self { tally: Tally::default(), scale, began: Instant::now(), names }
    }

    /// The row that it comes to.
    pub fn end(self, course: Course, facts: Vec<String>) -> Row {
        let Self { tally, scale, began, names: [scenario, operations, faults] } = self;
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let words = tally.0.words.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Row {
            scenario,
            operations,
            attempted: read(&tally.0.attempted),
            faults,
            fired: read(&tally.0.fired),
            violations: read(&tally.0.violations),
            words,
            seed: scale.seed(),
            duration: began.elapsed(),
            course,
            facts,
            table: None,
        }
    }
}
