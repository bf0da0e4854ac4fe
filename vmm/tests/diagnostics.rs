// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Whole diagnostics of real boots, one test for each kind of hazard and for each row of the table of
//! advice that a boot can reach. What differs from build to build is normalised: addresses, offsets,
//! times, lines of source.
//!
//! Tests that need a kernel with a known error (`guest-kernel/mutants`) build it, and are ignored
//! unless asked for: `cargo nextest run -p staleline --test diagnostics --run-ignored all`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

#[path = "boots/support.rs"]
#[allow(dead_code, reason = "shared with `boots`, which uses all of it")]
mod support;

use staleline::result::{Diagnostic, Verdict};

use support::{Run, need_kernel, run, staleline};

/// A run of an unchanged kernel.
#[track_caller]
fn plain(arguments: &[&str]) -> Run {
    need_kernel("base");
    run(arguments)
}

/// A run of a kernel with a known error.
#[track_caller]
fn mutant(kernel: &str, arguments: &[&str]) -> Run {
    let mut command = staleline();
    let build = ["kernel", "build", "--stack", kernel];
    let output = command.args(build).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{kernel}: {told}");
    let with = ["--kernel", kernel];
    run(&[arguments, &with].concat())
}

/// The text of the first diagnostic that the row of this name has given advice for, and what is
/// told of it. All diagnostics are held by the same rules of form.
#[track_caller]
fn told(run: &Run, row: &str) -> (String, Diagnostic) {
    assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
    let result = run.result();
    assert_eq!(result.verdict, Verdict::Fail);
    let mut texts = run.stdout.split("\n\n");
    let mut found = None;
    for diagnostic in &result.diagnostics {
        let head = format!("error[{}]", diagnostic.kind.name());
        let text = texts.find(|t| t.trim_start().starts_with(&head));
        let text = text.unwrap_or_else(|| panic!("{head}: {}", run.stdout));
        well_formed(text, diagnostic);
        if diagnostic.advice == row && found.is_none() {
            found = Some((text.trim().to_owned(), diagnostic.clone()));
        }
    }
    let rows: Vec<_> = result.diagnostics.iter().map(|d| &d.advice).collect();
    found.unwrap_or_else(|| panic!("no `{row}` in {rows:?}: {}", run.stdout))
}

#[track_caller]
fn well_formed(text: &str, diagnostic: &Diagnostic) {
    for line in text.lines() {
        let long = line.chars().count() > 80;
        assert!(!long || line.trim_start().starts_with("replay"), "{line}");
    }
    let at = |label: &str| text.find(&format!("\n  {label}"));
    assert!(
        at("missing") < at("help") && at("help") < at("history"),
        "{text}"
    );
    let times: Vec<u64> = diagnostic.history.iter().map(|s| s.at).collect();
    assert!(times.is_sorted() && times.len() > 1, "{text}");
}

/// Compares with what was looked at and found right.
macro_rules! blessed {
    ($run:expr, $row:expr) => {{
        let (text, diagnostic) = told(&$run, $row);
        let filters = vec![
            (r"\+0x[0-9a-f]+", "+[offset]"),
            (r"0x[0-9a-f]+", "[address]"),
            (r"@\d+", "@[time]"),
            (r"\.(rs|c|h|S):\d+", ".$1:[line]"),
            (r"pid \d+", "pid [n]"),
        ];
        insta::with_settings!({filters => filters, omit_expression => true}, {
            insta::assert_snapshot!(text);
        });
        diagnostic
    }};
}
