// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The timeline of a finding's lines as a drawing, time across and lines down, and the same in words.
//!
//! A row is as high as the logarithm of its lines says. Within a row, a border between two states goes from where
//! the step came to the first line to where it came to the last: what a device does line by line is a slope.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use staleline_devices::cpu::CacheOp;

use super::axis::{Axis, spread};
use super::lanes::{Mark, Row, Rows, Span, State};
use crate::report::finding::op_name;
use crate::report::phrases::count;
use crate::result::words::Word as _;

/// Room for addresses on the left.
const LEFT: f64 = 132.0;
/// Room for marks that are moved, and the last time, on the right.
const RIGHT: f64 = 76.0;
/// Room for the history's numbers above.
const TOP: f64 = 30.0;
/// Room for times below.
const BOTTOM: f64 = 24.0;
/// Of a row of one line, and for each doubling.
const ROW: f64 = 28.0;
const PER_OCTAVE: f64 = 7.0;
const GAP: f64 = 6.0;
/// Height of the strip that says that lines are cached.
const STRIP: f64 = 5.0;
/// Width of marks, numbers and times.
const MARK: f64 = 20.0;
const NUMBER: f64 = 18.0;
const TIME: f64 = 92.0;

/// A drawing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figure {
    /// Pixels.
    pub width: f64,
    /// Pixels.
    pub height: f64,
    /// Rows, from top to bottom.
    pub rows: Vec<Drawn>,
    /// The history's steps.
    pub numbers: Vec<Number>,
    /// Times on the axis.
    pub times: Vec<Time>,
    /// Where the plot ends below.
    pub floor: f64,
    /// What is not shown, a sentence each.
    pub lacks: Vec<String>,
}

/// A row.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawn {
    /// Address of the first line.
    pub address: String,
    /// How many lines.
    pub lines: String,
    /// Where the two stand.
    pub label: f64,
    /// States, from left to right.
    pub states: Vec<Shape>,
    /// Where it is cached.
    pub strips: Vec<Strip>,
    /// What happened.
    pub marks: Vec<Glyph>,
    /// The same in words.
    pub steps: Vec<Worded>,
}

/// A state.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// Corners.
    pub points: String,
    /// What it is, for the style sheet.
    pub class: &'static str,
    /// In words.
    pub title: &'static str,
}

/// A time during which lines are cached.
#[derive(Debug, Clone, PartialEq)]
pub struct Strip {
    /// Left end, top, and width.
    pub x: f64,
    /// See `x`.
    pub y: f64,
    /// See `x`.
    pub width: f64,
}

/// A step.
#[derive(Debug, Clone, PartialEq)]
pub struct Glyph {
    /// Its middle.
    pub x: f64,
    /// See `x`.
    pub y: f64,
    /// What it shows.
    pub letter: &'static str,
    /// What it is, for the style sheet.
    pub class: &'static str,
    /// In words.
    pub title: String,
}

/// A step in words.
#[derive(Debug, Clone, PartialEq)]
pub struct Worded {
    /// When.
    pub at: String,
    /// What.
    pub what: String,
    /// The state that it leaves.
    pub state: &'static str,
}

/// A step of the history.
#[derive(Debug, Clone, PartialEq)]
pub struct Number {
    /// Its line.
    pub x: f64,
    /// Its number, moved if there was no room.
    pub label: f64,
    /// Its number, from 1.
    pub number: usize,
}

/// A time.
#[derive(Debug, Clone, PartialEq)]
pub struct Time {
    /// Where.
    pub x: f64,
    /// In accesses since power-on.
    pub at: u64,
}

/// What there is to draw.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// When it begins, in accesses since power-on.
    pub from: u64,
    /// When it ends.
    pub to: u64,
    /// What came of it.
    pub rows: &'a Rows,
    /// When the history's steps were.
    pub history: &'a [u64],
    /// Names of masters, by number.
    pub master: &'a dyn Fn(u8) -> String,
    /// There are several CPUs, which are told apart.
    pub several_cpus: bool,
}

impl Figure {
    /// Draws it; none if nothing happened.
    pub fn of(subject: &Subject<'_>) -> Option<Self> {
        let Subject {
            from,
            to,
            rows,
            history,
            ..
        } = *subject;
        let steps = rows.rows.iter().flat_map(|row| &row.steps);
        let mut moments: BTreeSet<u64> = steps.flat_map(|s| [s.first_at, s.last_at]).collect();
        if moments.is_empty() {
            return None;
        }
        let within = |at: &u64| (from..=to).contains(at);
        moments.extend(history.iter().copied().filter(within));
        moments.extend([from, to]);
        let axis = Axis::of(&moments);
        let mut figure = Figure {
            width: LEFT + axis.width() + RIGHT,
            lacks: lacks(rows),
            ..Figure::default()
        };
        let mut y = TOP;
        for row in &rows.rows {
            let height = ROW + PER_OCTAVE * (row.lines as f64).log2();
            figure.rows.push(drawn(row, subject, &axis, (y, height)));
            y += height + GAP;
        }
        figure.floor = y;
        figure.height = y + BOTTOM;
        let x = |at: u64| LEFT + axis.x(at);
        let numbered = history.iter().enumerate().filter(|(_, at)| within(at));
        figure.numbers = numbered
            .map(|(index, at)| Number {
                x: x(*at),
                label: x(*at),
                number: index + 1,
            })
            .collect();
        let mut labels: Vec<f64> = figure.numbers.iter().map(|n| n.label).collect();
        spread(&mut labels, NUMBER, figure.width);
        for (number, label) in figure.numbers.iter_mut().zip(labels) {
            number.label = label;
        }
        let mut free = f64::NEG_INFINITY;
        for at in moments {
            if x(at) >= free {
                figure.times.push(Time { x: x(at), at });
                free = x(at) + TIME;
            }
        }
        Some(figure)
    }
}

fn lacks(rows: &Rows) -> Vec<String> {
    let mut lacks = Vec::new();
    if rows.without_cache {
        lacks.push("When the lines were in the cache is left out.".into());
    }
    if rows.more_rows > 0 {
        lacks.push(format!(
            "{} of lines, {} together, with which something else happened, are not shown.",
            count(rows.more_rows as u64, "more group"),
            rows.more_lines
        ));
    }
    if rows.silent > 0 {
        let lines = count(rows.silent, "line");
        lacks.push(format!("Of {lines} the log has nothing at that time."));
    }
    if rows.rows.iter().any(|row| row.is_cut) {
        lacks.push("Of some lines not all steps are shown.".into());
    }
    lacks
}

fn drawn(row: &Row, subject: &Subject<'_>, axis: &Axis, (top, height): (f64, f64)) -> Drawn {
    let x = |at: u64| LEFT + axis.x(at);
    let bottom = top + height;
    let both = |at: u64| (x(at), x(at));
    let mut border = both(subject.from);
    let mut state = (class(row.begin), row.begin.cached);
    let (mut states, mut strips) = (Vec::new(), Vec::new());
    let ends = row.steps.iter().map(|s| (x(s.first_at), x(s.last_at)));
    let after = row.steps.iter().map(|s| match s.mark {
        // What came of the steps that are left out, the next that is shown tells.
        Mark::Cut => Some(("s-cut", false)),
        _ => Some((class(s.state), s.state.cached)),
    });
    let ends = ends.chain([both(subject.to)]);
    for (end, next) in ends.zip(after.chain([None])) {
        // What is of no width says nothing.
        if border != end {
            let ((a, b), (c, d)) = (border, end);
            states.push(Shape {
                points: format!(
                    "{a:.1},{top:.1} {c:.1},{top:.1} {d:.1},{bottom:.1} {b:.1},{bottom:.1}"
                ),
                class: state.0,
                title: in_words(state.0),
            });
            if state.1 {
                strips.push(Strip {
                    x: b.min(d),
                    y: bottom - STRIP,
                    width: (d - b).abs(),
                });
            }
        }
        border = end;
        state = next.unwrap_or(state);
    }
    let mut places: Vec<f64> = row
        .steps
        .iter()
        .map(|s| f64::midpoint(x(s.first_at), x(s.last_at)))
        .collect();
    spread(&mut places, MARK, LEFT + axis.width() + RIGHT / 3.0);
    let y = f64::midpoint(top, bottom - STRIP);
    let worded: Vec<Worded> = row.steps.iter().map(|s| worded(s, subject)).collect();
    let marks = row.steps.iter().zip(&places).zip(&worded);
    let marks = marks.map(|((span, x), worded)| {
        let (letter, class) = letter(span.mark);
        Glyph {
            x: *x,
            y,
            letter,
            class,
            title: format!("{}: {}", worded.at, worded.what),
        }
    });
    Drawn {
        address: format!("{:#x}", row.first),
        lines: count(row.lines, "line"),
        label: y,
        states,
        strips,
        marks: marks.collect(),
        steps: worded,
    }
}

fn class(state: State) -> &'static str {
    match (state.known && state.uncleaned, state.unseen) {
        (true, true) => "s-both",
        (true, false) => "s-uncleaned",
        (false, true) => "s-unseen",
        (false, false) if !state.known => "s-unknown",
        (false, false) if state.pending => "s-pending",
        (false, false) if !state.unseen_known => "s-cleaned",
        (false, false) => "s-nothing",
    }
}

/// A state, by its class.
fn in_words(class: &str) -> &'static str {
    match class {
        "s-both" => "written through the cache and in memory, and neither cleaned nor invalidated",
        "s-uncleaned" => "written through the cache, and not cleaned: memory may be stale",
        "s-unseen" => "written in memory, and not invalidated: a copy in the cache may be stale",
        "s-pending" => "maintained, and no barrier has completed that",
        "s-cleaned" => {
            "nothing is left to clean; of stores past the cache, the log tells only from the time on when a device \
             touches the line"
        }
        "s-cut" => "not shown: more happened than is kept",
        "s-unknown" => "not known: the log begins when a device first touches the line",
        _ => "nothing is left to clean or to invalidate",
    }
}

/// What a mark shows, and what it is.
fn letter(mark: Mark) -> (&'static str, &'static str) {
    match mark {
        Mark::Stored { .. } => ("S", "m-cpu"),
        Mark::Loaded { .. } => ("L", "m-cpu"),
        Mark::Maintained {
            suppressed: true, ..
        } => ("\u{2715}", "m-op"),
        Mark::Maintained { op, .. } => match op {
            CacheOp::Clean => ("C", "m-op"),
            CacheOp::Invalidate => ("I", "m-op"),
            CacheOp::CleanInvalidate => ("CI", "m-op"),
        },
        Mark::Completed => ("D", "m-op"),
        Mark::Started { .. } => ("\u{25b8}", "m-dev"),
        Mark::Written { .. } => ("W", "m-dev"),
        Mark::Read { .. } => ("R", "m-dev"),
        Mark::Filled => ("F", "m-cache"),
        Mark::Evicted { .. } => ("E", "m-cache"),
        Mark::Found(_) => ("!", "m-found"),
        Mark::Cut => ("\u{2026}", "m-cache"),
    }
}

fn worded(span: &Span, subject: &Subject<'_>) -> Worded {
    let past = |past: bool| if past { " past the cache" } else { "" };
    let how = |snoops: bool| if snoops { "snooping" } else { "not snooping" };
    let (cpu, s) = match subject.several_cpus {
        true => cpus(span.cpus),
        false => ("the CPU".to_owned(), "s"),
    };
    let mut what = match span.mark {
        Mark::Stored { past: p } => format!("{cpu} store{s}{}", past(p)),
        Mark::Loaded { past: p } => format!("{cpu} load{s}{}", past(p)),
        Mark::Maintained { op, suppressed } => {
            let not = if suppressed {
                ", suppressed on purpose"
            } else {
                ""
            };
            let by = match subject.several_cpus {
                true => format!(" by {cpu}"),
                false => String::new(),
            };
            format!("{}{by}{not}", op_name(op.word()))
        }
        Mark::Completed if subject.several_cpus => {
            format!("a barrier of {cpu} completes the maintenance there")
        }
        Mark::Completed => "a barrier completes the maintenance".into(),
        Mark::Cut => "more happens than is kept, and is not shown".into(),
        Mark::Started { master } => format!("{} is started", (subject.master)(master)),
        Mark::Written { master, snoops } => {
            format!("{} writes, {}", (subject.master)(master), how(snoops))
        }
        Mark::Read { master, snoops } => {
            format!("{} reads, {}", (subject.master)(master), how(snoops))
        }
        Mark::Filled => "brought into the cache".into(),
        Mark::Evicted { written_back: true } => {
            "evicted from the cache, and memory happens to have it now".into()
        }
        Mark::Evicted { .. } => "evicted from the cache".into(),
        Mark::Found(kind) => format!("finding: {}", kind.name()),
    };
    let _ = match (span.mark, span.numbers) {
        (_, (0, _)) => Ok(()),
        (Mark::Maintained { .. }, (one, other)) if one == other => {
            write!(what, ", operation @{one}")
        }
        (Mark::Maintained { .. }, (one, other)) => write!(what, ", operations @{one} to @{other}"),
        (_, (one, other)) if one == other => write!(what, ", transfer #{one}"),
        (_, (one, other)) => write!(what, ", transfers #{one} to #{other}"),
    };
    let at = match span.first_at == span.last_at {
        true => format!("@{}", span.first_at),
        false => format!("@{} to @{}", span.first_at, span.last_at),
    };
    let state = match span.mark {
        Mark::Cut => "s-cut",
        _ => class(span.state),
    };
    Worded {
        at,
        what,
        state: in_words(state),
    }
}

/// CPUs of a set by their numbers, and the end of a verb for them.
fn cpus(set: u32) -> (String, &'static str) {
    let numbers = (0..u32::BITS).filter(|n| set >> n & 1 != 0);
    let numbers: Vec<String> = numbers.map(|n| n.to_string()).collect();
    match &numbers[..] {
        [one] => (format!("CPU {one}"), "s"),
        several => (format!("CPUs {}", several.join(" and ")), ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(mark: Mark, (first_at, last_at): (u64, u64), unseen: bool) -> Span {
        Span {
            mark,
            first_at,
            last_at,
            numbers: (5, 6),
            cpus: 0,
            state: State {
                known: true,
                unseen_known: true,
                cached: true,
                unseen,
                ..State::default()
            },
        }
    }

    fn rows() -> Rows {
        let written = Mark::Written {
            master: 0,
            snoops: false,
        };
        let read = Mark::Read {
            master: 1,
            snoops: true,
        };
        Rows {
            rows: vec![Row {
                first: 0x4000,
                lines: 64,
                begin: State::default(),
                steps: vec![span(written, (10, 20), true), span(read, (20, 20), true)],
                is_cut: false,
            }],
            without_cache: true,
            more_rows: 2,
            more_lines: 9,
            silent: 1,
        }
    }

    fn figure(rows: &Rows) -> Option<Figure> {
        Figure::of(&Subject {
            from: 0,
            to: 30,
            rows,
            history: &[10, 10, 99],
            master: &|id| ["dma", "usb"][usize::from(id)].into(),
            several_cpus: true,
        })
    }

    #[test]
    fn what_is_left_out_is_no_state_and_cpus_are_told_apart() {
        let mut rows = rows();
        let row = &mut rows.rows[0];
        let stored = Mark::Stored { past: false };
        row.steps[1] = span(Mark::Cut, (20, 20), true);
        row.steps.push(Span {
            cpus: 0b101,
            ..span(stored, (25, 25), false)
        });
        row.is_cut = true;
        let figure = figure(&rows).unwrap();
        let row = &figure.rows[0];
        let classes: Vec<_> = row.states.iter().map(|s| s.class).collect();
        assert_eq!(classes, ["s-unknown", "s-unseen", "s-cut", "s-nothing"]);
        assert_eq!(row.strips.len(), 2);
        assert_eq!(row.steps[1].state, "not shown: more happened than is kept");
        assert_eq!(row.steps[2].what, "CPUs 0 and 2 store, transfers #5 to #6");
        assert_eq!(cpus(0b10).0, "CPU 1");
        assert!(figure.lacks.iter().any(|l| l.contains("not all steps")));
    }

    #[test]
    fn what_goes_from_line_to_line_is_a_slope_and_each_step_has_its_words() {
        let figure = figure(&rows()).unwrap();
        let row = &figure.rows[0];
        let classes: Vec<_> = row.states.iter().map(|s| s.class).collect();
        assert_eq!(classes, ["s-unknown", "s-unseen", "s-unseen"]);
        // The border from the first to the second state, top and bottom.
        let corners: Vec<&str> = row.states[0].points.split(' ').collect();
        let x = |corner: &str| corner.split(',').next().unwrap().parse::<f64>().unwrap();
        assert!(x(corners[1]) < x(corners[2]), "{corners:?}");
        let words: Vec<_> = row.steps.iter().map(|s| (&s.at[..], &s.what[..])).collect();
        assert_eq!(
            words,
            [
                ("@10 to @20", "dma writes, not snooping, transfers #5 to #6"),
                ("@20", "usb reads, snooping, transfers #5 to #6"),
            ]
        );
        // Marks do not lie on each other, nor numbers of the history at one time; what is out of the time is
        // not numbered.
        assert!(row.marks[1].x - row.marks[0].x >= MARK);
        let numbers: Vec<_> = figure.numbers.iter().map(|n| n.number).collect();
        assert_eq!(numbers, [1, 2]);
        assert!(figure.numbers[1].label - figure.numbers[0].label >= NUMBER);
        // Cached while states say so, and not while nobody knows.
        assert_eq!(row.strips.len(), 2);
        assert_eq!(figure.lacks.len(), 3);
        assert!(figure.lacks[1].starts_with("2 more groups of lines, 9 together"));
    }

    #[test]
    fn nothing_makes_no_drawing() {
        assert_eq!(figure(&Rows::default()), None);
    }
}
