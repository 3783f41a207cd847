//! Pages and their cursors, the same for every store.
//!
//! A cursor is a place between two elements: just past its element, or just before it. It names the kind of list that it
//! belongs to, and nothing secret: whoever may read the list may use any cursor.

use uuid::Uuid;

use crate::{Direction, Error, Page, PageQuery, SortKey, Thread, limits};

/// What orders the elements of a list.
pub(crate) trait Key: Sized + Ord {
    /// The key as a part of a cursor.
    fn write(&self) -> String;
    /// The key of a cursor's part.
    fn parse(text: &str) -> Option<Self>;
}

impl Key for u64 {
    fn write(&self) -> String {
        self.to_string()
    }

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

/// Orders threads: a time in milliseconds, then the id.
pub(crate) type ThreadKey = (i64, Uuid);

impl Key for ThreadKey {
    fn write(&self) -> String {
        format!("{}.{}", self.0, self.1.simple())
    }

    fn parse(text: &str) -> Option<Self> {
        let (time, id) = text.split_once('.')?;
        Some((time.parse().ok()?, Uuid::try_parse(id).ok()?))
    }
}

/// The key of a thread in a list that is sorted so.
pub(crate) fn thread_key(thread: &Thread, sort: SortKey) -> ThreadKey {
    let time = match sort {
        SortKey::CreatedAt => thread.created_at_ms,
        SortKey::UpdatedAt => thread.updated_at_ms,
    };
    (time, thread.id.as_uuid())
}

/// Which elements of which list are wanted.
pub(crate) struct Wanted<K> {
    list: &'static str,
    /// Where the page begins; `None` is the list's end.
    pub(crate) from: Option<Start<K>>,
    pub(crate) direction: Direction,
    pub(crate) limit: usize,
}

/// Where a page begins.
pub(crate) struct Start<K> {
    pub(crate) key: K,
    /// Whether the element with the key belongs to the page.
    pub(crate) inclusive: bool,
}

impl<K: Key> Wanted<K> {
    /// Reads a query for a page of the list.
    pub(crate) fn parse(list: &'static str, query: &PageQuery) -> Result<Self, Error> {
        let from = match &query.cursor {
            None => None,
            Some(cursor) => Some(parse(list, cursor).ok_or(Error::BadCursor)?),
        };
        Ok(Self { list, from, direction: query.direction, limit: limits::page(query.limit) })
    }

    /// Whether the element with this key can be on the page.
    pub(crate) fn admits(&self, key: &K) -> bool {
        let Some(from) = &self.from else { return true };
        if *key == from.key {
            return from.inclusive;
        }
        (*key > from.key) == (self.direction == Direction::Ascending)
    }

    /// Makes a page of the elements, which may be more than wanted; `more` says that there are more still.
    pub(crate) fn page<T>(&self, mut elements: Vec<T>, more: bool, key: impl Fn(&T) -> K) -> Page<T> {
        let more = more || elements.len() > self.limit;
        elements.truncate(self.limit);
        let next = elements.last().filter(|_| more).map(|last| self.cursor('x', &key(last)));
        let backwards = elements.first().map(|first| self.cursor('i', &key(first)));
        Page { elements, next, backwards }
    }

    fn cursor(&self, kind: char, key: &K) -> String {
        format!("{}.{kind}.{}", self.list, key.write())
    }
}

fn parse<K: Key>(list: &str, cursor: &str) -> Option<Start<K>> {
    let (kind, key) = cursor.strip_prefix(list)?.strip_prefix('.')?.split_once('.')?;
    let inclusive = match kind {
        "i" => true,
        "x" => false,
        _ => return None,
    };
    Some(Start { key: K::parse(key)?, inclusive })
}

/// The name of every list of items.
pub(crate) const ITEMS: &str = "items";

/// The cursor of a list of items that goes on past the one with this sequence number.
pub(crate) fn past_item(sequence: u64) -> String {
    format!("{ITEMS}.x.{}", sequence.write())
}

/// The name of a thread list that is sorted so.
pub(crate) fn thread_list(sort: SortKey) -> &'static str {
    match sort {
        SortKey::CreatedAt => "created",
        SortKey::UpdatedAt => "updated",
    }
}

/// The page with each element changed.
pub(crate) fn map<T, U>(page: Page<T>, change: impl FnMut(T) -> U) -> Page<U> {
    let Page { elements, next, backwards } = page;
    Page { elements: elements.into_iter().map(change).collect(), next, backwards }
}
