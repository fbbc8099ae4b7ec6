//! A table of the report, as Markdown.

use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// What is longer is no figure, with or without its name.
const SENTENCE: usize = 60;

/// A table, all cells as text.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
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
                // A type's brackets are no HTML.
                let _ = write!(text, " {} |", cell.replace('<', "\\<"));
            });
            text.push('\n');
        };
        line(&self.head);
        // Figures stand to the right, sentences to the left.
        let says = |n: usize| {
            self.rows.iter().any(|row| row.get(n).is_some_and(|cell| cell.len() > SENTENCE))
        };
        let rule: Vec<String> = (0..self.head.len())
            .map(|n| if n == 0 || says(n) { "---" } else { "---:" }.into())
            .collect();
        line(&rule);
        self.rows.iter().for_each(|row| line(row));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_stand_to_the_right_and_sentences_to_the_left() {
        let mut table = Table::new(["", "ns", "why"]);
        table.row(["row".to_owned(), "1.00".into(), "a ".repeat(SENTENCE)]);
        assert_eq!(table.markdown().lines().nth(1), Some("| --- | ---: | --- |"));
    }

    #[test]
    fn brackets_of_a_type_are_shown() {
        let mut table = Table::new([""]);
        table.row(["RwLock<HashMap>"]);
        assert!(table.markdown().contains("| RwLock\\<HashMap> |"));
    }
}
