// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Rows of a matrix: what groups of cells are about, in words, and a table of what came of each. A row may
//! have no cells, and then it says why.

use std::collections::BTreeMap;

use comfy_table::{ContentArrangement, Table, presets};
use serde::{Deserialize, Serialize};

use super::runner::CellResult;
use super::{Expect, Group};
use crate::names;

/// Rows of a matrix, at most.
const MOST: usize = 200;
/// Columns of the table: it is in documents, too.
const WIDTH: u16 = 100;
/// Bytes of each of its texts.
const TEXT: usize = 400;

/// What groups are about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Row {
    /// By which groups name it.
    pub id: String,
    /// What it is, in words.
    pub what: String,
    /// Why there are no cells for it, if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unbuilt: Option<String>,
}

/// What is wrong with rows and the groups that name them, for people.
pub(super) fn check(rows: &[Row], groups: &[Group]) -> Result<(), String> {
    if rows.len() > MOST {
        return Err(format!(
            "it has {} rows, at most {MOST} are told",
            rows.len()
        ));
    }
    for (n, row) in rows.iter().enumerate() {
        let texts = [Some(&row.id), Some(&row.what), row.unbuilt.as_ref()];
        if texts
            .iter()
            .flatten()
            .any(|t| t.is_empty() || t.len() > TEXT)
        {
            return Err(format!(
                "row {:?}: each text needs 1 to {TEXT} bytes",
                row.id
            ));
        }
        if rows[..n].iter().any(|other| other.id == row.id) {
            return Err(format!("row {:?} is there twice", row.id));
        }
        let cells = groups.iter().any(|g| g.row.as_ref() == Some(&row.id));
        match (cells, &row.unbuilt) {
            (false, None) => {
                return Err(format!(
                    "row {:?}: no group is of it: say why, in `unbuilt`",
                    row.id
                ));
            }
            (true, Some(_)) => {
                return Err(format!("row {:?}: it is `unbuilt` and has groups", row.id));
            }
            _ => {}
        }
    }
    for id in groups.iter().filter_map(|g| g.row.as_ref()) {
        if !rows.iter().any(|row| row.id == *id) {
            return Err(format!(
                "a group is of row {id:?}, and there is no such row"
            ));
        }
    }
    Ok(())
}

/// What came of each row of which cells were run, or that cannot have any; nothing if there are no rows.
pub fn table(rows: &[Row], results: &[CellResult]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(WIDTH);
    table.set_header(["row", "what", "cells", "came to"]);
    for row in rows {
        let of_it: Vec<_> = results
            .iter()
            .filter(|r| r.cell.row.as_ref() == Some(&row.id))
            .collect();
        if of_it.is_empty() && row.unbuilt.is_none() {
            continue;
        }
        let (cells, came_to) = match &row.unbuilt {
            Some(why) => ("-".to_owned(), format!("not built: {why}")),
            None => (of_it.len().to_string(), in_words(&of_it)),
        };
        table.add_row([&row.id, &row.what, &cells, &came_to]);
    }
    format!("{}\n", table.trim_fmt())
}

/// Verdicts, and of failures what was found, each with how often; what is not as expected last.
fn in_words(results: &[&CellResult]) -> String {
    let mut found: BTreeMap<(u8, String), usize> = BTreeMap::new();
    let mut bad = 0;
    for r in results {
        bad += usize::from(r.outcome.unexpected.is_some());
        *found.entry(sort(r)).or_default() += 1;
    }
    let found = found
        .into_iter()
        .map(|((_, what), n)| format!("{n} {what}"));
    let mut text = found.collect::<Vec<_>>().join("; ");
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

#[cfg(test)]
mod tests {
    use crate::matrix::Matrix;

    const ROWS: &str = "schema = 1\n\
        [[row]]\nid = \"A\"\nwhat = \"boots\"\n\
        [[row]]\nid = \"B\"\nwhat = \"flies\"\nunbuilt = \"it has no wings\"\n";

    fn parsed(rest: &str) -> Result<Matrix, String> {
        Matrix::parse(&format!("{ROWS}{rest}"), "t").map_err(|e| e.to_string())
    }

    #[test]
    fn groups_and_rows_name_each_other() {
        let group = |row: &str| format!("[[group]]\nrow = \"{row}\"\nscenarios = [\"boot\"]\n");
        let matrix = parsed(&group("A")).unwrap();
        let cells = matrix.cells(crate::engine::EngineKind::default(), None);
        assert_eq!(cells.unwrap()[0].row.as_deref(), Some("A"));
        for (rest, said) in [
            (group("A") + &group("C"), "there is no such row"),
            (
                String::from("[[group]]\nscenarios = [\"boot\"]\n"),
                "\"A\": no group is of it",
            ),
            (group("A") + &group("B"), "`unbuilt` and has groups"),
            (
                group("A") + "[[row]]\nid = \"A\"\nwhat = \"x\"\n",
                "there twice",
            ),
            (
                group("A") + "[[row]]\nid = \"\"\nwhat = \"x\"\n",
                "1 to 400 bytes",
            ),
        ] {
            let why = parsed(&rest).unwrap_err();
            assert!(why.contains(said), "{why}");
        }
    }

    #[test]
    fn where_time_is_short_a_group_has_a_cell_for_each_scenario() {
        let text = "schema = 1\n\
            [[group]]\nscenarios = [\"iio-to-usb\", \"usb-to-iio\"]\nkernels = [\"base\", \"x\"]\n\
            exporters = [\"cma\", \"system\"]\nseeds = [3, 4]\n\
            [[group]]\nscenarios = [\"boot\"]\nbrief = false\n";
        let matrix = Matrix::parse(text, "t").unwrap();
        let names = |brief| {
            let matrix = matrix.clone().of_extent(crate::matrix::Extent { brief });
            let cells = matrix.cells(crate::engine::EngineKind::default(), None);
            let cells = cells.unwrap().into_iter();
            cells.map(|cell| cell.name).collect::<Vec<_>>()
        };
        assert_eq!(names(false).len(), 2 * 2 * 2 * 2 + 1);
        assert_eq!(
            names(true),
            [
                "iio-to-usb.base.cma.zynqmp.s3",
                "usb-to-iio.base.cma.zynqmp.s3"
            ]
        );
    }
}
