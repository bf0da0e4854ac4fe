// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A report of the guest's kernel on itself, for people.

use std::fmt::Write as _;

use super::finding::{BOLD, ERROR};
use super::layout::{Body, Layout, REPLAY};
use staleline_results::{KERNEL_REPORT, KernelReport};

/// Lines of the kernel's own text that are shown; the result has all.
const SHOWN_TEXT: usize = 12;
/// Functions of its call trace that are shown.
const SHOWN_CHAIN: usize = 12;

pub(super) fn styled_report(report: &KernelReport, replay: &str, layout: Layout) -> String {
    let head = format!("{ERROR}error[{KERNEL_REPORT}]{ERROR:#}");
    let times = match report.count {
        0 | 1 => String::new(),
        n => format!(", {n} times"),
    };
    let mut body = Body::new(
        format!("{head}{BOLD}: {}{times}{BOLD:#}\n", report.headline),
        layout,
    );
    let stopped = if report.fatal {
        "; the guest's kernel did not go on"
    } else {
        ""
    };
    body.line("about", format!("{}{stopped}", report.class.what()));
    if !report.text.is_empty() {
        body.line("said", shown(&report.text, SHOWN_TEXT));
    }
    if !report.chain.is_empty() {
        body.line("in", shown(&report.chain, SHOWN_CHAIN));
    }
    let mend =
        "the kernel under test reports an error of its own: mend what the call chain leads to";
    // What has stopped the guest cannot be harmless.
    let help = if report.fatal {
        mend.to_owned()
    } else {
        format!(
            "{mend}, or, if it is known and harmless, name a part of its headline in the scenario's \
             guest.allow-reports"
        )
    };
    body.line("help", help);
    body.line(
        "more",
        format!("`staleline explain {KERNEL_REPORT}` tells more"),
    );
    body.line(REPLAY, replay);
    body.text
}

/// The first of some lines.
fn shown(lines: &[String], most: usize) -> String {
    let lines: Vec<_> = lines.iter().map(|l| l.trim()).collect();
    let mut text = lines[..lines.len().min(most)].join("\n");
    if lines.len() > most {
        let _ = write!(text, "\nand {} more in result.json", lines.len() - most);
    }
    text
}
