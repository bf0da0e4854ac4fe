// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A report of the guest's kernel on itself, for people.

use std::fmt::Write as _;

use super::finding::{BOLD, ERROR, chain};
use super::layout::{Body, Layout, REPLAY};
use staleline_results::{KERNEL_REPORT, KernelReport};

/// Lines of the kernel's own text that are shown; the result has all.
const SHOWN_TEXT: usize = 12;
/// Functions of its call trace that are shown of one without files and lines.
const SHOWN_CHAIN: usize = 12;

/// `may_follow`: incoherency was found too, which may have led to this.
pub(super) fn styled_report(
    report: &KernelReport,
    may_follow: bool,
    replay: &str,
    layout: Layout,
) -> String {
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
    if let Some(place) = &report.place {
        body.line("in", "innermost function first (>: driver)");
        chain(&mut body, place);
    } else if !report.chain.is_empty() {
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
    let help = match may_follow {
        true => format!(
            "mend first the incoherency that was found: a kernel that gets stale data, or loses some, \
             may end like this. If this is still there then: {help}"
        ),
        false => help,
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

#[cfg(test)]
mod tests {
    use staleline_results::ReportClass;

    use super::*;

    #[test]
    fn what_may_follow_from_incoherency_is_not_to_be_mended_first() {
        let report = KernelReport {
            class: ReportClass::HungTask,
            headline: "INFO: task init:1 blocked for more than 10 seconds.".into(),
            text: Vec::new(),
            chain: Vec::new(),
            fatal: true,
            count: 1,
            allowed: false,
            place: None,
        };
        let told = |may_follow| {
            let text = styled_report(&report, may_follow, "replay", Layout::default());
            text.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert!(told(true).contains("mend first the incoherency"));
        assert!(!told(false).contains("incoherency"));
        for may_follow in [false, true] {
            assert!(told(may_follow).contains("mend what the call chain leads to"));
        }
    }
}
