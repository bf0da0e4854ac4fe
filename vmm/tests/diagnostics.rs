// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Whole diagnostics of real boots, one test for each kind of hazard and for each row of the table of
//! advice that a boot can reach. What differs from build to build is normalised: addresses, offsets,
//! times, lines of source. Rows that no boot reaches so far (late, early, stale-store, shared-line,
//! importer-cpu, stale-copy, and unordered by a word) have tests in `result/advice` and
//! `result/facts_tests.rs` only; so has the kind `ownership`.
//!
//! Tests that need a kernel with a known error (`guest-kernel/mutants`) build it, and are ignored
//! unless asked for: `cargo nextest run -p staleline --test diagnostics --run-ignored all`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

#[path = "boots/support.rs"]
#[allow(dead_code, reason = "shared with `boots`, which uses all of it")]
mod support;

use staleline::result::history::{Event, Step};
use staleline::result::{Diagnostic, Verdict};
use staleline_devices::coherency::hazard::HazardKind;

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

#[test]
fn user_space_writes_without_sync() {
    let run = plain(&["iio-playback-nosync", "--cache", "lazy"]);
    blessed!(run, "kind");
}

#[test]
fn user_space_reads_without_sync() {
    let run = plain(&["iio-capture-nosync", "--cache", "lazy"]);
    blessed!(run, "kind");
}

#[test]
fn nobody_acts_between_two_devices_and_the_kernel_has_no_call() {
    let to_usb = plain(&["iio-to-usb"]);
    let told = blessed!(to_usb, "kind");
    assert!(!told.help.contains("_access()"), "{}", told.help);
    let from_usb = plain(&["usb-to-iio", "--set", "snoop-write=allocate"]);
    blessed!(from_usb, "kind");
}

#[test]
fn fresh_pages_are_not_cleaned() {
    let run = plain(&["iio-capture", "--exporter", "udmabuf", "--cache", "eager"]);
    blessed!(run, "fresh-page");
}

#[test]
fn an_operation_was_suppressed() {
    let run = plain(&["iio-playback", "--set", "drop-maintenance=10"]);
    let told = blessed!(run, "suppressed");
    let suppressed =
        |s: &Step| matches!(s.what, Event::Maintained { suppressed, .. } if suppressed);
    assert!(told.history.iter().any(suppressed));
}

#[test]
fn the_tree_claims_what_the_port_does_not_do() {
    let claims = ["--set", "board.dmac.dma-coherent=true"];
    let run = plain(&[&["iio-playback"], &claims[..]].concat());
    let told = blessed!(run, "lying-tree");
    assert!(told.notes[0].contains("its port (hp) does not snoop"));
}

#[test]
fn the_tree_denies_what_the_port_does() {
    let run = plain(&["usb-loopback", "--set", "board.usb.dma-coherent=false"]);
    let told = blessed!(run, "lying-tree");
    assert_eq!(told.kind, HazardKind::MismatchedAlias);
    assert!(told.help.starts_with("add dma-coherent"));
}

#[test]
#[ignore = "builds a kernel"]
fn an_exporter_syncs_a_part_of_the_buffer() {
    let run = mutant("base~system-sync-first-page", &["iio-capture"]);
    blessed!(run, "sync-incomplete");
}

#[test]
#[ignore = "builds a kernel"]
fn an_importers_end_of_access_syncs_a_part_of_the_buffer() {
    let sizes = [
        "--set",
        "frame-bytes=16384",
        "--set",
        "last-frame-bytes=16384",
    ];
    let kernel = "begin-end-access~system-sync-all-but-last";
    let run = mutant(kernel, &[&["iio-to-usb"], &sizes[..]].concat());
    blessed!(run, "sync-incomplete");
}

#[test]
#[ignore = "builds a kernel"]
fn a_sync_only_cleans() {
    let arguments = ["iio-capture", "--exporter", "udmabuf"];
    let run = mutant("base~udmabuf-map-at-first-access", &arguments);
    blessed!(run, "sync-incomplete");
}

#[test]
#[ignore = "builds a kernel"]
fn an_access_is_begun_and_not_ended() {
    let run = mutant("begin-end-access~iio-attach-to-device", &["iio-to-usb"]);
    blessed!(run, "half-a-pair");
}

#[test]
#[ignore = "builds a kernel"]
fn an_access_is_begun_before_the_other_device_is_done() {
    let arguments = [
        "usb-to-iio",
        "--set",
        "snoop-write=allocate",
        "--set",
        "buffer-bytes=262144",
        "--set",
        "frame-bytes=262144",
        "--set",
        "last-frame-bytes=262144",
        "--set",
        "buffers=4",
        "--set",
        "frames=12",
        "--set",
        "usb.incidents=[{after-bytes=300000,action={pause={ticks=2000000}}},\
         {after-bytes=900000,action={pause={ticks=2000000}}}]",
    ];
    let run = mutant("begin-end-access~begin-before-wait", &arguments);
    blessed!(run, "begun-too-early");
}

#[test]
#[ignore = "builds a kernel"]
fn what_fresh_pages_held_is_thrown_away() {
    let run = mutant("base~map-invalidates", &["iio-capture"]);
    let told = blessed!(run, "fresh-page");
    assert_eq!(told.kind, HazardKind::DiscardedWrite);
}

#[test]
#[ignore = "builds a kernel"]
fn maintenance_ends_with_a_barrier_that_does_not_complete_it() {
    let stores = mutant("base~weak-dsb-ishst", &["iio-playback"]);
    blessed!(stores, "incomplete");
    let inner = mutant("base~weak-dsb-ish", &["iio-playback"]);
    blessed!(inner, "incomplete");
}

#[test]
#[ignore = "builds a kernel"]
fn a_doorbell_overtakes_the_descriptor() {
    let run = mutant("base~dmac-relaxed-writes", &["iio-playback"]);
    let told = blessed!(run, "unordered");
    assert!(told.help.contains("writel()"));
}

#[test]
#[ignore = "builds a kernel"]
fn coherent_memory_is_handed_out_dirty() {
    let run = mutant("base~prep-coherent-empty", &["iio-playback"]);
    let told = blessed!(run, "power-on");
    assert_eq!(told.kind, HazardKind::MismatchedAlias);
    assert_eq!(run.result().diagnostics.len(), 1, "one cause is told once");
}
