// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What maintenance costs, as a table over a matrix.

use comfy_table::{CellAlignment, Table, presets};

use super::Cell;
use super::columns::Axis;
use super::outcome::PathLines;
use super::report;
use super::runner::CellResult;

/// What tells cells apart whose cost one compares; settings come behind.
const KEY: [Axis; 3] = [Axis::Scenario, Axis::Kernel, Axis::Exporter];

/// What the table says of each.
const HEADER: [&str; 7] = [
    "cleaned",
    "invalidated",
    "needed",
    "redundant",
    "untouched",
    "per byte",
    "share",
];

/// What the columns are.
const LEGEND: &str = "\
Lines of maintenance on memory that devices transfer: needed, redundant and untouched (never
transferred) are all of them; of these, some were cleaned, some invalidated, some both. per byte: bytes
maintained for each byte that came to the end of the path. share: dc instructions and the barriers that
complete them, of these and all loads and stores between the begin of the first transfer of the data and
the end of the last.
";

/// A table for people.
pub fn table(results: &[CellResult]) -> String {
    let shared = shared(results);
    let set = |r: &CellResult| -> String {
        Cell::settings(r.cell.set.iter().filter(|s| !shared.contains(s)))
    };
    let with_set = results.iter().any(|r| set(r) != "-");
    let columns = |key: Vec<String>, set: String, rest: [String; HEADER.len()]| {
        let set = with_set.then_some(set);
        key.into_iter().chain(set).chain(rest).collect::<Vec<_>>()
    };
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let titles = KEY.map(Axis::name);
    let title = Axis::Set.name();
    table.set_header(columns(titles.into(), title, HEADER.map(str::to_owned)));
    for r in results {
        let key = KEY.map(|axis| axis.of(&r.cell));
        let numbers = r.outcome.cost.as_ref().map_or_else(unknown, numbers);
        table.add_row(columns(key.into(), set(r), numbers));
    }
    let first = KEY.len() + usize::from(with_set);
    for column in table.column_iter_mut().skip(first) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let mut text = table.trim_fmt();
    text.push_str("\n\n");
    text.push_str(LEGEND);
    if !shared.is_empty() {
        let all: Vec<&str> = shared.iter().map(|s| s.as_str()).collect();
        text.push_str(&format!("All with {}.\n", all.join(" ")));
    }
    text + &report::remarks(results)
}

/// Settings that all cells have.
fn shared(results: &[CellResult]) -> Vec<&String> {
    let Some(first) = results.first() else {
        return Vec::new();
    };
    let everywhere = |s: &&String| results.iter().all(|r| r.cell.set.contains(s));
    first.cell.set.iter().filter(everywhere).collect()
}

/// Of a result of before there was such an account.
fn unknown() -> [String; 7] {
    [const { "-" }; 7].map(str::to_owned)
}

fn numbers(cost: &PathLines) -> [String; 7] {
    let lines = &cost.transferred;
    let per_byte = match cost.data_bytes {
        0 => "-".into(),
        bytes => format!("{:.2}", lines.bytes as f64 / bytes as f64),
    };
    let share = cost.share_ppm.map_or_else(
        || "-".into(),
        |ppm| format!("{:.2} %", ppm as f64 / 10_000.0),
    );
    [
        lines.cleaned.to_string(),
        lines.invalidated.to_string(),
        lines.needed.to_string(),
        lines.redundant.to_string(),
        lines.untouched.to_string(),
        per_byte,
        share,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::EngineKind;
    use crate::matrix::Matrix;
    use crate::matrix::outcome::Outcome;
    use crate::run::fake::FakeBackend;

    #[test]
    fn costs_are_told_by_cell_and_what_all_have_in_common_once() {
        let text = r#"
            schema = 1
            [[group]]
            scenarios = ["iio-capture"]
            set = ["snoop-write=allocate", "board.usb.port=hp"]
            [[group]]
            scenarios = ["iio-capture", "boot"]
            set = ["snoop-write=allocate"]
        "#;
        let cells = Matrix::parse(text, "test").unwrap();
        let cells = cells.cells(EngineKind::default(), None).unwrap();
        let mut results: Vec<CellResult> = cells
            .into_iter()
            .map(|cell| CellResult {
                outcome: Outcome::of(&cell, &FakeBackend::good().run(&cell.spec)),
                cell,
                known: false,
            })
            .collect();
        // As an earlier staleline left it.
        results[1].outcome.cost = None;
        insta::assert_snapshot!(table(&results));
    }
}
