//! How much one call to a store may carry and bring back.

use crate::{Error, ListQuery};

/// The most elements that a page has.
const PAGE_MAX: usize = 100;
/// The most records that `records` answers with, and where a page of turns ends early.
pub(crate) const RECORDS_MAX: usize = 1000;
/// The most that is kept of what happened in one thread; beyond it the oldest goes.
pub(crate) const TRACE_ROWS_MAX: usize = 4_000;
/// The most bytes, as stored, that one `create` or `append` brings. A fork brings a whole log.
const WRITE_BYTES_MAX: usize = 128 * 1024 * 1024;
/// The most values in all filters of one list together.
const FILTER_VALUES_MAX: usize = 1000;
/// The most bytes of a text that is searched for.
const SEARCH_BYTES_MAX: usize = 1024;

/// The size of a page for which `limit` elements were asked.
pub(crate) fn page(limit: u32) -> usize {
    bounded(limit, PAGE_MAX)
}

/// The number of records to answer with when `limit` were asked for.
pub(crate) fn records(limit: u32) -> usize {
    bounded(limit, RECORDS_MAX)
}

fn bounded(limit: u32, max: usize) -> usize {
    match usize::try_from(limit) {
        Ok(limit) if (1..max).contains(&limit) => limit,
        _ => max,
    }
}

/// Refuses a write of too many bytes.
pub(crate) fn check_write(bytes: usize) -> Result<(), Error> {
    at_most(bytes, "bytes of a write", WRITE_BYTES_MAX)
}

/// Refuses a list with too many filters.
pub(crate) fn check_list(query: &ListQuery) -> Result<(), Error> {
    let values = query.sources.len() + query.cwds.len() + query.providers.len() + query.except.len();
    at_most(values, "filter values of a list", FILTER_VALUES_MAX)?;
    at_most(query.search.as_ref().map_or(0, String::len), "bytes of a search", SEARCH_BYTES_MAX)
}

fn at_most(size: usize, what: &'static str, limit: usize) -> Result<(), Error> {
    if size > limit { Err(Error::TooLarge { what, limit }) } else { Ok(()) }
}
