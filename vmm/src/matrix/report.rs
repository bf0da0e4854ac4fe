// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What came of a matrix: a table, KTAP, JUnit, JSON, SARIF.

use std::io::{self, Write};
use std::path::Path;

use comfy_table::{Table, presets};
use serde::Serialize;

use super::columns::Column;
use super::outcome::Outcome;
use super::runner::CellResult;
use super::{Expect, rows};
use crate::exit;
use crate::names;
use crate::report::cases::{Case, Status};
use crate::report::{junit, ktap, sarif};
use crate::run::directory;
use staleline_results::{RunResult, Verdict};

/// The exit code of a matrix of which so many cells were to be run: that some were not, or infrastructure
/// trouble anywhere, else anything unexpected. A share may be empty.
pub fn exit_code(results: &[CellResult], due: usize) -> u8 {
    match results.len() < due {
        true => exit::INFRA,
        false => exit::of(verdict(results)),
    }
}

/// What the cells that were run come to: infrastructure trouble anywhere, else anything unexpected.
pub(super) fn verdict(results: &[CellResult]) -> Verdict {
    let infra = |r: &CellResult| r.outcome.verdict == Verdict::InfraError;
    if results.iter().any(infra) {
        Verdict::InfraError
    } else if results.iter().any(|r| r.unexpected().is_some()) {
        Verdict::Fail
    } else {
        Verdict::Pass
    }
}

/// What the table says of each cell, behind what tells them apart.
const HEADER: [&str; 6] = [
    "verdict",
    "expected",
    "hazards",
    "corrupt",
    "needed",
    "redundant",
];

/// A table for people. What came of each row stands below it.
pub fn table(results: &[CellResult]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let mut key = Column::of(results);
    key.retain(|column| *column != Column::Row);
    let titles = key.iter().map(|column| column.title());
    table.set_header(titles.chain(HEADER.map(str::to_owned)).collect::<Vec<_>>());
    for r in results {
        let CellResult { cell, outcome, .. } = r;
        let mark = match (&outcome.unexpected, r.known) {
            (None, _) => "",
            (Some(_), true) => " (known)",
            (Some(_), false) => " !",
        };
        let mut row: Vec<String> = key.iter().map(|column| column.text(cell)).collect();
        row.extend([
            format!("{}{mark}", outcome.verdict.name()),
            names::name(&cell.expect),
            findings(outcome),
            outcome.corrupt_bytes.to_string(),
            outcome.maintenance.needed.to_string(),
            outcome.maintenance.redundant.to_string(),
        ]);
        table.add_row(row);
    }
    let mut text = table.trim_fmt();
    text.push('\n');
    text + &remarks(results)
}

/// What stands below a table: cells that are not as expected, and how many are.
pub(super) fn remarks(results: &[CellResult]) -> String {
    let mut text = String::new();
    for r in results {
        let (name, replay) = (&r.cell.name, &r.outcome.replay);
        if let Some(why) = r.unexpected() {
            text.push_str(&format!("\n{name}: {why}\n  {replay}\n"));
        }
        if let Some(why) = &r.outcome.second_attempt {
            text.push_str(&format!(
                "\n{name}: its first attempt said nothing: {why}\n"
            ));
        }
    }
    text.push_str(&format!("\n{}\n", sum(results)));
    text
}

/// How many cells are as expected.
pub(super) fn sum(results: &[CellResult]) -> String {
    let number = |what: &dyn Fn(&CellResult) -> bool| results.iter().filter(|r| what(r)).count();
    let known = number(&|r| r.known);
    let bad = number(&|r| r.unexpected().is_some());
    let again = number(&|r| r.outcome.second_attempt.is_some());
    let good = results.len() - bad - known;
    let mut text = format!("{} cells, {good} as expected, {bad} not", results.len());
    if known > 0 {
        text.push_str(&format!(", {known} not, which is known"));
    }
    if again > 0 {
        text.push_str(&format!("; {again} at the second attempt"));
    }
    text
}

fn findings(outcome: &Outcome) -> String {
    match outcome.findings.is_empty() {
        true => "-".into(),
        false => outcome.findings.join(" "),
    }
}

/// The results of a matrix, whole ones on demand.
#[derive(Debug, Clone, Copy)]
pub struct Report<'a> {
    /// What matrix it is.
    pub about: &'a str,
    /// The matrix's rows.
    pub rows: &'a [rows::Row],
    /// The matrix's directory.
    pub out: &'a Path,
    /// What came of the cells that were run.
    pub results: &'a [CellResult],
    /// Names of those that were not.
    pub left: &'a [String],
}

impl Report<'_> {
    pub(super) fn whole(&self, r: &CellResult) -> io::Result<RunResult> {
        let dir = self.out.join(&r.cell.name);
        directory::read_json(&dir, directory::RESULT).map_err(|e| io::Error::other(e.chain()))
    }

    /// Writes KTAP.
    ///
    /// # Errors
    /// Those of the output.
    pub fn write_ktap(&self, out: &mut dyn Write) -> io::Result<()> {
        ktap::write(out, &self.results.iter().map(case).collect::<Vec<_>>(), "")
    }

    /// Writes JUnit XML.
    ///
    /// # Errors
    /// Those of the output; a result that cannot be read.
    pub fn write_junit(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut suite = quick_junit::TestSuite::new("matrix");
        for r in self.results {
            let mut test = junit::test_case(&r.cell.spec.scenario.name, &case(r));
            test.set_time(std::time::Duration::from_millis(r.outcome.wall_ms));
            if r.unexpected().is_some() {
                let console = self.whole(r)?.guest.console_tail;
                test.set_system_out(console.join("\n"));
            } else if let Some(why) = &r.outcome.second_attempt {
                test.set_system_out(format!("The first attempt said nothing: {why}"));
            }
            suite.add_test_case(test);
        }
        for name in self.left {
            let case = Case {
                name: name.clone(),
                status: Status::Skipped,
                kind: String::new(),
                details: vec!["interrupted before it was run".into()],
            };
            suite.add_test_case(junit::test_case("matrix", &case));
        }
        junit::write(out, suite)
    }

    /// Writes SARIF: what was found in cells that are not as expected.
    ///
    /// # Errors
    /// Those of the output; a result that cannot be read.
    pub fn write_sarif(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut document = sarif::Document::default();
        for r in self.results.iter().filter(|r| r.unexpected().is_some()) {
            document.add(&self.whole(r)?);
        }
        document.write(out)
    }

    /// Writes JSON: a list with one object for each cell.
    ///
    /// # Errors
    /// Those of the output; a result that cannot be read.
    pub fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut before = "[\n";
        for r in self.results {
            out.write_all(before.as_bytes())?;
            before = ",\n";
            let row = Row {
                cell: &r.cell.name,
                row: r.cell.row.as_deref(),
                expect: r.cell.expect,
                unexpected: r.outcome.unexpected.as_deref(),
                known: r.known,
                second_attempt: r.outcome.second_attempt.as_deref(),
                result: self.whole(r)?,
            };
            serde_json::to_writer_pretty(&mut *out, &row)?;
        }
        out.write_all(if self.results.is_empty() {
            b"[]\n"
        } else {
            b"\n]\n"
        })
    }
}

/// One test case for a cell: whether it is as expected.
fn case(r: &CellResult) -> Case {
    let unexpected = r.outcome.unexpected.as_ref();
    let details = unexpected.into_iter().flat_map(|why| {
        let known = if r.known { "known: " } else { "" };
        [
            format!("{known}{why}"),
            format!("replay: {}", r.outcome.replay),
        ]
    });
    Case {
        name: r.cell.name.clone(),
        status: match (unexpected, r.outcome.verdict) {
            (None, _) => Status::Passed,
            (Some(_), _) if r.known => Status::Skipped,
            (Some(_), Verdict::InfraError) => Status::Error,
            (Some(_), Verdict::Pass | Verdict::Fail) => Status::Failed,
        },
        kind: r.outcome.verdict.name().into(),
        details: details.collect(),
    }
}

#[derive(Serialize)]
struct Row<'a> {
    cell: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    row: Option<&'a str>,
    expect: Expect,
    unexpected: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    known: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    second_attempt: Option<&'a str>,
    result: RunResult,
}
