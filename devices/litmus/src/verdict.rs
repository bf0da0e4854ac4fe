// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The judgement of one case, and how it differs from what its file says.

use crate::case::{Case, Due, Expected};
use crate::due::{self, Finding};
use crate::explore::{Answer, TooLarge, explore};
use crate::program::{Granules, Program};

/// The answer in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is wrong.
    Safe,
    /// A finding is due.
    Unsafe,
    /// No finding is due, but a poll can never end: what comes behind it never happens, so nothing
    /// can be said of it.
    Stuck,
}

impl Outcome {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Safe => "safe",
            Outcome::Unsafe => "unsafe",
            Outcome::Stuck => "stuck",
        }
    }
}

/// The judgement of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What the explorer says.
    pub answer: Answer,
    /// Findings due.
    pub findings: Vec<Finding>,
    /// How that differs from the file, a sentence each; empty also if the file says nothing.
    pub differences: Vec<String>,
}

impl Verdict {
    /// Judges a case.
    ///
    /// # Errors
    /// If it is too large.
    pub fn of(case: &Case) -> Result<Self, TooLarge> {
        let answer = explore(&case.program)?;
        let findings = due::findings(&case.program, &answer);
        let mut differences = Vec::new();
        if let Some(expected) = &case.expected {
            values(&case.program, expected, &answer, &mut differences);
            dues(&case.program, expected, &findings, &mut differences);
            lost_ok(expected, &answer, &mut differences);
        }
        if let Some(fixed) = &case.fixed {
            let answer = explore(fixed)?;
            if !answer.safe() || answer.never != 0 {
                differences.push("the repaired events are not safe".to_owned());
            }
        }
        Ok(Verdict {
            answer,
            findings,
            differences,
        })
    }

    /// In one word.
    pub fn outcome(&self) -> Outcome {
        match (self.findings.is_empty(), self.answer.never) {
            (false, _) => Outcome::Unsafe,
            (true, 0) => Outcome::Safe,
            (true, _) => Outcome::Stuck,
        }
    }
}

/// Each read has exactly the values that are allowed.
fn values(program: &Program, expected: &Expected, answer: &Answer, differences: &mut Vec<String>) {
    for read in &answer.reads {
        let mut open = read.bytes;
        for allowed in expected.allowed.iter().filter(|a| a.at == read.event) {
            let here = open.and(allowed.bytes);
            open = open.without(here);
            if !here.is_empty() && allowed.values != read.all {
                differences.push(format!(
                    "event {}: {} may read {}, the file allows {}",
                    read.event,
                    program.ranges(here),
                    program.values(read.all).join(" or "),
                    program.values(allowed.values).join(" or "),
                ));
            }
        }
        if !open.is_empty() {
            differences.push(format!(
                "event {}: {} may read {}, the file does not say",
                read.event,
                program.ranges(open),
                program.values(read.all).join(" or "),
            ));
        }
    }
    for poll in (0..program.events.len()).filter(|e| answer.never >> e & 1 != 0) {
        differences.push(format!("event {poll}: the poll can never end"));
    }
}

fn fits(due: &Due, finding: &Finding) -> bool {
    let kind = finding.kind.name();
    (due.kind == kind || due.alt.iter().any(|a| a == kind))
        && (due.at == finding.at || due.or_at.contains(&finding.at))
        && due.bytes == finding.bytes
}

/// Each finding that is due is found, and no other.
fn dues(
    program: &Program,
    expected: &Expected,
    findings: &[Finding],
    differences: &mut Vec<String>,
) {
    let text = |kind: &str, at: usize, bytes: Granules| {
        format!("{kind} at event {at}, {}", program.ranges(bytes))
    };
    for due in &expected.due {
        if !findings.iter().any(|f| fits(due, f)) {
            differences.push(format!("not found: {}", text(&due.kind, due.at, due.bytes)));
        }
    }
    for f in findings {
        if !expected.due.iter().any(|d| fits(d, f)) && !expected.also.contains(&f.at) {
            differences.push(format!(
                "not expected: {}",
                text(f.kind.name(), f.at, f.bytes)
            ));
        }
    }
}

/// Writes that are discarded but cannot be missed are those that the file names.
fn lost_ok(expected: &Expected, answer: &Answer, differences: &mut Vec<String>) {
    let missed = |w: usize| (answer.lost.iter()).any(|l| l.missed && l.write == Some(w));
    let mut unseen: Vec<usize> = (answer.lost.iter())
        .filter_map(|l| l.write)
        .filter(|w| !missed(*w))
        .collect();
    unseen.dedup();
    for w in &expected.lost_ok {
        if !unseen.contains(w) {
            differences.push(format!("event {w}: not discarded unseen (lost-ok)"));
        }
    }
    for w in unseen.iter().filter(|w| !expected.lost_ok.contains(w)) {
        differences.push(format!(
            "event {w}: may be discarded before anybody can read it, and the file's lost-ok does \
             not name it"
        ));
    }
}
