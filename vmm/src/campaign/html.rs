// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A campaign as a page for browsers.

use std::io;
use std::path::Path;

use super::judge::Outcome;
use super::report::Report;
use super::times::Times;
use crate::exit;
use crate::report::html::page::Page;
use crate::report::sheet::{Row, Sheet};

/// Rows of a table, at most: a browser has to lay them out.
const ROWS: usize = 1000;

/// Writes the page.
///
/// # Errors
/// Those of writing.
pub fn write(file: &Path, report: &Report<'_>, times: Option<Times>) -> io::Result<()> {
    page(report, times).write(file)
}

fn page(report: &Report<'_>, times: Option<Times>) -> Page {
    let planned = report.plan.iter().filter(|planned| planned.run).count();
    let (ran, possible) = (report.entries.len(), report.plan.len());
    let (word, title) = match (ran < planned, report.exit_code()) {
        (true, _) => (
            "interrupted",
            format!("Campaign of {planned} faults, of which {ran} were run"),
        ),
        (false, code) => (
            match code {
                exit::PASS => "pass",
                exit::FAIL => "fail",
                _ => "infra-error",
            },
            format!("Campaign of {ran} faults, of {possible} that there can be"),
        ),
    };
    let mut page = Page::new(title, word);
    page.lead = report.head.path.display().to_string();
    page.reasons = report.sure();
    let targets = report.head.targets.iter();
    page.facts = targets
        .map(|target| ("target", target.name.clone()))
        .collect();
    page.facts.push(("engine", report.head.engine.to_string()));
    if let Some(share) = &report.head.share {
        page.facts.push(("share", share.clone()));
    }
    if let Some(times) = times {
        page.facts.push(("times", times.text()));
    }
    let sheets = [
        report.classes(),
        ours(report),
        report.of_all(),
        report.places(),
        report.diagnoses(),
    ];
    let sheets = sheets.into_iter().filter(|sheet| !sheet.rows.is_empty());
    page.sheets = sheets.map(|sheet| sheet.cut(ROWS)).collect();
    page
}

/// What is a fault of ours, or says nothing: each with the command that does it again.
fn ours(report: &Report<'_>) -> Sheet {
    let outcomes = [Outcome::Miss, Outcome::Misdiagnosed, Outcome::InfraError];
    let rows = outcomes.into_iter().flat_map(|outcome| {
        let all = report.all(outcome);
        all.map(move |(planned, entry)| Row {
            cells: vec![
                outcome.name().to_owned(),
                planned.setting(),
                planned.group.clone(),
                planned.site.to_string(),
                entry.judged.why.clone().unwrap_or_default(),
            ],
            is_bad: true,
            replay: report.command(planned),
        })
    });
    Sheet {
        id: "ours",
        title: "Missed, misnamed, not carried out".into(),
        about: "each with the command that does it again".into(),
        head: ["outcome", "fault", "group", "place", "why"]
            .map(str::to_owned)
            .into(),
        words: 5,
        rows: rows.collect(),
        more: 0,
    }
}

#[cfg(test)]
pub(super) fn rendered(report: &Report<'_>, times: Option<Times>) -> String {
    use askama::Template as _;
    page(report, times).render().unwrap_or_default()
}
