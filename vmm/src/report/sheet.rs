// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A table that stands in a terminal and on a page.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, Table, presets};

/// A table.
#[derive(Debug, Clone, Default)]
pub struct Sheet {
    /// What a link to it is called.
    pub id: &'static str,
    /// Its heading.
    pub title: String,
    /// What its columns are.
    pub about: String,
    /// Names of columns.
    pub head: Vec<String>,
    /// Of these, how many are of words, before those of numbers.
    pub words: usize,
    /// Rows.
    pub rows: Vec<Row>,
    /// Rows that there would be besides.
    pub more: usize,
}

/// A row.
#[derive(Debug, Clone, Default)]
pub struct Row {
    /// What stands in its columns.
    pub cells: Vec<String>,
    /// It is not as it should be.
    pub is_bad: bool,
    /// A command that shows it again, if there is one.
    pub replay: String,
}

impl From<Vec<String>> for Row {
    fn from(cells: Vec<String>) -> Self {
        Row {
            cells,
            ..Row::default()
        }
    }
}

impl Sheet {
    /// So many rows, and how many are left out.
    pub fn cut(mut self, rows: usize) -> Self {
        self.more += self.rows.len().saturating_sub(rows);
        self.rows.truncate(rows);
        self
    }

    /// The table alone, for people.
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::ASCII_MARKDOWN);
        table.set_header(&self.head);
        for row in &self.rows {
            table.add_row(&row.cells);
        }
        for column in table.column_iter_mut().skip(self.words) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let mut text = format!("{table}\n");
        if self.more > 0 {
            let _ = writeln!(text, "and {} more", self.more);
        }
        text
    }

    /// With heading and what it is; nothing if it has no rows.
    pub fn text(&self) -> String {
        match self.rows.is_empty() {
            true => String::new(),
            false => format!("{}: {}\n{}\n", self.title, self.about, self.table()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sheet_tells_what_it_leaves_out() {
        let sheet = Sheet {
            title: "Lines".into(),
            about: "of code".into(),
            head: vec!["line".into(), "n".into()],
            words: 1,
            rows: ["a", "b", "c"]
                .map(|a| vec![a.into(), "12".into()].into())
                .into(),
            ..Sheet::default()
        };
        let text = sheet.clone().cut(1).text();
        assert_eq!(
            text,
            "Lines: of code\n| line |  n |\n|------|----|\n| a    | 12 |\nand 2 more\n\n"
        );
        assert!(!sheet.text().contains("more"));
        assert_eq!(sheet.cut(0).text(), "");
    }
}
