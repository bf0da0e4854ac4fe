// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What one of the kernel's own tests says of itself on its standard output: TAP version 13, as
//! tools/testing/selftests/kselftest.h writes it. Its exit code does not tell all: that of udmabuf is 0
//! whatever it has found.

use staleline_protocol::report::{Report, Stream, bytes_of};
use staleline_results::Selftest;
use staleline_support::text;

/// Lines kept of each kind.
const KEPT: usize = 5;
/// Bytes of each.
const BYTES: usize = 200;

/// The results of a test of that name.
pub fn read(name: &str, reports: &[Report]) -> Selftest {
    let mut output = Vec::new();
    for report in reports {
        if let Report::Output {
            stream: Stream::Stdout,
            text,
        } = report
        {
            output.extend(bytes_of(text).unwrap_or_default());
        }
    }
    parse(name, &String::from_utf8_lossy(&output))
}

fn parse(name: &str, output: &str) -> Selftest {
    let mut test = Selftest {
        name: name.into(),
        ..Selftest::default()
    };
    let mut remark = None;
    for line in output.lines() {
        // Subtests are indented, and their parent's result counts.
        if let Some(rest) = line.strip_prefix("ok ") {
            match directive(rest) {
                Some("SKIP") => {
                    test.skipped = test.skipped.saturating_add(1);
                    keep(&mut test.skips, line);
                }
                _ => test.passed = test.passed.saturating_add(1),
            }
        } else if line.starts_with("not ok ") {
            match directive(line) {
                Some("TODO" | "XFAIL") => test.passed = test.passed.saturating_add(1),
                _ => {
                    test.failed = test.failed.saturating_add(1);
                    keep(&mut test.failures, line);
                }
            }
        } else if let Some(count) = line.strip_prefix("1..") {
            let (count, why) = count.split_once('#').unwrap_or((count, ""));
            test.planned = test.planned.or(count.trim().parse().ok());
            if !why.is_empty() {
                keep(&mut test.skips, why);
            }
        } else if line.starts_with("# ") {
            remark = Some(line);
        }
    }
    // One that gives up says why last.
    if let Some(remark) = remark.filter(|_| test.told() == 0) {
        keep(&mut test.skips, remark);
    }
    test
}

/// The word behind the `#` of a result.
fn directive(result: &str) -> Option<&str> {
    result.split_once('#')?.1.split_whitespace().next()
}

fn keep(kept: &mut Vec<String>, line: &str) {
    if kept.len() < KEPT {
        let line = line.trim_start_matches(['#', ' ']).trim_end();
        kept.push(text::elide(&text::plain(line), BYTES));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use staleline_protocol::report::text_of;

    use super::*;

    const HEAPS: &str = "TAP version 13\n1..4\n# Testing heap: system\n\
        ok 1 # SKIP Could not open vgem -1\nok 2 sync succeeded\n\
        not ok 3 FAIL (Allocation (14) failed) -1\n    not ok 1 inner\nnot ok 4 later # XFAIL known\n\
        # Totals: pass:2 fail:1 xfail:1 xpass:0 skip:1 error:0\n";

    #[test]
    fn results_are_counted_by_their_kind() {
        let test = parse("dmabuf-heaps:dmabuf-heap", HEAPS);
        assert_eq!(test.planned, Some(4));
        assert_eq!((test.passed, test.failed, test.skipped), (2, 1, 1));
        assert_eq!(test.failures, ["not ok 3 FAIL (Allocation (14) failed) -1"]);
        assert_eq!(test.skips, ["ok 1 # SKIP Could not open vgem -1"]);
    }

    #[test]
    fn one_that_gives_up_says_why() {
        let gone = "TAP version 13\n1..6\n# drivers/dma-buf/udmabuf: [skip,no-udmabuf]\n";
        let test = parse("x", gone);
        assert_eq!((test.planned, test.told()), (Some(6), 0));
        assert_eq!(test.skips, ["drivers/dma-buf/udmabuf: [skip,no-udmabuf]"]);
        let test = parse("x", "TAP version 13\n1..0 # SKIP nothing here\n");
        assert_eq!(
            (test.planned, &*test.skips),
            (Some(0), &["SKIP nothing here".to_owned()][..])
        );
        assert_eq!(parse("x", "").planned, None);
    }

    #[test]
    fn lines_may_come_in_pieces() {
        let pieces = HEAPS.as_bytes().chunks(7).map(|piece| Report::Output {
            stream: Stream::Stdout,
            text: text_of(piece),
        });
        let reports: Vec<Report> = pieces.collect();
        assert_eq!(read("x", &reports), parse("x", HEAPS));
    }

    proptest! {
        #[test]
        fn anything_is_read(text in ".{0,200}(\n(not )?ok [0-9]{0,3}.{0,80}\n){0,20}") {
            let test = parse("x", &text);
            prop_assert!(test.failures.len() <= KEPT && test.skips.len() <= KEPT + 1);
        }
    }
}
