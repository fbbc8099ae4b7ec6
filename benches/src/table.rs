//! A table of the report, as Markdown.

use std::fmt::Write as _;

/// A table, all cells as text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<S: Into<String>>(head: impl IntoIterator<Item = S>) -> Table {
        Table { head: head.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    pub(crate) fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = String::new();
        let mut line = |cells: &[String]| {
            text.push('|');
            cells.iter().for_each(|cell| {
                let _ = write!(text, " {cell} |");
            });
            text.push('\n');
        };
        line(&self.head);
        let rule: Vec<String> =
            (0..self.head.len()).map(|n| if n == 0 { "---" } else { "---:" }.into()).collect();
        line(&rule);
        self.rows.iter().for_each(|row| line(row));
        text
    }
}
