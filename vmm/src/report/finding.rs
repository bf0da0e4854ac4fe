// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A diagnostic for people, in the manner of a compiler: what is wrong, what is missing and what to
//! do first; then what the memory is, and the history of the line.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use staleline_results::{
    Buffer, CacheOp, Class, Diagnostic, Direction, Event, HazardKind, Party, Place, StartedBy,
    Step, TransferRef,
};

use super::Explained;
use super::fold::{self, ChainLine};
use super::headline::headline;
use super::layout::{Body, LABEL, Layout, REPLAY};
use super::phrases::{count, who};
use crate::result::advice::accuses_the_tree;

pub(super) const ERROR: Style = AnsiColor::Red.on_default().bold();
const NOTE: Style = AnsiColor::Green.on_default().bold();
const MARK: Style = AnsiColor::Yellow.on_default().bold();
pub(super) const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();

/// Bytes per cache line.
const LINE: u64 = 64;

pub(super) fn styled(
    explained: &Explained,
    consequences: &[Explained],
    replay: &str,
    layout: Layout,
) -> String {
    let (d, f) = (&explained.diagnostic, &explained.finding);
    let name = d.topic();
    let (style, level) = match d.class {
        Class::Error => (ERROR, "error"),
        Class::StaleCopy => (NOTE, "note"),
    };
    let latent = match (d.manifested, d.class) {
        (false, Class::Error) => "latent: ",
        _ => "",
    };
    let head = format!("{level}[{name}]");
    let what = layout.wrapped(&format!("{head}: {latent}{}", headline(d, f)), 0);
    let rest = what.strip_prefix(&head).unwrap_or(&what);
    let head = format!("{style}{head}{style:#}{BOLD}{rest}{BOLD:#}\n");
    let mut body = Body::new(head, layout);
    // That the tree lies is the answer; the rest follows from it.
    if accuses_the_tree(&d.advice) {
        because(&mut body, d);
    }
    body.line("missing", &f.missing);
    body.line("help", &d.help);
    if !accuses_the_tree(&d.advice) {
        because(&mut body, d);
    }
    body.line("buffer", extent(d, &explained.buffers));
    if !consequences.is_empty() {
        let list: Vec<String> = consequences.iter().map(in_short).collect();
        let head = "by the same cause, told in full in result.json:";
        body.line("also", format!("{head}\n{}", list.join("\n")));
    }
    history(&mut body, d);
    body.line("more", format!("`staleline explain {name}` tells more"));
    body.line(REPLAY, replay);
    body.text
}

fn because(body: &mut Body, d: &Diagnostic) {
    for note in &d.notes {
        body.line("because", note);
    }
}

/// A consequence of what is told in full: what, where, and how much was wrong.
pub(in crate::report) fn in_short(explained: &Explained) -> String {
    let d = &explained.diagnostic;
    let buffers = numbers(&explained.buffers);
    let buffers = match buffers.is_empty() {
        true => String::new(),
        false => format!("{buffers}, "),
    };
    let lines = count(d.lines, "line");
    let wrong = match d.manifested {
        true => format!("{lines}, {} wrong", count(d.wrong_bytes, "byte")),
        false => format!("{lines}, latent"),
    };
    let (from, to) = (d.first_pa, d.end_pa);
    format!("{} at {buffers}pa {from}..{to} ({wrong})", d.topic())
}

/// DMABUFs by number; nothing if there are none.
fn numbers(buffers: &[Buffer]) -> String {
    let list: Vec<String> = buffers.iter().map(|b| b.index.to_string()).collect();
    match list.len() {
        0 => String::new(),
        1 => format!("DMABUF {}", list.join("")),
        _ => format!("DMABUFs {}", list.join(", ")),
    }
}

pub(in crate::report) fn extent(d: &Diagnostic, buffers: &[Buffer]) -> String {
    let mut text = String::new();
    if let Some(first) = buffers.first() {
        let (each, order) = match buffers {
            [one] => ("", format!("allocated {}", ordinal(one.index))),
            _ => (" each", "by order of allocation".into()),
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
            "{} ({}, {} bytes{each}, {order}{attached}{used})\n",
            numbers(buffers),
            first.exporter,
            first.bytes
        );
    }
    let _ = writeln!(text, "pa {}..{}", d.first_pa, d.end_pa);
    scattered(&mut text, d);
    let _ = if d.manifested {
        write!(
            text,
            "manifested: {} of {} lines ({LINE} bytes each), {} wrong",
            d.manifested_lines,
            d.lines,
            count(d.wrong_bytes, "byte")
        )
    } else {
        let luck = match d.kind {
            HazardKind::Ownership => "the two happened not to meet",
            HazardKind::SignalledEarly => "whoever waited happened not to be that quick",
            HazardKind::MissingBarrier => "the accesses happened to come in the right order",
            _ => "the cache happened to hold, or to have written back, the right ones",
        };
        write!(text, "latent: no byte was wrong this time, for {luck}")
    };
    text
}

/// Stretches of memory that are shown.
const STRETCHES: usize = 6;

/// Where lines are that are not all in one stretch.
fn scattered(text: &mut String, d: &Diagnostic) {
    if d.stretches.len() < 2 {
        return;
    }
    for s in d.stretches.iter().take(STRETCHES) {
        let buffer = s.buffer.map(|index| format!(", DMABUF {index}"));
        let (from, to) = (s.first_pa, s.end_pa);
        let lines = count(s.lines, "line");
        let findings = match s.findings {
            1 => String::new(),
            n => format!(", in {n} findings"),
        };
        let buffer = buffer.unwrap_or_default();
        let _ = writeln!(text, "  {from}..{to}{buffer}: {lines}{findings}");
    }
    let beyond = d.stretches.len().saturating_sub(STRETCHES) as u64;
    if let Some(more) = d.more_stretches.checked_add(beyond).filter(|n| *n > 0) {
        let _ = writeln!(text, "  and {more} more in result.json");
    }
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

fn history(body: &mut Body, d: &Diagnostic) {
    if d.history.is_empty() {
        return;
    }
    body.line(
        "history",
        "of the first line (@: CPU accesses since power-on, >: driver)",
    );
    let last = d.history.len();
    for (n, step) in d.history.iter().enumerate() {
        let others = match (n + 1 == last, d.other_readers) {
            (false, _) | (_, 0) => String::new(),
            (_, 1) => ", and at 1 other place".into(),
            (_, n) => format!(", and at {n} other places"),
        };
        let text = format!("@{} {}{others}", step.at, in_words(step));
        step_line(body, n + 1, &text);
        if let Party::Cpu { place, .. } = &step.who {
            chain(body, place);
        }
    }
}

/// Where the text of a step starts, and its chain.
const STEP: usize = 7;
const FRAME: usize = 9;

fn step_line(body: &mut Body, number: usize, text: &str) {
    let text = body.layout.wrapped(text, STEP);
    let text = text.replace('\n', &format!("\n{:STEP$}", ""));
    let _ = writeln!(body.text, "  {LABEL}{number:>3}.{LABEL:#} {text}");
}

pub(super) fn chain(body: &mut Body, place: &Place) {
    for line in fold::chain(place) {
        let _ = match line {
            ChainLine::Folded { count: n, of } => {
                writeln!(
                    body.text,
                    "{:FRAME$}{DIM}... {} of {of}{DIM:#}",
                    "",
                    count(n as u64, "frame")
                )
            }
            ChainLine::Function {
                name,
                place,
                driver,
                text,
                ..
            } => {
                let mark = match driver {
                    true => format!("{:width$}{MARK}>{MARK:#} ", "", width = FRAME - 2),
                    false => format!("{:FRAME$}", ""),
                };
                let place = place.unwrap_or_default();
                let whole = FRAME + name.len() + 2 + place.len();
                let gap = match (place.is_empty(), whole <= body.layout.width()) {
                    (true, _) => String::new(),
                    (false, true) => "  ".into(),
                    (false, false) => format!("\n{:width$}", "", width = FRAME + 2),
                };
                let source = text.map_or(String::new(), |text| {
                    let text = body.layout.wrapped(&text, FRAME + 4);
                    let text = text.replace('\n', &format!("\n{:width$}", "", width = FRAME + 4));
                    format!("\n{:FRAME$}{DIM}  | {DIM:#}{text}", "")
                });
                writeln!(body.text, "{mark}{name}{gap}{DIM}{place}{DIM:#}{source}")
            }
        };
    }
}

/// A step in words.
pub(in crate::report) fn in_words(step: &Step) -> String {
    let who = whom(&step.who);
    match &step.what {
        Event::PowerOn => "power-on: firmware may have left the line dirty in the cache".into(),
        Event::Stored => format!("written through the cache by {who}"),
        Event::Written if matches!(step.who, Party::Cpu { .. }) => {
            format!("written past the cache by {who}")
        }
        Event::Written => format!("written in memory by {who}"),
        Event::Cached => format!("brought into the cache by {who}"),
        Event::Maintained {
            op,
            number,
            first_pa,
            lines,
            barrier,
            suppressed,
        } => {
            let what = match suppressed {
                true => format!("suppressed on purpose: {}", op_name(*op)),
                false => done(*op).to_owned(),
            };
            let then = match barrier {
                Some(barrier) => format!(", then {barrier}"),
                None if *suppressed => String::new(),
                None => ", with no barrier since".into(),
            };
            format!(
                "{what} by {who}: operation @{number} on {} from {first_pa} on{then}",
                count(*lines, "line")
            )
        }
        Event::Started { by } => {
            let by = match by {
                StartedBy::Doorbell => "by a register write",
                StartedBy::Word => "by a word in memory",
                StartedBy::Itself => "by nobody",
            };
            format!("{} was started {by}", device(&step.who))
        }
        Event::Opened => format!("{} began", transfer(&step.who)),
        Event::Closed => match &step.who {
            Party::Device {
                master,
                transfer: Some(t),
                ..
            } => format!("transfer #{}{} of {master} was over", t.id, frame(t)),
            _ => "a transfer was over".into(),
        },
        Event::StoredStale => format!("stored into an older copy of the line by {who}"),
        Event::Read => format!("read by {who}"),
        Event::Accessed => match &step.who {
            Party::Device {
                transfer: Some(t), ..
            } if t.direction == Direction::ToMemory => format!("written by {who}"),
            _ => format!("read by {who}"),
        },
        Event::WrittenOver => {
            format!("written in memory, below uncleaned data in the cache, by {who}")
        }
        Event::Signalled => format!("fence of the transfer signalled by {who}"),
        Event::MadeVisible => format!("made visible only now, by {who}"),
        Event::Discarded => format!("invalidated, and the write with it, by {who}"),
        Event::ReadPast => format!("accessed past the cache by {who}"),
        Event::Touched => format!("touched by {who}"),
    }
}

fn whom(party: &Party) -> String {
    match party {
        Party::Unknown => "somebody unknown".into(),
        Party::Cpu { cpu, place } => {
            let mut text = who(party);
            if let Some(cpu) = cpu {
                let _ = write!(text, " on CPU {cpu}");
            }
            if let Some(thread) = place.thread() {
                let _ = write!(text, ", {thread}");
            }
            text
        }
        Party::Device { transfer, .. } => match transfer {
            Some(t) => format!("{}, transfer #{}{}", who(party), t.id, frame(t)),
            None => format!("{}, descriptors or events", who(party)),
        },
    }
}

fn frame(t: &TransferRef) -> String {
    t.frame.map(|f| format!(" (frame {f})")).unwrap_or_default()
}

fn device(party: &Party) -> &str {
    match party {
        Party::Device { master, .. } => master,
        _ => "the device",
    }
}

fn transfer(party: &Party) -> String {
    let Party::Device {
        master,
        transfer: Some(t),
        ..
    } = party
    else {
        return "a transfer".into();
    };
    let way = match t.direction {
        Direction::FromMemory => "from",
        Direction::ToMemory => "to",
    };
    let descriptor = match t.descriptor.0 {
        0 => String::new(),
        _ => format!(", descriptor at {}", t.descriptor),
    };
    let bus = t
        .bus
        .map_or(String::new(), |bus| format!(", {bus} on its bus"));
    format!(
        "transfer #{}{} of {master} ({} bytes {way} {}{bus}, channel {}{descriptor})",
        t.id,
        frame(t),
        t.len,
        t.pa,
        t.channel
    )
}

pub(in crate::report) fn op_name(op: CacheOp) -> &'static str {
    match op {
        CacheOp::Clean => "clean",
        CacheOp::Invalidate => "invalidate",
        CacheOp::CleanInvalidate => "clean+invalidate",
    }
}

fn done(op: CacheOp) -> &'static str {
    match op {
        CacheOp::Clean => "cleaned",
        CacheOp::Invalidate => "invalidated",
        CacheOp::CleanInvalidate => "cleaned and invalidated",
    }
}
