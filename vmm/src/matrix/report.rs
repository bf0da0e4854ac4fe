// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What came of a matrix: a table, KTAP, JUnit, JSON, SARIF.

use std::io::{self, Write};

use comfy_table::{Table, presets};
use serde::Serialize;

use super::runner::CellResult;
use super::{Cell, Expect};
use crate::exit;
use crate::names;
use crate::report::cases::{Case, Status};
use crate::report::{junit, ktap, sarif};
use staleline_results::KERNEL_REPORT;
use staleline_results::{RunResult, Verdict};

/// The exit code of a matrix: infrastructure trouble anywhere, else anything unexpected.
pub fn exit_code(results: &[CellResult]) -> u8 {
    let infra = |r: &&CellResult| r.result.verdict == Verdict::InfraError;
    if results.is_empty() || results.iter().any(|r| infra(&r)) {
        exit::INFRA
    } else if results.iter().any(|r| r.unexpected.is_some()) {
        exit::FAIL
    } else {
        exit::PASS
    }
}

/// Columns of the table; where settings of a group tell cells apart, these come in between.
const HEADER: [&str; 11] = [
    "scenario",
    "kernel",
    "exporter",
    "cache",
    "seed",
    "verdict",
    "expected",
    "hazards",
    "corrupt",
    "needed",
    "redundant",
];
const SET_COLUMN: usize = 5;

/// A table for people.
pub fn table(results: &[CellResult]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let with_set = results.iter().any(|r| !r.cell.set.is_empty());
    let columns = |mut cells: Vec<String>, set: String| {
        if with_set {
            cells.insert(SET_COLUMN, set);
        }
        cells
    };
    table.set_header(columns(HEADER.map(str::to_owned).to_vec(), "set".into()));
    for CellResult {
        cell,
        result,
        unexpected,
    } in results
    {
        let (s, r) = (&cell.spec.scenario, result);
        let verdict = match unexpected {
            None => r.verdict.name().to_owned(),
            Some(_) => format!("{} !", r.verdict.name()),
        };
        let row = vec![
            s.name.clone(),
            cell.spec.kernel.0.clone(),
            s.transfer
                .as_ref()
                .map_or("-".into(), |t| t.exporter.name().to_owned()),
            names::name(&s.board.cache),
            s.seed.to_string(),
            verdict,
            names::name(&cell.expect),
            hazards(r),
            r.data.corrupt_bytes.to_string(),
            r.maintenance.needed.to_string(),
            r.maintenance.redundant.to_string(),
        ];
        let set = match cell.set.is_empty() {
            true => "-".into(),
            false => cell.set.join(" "),
        };
        table.add_row(columns(row, set));
    }
    let mut text = table.trim_fmt();
    text.push('\n');
    for r in results {
        if let Some(why) = &r.unexpected {
            text.push_str(&format!(
                "\n{}: {why}\n  {}\n",
                r.cell.name, r.result.replay
            ));
        }
    }
    let bad = results.iter().filter(|r| r.unexpected.is_some()).count();
    text.push_str(&format!(
        "\n{} cells, {} as expected, {bad} not\n",
        results.len(),
        results.len() - bad
    ));
    text
}

fn hazards(result: &RunResult) -> String {
    let mut kinds: Vec<_> = result.errors().map(|d| d.kind.name()).collect();
    kinds.extend(result.guest.complaints().map(|_| KERNEL_REPORT));
    kinds.sort_unstable();
    kinds.dedup();
    match kinds.is_empty() {
        true => "-".into(),
        false => kinds.join(" "),
    }
}

/// One test case for a cell: whether it is as expected.
fn case(r: &CellResult) -> Case {
    Case {
        name: r.cell.name.clone(),
        status: match (&r.unexpected, r.result.verdict) {
            (None, _) => Status::Passed,
            (Some(_), Verdict::InfraError) => Status::Error,
            (Some(_), Verdict::Pass | Verdict::Fail) => Status::Failed,
        },
        kind: r.result.verdict.name().into(),
        details: r
            .unexpected
            .iter()
            .flat_map(|why| [why.clone(), format!("replay: {}", r.result.replay)])
            .collect(),
    }
}

/// Writes KTAP.
///
/// # Errors
/// Those of the output.
pub fn write_ktap(out: &mut dyn Write, results: &[CellResult]) -> io::Result<()> {
    ktap::write(out, &results.iter().map(case).collect::<Vec<_>>(), "")
}

/// Writes JUnit XML.
///
/// # Errors
/// Those of the output.
pub fn write_junit(out: &mut dyn Write, results: &[CellResult], left: &[String]) -> io::Result<()> {
    let mut suite = quick_junit::TestSuite::new("matrix");
    for r in results {
        let mut test = junit::test_case(&r.cell.spec.scenario.name, &case(r));
        test.set_time(std::time::Duration::from_millis(r.result.wall_ms));
        if r.unexpected.is_some() {
            test.set_system_out(r.result.guest.console_tail.join("\n"));
        }
        suite.add_test_case(test);
    }
    for name in left {
        let case = Case {
            name: name.clone(),
            status: Status::Skipped,
            kind: String::new(),
            details: vec!["interrupted before it was run".into()],
        };
        suite.add_test_case(junit::test_case("matrix", &case));
    }
    let mut report = quick_junit::Report::new("staleline");
    report.add_test_suite(suite);
    junit::write(out, &report)
}

/// Writes SARIF: what was found in cells that are not as expected.
///
/// # Errors
/// Those of the output.
pub fn write_sarif(out: &mut dyn Write, results: &[CellResult]) -> io::Result<()> {
    let unexpected = results.iter().filter(|r| r.unexpected.is_some());
    let results: Vec<_> = unexpected.map(|r| &r.result).collect();
    sarif::write(out, &results)
}

#[derive(Serialize)]
struct Row<'a> {
    cell: &'a str,
    expect: Expect,
    unexpected: Option<&'a str>,
    result: &'a RunResult,
}

/// Writes JSON: a list with one object for each cell.
///
/// # Errors
/// Those of the output.
pub fn write_json(out: &mut dyn Write, results: &[CellResult]) -> io::Result<()> {
    let rows: Vec<Row<'_>> = results.iter().map(row).collect();
    serde_json::to_writer_pretty(&mut *out, &rows)?;
    out.write_all(b"\n")
}

fn row(r: &CellResult) -> Row<'_> {
    let Cell { name, expect, .. } = &r.cell;
    Row {
        cell: name,
        expect: *expect,
        unexpected: r.unexpected.as_deref(),
        result: &r.result,
    }
}
