// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Text for people: diagnostics in the manner of a compiler, and one line of summary.

use std::fmt::{self, Write as _};
use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use staleline_devices::coherency::hazard::HazardKind;
use staleline_devices::cpu::CacheOp;
use staleline_devices::dma::Direction;

use super::{Reporter, RunEvent};
use crate::names;
use crate::result::verdict;
use crate::result::{
    Buffer, Diagnostic, End, HazardEntry, LastMaintenance, Party, RunResult, TransferRef, Verdict,
};
use crate::run::kernel_log::{KERNEL_REPORT, KernelReport};

const ERROR: Style = AnsiColor::Red.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const GOOD: Style = AnsiColor::Green.on_default().bold();
const LABEL: Style = AnsiColor::Cyan.on_default();
const BOLD: Style = Style::new().bold();

/// The line that users copy: it is not broken.
const REPLAY: &str = "replay";

/// Where the text after a label starts.
const COLUMN: usize = 12;

/// Writes a run for people. Styles are always written: give it an output that removes them where
/// they do not belong ([`anstream`]).
pub struct Human<W> {
    out: W,
    replay: String,
}

impl<W: Write> Human<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Self {
        Human {
            out,
            replay: String::new(),
        }
    }
}

impl<W: Write> Reporter for Human<W> {
    fn event(&mut self, event: &RunEvent) -> io::Result<()> {
        match event {
            RunEvent::RunStarted { replay, .. } => self.replay.clone_from(replay),
            RunEvent::Step { .. } | RunEvent::GuestEnded { .. } => {}
            RunEvent::Hazard {
                diagnostic,
                finding,
                buffers,
            } => {
                let text = styled(diagnostic, finding, buffers, &self.replay);
                writeln!(self.out, "{text}")?;
            }
            RunEvent::KernelReport { report } => {
                writeln!(self.out, "{}", styled_report(report, &self.replay))?;
            }
            RunEvent::Data { data } => {
                for end in data.corrupt_ends() {
                    writeln!(self.out, "{}\n", corrupt(end))?;
                }
            }
            RunEvent::Finished { result, .. } => {
                self.out.write_all(finish(result).as_bytes())?;
            }
        }
        self.out.flush()
    }
}

/// A diagnostic without styles.
pub fn plain(
    diagnostic: &Diagnostic,
    finding: &HazardEntry,
    buffers: &[Buffer],
    replay: &str,
) -> String {
    anstream::adapter::strip_str(&styled(diagnostic, finding, buffers, replay)).to_string()
}

/// A report of the guest's kernel, without styles.
pub fn plain_report(report: &KernelReport, replay: &str) -> String {
    anstream::adapter::strip_str(&styled_report(report, replay)).to_string()
}

/// Lines of the kernel's own text that are shown; the result has all.
const SHOWN_TEXT: usize = 12;
/// Functions of its call trace that are shown.
const SHOWN_CHAIN: usize = 12;

fn styled_report(report: &KernelReport, replay: &str) -> String {
    let head = format!("{ERROR}error[{KERNEL_REPORT}]{ERROR:#}");
    let times = match report.count {
        0 | 1 => String::new(),
        n => format!(", {n} times"),
    };
    let mut body = Body(format!(
        "{head}{BOLD}: {}{times}{BOLD:#}\n",
        report.headline
    ));
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
        "",
        format!("`staleline explain {KERNEL_REPORT}` tells more"),
    );
    body.line(REPLAY, replay);
    body.0
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

/// Lines of a diagnostic below its headline.
struct Body(String);

impl Body {
    fn line(&mut self, label: &str, text: impl fmt::Display) {
        let mut text = text.to_string();
        if label != REPLAY {
            text = wrapped(&text);
        }
        let continued = format!("\n{:COLUMN$}", "");
        let text = text.replace('\n', &continued);
        // Writing to a string cannot fail.
        let pad = COLUMN.saturating_sub(3 + label.len());
        let _ = writeln!(self.0, "  {LABEL}{label}{LABEL:#} {:pad$}{text}", "");
    }
}

fn styled(d: &Diagnostic, f: &HazardEntry, buffers: &[Buffer], replay: &str) -> String {
    let head = format!("{ERROR}error[{}]{ERROR:#}", d.kind.name());
    let mut body = Body(format!("{head}{BOLD}: {}{BOLD:#}\n", headline(d, f)));
    body.line("buffer", extent(d, buffers));
    if !matches!(f.writer, Party::Unknown) {
        body.line("written", party(&f.writer));
    }
    let told = |party: &Party| matches!(party, Party::Cpu { place } if Some(place) == f.cached_by.as_ref());
    if let Some(place) = &f.cached_by
        && !told(&f.writer)
        && !told(&f.reader)
    {
        body.line("cached by", place);
    }
    let label = match d.kind {
        HazardKind::MissingClean | HazardKind::MissingInvalidate => "read by",
        HazardKind::WritebackClobber => "dirty by",
        HazardKind::DiscardedWrite => "lost by",
        HazardKind::MissingBarrier | HazardKind::MismatchedAlias | HazardKind::Ownership => {
            "met by"
        }
    };
    if !matches!(f.reader, Party::Unknown) {
        let others = match d.other_readers {
            0 => String::new(),
            1 => "\nand 1 other place".into(),
            n => format!("\nand {n} other places"),
        };
        body.line(label, format!("{}{others}", party(&f.reader)));
    }
    body.line("missing", format!("{}{}", f.missing, last(f)));
    body.line("help", &d.help);
    body.line(
        "",
        format!("`staleline explain {}` tells more", d.kind.name()),
    );
    body.line(REPLAY, replay);
    body.0
}

fn headline(d: &Diagnostic, f: &HazardEntry) -> String {
    let lines = count(d.lines, "line");
    let transfers = match d.findings {
        0 | 1 => String::new(),
        n => format!(", in {n} transfers"),
    };
    let (writer, reader) = (who(&f.writer), who(&f.reader));
    let what = match d.kind {
        HazardKind::MissingClean => {
            format!(
                "{reader} read {lines} that {writer} had written and nobody had cleaned in time"
            )
        }
        HazardKind::MissingInvalidate => format!("{reader} read {lines} that {writer} had written"),
        HazardKind::WritebackClobber => format!(
            "{} wrote {lines} that still had uncleaned data in the cache",
            f.master
        ),
        HazardKind::DiscardedWrite => {
            format!("an invalidate threw away {lines} that {writer} had written")
        }
        HazardKind::MissingBarrier => format!(
            "{} was started before maintenance of {lines} had completed",
            f.master
        ),
        HazardKind::MismatchedAlias => {
            format!("cacheable and non-cacheable views of {lines} disagree")
        }
        HazardKind::Ownership => format!(
            "{reader} touched {lines} while a transfer of {} was in flight",
            f.master
        ),
    };
    what + &transfers
}

fn who(party: &Party) -> String {
    match party {
        Party::Unknown => "somebody unknown".into(),
        Party::Cpu { place } if place.kernel => "the CPU".into(),
        Party::Cpu { .. } => "user space".into(),
        Party::Device { master, snoops, .. } => {
            let how = if *snoops { "snooping" } else { "non-snooping" };
            format!("{master} ({how})")
        }
    }
}

fn party(party: &Party) -> String {
    match party {
        Party::Unknown => "unknown".into(),
        Party::Cpu { place } => place.to_string(),
        Party::Device {
            master, transfer, ..
        } => match transfer {
            Some(t) => format!("{master}, {}", transfer_text(t)),
            None => format!("{master}, descriptors or events"),
        },
    }
}

fn transfer_text(t: &TransferRef) -> String {
    let way = match t.direction {
        Direction::FromMemory => "from",
        Direction::ToMemory => "to",
    };
    let descriptor = match t.descriptor.0 {
        0 => String::new(),
        _ => format!(", descriptor at {}", t.descriptor),
    };
    let frame = t.frame.map(|f| format!(" (frame {f})")).unwrap_or_default();
    format!(
        "transfer #{}{frame}: {} bytes {way} {}, channel {}{descriptor}",
        t.id, t.len, t.pa, t.channel
    )
}

fn extent(d: &Diagnostic, buffers: &[Buffer]) -> String {
    let mut text = String::new();
    if let Some(first) = buffers.first() {
        let list: Vec<String> = buffers.iter().map(|b| b.index.to_string()).collect();
        let (plural, each, order) = match buffers {
            [one] => ("", "", format!("allocated {}", ordinal(one.index))),
            _ => ("s", " each", "by order of allocation".into()),
        };
        let attached = match &first.attached[..] {
            [] => String::new(),
            some => format!(", attached to {}", some.join(" and ")),
        };
        // Without extents, it was the order of its frames that told.
        let used = match first.extents[..] {
            [] => ", known by order of use",
            _ => "",
        };
        text = format!(
            "DMABUF{plural} {} ({}, {} bytes{each}, {order}{attached}{used}), ",
            list.join(", "),
            first.exporter,
            first.bytes
        );
    }
    let _ = writeln!(text, "pa {}..{}", d.first_pa, d.end_pa);
    let _ = if d.manifested {
        write!(
            text,
            "manifested: {} of {} lines, {} wrong",
            d.manifested_lines,
            d.lines,
            count(d.wrong_bytes, "byte")
        )
    } else {
        write!(
            text,
            "latent: no byte was wrong this time; what the cache held made up for it"
        )
    };
    text
}

/// `first` for 0.
fn ordinal(index: u32) -> String {
    match index {
        0 => "first".into(),
        1 => "second".into(),
        2 => "third".into(),
        n => format!("as number {}", u64::from(n) + 1),
    }
}

/// What is known of maintenance, where it matters.
fn last(f: &HazardEntry) -> String {
    match (&f.last_maintenance, f.kind) {
        (Some(last), _) => format!(
            ";\nlast maintenance of these lines: {}",
            maintenance(last, f)
        ),
        (None, HazardKind::MissingBarrier | HazardKind::Ownership) => String::new(),
        (None, _) => ";\nthere was no maintenance of these lines before".into(),
    }
}

fn op_name(op: CacheOp) -> &'static str {
    match op {
        CacheOp::Clean => "clean",
        CacheOp::Invalidate => "invalidate",
        CacheOp::CleanInvalidate => "clean+invalidate",
    }
}

fn maintenance(last: &LastMaintenance, f: &HazardEntry) -> String {
    let op = op_name(last.op);
    let when = match (f.written_at, last.at) {
        _ if in_flight(f, last.at) => {
            ", while the transfer was in flight, for which it does not count"
        }
        (0, _) => "",
        (written, at) if at < written => ", before the write",
        _ => ", after the write",
    };
    format!("{op} by {}{when}", last.place)
}

/// Whether the transfer that the finding is about was under way at `time`.
fn in_flight(f: &HazardEntry, time: u64) -> bool {
    let owns = |party: &Party| match party {
        Party::Device {
            snoops: false,
            transfer: Some(t),
            ..
        } => t.opened_at <= time && t.closed_at.is_none_or(|end| time < end),
        _ => false,
    };
    owns(&f.writer) || owns(&f.reader)
}

fn corrupt(end: &End) -> String {
    let at = match end.first_corrupt {
        Some(at) => format!(", the first at stream offset {at}"),
        None => String::new(),
    };
    format!(
        "{ERROR}error[corrupt-data]{ERROR:#}{BOLD}: {} of {} bytes checked at {} were wrong{at}\
         {BOLD:#}",
        end.corrupt, end.checked, end.name
    )
}

fn finish(r: &RunResult) -> String {
    let mut text = String::new();
    // Hazards, corrupt data and the kernel's reports have had their say.
    let told = verdict::evidence(r).len();
    if r.verdict == Verdict::InfraError || told == 0 {
        for reason in &r.reasons {
            let _ = writeln!(text, "{ERROR}error{ERROR:#}: {reason}");
        }
    } else {
        for reason in r.reasons.iter().skip(told) {
            let _ = writeln!(text, "{WARNING}besides{WARNING:#}: {reason}");
        }
    }
    for warning in r.guest.warnings.iter().take(5) {
        let _ = writeln!(text, "{WARNING}guest{WARNING:#}: {warning}");
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
    for note in &r.notes {
        let _ = writeln!(text, "note: {note}");
    }
    let m = &r.maintenance;
    for (what, listed, total) in [
        ("hazards", r.hazards_listed, r.hazards_total),
        (
            "maintenance operations",
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
    let again = match r.data.ends.iter().map(|e| e.repeated).sum() {
        0 => String::new(),
        n => format!(", {} again", count(n, "byte")),
    };
    let _ = writeln!(
        text,
        "{style}{}{style:#} {}: {} of {} bytes checked{again}, {} corrupt; {}; maintenance on {} \
         operations: {} lines needed, {} redundant, {} never transferred; cache {}, seed {}, run {}, {}.{:03} s",
        r.verdict.name(),
        r.scenario,
        r.data.bytes,
        r.data.planned,
        r.data.corrupt_bytes,
        count(r.hazards_total, "hazard"),
        m.operations_total + m.elsewhere_total,
        m.needed,
        m.redundant,
        m.untouched,
        names::name(&r.cache),
        r.seed,
        r.run_hash.as_deref().unwrap_or("without hash"),
        r.wall_ms / 1000,
        r.wall_ms % 1000,
    );
    text
}

fn count(n: u64, what: &str) -> String {
    match n {
        1 => format!("1 {what}"),
        _ => format!("{n} {what}s"),
    }
}

/// Breaks text into lines that fit beside the labels of a terminal of 100 columns.
fn wrapped(text: &str) -> String {
    let options = textwrap::Options::new(100 - COLUMN)
        .break_words(false)
        .word_splitter(textwrap::WordSplitter::NoHyphenation);
    textwrap::fill(text, options)
}
