// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Chains that go on behind a system call, in the program that has made it.

use std::path::Path;

use staleline_results::{Frame, HazardKind, Party, Place, RunResult, Verdict};

use super::exec::{compile, example, exec};
use crate::support;

/// The functions of the user's program on the way to a place in the kernel, with their lines.
fn in_program<'a>(place: &'a Place, program: &str) -> Vec<&'a Frame> {
    let callers = place.stack.iter().flat_map(|stack| &stack.callers);
    let own = callers.filter(|caller| caller.program.as_deref() == Some(program));
    own.flat_map(|caller| &caller.frames).collect()
}

/// The line of a source with that text, which only one has.
fn line(source: &str, text: &str) -> u32 {
    let mut lines = source
        .lines()
        .zip(1..)
        .filter(|(line, _)| line.contains(text));
    let found = lines.next().unwrap().1;
    assert!(lines.next().is_none());
    found
}

/// The line is among those from which the kernel was asked for something in the history of a finding.
#[track_caller]
fn leads_to(result: &RunResult, program: &str, text: &str, line: u32) {
    let steps = result.diagnostics.iter().flat_map(|d| &d.history);
    let places = steps.filter_map(|step| match &step.who {
        Party::Cpu { place, .. } if place.kernel => Some(place),
        _ => None,
    });
    let all: Vec<_> = places
        .flat_map(|place| in_program(place, program))
        .collect();
    let is_it = |frame: &&&Frame| {
        let shown = frame
            .text
            .as_deref()
            .is_some_and(|shown| shown.contains(text));
        frame.function == "main" && frame.line == Some(line) && shown
    };
    assert!(
        all.iter().any(|frame| is_it(&frame)),
        "{text}, {line}: {all:?}"
    );
}

#[test]
fn what_the_kernel_did_for_the_examples_is_told_with_their_lines() {
    let dir = tempfile::tempdir().unwrap();
    for (name, asks) in [
        ("capture", "stl_must(stl_iio_attach(&adc, &bufs[n]));"),
        ("early-sync", "stl_must(stl_sync_start(&buf, STL_READ));"),
    ] {
        let program = example(&dir, name);
        let source = std::fs::read_to_string(program.with_extension("c")).unwrap();
        let words = ["--", program.to_str().unwrap(), "-n"];
        let end = if name == "capture" { 3 } else { 2 };
        let run = exec(&words[..end]);
        let result = run.result();
        assert_eq!(result.verdict, Verdict::Fail, "{}", run.stdout);
        assert_eq!(support::kinds_of(&result), [HazardKind::MissingInvalidate]);
        let line = line(&source, asks);
        leads_to(&result, name, asks, line);
        assert!(
            run.stdout.contains(&format!("{name}.c:{line}")),
            "{}",
            run.stdout
        );
        // Those of the kernel first: the driver, and then the program.
        assert!(run.stdout.contains("> system_heap_"), "{}", run.stdout);
    }
}

/// Stores without SYNC, which the SYNC of a read throws away: the finding is in the kernel, and the
/// mistake is in the program.
const DISCARDS: &str = r#"
#include <staleline.h>

static void look(struct stl_buf *buf)
{
	stl_must(stl_sync_start(buf, STL_READ)); /* throws it away */
	stl_must(stl_sync_end(buf, STL_READ));
}

int main(void)
{
	struct stl_buf buf;
	struct stl_iio adc;

	stl_must(stl_iio_open(&adc, STL_IN));
	stl_must(stl_buf_alloc(&buf, STL_SYSTEM, 4096));
	stl_must(stl_iio_attach(&adc, &buf));
	stl_must(stl_iio_enqueue(&adc, &buf, 1024));
	stl_must(stl_iio_enable(&adc));
	stl_must(stl_wait(&buf, STL_WRITE, 1000));
	memset((char *)buf.map + 2048, 1, 64);
	look(&buf);
	stl_must(stl_iio_disable(&adc));
	return 0;
}
"#;

#[test]
fn a_finding_in_a_system_call_is_at_the_programs_line() {
    let dir = tempfile::tempdir().unwrap();
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("../images/guest/include");
    let include = format!("-I{}", include.display());
    for flags in [&["-static"][..], &[]] {
        let program = compile(&dir, "discards", DISCARDS, &[&[&*include], flags].concat());
        let run = exec(&["--", program.to_str().unwrap()]);
        let result = run.ends(1, Verdict::Fail);
        assert_eq!(support::kinds_of(&result), [HazardKind::DiscardedWrite]);
        let line = line(DISCARDS, "throws it away");
        assert!(
            run.stdout.contains(&format!("discards.c:{line}")),
            "{}",
            run.stdout
        );
        let mut command = support::staleline();
        command
            .arg("report")
            .arg(run.path())
            .args(["--format", "sarif"]);
        let out = command.output().unwrap();
        let sarif: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        let at = &sarif["runs"][0]["results"][0]["locations"][0]["physicalLocation"];
        let uri = at["artifactLocation"]["uri"].as_str().unwrap();
        assert!(uri.ends_with("discards.c"), "{sarif:#}");
        assert_eq!(at["region"]["startLine"], line, "{sarif:#}");
    }
}
