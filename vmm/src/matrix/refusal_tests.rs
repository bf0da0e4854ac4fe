// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What a run says whose kernel does not let the devices share a buffer.

use staleline_protocol::report::Report;
use staleline_results::{RunResult, Verdict};

use super::Matrix;
use crate::engine::EngineKind;
use crate::report::cases::{self, Status};
use crate::run::fake::FakeBackend;
use crate::spec::RunSpec;

/// A run whose ADC has moved so many bytes before the agent was told no.
fn run(error: i32, moved: u64) -> RunResult {
    let report = Report::Refused {
        buffer: 0,
        to: "/dev/ffs/ep1".into(),
        error,
    };
    let text = format!(
        "KTAP version 1\n1..2\nok 1 boot\n  not ok 3 buffers # ERROR no\n{}\nnot ok 2 iio-to-usb # no\n",
        report.to_line()
    );
    let backend = FakeBackend::new(move |_, execution, console| {
        console.clone_from(&text);
        for stream in &mut execution.report.as_mut().unwrap().streams {
            stream.bytes = moved;
        }
    });
    let spec = RunSpec::resolve("iio-to-usb", "base", EngineKind::default(), &[]).unwrap();
    backend.run(&spec)
}

/// What a matrix finds unexpected in it.
fn unexpected(expect: &str, result: &RunResult) -> Option<String> {
    let text = format!("schema = 1\n[[group]]\nscenarios = [\"iio-to-usb\"]\nexpect = {expect}\n");
    let matrix = Matrix::parse(&text, "test").unwrap();
    let cells = matrix.cells(EngineKind::default(), None).unwrap();
    cells[0].unexpected(result)
}

#[test]
fn a_refusal_is_a_failure_and_nothing_else_counts() {
    let result = run(95, 0);
    let why = "the kernel refused to attach DMABUF 0 to /dev/ffs/ep1: EOPNOTSUPP";
    assert_eq!(
        (result.verdict, &result.reasons[..]),
        (Verdict::Fail, &[why.to_owned()][..])
    );
    let cases = cases::of(&result).into_iter();
    let cases: Vec<_> = cases.map(|c| (c.name, c.status)).collect();
    let told = [
        ("boot", Status::Passed),
        ("data", Status::Failed),
        ("coherency", Status::Skipped),
    ];
    assert_eq!(cases, told.map(|(name, status)| (name.to_owned(), status)));
    assert_eq!(unexpected("\"refused\"", &result), None);
    assert_eq!(
        unexpected("\"refused\"\nerrno = \"EOPNOTSUPP\"", &result),
        None
    );
    assert_eq!(unexpected("\"any\"", &result), None);
    let other = unexpected("\"refused\"\nerrno = \"EREMOTEIO\"", &result);
    assert_eq!(other, Some(format!("expected EREMOTEIO, and {why}")));
    assert_eq!(
        unexpected("\"fail\"", &result),
        Some(format!("expected fail, and {why}"))
    );
    let pass = unexpected("\"pass\"", &result);
    assert_eq!(pass, Some(format!("expected pass, got fail: {why}")));
}

/// Then it came too late, or is about something else.
#[test]
fn a_refusal_after_data_has_moved_is_not_what_was_expected() {
    let result = run(95, 4096);
    assert_eq!(result.verdict, Verdict::Fail);
    let why = unexpected("\"refused\"", &result).unwrap();
    assert!(why.starts_with("expected nothing but that"), "{why}");
}

/// A shortage or a mistake says nothing about the devices.
#[test]
fn other_errors_are_no_refusals() {
    let result = run(12, 0);
    assert_eq!(result.guest.refused, None);
    assert_ne!(result.verdict, Verdict::Pass);
    assert!(unexpected("\"refused\"", &result).is_some());
}

#[test]
fn what_is_no_refusal_is_not_expected_as_one() {
    let parse = |rest: &str| {
        let text = format!("schema = 1\n[[group]]\nscenarios = [\"boot\"]\n{rest}\n");
        Matrix::parse(&text, "test").map_err(|e| e.to_string())
    };
    let unknown = parse("expect = \"refused\"\nerrno = \"ENOMEM\"").unwrap_err();
    assert!(
        unknown.contains("ENOMEM") && unknown.contains("EOPNOTSUPP"),
        "{unknown}"
    );
    let passes = parse("errno = \"EOPNOTSUPP\"").unwrap_err();
    assert!(
        passes.contains("`errno` needs expect = \"refused\""),
        "{passes}"
    );
}
