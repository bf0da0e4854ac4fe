// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What an earlier run has left, damaged: cut, with bytes flipped, nested, of another kind. The run is one that
//! came to nothing, as there was no QEMU; its log has the same form as any.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::runner::{Bench, Expected};

/// A run directory.
fn run_directory(at: &Path) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_staleline"));
    let output = command
        .args(["run", "boot", "--out"])
        .arg(at)
        .env("PATH", "/nonexistent")
        .env("STALELINE_QEMU", "/nonexistent/qemu")
        .env("XDG_CACHE_HOME", at.join("../cache"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(at.join("events.bin").is_file() && at.join("result.json").is_file());
}

/// Bytes by which a log says what it is.
const START: usize = 12;

/// What a command may end with: what is no log or a damaged one is a mistake in the files (2), whoever reads it.
/// One that was cut is that of a run that was stopped: its events are told (0), its result is that (3) as far
/// as there is evidence, and there is nothing to compare a replay with (2).
fn codes(command: &str, is_cut: bool, has_start: bool) -> &'static [i32] {
    match (command, is_cut && has_start) {
        ("events", true) => &[0],
        ("report", true) => &[3, 2],
        // A length that is not what it was looks as if the rest were missing.
        ("events", false) if has_start => &[2, 0],
        ("report", false) if has_start => &[2, 3],
        _ => &[2],
    }
}

/// Runs a command that may say what it likes, but ends in order, with one of these codes.
fn ends(bench: &Bench, args: &[&str], codes: &[i32], what: &str) -> Option<String> {
    let mut troubles = Vec::new();
    for code in codes.iter().copied() {
        match bench.wrong(args, Expected { code, says: "" }) {
            None => return None,
            Some(why) => troubles.push(why),
        }
    }
    let why = troubles.into_iter().find(|t| !t.starts_with("exit code"));
    Some(format!(
        "{args:?}, {what}: {}",
        why.unwrap_or_else(|| "exit code".into())
    ))
}

#[test]
fn logs_cut_and_flipped() {
    let whole = Bench::new();
    run_directory(&whole.path().join("run"));
    let log = fs::read(whole.path().join("run/events.bin")).unwrap();
    let mut troubles = Vec::new();
    let mut try_out = |bytes: &[u8], what: &str| {
        let bench = Bench::new();
        fs::write(bench.path().join("events.bin"), bytes).unwrap();
        let has_start = bytes.get(..START) == log.get(..START);
        for command in ["report", "events", "replay"] {
            let codes = codes(command, log.starts_with(bytes), has_start);
            troubles.extend(ends(&bench, &[command, "events.bin"], codes, what));
        }
        // Two that are damaged are as bad as one.
        let codes = codes("report", log.starts_with(bytes), has_start);
        let args = ["compare", "events.bin", "events.bin"];
        troubles.extend(ends(&bench, &args, codes, what));
        // Nor is it made good by what lies beside it.
        let run = bench.path().join("run");
        run_directory(&run);
        fs::write(run.join("events.bin"), bytes).unwrap();
        troubles.extend(ends(&bench, &["replay", "run"], &[2], what));
    };
    let places: Vec<usize> = (0..24)
        .chain((24..log.len()).step_by(log.len() / 24))
        .collect();
    for at in &places {
        try_out(&log[..*at], &format!("cut at {at}"));
        let mut flipped = log.clone();
        flipped[*at] ^= 0x81;
        try_out(&flipped, &format!("flipped at {at}"));
    }
    try_out(&[log.as_slice(), &log].concat(), "twice");
    try_out(&[log.as_slice(), &[0; 64]].concat(), "zeros behind");
    try_out(&[log.as_slice(), &[0xff; 64]].concat(), "ones behind");
    assert!(troubles.is_empty(), "{}", troubles.join("\n"));
}

#[test]
fn results_that_are_none() {
    let deep = "[".repeat(200_000);
    let long = format!("\"{}\"", "x".repeat(1 << 20));
    let rows: &[(&str, &str)] = &[
        ("empty", ""),
        ("null", "null"),
        ("a list", "[]"),
        ("nothing in it", "{}"),
        ("half", "{\"schema\": 1, \"sta"),
        ("deep", &deep),
        ("long", &long),
        ("control characters", "\"\u{1b}[2J"),
        ("another version", "{\"schema\": 99}"),
        ("huge numbers", "{\"schema\": 1e999}"),
    ];
    let whole = Bench::new();
    run_directory(&whole.path().join("run"));
    let good = |name: &str| fs::read_to_string(whole.path().join("run").join(name)).unwrap();
    let mut troubles = Vec::new();
    for name in ["run.json", "result.json"] {
        for (what, text) in rows {
            let bench = Bench::new();
            for file in ["run.json", "result.json"] {
                let text = if file == name {
                    (*text).to_owned()
                } else {
                    good(file)
                };
                fs::write(bench.path().join(file), text).unwrap();
            }
            let expected = Expected {
                code: 2,
                says: "error",
            };
            let wrong = bench.wrong(&["replay", "."], expected);
            troubles.extend(wrong.map(|why| format!("{name}, {what}: {why}")));
        }
    }
    // Names that lead elsewhere, numbers beyond their bounds.
    let spec = good("run.json");
    for (from, to) in [
        ("\"name\": \"boot\"", "\"name\": \"../../boot\""),
        (
            "\"timeout-seconds\": 120",
            "\"timeout-seconds\": 4294967295",
        ),
        ("\"ram-mib\": 128", "\"ram-mib\": 4294967295"),
        ("\"cpus\": 1", "\"cpus\": 255"),
        ("\"schema\": 1", "\"schema\": 2"),
        ("\"engine\": \"tcg\"", "\"engine\": \"none\""),
    ] {
        assert!(spec.contains(from), "{from}");
        let bench = Bench::new();
        fs::write(bench.path().join("run.json"), spec.replacen(from, to, 1)).unwrap();
        fs::write(bench.path().join("result.json"), good("result.json")).unwrap();
        let expected = Expected {
            code: 2,
            says: "error",
        };
        let wrong = bench.wrong(&["replay", "."], expected);
        troubles.extend(wrong.map(|why| format!("{to}: {why}")));
    }
    assert!(troubles.is_empty(), "{}", troubles.join("\n"));
}
