// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Text for people: diagnostics in the manner of a compiler, and one line of summary.

use std::fmt::Write as _;
use std::io::{self, Write};

use anstyle::{AnsiColor, Style};

use super::finding::{BOLD, ERROR, op_name, styled};
use super::kernel_report::styled_report;
use super::layout::{Body, Layout};
use super::phrases::count;
use super::{Explained, Reporter, RunEvent};
use crate::explain::CORRUPT_DATA;
use crate::result::{program, verdict};
use staleline_results::{Class, End, RunResult, Verdict};
use staleline_results::{KernelReport, Module, Program};

const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const GOOD: Style = AnsiColor::Green.on_default().bold();

/// Writes a run for people. Styles are always written: give it an output that removes them where
/// they do not belong ([`anstream`]).
pub struct Human<W> {
    out: W,
    replay: String,
    layout: Layout,
}

impl<W: Write> Human<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Self {
        Human::laid_out(out, Layout::default())
    }

    /// Writes to `out`, which has room for that.
    pub fn laid_out(out: W, layout: Layout) -> Self {
        Human {
            out,
            replay: String::new(),
            layout,
        }
    }
}

impl<W: Write> Reporter for Human<W> {
    fn event(&mut self, event: &RunEvent) -> io::Result<()> {
        match event {
            RunEvent::RunStarted { replay, .. } => self.replay.clone_from(replay),
            RunEvent::GuestPrepared { .. }
            | RunEvent::Step { .. }
            | RunEvent::GuestEnded { .. }
            | RunEvent::Output { .. } => {}
            RunEvent::Hazard {
                explained,
                consequences,
            } => {
                let text = styled(explained, consequences, &self.replay, self.layout);
                writeln!(self.out, "{text}")?;
            }
            RunEvent::KernelReport { report, may_follow } => {
                let text = styled_report(report, *may_follow, &self.replay, self.layout);
                writeln!(self.out, "{text}")?;
            }
            RunEvent::Data { data } => {
                for end in data.corrupt_ends() {
                    writeln!(self.out, "{}\n", corrupt(end, self.layout))?;
                }
            }
            RunEvent::Finished { result, .. } => {
                self.out.write_all(finish(result, self.layout).as_bytes())?;
            }
        }
        self.out.flush()
    }
}

/// A diagnostic, and what follows from its cause, without styles.
pub fn plain(explained: &Explained, consequences: &[Explained], replay: &str) -> String {
    let text = styled(explained, consequences, replay, Layout::default());
    anstream::adapter::strip_str(&text).to_string()
}

/// A report of the guest's kernel, without styles. `may_follow`: incoherency was found too.
pub fn plain_report(report: &KernelReport, may_follow: bool, replay: &str) -> String {
    let text = styled_report(report, may_follow, replay, Layout::default());
    anstream::adapter::strip_str(&text).to_string()
}

/// What was wrong at an end, without styles.
pub fn plain_corrupt(end: &End) -> String {
    let text = corrupt(end, Layout::default());
    anstream::adapter::strip_str(&text).to_string()
}

fn corrupt(end: &End, layout: Layout) -> String {
    let at = match end.first_corrupt {
        Some(at) => format!(", the first at stream offset {at}"),
        None => String::new(),
    };
    let what = format!(
        "error[{CORRUPT_DATA}]: {} of {} bytes checked at {} were wrong{at}",
        end.corrupt, end.checked, end.name
    );
    let head = format!("error[{CORRUPT_DATA}]");
    let what = layout.wrapped(&what, 0);
    let rest = what.strip_prefix(&head).unwrap_or(&what);
    format!(
        "{ERROR}{head}{ERROR:#}{BOLD}{rest}{BOLD:#}\n  more      `staleline explain {CORRUPT_DATA}` tells more"
    )
}

fn finish(r: &RunResult, layout: Layout) -> String {
    let mut text = String::new();
    // Hazards, corrupt data and the kernel's reports have had their say.
    let shown = verdict::evidence(r).len();
    if r.verdict == Verdict::InfraError || shown == 0 {
        for reason in &r.reasons {
            let _ = writeln!(text, "{ERROR}error{ERROR:#}: {reason}");
        }
    } else {
        for reason in r.reasons.iter().skip(shown) {
            let _ = writeln!(text, "{WARNING}besides{WARNING:#}: {reason}");
        }
    }
    for warning in r.guest.warnings.iter().take(5) {
        let _ = writeln!(text, "{WARNING}guest{WARNING:#}: {warning}");
    }
    for one in &r.injected {
        let what = match one.at {
            Some(at) => format!("took place, {at} accesses after power-on"),
            None => "did not happen".into(),
        };
        let _ = writeln!(text, "note: fault {} {what}", one.fault);
    }
    if let Some(d) = &r.drop_maintenance {
        let nth = match (d.nth, d.of) {
            (Some(k), Some(of)) => format!(" ({k} of {of} on DMA memory)"),
            _ => String::new(),
        };
        let operations = &r.maintenance.operations;
        let what = match operations
            .iter()
            .find(|o| o.dropped && o.number == d.number)
        {
            Some(o) => format!(
                "was suppressed: {} of {} from {} on, by {}{}",
                op_name(o.op),
                count(o.lines, "line"),
                o.first_pa,
                o.routine,
                if o.caller.is_empty() {
                    String::new()
                } else {
                    format!(" <- {}", o.caller)
                }
            ),
            None => "was not met".into(),
        };
        let _ = writeln!(
            text,
            "note: maintenance operation @{}{nth} {what}",
            d.number
        );
    }
    if let Some(tracing) = r.tracing.as_ref().filter(|t| !t.same) {
        let why = match &tracing.trouble {
            Some(trouble) => format!("failed: {trouble}"),
            None => format!(
                "was another run ({})",
                tracing.run_hash.as_deref().unwrap_or("without hash")
            ),
        };
        let _ = writeln!(
            text,
            "{WARNING}note{WARNING:#}: the second pass, for call chains of loads and stores, {why}"
        );
    }
    if let Some(checked) = r.self_check {
        let _ = writeln!(
            text,
            "note: {checked} address translations compared with QEMU's own, all the same"
        );
    }
    if let Some(restored) = r.restored {
        let _ = writeln!(
            text,
            "note: machine saved and restored {restored} times, each time to the same state"
        );
    }
    for note in &r.notes {
        let _ = writeln!(text, "note: {note}");
    }
    let m = &r.maintenance;
    for (what, listed, total) in [
        ("hazards", r.hazards_listed, r.hazards_total),
        (
            "maintenance operations on DMA memory",
            m.operations_listed,
            m.operations_total,
        ),
    ] {
        if listed < total {
            let _ = writeln!(
                text,
                "note: result.json lists {listed} of {total} {what}; its sums are over all"
            );
        }
    }
    let style = match r.verdict {
        Verdict::Pass => GOOD,
        Verdict::Fail | Verdict::InfraError => ERROR,
    };
    let again_for_chains = match r.tracing.as_ref().map_or(0, |t| t.wall_ms) {
        0 => String::new(),
        ms => format!(", and {} for call chains", seconds(ms)),
    };
    let head = format!("{style}{}{style:#} {}\n", r.verdict.name(), r.scenario);
    let mut summary = Body::new(head, layout);
    let program = r.guest.program.as_ref();
    // Of a shell that people have left there is nothing to say.
    let is_left = |p: &Program| p.is_open() && r.attended.typed.is_some();
    if let Some(program) = program.filter(|p| !is_left(p)) {
        summary.line("program", program::ended(program));
        if let Some(test) = &program.selftest {
            summary.line("selftest", program::results(test));
        }
    }
    if r.data.planned == 0 && !r.guest.modules.is_empty() {
        let all: Vec<String> = r.guest.modules.iter().map(inserted).collect();
        summary.line("modules", all.join(", "));
    } else if program.is_none() || r.data.planned > 0 {
        summary.line("data", checked(r));
    }
    summary.line("hazards", hazards(r));
    summary.line(
        "cost",
        format!(
            "{} on DMA memory, {} elsewhere; {} lines needed, {} redundant, {} never transferred",
            count(m.operations_total, "maintenance operation"),
            m.elsewhere_total,
            m.needed,
            m.redundant,
            m.untouched,
        ),
    );
    summary.line(
        "run",
        format!(
            "{}, cache {}, seed {}, {}{again_for_chains}",
            r.run_hash.as_deref().unwrap_or("without hash"),
            r.cache,
            r.seed,
            seconds(r.wall_ms),
        ),
    );
    layout.folded(&text) + &summary.text
}

/// What became of the data.
pub(in crate::report) fn checked(r: &RunResult) -> String {
    let again = match r.data.ends.iter().map(|e| e.repeated).sum() {
        0 => String::new(),
        n => format!(", {} again", count(n, "byte")),
    };
    let data = &r.data;
    format!(
        "{} of {} bytes checked{again}, {} corrupt",
        data.bytes, data.planned, data.corrupt_bytes
    )
}

/// What became of a module, in short.
fn inserted(module: &Module) -> String {
    let became = match (module.ended, module.error) {
        (false, _) => "did not come in",
        (true, None) => "is in",
        (true, Some(_)) => "failed",
    };
    format!("{} {became}", module.name)
}

/// How many findings fail the run, of how many causes, and how many are only told.
pub(in crate::report) fn hazards(r: &RunResult) -> String {
    let copies = r.diagnostics.iter().filter(|d| d.class == Class::StaleCopy);
    let copies = copies.map(|d| d.findings).sum::<u64>();
    let hazards = r.hazards_total.saturating_sub(copies);
    let mut others = match hazards {
        0 => "none".to_owned(),
        n => n.to_string(),
    };
    let causes = r.causes().filter_map(|i| r.diagnostics.get(i));
    let causes = causes.filter(|d| d.class == Class::Error).count() as u64;
    // Without anything to fold, each diagnostic has its heading, and to count them is no news.
    if causes < r.errors().count() as u64 {
        others += &format!(" of {}", count(causes, "cause"));
    }
    // Such a run fails, too: who reads the exit code alone should know why.
    if causes > 0 && !r.errors().any(|d| d.manifested) {
        others += ", latent: no byte was wrong this time, and it fails all the same";
    }
    match copies {
        0 => others,
        1 => format!("{others} (and 1 stale copy)"),
        n => format!("{others} (and {n} stale copies)"),
    }
}

fn seconds(ms: u64) -> String {
    format!("{}.{:03} s", ms / 1000, ms % 1000)
}
