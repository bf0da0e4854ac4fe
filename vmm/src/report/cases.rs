// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A run as test cases, which is how CI systems see it.

use super::Explained;
use crate::names;
use crate::result::{program, verdict};
use staleline_results::{
    Class, GuestEnd, KERNEL_REPORT, Module, Program, Refusal, RunResult, Verdict,
};

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

/// The cases of a run: `boot`, `data`, `exec` if there is a program of the user's, `coherency` or one for
/// each diagnostic that stands for its cause, and one for each report of the guest's kernel on itself.
pub fn of(result: &RunResult) -> Vec<Case> {
    let mut cases = vec![boot(result), data(result)];
    let program = result.guest.program.as_ref();
    cases.extend(program.map(|program| exec(result, program)));
    if !result.has_errors() {
        let case = match result.verdict {
            Verdict::InfraError => Err("the run does not say anything"),
            Verdict::Fail if !ran_to_its_end(result) => Err("the guest did not run to its end"),
            Verdict::Fail if was_refused(result) => Err("no data was moved"),
            Verdict::Pass | Verdict::Fail => Ok(()),
        };
        let (status, why) = match case {
            Ok(()) => (Status::Passed, Vec::new()),
            Err(why) => (Status::Skipped, vec![why.into()]),
        };
        cases.push(Case::new("coherency", status, why));
    }
    for cause in result.causes() {
        let Some(diagnostic) = result.diagnostics.get(cause) else {
            continue;
        };
        let status = match diagnostic.class {
            Class::Error => Status::Failed,
            Class::StaleCopy => Status::Passed,
        };
        let mut case = Case::new("coherency", status, Vec::new());
        case.kind = diagnostic.topic().into();
        if let Some(explained) = Explained::of(result, diagnostic) {
            case.name = unique(
                &cases,
                format!("coherency {} {}", case.kind, explained.finding.master),
            );
            let consequences = Explained::consequences(result, cause);
            let text = super::human::plain(&explained, &consequences, &result.replay);
            case.details = one_headline(&text);
        }
        cases.push(case);
    }
    for report in result.guest.complaints() {
        let name = format!("{KERNEL_REPORT} {}", names::name(&report.class));
        let text = super::human::plain_report(report, result.has_errors(), &result.replay);
        let text = text.lines().map(str::to_owned).collect();
        let mut case = Case::new(&unique(&cases, name), Status::Failed, text);
        case.kind = KERNEL_REPORT.into();
        cases.push(case);
    }
    cases
}

/// The lines of a diagnostic, of which the first is the headline as a whole: CI systems show it
/// alone.
fn one_headline(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        match &mut lines[..] {
            [headline] if !line.starts_with(' ') => {
                headline.push(' ');
                headline.push_str(line);
            }
            _ => lines.push(line.to_owned()),
        }
    }
    lines
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

/// Whether the guest said itself that it was done.
fn ran_to_its_end(result: &RunResult) -> bool {
    result.guest.end == Some(GuestEnd::PoweredOff)
}

/// Whether there was nothing to look at, as the kernel would not let devices share a buffer.
fn was_refused(result: &RunResult) -> bool {
    result.guest.refused.is_some() && !result.data.has_moved()
}

/// Whether an infrastructure error belongs to the boot, not to the data path.
fn broke_at_boot(result: &RunResult) -> bool {
    let plans_nothing = result.data.planned == 0 && result.guest.program.is_none();
    !result.guest.booted || plans_nothing
}

fn boot(result: &RunResult) -> Case {
    if result.verdict == Verdict::InfraError && broke_at_boot(result) {
        return Case::new("boot", Status::Error, result.reasons.clone());
    }
    if !result.guest.booted {
        return Case::new("boot", Status::Failed, result.reasons.clone());
    }
    let failed: Vec<String> = result
        .guest
        .tests
        .iter()
        .filter(|t| !t.ok && !t.skipped && t.name != verdict::EXEC)
        .map(|t| format!("guest test {} failed: {}", t.number, t.name))
        .chain(result.guest.modules.iter().filter_map(Module::failure))
        .collect();
    // A guest test that fails because of what was found is explained there.
    let explained = !verdict::evidence(result).is_empty() || result.guest.refused.is_some();
    if failed.is_empty() || explained || result.verdict == Verdict::InfraError {
        Case::new("boot", Status::Passed, Vec::new())
    } else {
        Case::new("boot", Status::Failed, failed)
    }
}

/// The user's program.
fn exec(result: &RunResult, program: &Program) -> Case {
    let mut ended = vec![program::ended(program)];
    ended.extend(program.selftest.as_ref().map(program::results));
    let status = match (program.code, program.signal) {
        _ if program::failure(program).is_some() && program.code.is_some() => Status::Failed,
        _ if program::left_out(program) => Status::Skipped,
        (Some(0), _) => Status::Passed,
        (None, None) if result.verdict == Verdict::InfraError => Status::Error,
        (None, None) => Status::Skipped,
        _ => Status::Failed,
    };
    Case::new(verdict::EXEC, status, ended)
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
            end.planned.unwrap_or(data.planned),
            end.corrupt,
            at.unwrap_or_default()
        )
    });
    let sources = data.sources.iter().map(|source| {
        format!(
            "{}: {} of {} bytes sent",
            source.name, source.moved, source.planned
        )
    });
    let refused = result.guest.refused.as_ref().map(Refusal::sentence);
    let is_refused = refused.is_some();
    let details = refused.into_iter().chain(details).chain(sources).collect();
    let status = if data.corrupt_bytes > 0 || is_refused {
        Status::Failed
    } else if data.planned == 0 || data.bytes < data.planned {
        Status::Skipped
    } else {
        Status::Passed
    };
    Case::new("data", status, details)
}
