// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A run as test cases, which is how CI systems see it.

use crate::result::{Class, RunResult, Verdict};
use crate::run::kernel_log::is_lock_report;

/// How a test case ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// As it should.
    Passed,
    /// Software under test is wrong.
    Failed,
    /// The test could not be carried out.
    Error,
    /// Not reached, or nothing to test.
    Skipped,
}

/// A test case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// Its name.
    pub name: String,
    /// How it ended.
    pub status: Status,
    /// A few words for a kind of failure.
    pub kind: String,
    /// Lines that say why.
    pub details: Vec<String>,
}

impl Case {
    fn new(name: &str, status: Status, details: Vec<String>) -> Self {
        Case {
            name: name.into(),
            status,
            kind: String::new(),
            details,
        }
    }
}

/// The cases of a run: `boot`, `data`, `coherency` or one for each diagnostic, and `locking` if the
/// guest's kernel checks that and has something to report.
pub fn of(result: &RunResult) -> Vec<Case> {
    let mut cases = vec![boot(result), data(result)];
    if result.errors().next().is_none() {
        let status = match result.verdict {
            Verdict::InfraError => Status::Skipped,
            Verdict::Pass | Verdict::Fail => Status::Passed,
        };
        let why = match status {
            Status::Skipped => vec!["the run does not say anything".into()],
            _ => Vec::new(),
        };
        cases.push(Case::new("coherency", status, why));
    }
    for diagnostic in &result.diagnostics {
        let (status, kind) = match diagnostic.class {
            Class::Error => (Status::Failed, diagnostic.kind.name()),
            Class::StaleCopy => (Status::Passed, crate::explain::STALE_COPY),
        };
        let mut case = Case::new("coherency", status, Vec::new());
        case.kind = kind.into();
        if let Some(finding) = result.hazards.get(diagnostic.shown) {
            case.name = unique(
                &cases,
                format!("coherency {} {}", case.kind, finding.master),
            );
            let concerned = diagnostic.buffers.iter();
            let concerned: Vec<_> = concerned
                .filter_map(|i| result.buffers.get(*i).cloned())
                .collect();
            let text = super::human::plain(diagnostic, finding, &concerned, &result.replay);
            case.details = text.lines().map(str::to_owned).collect();
        }
        cases.push(case);
    }
    let reports = result.guest.warnings.iter().filter(|w| is_lock_report(w));
    let reports: Vec<String> = reports.cloned().collect();
    if !reports.is_empty() {
        cases.push(Case::new("locking", Status::Failed, reports));
    }
    cases
}

/// The name, numbered if there is one like it: CI systems tell cases apart by name.
fn unique(cases: &[Case], name: String) -> String {
    let taken = |n: &str| cases.iter().any(|c| c.name == n);
    if !taken(&name) {
        return name;
    }
    (2..)
        .map(|n| format!("{name} ({n})"))
        .find(|n| !taken(n))
        .unwrap_or(name)
}

/// Whether an infrastructure error belongs to the boot, not to the data path.
fn broke_at_boot(result: &RunResult) -> bool {
    !result.guest.booted || result.data.planned == 0
}

fn boot(result: &RunResult) -> Case {
    if result.verdict == Verdict::InfraError && broke_at_boot(result) {
        return Case::new("boot", Status::Error, result.reasons.clone());
    }
    let failed: Vec<String> = result
        .guest
        .tests
        .iter()
        .filter(|t| !t.ok && !t.skipped)
        .map(|t| format!("guest test {} failed: {}", t.number, t.name))
        .collect();
    // A guest test that fails because of what was found is told there.
    let told = result.errors().next().is_some() || result.data.corrupt_bytes > 0;
    if failed.is_empty() || told || result.verdict == Verdict::InfraError {
        Case::new("boot", Status::Passed, Vec::new())
    } else {
        Case::new("boot", Status::Failed, failed)
    }
}

fn data(result: &RunResult) -> Case {
    let data = &result.data;
    if result.verdict == Verdict::InfraError && !broke_at_boot(result) {
        return Case::new("data", Status::Error, result.reasons.clone());
    }
    let details = data.ends.iter().map(|end| {
        let at = end
            .first_corrupt
            .map(|at| format!(", the first at offset {at}"));
        format!(
            "{}: {} of {} bytes checked, {} corrupt{}",
            end.name,
            end.covered(),
            data.planned,
            end.corrupt,
            at.unwrap_or_default()
        )
    });
    let details = details.collect();
    let status = if data.corrupt_bytes > 0 {
        Status::Failed
    } else if data.planned == 0 || data.bytes < data.planned {
        Status::Skipped
    } else {
        Status::Passed
    };
    Case::new("data", status, details)
}
