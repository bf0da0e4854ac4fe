// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What became of all mutants: a table, KTAP, JUnit, JSON.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use comfy_table::{Table, presets};
use serde::Serialize;

use super::judge::{Fate, Judged, Told, judge};
use super::{Plan, Trial};
use crate::exit::{self, Error};
use crate::matrix::runner::{CellResult, Ran};
use crate::report::cases::{Case, Status};
use crate::report::{junit, ktap};
use crate::run::directory;

/// A trial and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The mutant.
    pub mutant: String,
    /// What is wrong with it.
    pub mechanism: String,
    /// The run, without the command's name.
    pub run: String,
    /// What is due.
    pub due: String,
    /// What its diagnostic has to call missing, if it has to.
    pub due_missing: Option<String>,
    /// The place that it has to name.
    pub due_place: String,
    /// Why it cannot be found, if that is known.
    pub survives: Option<String>,
    /// What came of it.
    #[serde(flatten)]
    pub judged: Judged,
    /// A command that does the run again.
    pub replay: String,
}

/// What came of all trials whose runs are done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Score {
    /// By trial, in order.
    pub rows: Vec<Row>,
    /// Trials that want a run which was not made here.
    pub left: usize,
}

impl Score {
    /// Judges the trials of a plan by the results below `out`, one after the other.
    ///
    /// # Errors
    /// A result that cannot be read.
    pub fn of(plan: &Plan, ran: &Ran, out: &Path) -> Result<Self, Error> {
        let done: BTreeMap<&str, &CellResult> =
            ran.results.iter().map(|r| (&*r.cell.name, r)).collect();
        let mut score = Score::default();
        for trial in &plan.trials {
            let (Some(with), true) = (done.get(&*trial.with), done.contains_key(&*trial.without))
            else {
                score.left += 1;
                continue;
            };
            let read = |name: &str| directory::read_json(&out.join(name), directory::RESULT);
            let judged = judge(trial, &read(&trial.with)?, &read(&trial.without)?);
            score.rows.push(Row::new(trial, with, judged));
        }
        Ok(score)
    }

    /// The exit code.
    pub fn exit_code(&self) -> u8 {
        if self.rows.is_empty() || self.rows.iter().any(|r| r.judged.fate == Fate::Unknown) {
            exit::INFRA
        } else if self.rows.iter().any(|r| r.judged.wrong.is_some()) {
            exit::FAIL
        } else {
            exit::PASS
        }
    }

    /// A table for people, and a line for each mutant that is not as it should be, or survives.
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["mutant", "run", "due", "fate", "by", "at"]);
        for row in &self.rows {
            let mark = if row.judged.wrong.is_some() { " !" } else { "" };
            let by: Vec<_> = row.judged.by.iter().map(ToString::to_string).collect();
            table.add_row([
                row.mutant.clone(),
                row.run.clone(),
                row.due.clone(),
                format!("{}{mark}", row.judged.fate.name()),
                if by.is_empty() {
                    "-".into()
                } else {
                    by.join(" ")
                },
                at(&row.judged.told),
            ]);
        }
        let mut text = table.trim_fmt();
        text.push('\n');
        for row in &self.rows {
            if let Some(wrong) = &row.judged.wrong {
                text.push_str(&format!("\n{}: {wrong}\n  {}\n", row.mutant, row.replay));
            } else if let Some(why) = &row.survives {
                text.push_str(&format!("\n{} survives: {why}\n", row.mutant));
            }
        }
        text.push_str(&format!("\n{}\n", self.sum()));
        text
    }

    /// In numbers. A mutant is killed if one of its runs kills it.
    fn sum(&self) -> String {
        let mut best: BTreeMap<&str, Fate> = BTreeMap::new();
        for row in &self.rows {
            let fate = best.entry(&row.mutant).or_insert(row.judged.fate);
            if row.judged.fate.rank() < fate.rank() {
                *fate = row.judged.fate;
            }
        }
        let of = |fate: Fate| best.values().filter(|f| **f == fate).count();
        let (all, killed) = (best.len(), of(Fate::Killed));
        let percent = (killed * 1000).checked_div(all).unwrap_or(0);
        let mut text = format!(
            "{all} mutants, {killed} killed by what should ({}.{} %), {} otherwise, {} survived",
            percent / 10,
            percent % 10,
            of(Fate::Otherwise),
            of(Fate::Survived),
        );
        if of(Fate::Unknown) > 0 {
            text.push_str(&format!(", {} not known", of(Fate::Unknown)));
        }
        if self.left > 0 {
            text.push_str(&format!("; {} runs are left", self.left));
        }
        text
    }

    /// Writes JSON: a list with an object for each trial.
    ///
    /// # Errors
    /// Those of the output.
    pub fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, &self.rows)?;
        out.write_all(b"\n")
    }

    /// Writes KTAP.
    ///
    /// # Errors
    /// Those of the output.
    pub fn write_ktap(&self, out: &mut dyn Write) -> io::Result<()> {
        ktap::write(out, &self.cases(), "")
    }

    /// Writes JUnit XML.
    ///
    /// # Errors
    /// Those of the output.
    pub fn write_junit(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut suite = quick_junit::TestSuite::new("mutants");
        for case in self.cases() {
            suite.add_test_case(junit::test_case("mutants", &case));
        }
        junit::write(out, suite)
    }

    fn cases(&self) -> Vec<Case> {
        let case = |row: &Row| Case {
            name: format!("{}: {}", row.mutant, row.run),
            status: match (row.judged.fate, &row.judged.wrong) {
                (Fate::Unknown, _) => Status::Error,
                (_, Some(_)) => Status::Failed,
                (_, None) => Status::Passed,
            },
            kind: row.judged.fate.name().into(),
            details: match &row.judged.wrong {
                Some(wrong) => vec![wrong.clone(), format!("replay: {}", row.replay)],
                None => row
                    .survives
                    .iter()
                    .map(|why| format!("it survives: {why}"))
                    .collect(),
            },
        };
        self.rows.iter().map(case).collect()
    }
}

/// Where what was told is, in short: what is due if that was told, else all of it, each once.
fn at(told: &[Told]) -> String {
    let due = told.iter().filter(|told| told.is_due).count();
    let most = if due > 0 { due } else { told.len() };
    let mut all: Vec<String> = Vec::new();
    for told in told.iter().take(most) {
        let (Some(function), Some(line)) = (&told.function, &told.line) else {
            continue;
        };
        let function = function.split('+').next().unwrap_or_default();
        let line = line.rsplit('/').next().unwrap_or_default();
        let place = format!("{function} {line}");
        if !all.contains(&place) {
            all.push(place);
        }
    }
    match all.is_empty() {
        true => "-".into(),
        false => all.join(", "),
    }
}

impl Fate {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Fate::Killed => "killed",
            Fate::Otherwise => "otherwise",
            Fate::Survived => "survived",
            Fate::Unknown => "unknown",
        }
    }

    /// Better ones are less.
    fn rank(self) -> u8 {
        match self {
            Fate::Killed => 0,
            Fate::Otherwise => 1,
            Fate::Survived => 2,
            Fate::Unknown => 3,
        }
    }
}

impl Row {
    fn new(trial: &Trial, with: &CellResult, judged: Judged) -> Self {
        let show = &trial.show;
        let mut run = vec![show.scenario.clone()];
        run.extend(show.config.iter().map(|config| format!("+{config}")));
        run.extend(show.set.iter().cloned());
        Row {
            mutant: trial.mutant.clone(),
            mechanism: trial.mechanism.clone(),
            run: run.join(" "),
            due: show.finding.clone(),
            due_missing: show.missing.clone(),
            due_place: show.place.clone(),
            survives: trial.survives.clone(),
            judged,
            replay: with.outcome.replay.clone(),
        }
    }
}
