// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! JUnit XML, as CI systems read it.

use std::io::{self, Write};
use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::cases::{Case, Status, of};
use super::{Reporter, RunEvent};
use staleline_results::RunResult;

/// Writes a run as one test suite when it is over.
pub struct Junit<W>(pub W);

impl<W: Write> Reporter for Junit<W> {
    fn event(&mut self, event: &RunEvent) -> io::Result<()> {
        if let RunEvent::Finished { result, .. } = event {
            write(&mut self.0, suite(&result.scenario, result))?;
        }
        self.0.flush()
    }
}

/// Writes a report of one suite.
///
/// # Errors
/// Those of the output.
pub fn write(out: &mut dyn Write, suite: TestSuite) -> io::Result<()> {
    let mut report = Report::new("staleline");
    report.add_test_suite(suite);
    let text = report.to_string().map_err(io::Error::other)?;
    out.write_all(text.as_bytes())
}

/// A run as a test suite.
pub fn suite(name: &str, result: &RunResult) -> TestSuite {
    let mut suite = TestSuite::new(name);
    suite.set_time(Duration::from_millis(result.wall_ms));
    suite.set_system_out(result.guest.console_tail.join("\n"));
    for (key, value) in [
        ("kernel", result.kernel.as_ref().map(|k| k.hash.clone())),
        ("seed", Some(result.seed.to_string())),
        ("run_hash", result.run_hash.clone()),
        ("replay", Some(result.replay.clone())),
    ] {
        if let Some(value) = value {
            suite.add_property((key, value.as_str()));
        }
    }
    suite.add_test_cases(of(result).iter().map(|c| test_case(&result.scenario, c)));
    suite
}

/// A test case of the class `class`.
pub fn test_case(class: &str, case: &Case) -> TestCase {
    let text = case.details.join("\n");
    let mut status = match case.status {
        Status::Passed => TestCaseStatus::success(),
        Status::Failed => TestCaseStatus::non_success(NonSuccessKind::Failure),
        Status::Error => TestCaseStatus::non_success(NonSuccessKind::Error),
        Status::Skipped => TestCaseStatus::skipped(),
    };
    if case.status != Status::Passed {
        let first = case.details.first().cloned();
        status.set_message(first.unwrap_or_else(|| case.name.clone()));
        status.set_description(text);
        if !case.kind.is_empty() {
            status.set_type(case.kind.as_str());
        }
    }
    let mut test = TestCase::new(case.name.as_str(), status);
    test.set_classname(format!("staleline.{class}"));
    test
}
