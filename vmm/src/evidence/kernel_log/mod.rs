// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What of the kernel's messages is trouble: its reports of what went wrong in it, each with text
//! and call chain.
//!
//! Only the console is read, which any code of the guest can write to: everything here is bounded.

mod headline;
#[cfg(test)]
mod tests;
mod trace;

use staleline_results::{KernelReport, ReportClass};
pub use trace::Called;

/// Different reports kept.
const MAX_REPORTS: usize = 256;
/// Warnings kept.
const MAX_WARNINGS: usize = 1 << 12;
/// Lines of text kept of each report.
const MAX_TEXT: usize = 60;
/// Functions kept of each call chain.
const MAX_CHAIN: usize = 64;
/// Lines of the message that WARN() was given.
const MAX_MESSAGE: usize = 8;

const CUT: &str = "------------[ cut here ]";
const END: [&str; 2] = ["---[ end trace", "---[ end Kernel panic"];
const PANIC: &str = "Kernel panic - ";
const NOT_SYNCING: &str = "not syncing: ";
/// Before the instruction that a report is about (arch/arm64/kernel/process.c).
const PC: &str = "pc : ";

/// Innermost functions of call traces that only print it.
const PRINTERS: [&str; 6] = [
    "dump_backtrace",
    "show_stack",
    "dump_stack",
    "dump_stack_lvl",
    "print_report",
    "kasan_report",
];

/// How lines of reports start that say no more than registers do (arch/arm64/mm/fault.c,
/// arch/arm64/kernel/setup.c).
const NOISE: [&str; 20] = [
    "Modules linked in:",
    "Hardware name:",
    "Code:",
    "Mem abort info:",
    "ESR = ",
    "EC = ",
    "SET = ",
    "EA = ",
    "FSC = ",
    "Data abort info:",
    "ISV = ",
    "CM = ",
    "GCS = ",
    "user pgtable:",
    "swapper pgtable:",
    "Tainted: [",
    "SMP: stopping secondary CPUs",
    "Kernel Offset:",
    "CPU features:",
    "Memory Limit:",
];

/// What is worth telling, though no report: kernel/dma/debug.c, kernel/module/main.c, mm/oom_kill.c.
const TOLD: [&str; 3] = [
    "DMA-API:",
    "->init suspiciously returned ",
    "Out of memory: Killed process ",
];

/// A report as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reported {
    /// It.
    pub report: KernelReport,
    /// Its call trace, innermost function first, as the report's `chain` has it.
    pub trace: Vec<Called>,
}

/// The kernel's messages, read line by line.
#[derive(Debug, Clone, Default)]
pub struct KernelLog {
    /// Reports, in order.
    pub reports: Vec<Reported>,
    /// Reports beyond [`MAX_REPORTS`].
    pub reports_dropped: u64,
    /// First lines of what is worth telling and no report.
    pub warnings: Vec<String>,
    /// The first panic that says nothing about the kernel under test.
    pub crash: Option<String>,
    /// What WARN() or BUG() said since it has begun.
    cut: Option<Vec<String>>,
    open: Option<Open>,
    /// Whose stack is dumped.
    whose: String,
}

/// A report that is being read.
#[derive(Debug, Clone)]
struct Open {
    report: KernelReport,
    trace: Vec<Called>,
    /// Where the registers say that the CPU was.
    pc: Option<Called>,
    phase: Phase,
    /// Whether a mark will tell its end; if not, it ends with its call trace.
    marked: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Text,
    Trace,
    Rest,
}

impl KernelLog {
    /// Takes a message in, without its time stamp.
    pub fn line(&mut self, line: &str) {
        if line.starts_with(CUT) {
            self.close();
            self.cut = Some(Vec::new());
        } else if END.iter().any(|end| line.starts_with(end)) {
            self.close();
        } else if let Some(message) = line.strip_prefix(PANIC) {
            self.panic(line, message.strip_prefix(NOT_SYNCING).unwrap_or(message));
        } else if !self.headline(line) {
            self.rest(line);
        }
    }

    /// Ends reading.
    pub fn finish(&mut self) {
        self.close();
    }

    /// Begins a report if `line` is the first of one.
    fn headline(&mut self, line: &str) -> bool {
        let message = self.cut.as_deref().unwrap_or_default().join(" ");
        let Some(class) = headline::class_of(line, &message) else {
            return false;
        };
        // "Unable to handle ..." and "kernel BUG at ..." announce the "Internal error" that follows.
        if line.starts_with("Internal error: ")
            && let Some(open) = &mut self.open
            && matches!(open.report.class, ReportClass::Oops | ReportClass::Bug)
            && open.phase == Phase::Text
        {
            open.text(line);
            open.marked = true;
            return true;
        }
        let marked = self.cut.is_some()
            || matches!(
                class,
                ReportClass::Oops | ReportClass::Kasan | ReportClass::Ubsan
            );
        let headline = if message.is_empty() {
            line.to_owned()
        } else {
            format!("{line}: {message}")
        };
        self.begin(class, headline, marked);
        true
    }

    fn begin(&mut self, class: ReportClass, headline: String, marked: bool) {
        self.close();
        self.cut = None;
        self.open = Some(Open {
            report: KernelReport {
                class,
                headline,
                text: Vec::new(),
                chain: Vec::new(),
                fatal: false,
                count: 1,
                allowed: false,
                place: None,
            },
            trace: Vec::new(),
            pc: None,
            phase: Phase::Text,
            marked,
        });
    }

    /// A panic is the end of the report that led to it, or a report of its own.
    fn panic(&mut self, line: &str, message: &str) {
        // What has been read last is what led here.
        self.open = self.open.take().or_else(|| {
            let Reported { report, trace } = self.reports.pop()?;
            Some(Open {
                report,
                trace,
                pc: None,
                phase: Phase::Rest,
                marked: true,
            })
        });
        let starts = |starts: &[&str]| starts.iter().any(|start| message.starts_with(start));
        let consequence = |report: &KernelReport| {
            let died = matches!(report.class, ReportClass::Oops | ReportClass::Bug);
            let of_init = message.starts_with("Attempted to kill");
            let told = starts(&headline::CONSEQUENCES) || message.contains("panic_on_warn set");
            if of_init { died } else { died || told }
        };
        match &mut self.open {
            Some(open) if consequence(&open.report) => {
                open.report.fatal = true;
                open.text(line);
                open.marked = true;
                // Its call trace, if there is one, adds nothing.
                open.phase = Phase::Rest;
            }
            _ if starts(&headline::NOT_ITS_FAULT) => {
                self.close();
                self.crash.get_or_insert_with(|| line.to_owned());
            }
            _ => {
                self.begin(ReportClass::Panic, line.to_owned(), true);
                if let Some(open) = &mut self.open {
                    open.report.fatal = true;
                }
            }
        }
    }

    /// A line that begins nothing.
    fn rest(&mut self, line: &str) {
        if line.starts_with("CPU: ") {
            line.clone_into(&mut self.whose);
        }
        let trace = line == "Call trace:" || line == "Call Trace:";
        if let Some(open) = &mut self.open {
            if open.takes(line, trace) {
                return;
            }
            self.close();
        }
        if trace {
            // lockdep says why it gives up at a level that does not reach the console; where it
            // was then does. An allocation that fails looks alike.
            if self.crash.is_none() {
                let whose = std::mem::take(&mut self.whose);
                self.warn(format!("stack dump: {whose}"));
            }
            self.cut = None;
        } else if let Some(cut) = &mut self.cut {
            if cut.len() < MAX_MESSAGE && !is_noise(line) {
                cut.push(line.to_owned());
            }
        } else if TOLD.iter().any(|part| line.contains(part)) {
            self.warn(line.to_owned());
        }
    }

    fn close(&mut self) {
        let Some(open) = self.open.take() else {
            return;
        };
        let Open { report, trace, .. } = open;
        let mut known = self.reports.iter_mut().map(|known| &mut known.report);
        if let Some(same) = known.find(|known| known.is_like(&report)) {
            same.count = same.count.saturating_add(report.count);
            same.fatal |= report.fatal;
        } else if self.reports.len() < MAX_REPORTS {
            self.reports.push(Reported { report, trace });
        } else {
            self.reports_dropped += 1;
        }
    }

    fn warn(&mut self, warning: String) {
        if self.warnings.len() < MAX_WARNINGS {
            self.warnings.push(warning);
        }
    }
}

impl Open {
    /// Takes a line in; false if it belongs to the report no more.
    fn takes(&mut self, line: &str, trace: bool) -> bool {
        if trace {
            if self.phase == Phase::Text {
                self.phase = Phase::Trace;
                return true;
            }
            self.phase = Phase::Rest;
            return self.marked;
        }
        if self.phase == Phase::Trace {
            if let Some(called) = Called::of_line(line) {
                self.called(called);
                return true;
            }
            self.phase = Phase::Rest;
        }
        if self.phase == Phase::Rest {
            if !self.marked {
                return line.trim().is_empty();
            }
            // The sanitizers' mark; they begin with it, too.
            if line.starts_with("======") {
                return false;
            }
        }
        if let Some(pc) = line.strip_prefix(PC) {
            self.pc = Called::of_words(pc);
        }
        self.text(line);
        true
    }

    /// One more function of the call trace.
    fn called(&mut self, mut called: Called) {
        let first = self.trace.is_empty();
        let prints = first && PRINTERS.contains(&called.function.as_str());
        if prints || self.trace.len() == MAX_CHAIN {
            return;
        }
        called.exact |= match self.trace.last() {
            None => self.pc.as_ref().is_some_and(|pc| pc.is_at(&called)),
            Some(last) => last.is_vector(),
        };
        self.report.chain.push(called.text());
        self.trace.push(called);
    }

    fn text(&mut self, line: &str) {
        let text = &mut self.report.text;
        if text.len() < MAX_TEXT && !is_noise(line) {
            text.push(line.trim_end().to_owned());
        }
    }
}

/// Whether a line says nothing to who reads a report: rules, registers, code bytes.
fn is_noise(line: &str) -> bool {
    let text = line.trim();
    let rule = text.len() >= 5 && text.chars().all(|c| c == '=' || c == '-');
    // Registers: `x29: ...`, `x9 : ...`, `sp : ...`.
    let register = |name: &str| {
        let number = name.strip_prefix('x').unwrap_or_default();
        matches!(name, "sp" | "pc" | "lr" | "pstate" | "pmr_save")
            || (!number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
    };
    text.is_empty()
        || rule
        || text.contains("] pgd=")
        || text
            .split_once(':')
            .is_some_and(|(name, _)| register(name.trim()))
        || NOISE.iter().any(|start| text.starts_with(start))
}
