//! Finds where a dotted key stands in a TOML text.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// One key or array element with the byte ranges of its name and its value.
#[derive(Debug)]
pub(super) struct Node {
    /// The dotted path, with `[n]` for array elements; empty for the root.
    pub(super) path: String,
    /// Where the name stands; for an array element, where the value stands.
    pub(super) key: Range<usize>,
    /// Where the value stands.
    pub(super) value: Range<usize>,
}

/// Every key of a text in depth-first order; empty if the text is not TOML.
pub(super) fn nodes(text: &str) -> Vec<Node> {
    let mut nodes = Vec::new();
    if let Ok(root) = DeTable::parse(text) {
        nodes.push(Node { path: String::new(), key: 0..0, value: root.span() });
        table("", root.get_ref(), &mut nodes);
    }
    nodes
}

fn table(path: &str, table: &DeTable<'_>, nodes: &mut Vec<Node>) {
    for (name, item) in table.iter() {
        let path = child(path, name.get_ref());
        nodes.push(Node { path: path.clone(), key: name.span(), value: item.span() });
        value(&path, item, nodes);
    }
}

fn value(path: &str, item: &Spanned<DeValue<'_>>, nodes: &mut Vec<Node>) {
    match item.get_ref() {
        DeValue::Table(inner) => table(path, inner, nodes),
        DeValue::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                let path = element(path, index);
                nodes.push(Node { path: path.clone(), key: item.span(), value: item.span() });
                value(&path, item, nodes);
            }
        }
        _ => {}
    }
}

/// The path of a table's key; a name that is not a bare TOML key is quoted.
pub(super) fn child(path: &str, name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let name = match !name.is_empty() && name.chars().all(bare) {
        true => name.to_owned(),
        false => format!("{name:?}"),
    };
    if path.is_empty() { name } else { format!("{path}.{name}") }
}

/// The path of an array's element.
pub(super) fn element(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}

/// The path of what holds a key or an element; empty for the root.
pub(super) fn parent(path: &str) -> &str {
    // A quoted name may hold the marks that part names, and then the path of a neighbor is as good as none.
    path.rfind(['.', '[']).and_then(|at| path.get(..at)).unwrap_or("")
}

/// Whether a path leads to `outer` and on from there.
pub(super) fn is_within(path: &str, outer: &str) -> bool {
    path.strip_prefix(outer).is_some_and(|rest| outer.is_empty() || rest.starts_with(['.', '[']))
}

/// Takes out what has its name, or as an array's element its value, at this place of the text; whether it was there.
pub(super) fn remove(table: &mut DeTable<'_>, offset: usize) -> bool {
    match table.keys().find(|name| name.span().start == offset).cloned() {
        Some(name) => table.remove(&name).is_some(),
        None => table.iter_mut().any(|(_, item)| remove_within(item, offset)),
    }
}

fn remove_within(item: &mut Spanned<DeValue<'_>>, offset: usize) -> bool {
    match item.get_mut() {
        DeValue::Table(inner) => remove(inner, offset),
        DeValue::Array(items) => {
            if !items.iter().any(|item| item.span().start == offset) {
                return items.iter_mut().any(|item| remove_within(item, offset));
            }
            *items = items.iter().filter(|item| item.span().start != offset).cloned().collect();
            true
        }
        _ => false,
    }
}

/// Where a key stands, or the nearest enclosing key that is there.
pub(super) fn locate(nodes: &[Node], key: &str) -> Option<usize> {
    let mut key = key;
    loop {
        if let Some(node) = nodes.iter().find(|node| !key.is_empty() && node.path == key) {
            return Some(node.key.start);
        }
        key = key.rfind(['.', '[']).and_then(|at| key.get(..at))?;
    }
}

/// The node that an error's byte range speaks of: an exact match first, then the deepest around it.
pub(super) fn at<'a>(nodes: &'a [Node], span: &Range<usize>) -> Option<&'a Node> {
    let exact = nodes.iter().rfind(|node| node.value == *span || node.key == *span);
    exact.or_else(|| {
        let around = |node: &&Node| node.value.start <= span.start && span.end <= node.value.end;
        nodes.iter().filter(around).min_by_key(|node| node.value.end - node.value.start)
    })
}
