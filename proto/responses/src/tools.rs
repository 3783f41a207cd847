//! Reads which tools a request brings, for rules about them.
//!
//! Tools stand in `tools` at the top, in `tools` of items of `input` (Codex's `additional_tools`, the results
//! of a tool search, whatever comes next) and in `tools` of a namespace. Nothing else of the request is read.
//! Fails closed: what two readers could understand differently, or what comes from a place that is not in the
//! request, is [`Unclear`]. Tools that an earlier request left in a conversation are not seen here.

use std::borrow::Cow;

use crate::json::{self, Member, Span, ValueKind};
use crate::lookalike::{Likeness, compare};
use crate::request::{Items, Request};

#[cfg(test)]
mod tests;

/// Namespaces may be nested this deep; real ones are not nested at all.
pub const NESTING_MAX: u32 = 4;

pub(crate) const TOOLS: &str = "tools";
const INPUT: &str = "input";

/// Top-level fields through which tools could come that are not in the request: a stored prompt's, and those
/// of a request inside the request.
const ELSEWHERE: [&str; 2] = ["prompt", "response"];

/// An item that repeats what a server once listed. It offers nothing, and its entries have no type.
const LISTING: &str = "mcp_list_tools";

/// Tools that are nothing without a name.
const NAMED: [&str; 4] = ["function", "custom", "namespace", MCP];
const MCP: &str = "mcp";

const TYPE: &str = "type";
const NAME: &str = "name";
const SERVER_URL: &str = "server_url";
const CONNECTOR_ID: &str = "connector_id";
const SERVER_LABEL: &str = "server_label";

/// Why it cannot be said for sure which tools a request brings. The caller's fault; the same bytes fail again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unclear {
    /// A key stands twice in one object.
    #[error("`{key}` stands twice at byte {offset}")]
    Twice {
        /// The key.
        key: &'static str,
        /// Where the object starts.
        offset: usize,
    },
    /// A key differs from a known one in case only.
    #[error("the key at byte {offset} can be taken for `{key}`")]
    Alike {
        /// The known key.
        key: &'static str,
        /// Where the other one stands.
        offset: usize,
    },
    /// A value has another type than rules can read.
    #[error("`{key}` at byte {offset} is not {expected}")]
    WrongType {
        /// The key, or where the value is an element.
        key: &'static str,
        /// Where the value starts.
        offset: usize,
        /// What it must be.
        expected: &'static str,
    },
    /// A tool lacks what a rule would judge it by.
    #[error("the tool at byte {offset} has no `{key}`")]
    Missing {
        /// The key.
        key: &'static str,
        /// Where the tool starts.
        offset: usize,
    },
    /// An `mcp` tool leads to a server and to a connector.
    #[error("the tool at byte {offset} has a `server_url` and a `connector_id`")]
    Both {
        /// Where the tool starts.
        offset: usize,
    },
    /// Namespaces are nested beyond [`NESTING_MAX`].
    #[error("tools are nested too deep at byte {offset}")]
    TooDeep {
        /// Where the tools start that are too deep.
        offset: usize,
    },
    /// A field can bring tools that do not stand in the request.
    #[error("`{field}` can bring tools that the request does not show")]
    Elsewhere {
        /// The field.
        field: &'static str,
    },
}

/// A tool that the model is offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool<'a> {
    /// Its `type`, for example `function` or `web_search`.
    pub kind: Cow<'a, str>,
    /// Its `name`. Of an `mcp` tool, where it leads: `server_url`, else `connector_id`, else `server_label`.
    pub name: Option<Cow<'a, str>>,
    /// The whole object.
    pub span: Span,
}

/// Shows each tool of a request, those inside a namespace after it, until `visit` fails.
pub fn read<'a, E: From<Unclear>>(
    request: &'a Request,
    visit: &mut dyn FnMut(Tool<'a>) -> Result<(), E>,
) -> Result<(), E> {
    let body: &'a [u8] = request.body();
    let keys = [TOOLS, INPUT, ELSEWHERE[0], ELSEWHERE[1]];
    let members = request.members().iter().copied();
    let [tools, input, prompt, response] = values(body, request.object(), members, keys)?;
    for (field, value) in ELSEWHERE.into_iter().zip([prompt, response]) {
        if value.is_some() {
            return Err(Unclear::Elsewhere { field }.into());
        }
    }
    let mut reader = Reader { body, visit };
    if let Some(tools) = tools {
        reader.list(tools, 0)?;
    }
    let Some(input) = input else { return Ok(()) };
    match json::kind(body, input) {
        Some(ValueKind::Array) => reader.items(request.items()),
        Some(ValueKind::String) => Ok(()),
        _ => Err(wrong(INPUT, input, "a text or an array").into()),
    }
}

struct Reader<'a, 'v, E> {
    body: &'a [u8],
    visit: &'v mut dyn FnMut(Tool<'a>) -> Result<(), E>,
}

impl<'a, E: From<Unclear>> Reader<'a, '_, E> {
    fn items(&mut self, items: &Items) -> Result<(), E> {
        if let Some(array) = items.array {
            return Err(wrong(INPUT, array, "an array of objects").into());
        }
        for item in &items.with_tools {
            let [tools, kind] = self.members(*item, [TOOLS, TYPE])?;
            let kind = kind.and_then(|kind| json::string(self.body, kind).ok());
            if let Some(tools) = tools.filter(|_| kind.as_deref() != Some(LISTING)) {
                self.list(tools, 0)?;
            }
        }
        Ok(())
    }

    /// Recurses at most [`NESTING_MAX`] deep.
    fn list(&mut self, tools: Span, depth: u32) -> Result<(), E> {
        if json::kind(self.body, tools) != Some(ValueKind::Array) {
            return Err(wrong(TOOLS, tools, "an array").into());
        }
        if depth > NESTING_MAX {
            return Err(Unclear::TooDeep { offset: tools.start }.into());
        }
        for tool in json::elements(self.body, tools).map_while(Result::ok) {
            if json::kind(self.body, tool) != Some(ValueKind::Object) {
                return Err(wrong(TOOLS, tool, "an array of objects").into());
            }
            let (tool, nested) = self.tool(tool)?;
            (self.visit)(tool)?;
            if let Some(nested) = nested {
                self.list(nested, depth + 1)?;
            }
        }
        Ok(())
    }

    /// A tool and where those inside it stand.
    fn tool(&self, span: Span) -> Result<(Tool<'a>, Option<Span>), Unclear> {
        let keys = [TYPE, NAME, SERVER_URL, CONNECTOR_ID, SERVER_LABEL, TOOLS];
        let [kind, name, url, connector, label, nested] = self.members(span, keys)?;
        let missing = |key| Unclear::Missing { key, offset: span.start };
        let kind = self.text(TYPE, kind)?.ok_or_else(|| missing(TYPE))?;
        let name = match &*kind {
            // A label is the caller's word; an address says where a tool leads.
            MCP => match (self.text(SERVER_URL, url)?, self.text(CONNECTOR_ID, connector)?) {
                (Some(_), Some(_)) => return Err(Unclear::Both { offset: span.start }),
                (url, connector) => url.or(connector).or(self.text(SERVER_LABEL, label)?),
            },
            _ => self.text(NAME, name)?,
        };
        if name.is_none() && NAMED.contains(&&*kind) {
            return Err(missing(if kind == MCP { SERVER_LABEL } else { NAME }));
        }
        Ok((Tool { kind, name, span }, nested))
    }

    fn text(&self, key: &'static str, value: Option<Span>) -> Result<Option<Cow<'a, str>>, Unclear> {
        let Some(value) = value else { return Ok(None) };
        json::string(self.body, value).map(Some).map_err(|_| wrong(key, value, "a text"))
    }

    fn members<const N: usize>(
        &self,
        object: Span,
        keys: [&'static str; N],
    ) -> Result<[Option<Span>; N], Unclear> {
        values(self.body, object, json::members(self.body, object).map_while(Result::ok), keys)
    }
}

/// The value of the only member of each key; none when it is missing or null.
fn values<const N: usize>(
    body: &[u8],
    object: Span,
    members: impl Iterator<Item = Member>,
    keys: [&'static str; N],
) -> Result<[Option<Span>; N], Unclear> {
    let mut found = [None; N];
    for member in members {
        for (key, found) in keys.into_iter().zip(&mut found) {
            match compare(body, &member, key) {
                Likeness::Same if found.is_some() => {
                    return Err(Unclear::Twice { key, offset: object.start });
                }
                Likeness::Same => *found = Some(member.value),
                Likeness::Alike => return Err(Unclear::Alike { key, offset: member.key.start }),
                Likeness::Other => {}
            }
        }
    }
    Ok(found.map(|value: Option<Span>| value.filter(|value| !is_null(body, *value))))
}

fn is_null(body: &[u8], value: Span) -> bool {
    json::kind(body, value) == Some(ValueKind::Null)
}

fn wrong(key: &'static str, value: Span, expected: &'static str) -> Unclear {
    Unclear::WrongType { key, offset: value.start, expected }
}
