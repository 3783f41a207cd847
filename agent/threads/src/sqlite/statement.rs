//! A select that is put together from fixed parts: every value in it is bound.

use rusqlite::{Connection, Row, params_from_iter, types::Value};

/// A select, as far as it has been put together.
pub(super) struct Select {
    text: String,
    values: Vec<Value>,
    /// Whether the connection keeps it prepared.
    kept: bool,
}

impl Select {
    /// A select that begins so.
    pub(super) fn new(text: &'static str) -> Self {
        Self { text: text.to_owned(), values: Vec::new(), kept: true }
    }

    /// A select that begins so and has a text for each number of values: not one to keep prepared.
    pub(super) fn varied(text: &'static str) -> Self {
        Self { kept: false, ..Self::new(text) }
    }

    /// Goes on with this.
    pub(super) fn push(&mut self, text: &'static str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// Goes on with a value.
    pub(super) fn bind(&mut self, value: impl Into<Value>) -> &mut Self {
        self.text.push('?');
        self.values.push(value.into());
        self
    }

    /// Goes on with values in parentheses.
    pub(super) fn bind_list<V: Into<Value>>(&mut self, values: impl IntoIterator<Item = V>) -> &mut Self {
        self.push("(");
        for (at, value) in values.into_iter().enumerate() {
            self.push(if at > 0 { ", " } else { "" }).bind(value);
        }
        self.push(")")
    }

    /// The rows that it finds.
    pub(super) fn all<T>(
        self,
        connection: &Connection,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Vec<T>> {
        let (mut kept, mut prepared);
        let statement = if self.kept {
            kept = connection.prepare_cached(&self.text)?;
            &mut *kept
        } else {
            prepared = connection.prepare(&self.text)?;
            &mut prepared
        };
        statement.query_map(params_from_iter(self.values), read)?.collect()
    }

    /// How SQLite would do it, after the select itself.
    #[cfg(test)]
    pub(super) fn plan(self, connection: &Connection) -> String {
        let explained = Self { text: format!("EXPLAIN QUERY PLAN {}", self.text), ..self };
        let text = explained.text.clone();
        let steps: Vec<String> = explained.all(connection, |row| row.get("detail")).unwrap();
        format!("{text}: {}", steps.join("; "))
    }
}
