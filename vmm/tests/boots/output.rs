// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The files and the text of a run agree with each other and can be read by those they are for.

use std::path::Path;

use quick_junit::{Report, TestCaseStatus};
use staleline::evidence::console::Console;
use staleline::report::Summary;
use staleline_results::RunResult;

use crate::support::{Run, run, staleline};

fn junit(run: &Run) -> Report {
    Report::deserialize_from_str(&run.file("junit.xml")).unwrap()
}

/// The last event, which tells the result in short.
fn finished(run: &Run) -> Summary {
    let events: Vec<serde_json::Value> = run
        .file("events.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(events[0]["event"], "run-started");
    let last = events.last().unwrap();
    assert_eq!(last["event"], "finished");
    serde_json::from_value(last.clone()).unwrap()
}

#[test]
fn a_pass_in_all_its_forms() {
    let run = run(&["iio-playback", "--format", "json"]);
    let result = run.passes();
    assert_eq!(
        serde_json::from_str::<RunResult>(&run.stdout).unwrap(),
        result
    );
    assert_eq!(finished(&run), Summary::of(&result));
    let console = Console::parse(&run.file("console.log"));
    assert!(console.started && console.complete());
    assert_eq!(console.cases, result.guest.tests);
    let junit = junit(&run);
    assert!(junit.tests >= 3 && junit.failures == 0 && junit.errors == 0);
    assert!(result.replay.starts_with("staleline run iio-playback "));
}

#[test]
fn a_failure_in_all_its_forms() {
    let run = run(&["iio-capture-nosync", "--format", "ktap"]);
    let result = run.ends(1, staleline_results::Verdict::Fail);
    assert_eq!(finished(&run), Summary::of(&result));

    let verdicts = ktap(&run.stdout);
    let junit = junit(&run);
    let cases: Vec<_> = junit
        .test_suites
        .iter()
        .flat_map(|suite| &suite.test_cases)
        .map(|case| {
            let ok = matches!(case.status, TestCaseStatus::Success { .. });
            (ok, case.name.as_str().to_owned())
        })
        .collect();
    assert_eq!(verdicts, cases, "KTAP and JUnit tell the same");
    let failed = cases.iter().filter(|(ok, _)| !ok).count();
    assert_eq!(junit.failures, failed);
    assert_eq!(
        failed,
        1 + result.causes().count(),
        "the data, and each cause: {cases:?}"
    );
    assert!(run.stdout.contains("error[missing-invalidate]"));
}

/// What `staleline report` makes of a log, with its exit code.
fn reported(log: &Path, format: &str) -> (Option<i32>, String) {
    let mut command = staleline();
    command.arg("report").arg(log).args(["--format", format]);
    let output = command.output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    (
        output.status.code(),
        String::from_utf8(output.stdout).unwrap(),
    )
}

#[test]
fn a_log_alone_gives_all_forms_of_its_run_again() {
    let run = run(&["iio-playback-nosync", "--log", "off"]);
    assert_eq!(run.code, 1);
    let elsewhere = tempfile::NamedTempFile::new().unwrap();
    std::fs::copy(run.path().join("events.bin"), elsewhere.path()).unwrap();
    let reported = |format| reported(elsewhere.path(), format);
    assert_eq!(reported("human"), (Some(1), run.stdout.clone()));
    assert_eq!(reported("json"), (Some(1), run.file("result.json")));
    assert_eq!(reported("junit"), (Some(1), run.file("junit.xml")));
    let (code, text) = reported("ktap");
    assert_eq!(code, Some(1));
    assert!(ktap(&text).iter().any(|(ok, _)| !ok), "{text}");

    // One that was cut is none to judge by.
    let len = std::fs::metadata(elsewhere.path()).unwrap().len();
    let file = std::fs::File::options().write(true).open(elsewhere.path());
    file.unwrap().set_len(len / 2).unwrap();
    let mut command = staleline();
    let output = command.arg("report").arg(elsewhere.path()).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(3));
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(
        stdout.contains("stopped before its guest had ended"),
        "{stdout}"
    );
}

#[test]
fn a_failure_for_people() {
    let run = run(&["iio-playback-nosync"]);
    assert_eq!(run.code, 1);
    for part in [
        "error[missing-clean]",
        "axi-dmac-tx",
        "help",
        "staleline run iio-playback-nosync",
    ] {
        assert!(run.stdout.contains(part), "{part}: {}", run.stdout);
    }
}

/// The results of KTAP version 1 with one level: whether ok, and the name.
fn ktap(text: &str) -> Vec<(bool, String)> {
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    assert_eq!(lines.next(), Some("KTAP version 1"));
    let plan = lines.next().unwrap().strip_prefix("1..").unwrap();
    let results: Vec<_> = lines
        .enumerate()
        .map(|(n, line)| {
            let (ok, rest) = match line.strip_prefix("not ok ") {
                Some(rest) => (false, rest),
                None => (true, line.strip_prefix("ok ").unwrap()),
            };
            let (number, name) = rest.split_once(' ').unwrap();
            assert_eq!(number.parse(), Ok(n + 1), "{line}");
            (ok, name.to_owned())
        })
        .collect();
    assert_eq!(plan.parse(), Ok(results.len()), "{text}");
    results
}
