//! What every list shares: cursors, limits, directions.

use agent_threads::{Direction, PageQuery};
use serde::{Deserialize, Serialize};

/// How many elements a page has when the client does not say.
const LIMIT_DEFAULT: u32 = 25;
/// How many it has at most.
const LIMIT_MAX: u32 = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SortDirection {
    Asc,
    Desc,
}

/// The page that a client asks for; without a direction it wants the newest first.
pub(crate) fn query(
    cursor: Option<String>,
    limit: Option<u32>,
    direction: Option<SortDirection>,
) -> PageQuery {
    let direction = match direction {
        Some(SortDirection::Asc) => Direction::Ascending,
        Some(SortDirection::Desc) | None => Direction::Descending,
    };
    PageQuery { cursor, limit: limit.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX), direction }
}

/// A list's answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Page<T> {
    pub(crate) data: Vec<T>,
    pub(crate) next_cursor: Option<String>,
    pub(crate) backwards_cursor: Option<String>,
}

/// The answer of a list that only goes forward.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Forward<T> {
    pub(crate) data: Vec<T>,
    pub(crate) next_cursor: Option<String>,
}

/// A list that is not paged.
#[derive(Debug, Serialize)]
pub(crate) struct Whole<T> {
    pub(crate) data: Vec<T>,
}
