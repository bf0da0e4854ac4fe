// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What the guest said on its console: KTAP results, the agent's reports, signs of trouble.
//!
//! KTAP: Documentation/dev-tools/ktap.rst. Only top-level results count; a subtest's result is
//! in its parent's.

use std::io::Read as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use staleline_protocol::report::Report;
use staleline_results::KtapCase;

use super::kernel_log::{KernelLog, Reported};

/// Bytes of console output that are read; a guest that says more is cut off.
pub const MAX_BYTES: u64 = 16 << 20;

/// Reports and results kept, each.
const MAX_ITEMS: usize = 1 << 17;

/// How the agent says that a step of a test is over.
const STEP: &str = "  ok ";

/// Lines of the end kept for reports.
const TAIL_LINES: usize = 40;

/// The console as it is, at most [`MAX_BYTES`] of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleText {
    /// What is no UTF-8 is replaced.
    pub text: String,
    /// Whether there was more.
    pub truncated: bool,
}

impl ConsoleText {
    /// Reads a console log.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn read(path: &Path) -> std::io::Result<Self> {
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path)?;
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
        Ok(ConsoleText {
            text: String::from_utf8_lossy(&bytes).into_owned(),
            truncated: bytes.len() as u64 > MAX_BYTES,
        })
    }
}

/// The console, taken apart.
#[derive(Debug, Clone, Default)]
pub struct Console {
    /// Whether the agent's KTAP header was seen.
    pub started: bool,
    /// The last of the agent's tests, or of the steps of one, of which the result was seen.
    pub last_step: Option<String>,
    /// Number of tests the agent announced.
    pub planned: Option<u32>,
    /// Their results.
    pub cases: Vec<KtapCase>,
    /// The reason of a `Bail out!`.
    pub bail: Option<String>,
    /// The agent's reports.
    pub reports: Vec<Report>,
    /// Report lines that could not be read.
    pub damaged: u64,
    /// The kernel's reports on itself, in order.
    pub kernel_reports: Vec<Reported>,
    /// Such reports beyond those.
    pub kernel_reports_dropped: u64,
    /// The first line of a panic that says nothing about the kernel under test.
    pub crash: Option<String>,
    /// First lines of what else of the kernel's messages is worth telling.
    pub warnings: Vec<String>,
    /// The last lines.
    pub tail: Vec<String>,
    /// Whether there was more than [`MAX_BYTES`].
    pub truncated: bool,
}

impl Console {
    /// Reads a console log.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn read(path: &Path) -> std::io::Result<Self> {
        ConsoleText::read(path).map(|text| Console::of(&text))
    }

    /// Takes it apart.
    pub fn of(text: &ConsoleText) -> Self {
        Console {
            truncated: text.truncated,
            ..Console::parse(&text.text)
        }
    }

    /// Takes console output apart.
    pub fn parse(text: &str) -> Self {
        let mut console = Console::default();
        let mut kernel = KernelLog::default();
        for line in text.lines() {
            console.line(line.trim_end_matches('\r'), &mut kernel);
        }
        kernel.finish();
        console.kernel_reports = kernel.reports;
        console.kernel_reports_dropped = kernel.reports_dropped;
        console.crash = kernel.crash;
        console.warnings = kernel.warnings;
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(TAIL_LINES);
        console.tail = lines[from..].iter().map(|l| clean(l)).collect();
        console
    }

    /// Whether all announced tests have a result, each once.
    pub fn complete(&self) -> bool {
        let expected = self.planned.map(|n| (1..=n).collect::<Vec<u32>>());
        let mut got: Vec<u32> = self.cases.iter().map(|c| c.number).collect();
        got.sort_unstable();
        self.started && expected == Some(got) && self.planned != Some(0)
    }

    /// Results that are failures.
    pub fn failures(&self) -> impl Iterator<Item = &KtapCase> {
        self.cases.iter().filter(|c| !c.ok && !c.skipped)
    }

    fn line(&mut self, line: &str, kernel: &mut KernelLog) {
        if let Some(report) = Report::from_line(line) {
            match report {
                Ok(report) if self.reports.len() < MAX_ITEMS => self.reports.push(report),
                Ok(_) | Err(_) => self.damaged += 1,
            }
        } else if line.starts_with("KTAP version ") {
            self.started = true;
        } else if let Some(reason) = line.strip_prefix("Bail out!") {
            self.bail.get_or_insert_with(|| clean(reason.trim()));
        } else if let Some(count) = line.strip_prefix("1..") {
            // A number no agent of ours reaches would make the check for completeness costly.
            let count = count.split_whitespace().next().and_then(|n| n.parse().ok());
            self.planned = self.planned.or(count.filter(|n| *n as usize <= MAX_ITEMS));
        } else if let Some(rest) = line.strip_prefix("ok ") {
            self.case(rest, true);
        } else if let Some(rest) = line.strip_prefix("not ok ") {
            self.case(rest, false);
        } else if let Some(rest) = line.strip_prefix(STEP) {
            self.last_step = rest.split_once(' ').map(|(_, name)| clean(name));
        } else {
            kernel.line(&clean(message(line)));
        }
    }

    fn case(&mut self, rest: &str, ok: bool) {
        let (number, text) = rest.split_once(' ').unwrap_or((rest, ""));
        let Ok(number) = number.parse() else { return };
        if self.cases.len() >= MAX_ITEMS {
            return;
        }
        let (name, directive) = text.split_once('#').unwrap_or((text, ""));
        let directive = directive.trim_start().to_ascii_uppercase();
        let name = clean(name.trim().trim_start_matches("- "));
        self.last_step = Some(name.clone());
        self.cases.push(KtapCase {
            number,
            name,
            ok: ok || directive.starts_with("TODO") || directive.starts_with("XFAIL"),
            skipped: directive.starts_with("SKIP"),
        });
    }
}

/// A kernel message without its time stamp and, with CONFIG_PRINTK_CALLER, its task or CPU.
fn message(line: &str) -> &str {
    let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit() || c == '.');
    let stamped = line.strip_prefix('[').and_then(|l| l.split_once(']'));
    let Some((_, text)) = stamped.filter(|(stamp, _)| digits(stamp.trim())) else {
        return line;
    };
    let caller = |caller: &str| caller.trim().strip_prefix(['T', 'C']).is_some_and(digits);
    let text = match text.strip_prefix('[').and_then(|l| l.split_once(']')) {
        Some((who, text)) if caller(who) => text,
        _ => text,
    };
    text.strip_prefix(' ').unwrap_or(text)
}

/// Without control characters: the guest shall not write escape sequences to a user's terminal.
fn clean(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .take(1000)
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "[    0.000000] Booting Linux\r\nKTAP version 1\r\n1..3\r\n\
        ok 1 boot\r\n\x20   KTAP version 1\r\n\x20   1..1\r\n\x20   not ok 1 inner\r\n\
        # staleline: {\"report\":\"process\",\"pid\":1,\"load_bias\":0}\r\n\
        not ok 2 - capture # TODO later\r\nok 3 usb # SKIP no gadget\r\n\
        [    1.000000] reboot: Power down\r\n";

    #[test]
    fn a_complete_console() {
        let c = Console::parse(GOOD);
        assert!(c.started && c.complete());
        assert_eq!(c.failures().count(), 0);
        assert_eq!(c.cases[1].name, "capture");
        assert!(c.cases[2].skipped);
        assert_eq!(
            c.reports,
            [Report::Process {
                pid: 1,
                load_bias: 0
            }]
        );
    }

    #[test]
    fn the_last_step_is_known() {
        let mut text = "KTAP version 1\r\n1..2\r\n".to_owned();
        assert_eq!(Console::parse(&text).last_step, None);
        for (line, last) in [
            ("ok 1 boot", "boot"),
            ("  1..5", "boot"),
            ("  ok 1 devices", "devices"),
            ("  # staleline: {", "devices"),
            ("[    1.0]   ok 2 other", "devices"),
        ] {
            text += &format!("{line}\r\n");
            assert_eq!(Console::parse(&text).last_step.as_deref(), Some(last));
        }
    }

    #[test]
    fn missing_results_are_incomplete() {
        for cut in [
            "KTAP version 1\r\n1..3\r\n",
            "ok 1 boot\r\n",
            "1..3\r\n",
            "ok 3 usb",
        ] {
            let c = Console::parse(&GOOD.replacen(cut, "", 1));
            assert!(!c.complete(), "without {cut:?}");
        }
        assert!(!Console::parse("KTAP version 1\n1..0\n").complete());
        assert!(!Console::parse("KTAP version 1\n1..1\nok 1 a\nok 1 a\n").complete());
    }

    #[test]
    fn trouble_is_seen() {
        let c = Console::parse(
            "[    1.5] WARNING: CPU: 0 PID: 1 at x\n\
             [    2.0] Kernel panic - not syncing: \u{1b}[31mno\n\
             Bail out! no /dev\n# staleline: {oops\nnot ok 1 a\n",
        );
        assert_eq!(
            c.kernel_reports.last().map(|r| &*r.report.headline),
            Some("Kernel panic - not syncing: [31mno")
        );
        assert_eq!(c.kernel_reports.len(), 2);
        assert_eq!(c.bail.as_deref(), Some("no /dev"));
        assert_eq!(c.damaged, 1);
        assert_eq!(c.failures().count(), 1);
    }

    #[test]
    fn the_kernel_is_understood_with_and_without_stamps() {
        for stamp in [
            "",
            "[    1.5] ",
            "[   12.345678][    T1] ",
            "[    1.5][   C0] ",
        ] {
            let lines = [
                "WARNING: inconsistent lock state",
                "Call trace:",
                " f+0x1/0x2",
            ];
            let text = lines.map(|line| format!("{stamp}{line}\r\n")).concat();
            let c = Console::parse(&text);
            assert_eq!(c.kernel_reports.len(), 1, "{stamp:?}");
            assert_eq!(c.kernel_reports[0].report.chain, ["f+0x1"], "{stamp:?}");
        }
    }

    proptest! {
        #[test]
        fn no_output_panics(text in "\\PC{0,300}") {
            let _ = Console::parse(&text).complete();
        }
    }
}
