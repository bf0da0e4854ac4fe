// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What came of the rows of a matrix: a table for people.

use std::collections::BTreeMap;

use comfy_table::{ContentArrangement, Table, presets};

use super::Expect;
use super::rows::Row;
use super::runner::CellResult;
use crate::names;

/// Columns of the table: it is in documents, too.
const WIDTH: u16 = 100;

/// What came of each row: its name, what it is, how many cells, and what came of them.
pub fn rows(rows: &[Row], results: &[CellResult]) -> Vec<[String; 4]> {
    let mut all = Vec::new();
    for row in rows {
        let of_it: Vec<_> = results
            .iter()
            .filter(|r| r.cell.row.as_ref() == Some(&row.id))
            .collect();
        let (cells, came_to) = match &row.unbuilt {
            Some(why) => ("-".to_owned(), format!("not built: {why}")),
            None if of_it.is_empty() => ("0".to_owned(), "none of its cells was run".to_owned()),
            None => (of_it.len().to_string(), in_words(&of_it)),
        };
        all.push([row.id.clone(), row.what.clone(), cells, came_to]);
    }
    all
}

/// The same as a table; nothing if there are no rows.
pub fn table(rows: &[Row], results: &[CellResult]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(WIDTH);
    table.set_header(["row", "what", "cells", "came to"]);
    table.add_rows(self::rows(rows, results));
    format!("{}\n", table.trim_fmt())
}

/// Verdicts, and of failures what was found, each with how often; what is not as expected last.
fn in_words(results: &[&CellResult]) -> String {
    let mut found: BTreeMap<(u8, String), usize> = BTreeMap::new();
    let (mut bad, mut known) = (0, 0);
    for r in results {
        bad += usize::from(r.unexpected().is_some());
        known += usize::from(r.known);
        *found.entry(sort(r)).or_default() += 1;
    }
    let found = found
        .into_iter()
        .map(|((_, what), n)| format!("{n} {what}"));
    let mut text = found.collect::<Vec<_>>().join("; ");
    if known > 0 {
        text.push_str(&format!("; {known} not as expected, which is known"));
    }
    if bad > 0 {
        text.push_str(&format!("; {bad} NOT AS EXPECTED"));
    }
    text
}

fn sort(r: &CellResult) -> (u8, String) {
    let verdict = r.outcome.verdict.name();
    if r.cell.expect == Expect::Refused && r.outcome.unexpected.is_none() {
        let errno = r.cell.errno.clone().unwrap_or_default();
        let what = format!("{} {errno}", names::name(&Expect::Refused));
        return (2, what.trim_end().to_owned());
    }
    match &r.outcome.findings[..] {
        [] => (u8::from(verdict != "pass"), verdict.to_owned()),
        some => (1, format!("{verdict} ({})", some.join(", "))),
    }
}
