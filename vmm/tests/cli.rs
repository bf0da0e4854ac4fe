// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The command as users meet it, as far as it goes without a guest.

#![allow(clippy::unwrap_used)]
use std::path::Path;

use assert_cmd::Command;

/// Runs `staleline` in a directory of its own and shows what a user sees.
fn staleline(arguments: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("plain-file"), "x").unwrap();
    let typo = "schema = 1\nname = \"x\"\ndescription = \"d\"\n\n[board]\ncash = \"lazy\"\n";
    std::fs::write(dir.path().join("typo.toml"), typo).unwrap();
    let big = "schema = 1\nname = \"x\"\ndescription = \"d\"\n[board]\nram-mib = 9999\n";
    std::fs::write(dir.path().join("big.toml"), big).unwrap();
    std::fs::create_dir(dir.path().join("empty")).unwrap();
    // What kernels a user has built is told, too.
    let cache = tempfile::tempdir().unwrap();
    let mut command = command(dir.path(), arguments);
    command.env("XDG_CACHE_HOME", cache.path());
    let output = command.output().unwrap();
    let left = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(
        left, 4,
        "{arguments:?}: a command that fails early leaves nothing"
    );
    format!(
        "$ staleline {}\n{}{}exit code {}\n",
        arguments.join(" "),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
        output.status.code().unwrap()
    )
}

fn command(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_staleline"));
    command
        .args(arguments)
        .current_dir(dir)
        .env_remove("STALELINE_LOG")
        .env("NO_COLOR", "1")
        .env("COLUMNS", "100");
    command
}

#[test]
fn help() {
    insta::assert_snapshot!("help", staleline(&["--help"]));
    insta::assert_snapshot!("help_run", staleline(&["run", "--help"]));
    insta::assert_snapshot!("help_shell", staleline(&["shell", "--help"]));
    insta::assert_snapshot!("help_report", staleline(&["report", "--help"]));
    insta::assert_snapshot!("help_events", staleline(&["events", "--help"]));
    insta::assert_snapshot!("help_compare", staleline(&["compare", "--help"]));
    insta::assert_snapshot!("help_matrix", staleline(&["matrix", "--help"]));
    insta::assert_snapshot!("help_kernel", staleline(&["kernel", "--help"]));
    insta::assert_snapshot!("help_kernel_build", staleline(&["kernel", "build", "-h"]));
    insta::assert_snapshot!("help_kernel_check", staleline(&["kernel", "check", "-h"]));
    insta::assert_snapshot!("help_exec", staleline(&["exec", "--help"]));
    insta::assert_snapshot!("help_root", staleline(&["root", "--help"]));
    insta::assert_snapshot!("help_doctor", staleline(&["doctor", "--help"]));
}

#[test]
fn usage_errors_say_the_way_out() {
    let wrong = [
        &["run", "iio-captrue"][..],
        &["run", "nothing-like-it"],
        &["run", "missing.toml"],
        &["run", "typo.toml"],
        &["run", "big.toml"],
        &["run", "boot", "--engine", "xen"],
        &["run", "boot", "--exporter", "cma"],
        &["run", "iio-capture", "--set", "frame=3"],
        &["run", "iio-capture", "--set", "frames=0"],
        &["run", "iio-capture", "--set", "drop-maintenance=first"],
        &["run", "boot", "--kernel", "./plain-file"],
        &["run", "boot", "--kernel", "/nonexistent/Image"],
        &["run", "boot", "--kernel", "base+lockdep+lockdep"],
        &["run", "boot", "--kernel", "base+"],
        &["run", "boot", "--out", "plain-file/run"],
        &["run", "boot", "--out", "."],
        &["run", "boot", "--cache", "lasy"],
        &["matrix", "typo.toml"],
        &["run", "boot", "--log", "everything"],
        &["replay", "empty"],
        &["report", "empty"],
        &["events", "empty"],
        &["events", "plain-file"],
        &["events", "empty", "--line", "PA"],
        &["events", "empty", "--kind", "transfers"],
        &["events", "empty", "--since", "100", "--until", "@5"],
        &["explain", "mising-clean"],
    ];
    let told: Vec<String> = wrong.iter().map(|arguments| staleline(arguments)).collect();
    for one in &told {
        assert!(one.ends_with("exit code 2\n"), "{one}");
    }
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn an_unknown_kernel_is_told_with_those_there_are() {
    for (arguments, wrong, help) in [
        (
            &["run", "boot", "--kernel", "bese"][..],
            "patch stack: `bese`",
            "`base`",
        ),
        (
            &["run", "boot", "--kernel", "bese+lockdep"],
            "patch stack: `bese`",
            "patch stacks: base, ",
        ),
        (
            &["run", "boot", "--kernel", "base+lokdep"],
            "configuration: `lokdep`",
            "did you mean `lockdep`?",
        ),
        (
            &["kernel", "build", "--config", "lokdep"],
            "configuration: `lokdep`",
            "did you mean `lockdep`?",
        ),
        (
            &["kernel", "check", "--stack", "begin-end-acess"],
            "patch stack: `begin-end-acess`",
            "did you mean `begin-end-access`?",
        ),
    ] {
        let told = staleline(arguments);
        assert!(
            told.contains(&format!("there is no such {wrong}")),
            "{told}"
        );
        assert!(told.contains(help), "{told}");
        assert!(told.ends_with("exit code 2\n"), "{told}");
    }
}

#[test]
fn explain() {
    insta::assert_snapshot!("explain", staleline(&["explain"]));
    insta::assert_snapshot!("explain_one", staleline(&["explain", "missing-invalidate"]));
}

#[test]
fn the_built_in_matrix_can_be_listed() {
    insta::assert_snapshot!(staleline(&["matrix", "--list"]));
}

#[test]
fn doctor_agrees_with_itself() {
    let dir = tempfile::tempdir().unwrap();
    let output = command(dir.path(), &["doctor", "--format", "json"])
        .output()
        .unwrap();
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let code = if found["ok"].as_bool().unwrap() { 0 } else { 3 };
    assert_eq!(output.status.code(), Some(code));
    let missing = |c: &serde_json::Value| c["status"] == "missing";
    let any = found["checks"].as_array().unwrap().iter().any(missing);
    assert_eq!(any, code == 3);
}

#[test]
fn doctor_misses_a_qemu_that_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let output = command(dir.path(), &["doctor"])
        .env("STALELINE_QEMU", "/nonexistent/qemu")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(text.contains("MISSING   QEMU for arm64"), "{text}");
    assert!(text.contains("qemu-system-arm"), "{text}");
}

#[test]
fn a_run_without_qemu_is_an_infrastructure_error() {
    let dir = tempfile::tempdir().unwrap();
    let output = command(
        dir.path(),
        &["run", "boot", "--format", "json", "--out", "r"],
    )
    .env("STALELINE_QEMU", "/nonexistent/qemu")
    .output()
    .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{error}");
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["verdict"], "infra-error");
    let written = std::fs::read(dir.path().join("r/result.json")).unwrap();
    let written: serde_json::Value = serde_json::from_slice(&written).unwrap();
    assert_eq!(written, result);
    let junit = std::fs::read_to_string(dir.path().join("r/junit.xml")).unwrap();
    assert!(
        junit.contains("errors=\"1\"") && junit.contains("failures=\"0\""),
        "{junit}"
    );
    let events = std::fs::read_to_string(dir.path().join("r/events.jsonl")).unwrap();
    assert!(
        events
            .lines()
            .last()
            .unwrap()
            .contains("\"event\":\"finished\"")
    );
}

/// A package that nobody has is the user's mistake; sources that cannot be reached are nobody's.
#[test]
fn packages_that_cannot_be_had_say_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let sources = dir.path().join("own.list");
    let root = |line: &str, name: &str| {
        std::fs::write(&sources, line).unwrap();
        let output = command(dir.path(), &["root", name])
            .env("XDG_CACHE_HOME", dir.path().join("cache"))
            .env("STALELINE_APT_SOURCES", &sources)
            .output()
            .unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), told)
    };
    let (code, told) = root("", "-y");
    assert_eq!(code, Some(2), "{told}");
    let (code, told) = root("", "Iiod");
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("`Iiod` is no name"), "{told}");
    let (code, told) = root("", "iiod");
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("Unable to locate package iiod"), "{told}");
    let (code, told) = root("deb [trusted=yes] copy:/nonexistent ./\n", "iiod");
    assert_eq!(code, Some(3), "{told}");
    assert!(
        told.contains("/nonexistent") && told.contains("--root DIR"),
        "{told}"
    );
    let none = command(dir.path(), &["root", "iiod"])
        .env("STALELINE_APT_SOURCES", "/nonexistent")
        .output()
        .unwrap();
    assert_eq!(none.status.code(), Some(2));
}
