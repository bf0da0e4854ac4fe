// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A matrix as a page for browsers: its cells in a table, and each cause once, however many cells have it.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use staleline_results::{KERNEL_REPORT, KernelReport, LineCost, Place, Verdict};

use super::came_to;
use super::columns::Column;
use super::report::{Report, sum, verdict};
use super::runner::CellResult;
use crate::names;
use crate::report::html::article::{self, Where};
use crate::report::html::costs::Bar;
use crate::report::html::page::{CellRow, Cells, Page};
use crate::report::html::source::Source;
use crate::report::human::plain_report;
use crate::run::directory;

/// Writes the page. Results are read one after the other, and logs only of what was not told before.
///
/// # Errors
/// Those of writing; a result that cannot be read.
pub fn write(file: &Path, report: &Report<'_>) -> io::Result<()> {
    page(report)?.write(file)
}

fn page(report: &Report<'_>) -> io::Result<Page> {
    let results = report.results;
    let mut page = Page::new(title(report), word(report));
    report.about.clone_into(&mut page.lead);
    let mut told = Told::default();
    let lines = results.iter().map(|r| path(r).lines);
    let most = lines.max().unwrap_or(0);
    let columns = Column::of(results);
    let mut rows = Vec::with_capacity(results.len());
    for (r, number) in results.iter().zip(1..) {
        let findings = told.findings(&mut page, report, r, number)?;
        rows.push(row(r, findings, most, &columns));
    }
    page.matrix = Some(Cells {
        columns: columns.iter().map(|column| column.title()).collect(),
        rows,
        named: came_to::rows(report.rows, results),
        sum: sum(results),
        left: report.left.to_vec(),
    });
    Ok(page)
}

fn title(report: &Report<'_>) -> String {
    let (run, left) = (report.results.len(), report.left.len());
    match left {
        0 => format!("Matrix of {run} cells"),
        _ => format!("Matrix of {} cells, of which {run} were run", run + left),
    }
}

/// What came of it in a word.
fn word(report: &Report<'_>) -> &'static str {
    match verdict(report.results) {
        Verdict::Pass if !report.left.is_empty() => "interrupted",
        verdict => verdict.name(),
    }
}

fn path(r: &CellResult) -> LineCost {
    r.outcome
        .cost
        .map_or_else(LineCost::default, |c| c.transferred)
}

fn row(r: &CellResult, findings: Vec<(String, String)>, most: u64, columns: &[Column]) -> CellRow {
    let (cell, outcome) = (&r.cell, &r.outcome);
    CellRow {
        key: columns.iter().map(|column| column.text(cell)).collect(),
        verdict: outcome.verdict.name(),
        expected: names::name(&cell.expect),
        is_bad: r.unexpected().is_some(),
        known: r.known,
        why: outcome.unexpected.clone().unwrap_or_default(),
        replay: outcome.replay.clone(),
        findings,
        corrupt: outcome.corrupt_bytes,
        bar: Bar::of(String::new(), path(r), most),
    }
}

/// What is on the page already, by what makes it the same.
#[derive(Default)]
struct Told {
    articles: HashMap<String, usize>,
    reports: HashMap<String, usize>,
}

impl Told {
    /// What was found in a cell, and where on the page it is told.
    fn findings(
        &mut self,
        page: &mut Page,
        report: &Report<'_>,
        r: &CellResult,
        number: usize,
    ) -> io::Result<Vec<(String, String)>> {
        if r.outcome.findings.is_empty() {
            return Ok(Vec::new());
        }
        let result = report.whole(r)?;
        let log = report.out.join(&r.cell.name).join(directory::LOG);
        let source = Source::of(&log, r.cell.spec.scenario.board.snoop_write);
        let known = |identity: &str| self.articles.contains_key(identity);
        let here = Here(Where {
            name: r.cell.name.clone(),
            row: number,
            is_bad: r.unexpected().is_some(),
        });
        let mut findings = Vec::new();
        for mut article in article::of(&result, &source, &known) {
            let topic = article.topic.to_owned();
            let identity = std::mem::take(&mut article.identity);
            let add = || page.add(article);
            let index = *self.articles.entry(identity).or_insert_with(add);
            if let Some(article) = page.article(index) {
                here.add_to(&mut article.cells);
            }
            findings.push((topic, place("f", index)));
        }
        for complaint in result.guest.complaints() {
            let may_follow = result.has_errors();
            let add = || page.add_report(plain_report(complaint, may_follow, &result.replay));
            let index = *self.reports.entry(identity(complaint)).or_insert_with(add);
            if let Some(report) = page.report(index) {
                here.add_to(&mut report.cells);
            }
            findings.push((KERNEL_REPORT.to_owned(), place("r", index)));
        }
        findings.dedup();
        Ok(findings)
    }
}

/// A cell that is gone through.
struct Here(Where);

impl Here {
    /// Once, however often it has the same.
    fn add_to(&self, cells: &mut Vec<Where>) {
        if cells.last() != Some(&self.0) {
            cells.push(self.0.clone());
        }
    }
}

/// Two with the same are of one bug: class, text without numbers, and the way there.
fn identity(report: &KernelReport) -> String {
    let no_digit = |c: char| !c.is_ascii_hexdigit();
    let headline: String = report.headline.chars().filter(|c| no_digit(*c)).collect();
    let place = report.place.as_ref().map(Place::function);
    let way = report.chain.iter().take(3).map(|call| {
        // Without offset and addresses.
        call.split('+').next().unwrap_or_default().trim().to_owned()
    });
    let way: Vec<String> = place.into_iter().chain(way).collect();
    format!("{:?} {headline} {}", report.class, way.join(" "))
}

/// Where on the page something is, if it is there.
fn place(kind: &str, number: usize) -> String {
    match number {
        0 => String::new(),
        n => format!("{kind}{n}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::EngineKind;
    use crate::matrix::Matrix;
    use crate::matrix::outcome::Outcome;
    use crate::run::fake::{FakeBackend, stale_read};

    const CELLS: usize = 1000;

    /// A thousand cells, every other one with the same finding, as they are on disk.
    fn results(out: &Path) -> Vec<CellResult> {
        let text = "schema = 1\n[[group]]\nscenarios = [\"iio-capture\", \"iio-capture-nosync\"]\n";
        let cells = Matrix::parse(text, "t")
            .unwrap()
            .cells(EngineKind::default(), None)
            .unwrap();
        let runs: Vec<_> = cells
            .iter()
            .map(|cell| {
                let backend = FakeBackend::new(|a, e, _| {
                    if a.spec.scenario.name.ends_with("nosync") {
                        let domain = &mut e.report.as_mut().unwrap().domain;
                        domain.hazards.push(stale_read(1, true));
                    }
                });
                backend.run(&cell.spec)
            })
            .collect();
        let both = cells.iter().zip(&runs).cycle().zip(0..CELLS);
        both.map(|((cell, result), n)| {
            let mut cell = cell.clone();
            cell.name = format!("cell-{n}");
            let dir = out.join(&cell.name);
            std::fs::create_dir(&dir).unwrap();
            let json = serde_json::to_vec(result).unwrap();
            std::fs::write(dir.join(directory::RESULT), json).unwrap();
            let outcome = Outcome::of(&cell, result);
            CellResult {
                cell,
                outcome,
                known: false,
            }
        })
        .collect()
    }

    #[test]
    fn a_thousand_cells_are_a_row_each_and_their_cause_is_told_once() {
        use askama::Template as _;
        let out = tempfile::tempdir().unwrap();
        let results = results(out.path());
        let left = ["never-run".to_owned()];
        let report = Report {
            about: "m.toml",
            rows: &[],
            out: out.path(),
            results: &results,
            left: &left,
        };
        let html = page(&report).unwrap().render().unwrap();
        assert_eq!(html.matches("<tr id=\"c").count(), CELLS);
        assert_eq!(html.matches("<article ").count(), 1);
        assert_eq!(
            html.matches("<a href=\"#f1\">missing-invalidate</a>")
                .count(),
            CELLS / 2
        );
        // Each of these cells is named there, and leads back to its row.
        assert!(html.contains("found in 500 cells, not as expected in 500"));
        // It was interrupted, which is not what a failure says.
        assert!(html.contains("Matrix of 1001 cells, of which 1000 were run"));
        assert!(html.contains(">fail</span> Matrix"));
        assert!(html.contains("<a href=\"#c1000\">cell-999</a>"));
        assert!(html.contains("<li>never-run</li>"));
        // Expected to pass: a row that fails is marked, with the reason and the way to do it again.
        let bad = html.matches("class=\"bad\"").count();
        assert_eq!(
            bad,
            results.iter().filter(|r| r.unexpected().is_some()).count()
        );
        assert!(bad > 0);
        assert!(html.len() < 2_000_000, "{} bytes", html.len());
    }

    #[test]
    fn a_result_that_is_gone_is_an_error() {
        let out = tempfile::tempdir().unwrap();
        let results = results(out.path());
        std::fs::remove_file(out.path().join("cell-1").join(directory::RESULT)).unwrap();
        let report = Report {
            about: "m.toml",
            rows: &[],
            out: out.path(),
            results: &results,
            left: &[],
        };
        let error = page(&report).unwrap_err().to_string();
        assert!(error.contains("cell-1"), "{error}");
    }
}
