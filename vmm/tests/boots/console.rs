// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The guest's console, shown while it runs.

use staleline_results::{RunResult, Verdict};

use crate::support;

/// All but how long it took.
fn timeless(mut result: RunResult) -> RunResult {
    result.wall_ms = 0;
    if let Some(tracing) = &mut result.tracing {
        tracing.wall_ms = 0;
    }
    result
}

#[test]
fn who_looks_on_changes_nothing() {
    let without = support::run(&["iio-capture-nosync", "--kernel", "base"]);
    let with = support::run(&["iio-capture-nosync", "--kernel", "base", "--console"]);
    let result = with.ends(1, Verdict::Fail);
    assert_eq!(
        timeless(result),
        timeless(without.ends(1, Verdict::Fail)),
        "{}",
        with.stderr
    );
    assert_eq!(with.stdout.lines().count(), without.stdout.lines().count());
    let console = with.file("console.log");
    assert_eq!(console, without.file("console.log"));
    // Once: not of the second pass, too.
    assert_eq!(with.stderr.matches(&console).count(), 1, "{}", with.stderr);
    assert!(!without.stderr.contains("KTAP"), "{}", without.stderr);

    let mut replay = support::staleline();
    let replay = replay.arg("replay").arg(with.path()).arg("--console");
    let output = replay.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr.matches(&console).count(), 1, "{stderr}");
}

/// It may be closed, too.
#[test]
fn nobody_has_to_look() {
    let dir = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = support::staleline();
    command.args(["run", "boot", "--console", "--out"]);
    command.arg(dir.path().join("out")).stderr(writer);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}
