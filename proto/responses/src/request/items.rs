//! What is noted of the items of `input` while their grammar is checked, so that rules about items need not walk through
//! them again: they are most of a request.

use smallvec::SmallVec;

use super::Error;
use crate::first_party;
use crate::json::{self, Span, ValueKind};
use crate::lookalike::{Likeness, compare};
use crate::tools;

/// Items of interest kept without an allocation.
const INLINE: usize = 2;

/// The items of `input` that rules can be about.
#[derive(Debug, Clone, Default)]
pub(crate) struct Items {
    /// Objects with a key that is `tools` to some reader.
    pub(crate) with_tools: SmallVec<[Span; INLINE]>,
    /// Objects with a member that only OpenAI's own service is meant to get.
    pub(crate) first_party: SmallVec<[Span; INLINE]>,
    /// The first item that is an array, which no item should be.
    pub(crate) array: Option<Span>,
}

impl Items {
    /// Checks the array at `array` and notes its items; returns the offset after it.
    pub(super) fn scan(&mut self, body: &[u8], array: usize) -> Result<usize, Error> {
        let mut items = json::elements(body, Span { start: array, end: body.len() });
        while let Some(start) = items.start()? {
            let item = Span { start, end: body.len() };
            let end = match json::kind(body, item) {
                Some(ValueKind::Object) => self.scan_item(body, item)?,
                other => {
                    let end = json::skip_value_below(body, start, 2)?;
                    if other == Some(ValueKind::Array) {
                        self.array.get_or_insert(Span { start, end });
                    }
                    end
                }
            };
            items.go_on(end);
        }
        Ok(items.end())
    }

    fn scan_item(&mut self, body: &[u8], item: Span) -> Result<usize, Error> {
        let (mut tools, mut first_party) = (false, false);
        let mut members = json::members_below(body, item, 3);
        for member in members.by_ref() {
            let member = member?;
            tools = tools || compare(body, &member, tools::TOOLS) != Likeness::Other;
            first_party = first_party || first_party::is_of_item(body, &member);
        }
        let item = Span { start: item.start, end: members.end() };
        if tools {
            self.with_tools.push(item);
        }
        if first_party {
            self.first_party.push(item);
        }
        Ok(item.end)
    }
}
