// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What happened to the lines of a finding, by the events of the log: of each line its steps, and the state that
//! each leaves it in. Lines with which the same happened, one after the other in memory, are one row.

use staleline_devices::coherency::{LINE, SnoopWrite};
use staleline_devices::cpu::CacheOp;
use staleline_devices::dma::Content;
use staleline_devices::events::{Cached, Event};
use staleline_devices::hazard::HazardKind;

/// Lines that are followed of one finding, at most.
pub const MAX_LINES: u64 = 1 << 14;

/// Steps that are kept of one line, at most. Those of the finding come to a dozen.
const MAX_STEPS: usize = 64;

/// Lines of which one wants to know, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watch {
    /// First byte of the first line.
    pub first: u64,
    /// One past the last line.
    pub end: u64,
    /// In accesses since power-on: steps before are not shown, but count for the state.
    pub from: u64,
    /// Likewise: steps behind are not shown.
    pub to: u64,
}

impl Watch {
    /// Lines that there are.
    pub fn lines(&self) -> u64 {
        self.end.saturating_sub(self.first).div_ceil(LINE)
    }
}

/// What is known of a line's content: what software has to do before the next observer, not what the cache
/// happens to hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct State {
    /// Whether it is in the cache; none as long as that is not known.
    pub cached: Option<bool>,
    /// A coherent observer has written it, and nobody cleaned it since: memory may be old.
    pub uncleaned: bool,
    /// It was written in memory, and nobody has invalidated it since: a copy in the cache may be old.
    pub unseen: bool,
}

/// What happens to a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mark {
    /// A CPU stores.
    Stored {
        /// Past the cache.
        past: bool,
    },
    /// A CPU loads.
    Loaded {
        /// Past the cache.
        past: bool,
    },
    /// Maintenance.
    Maintained {
        /// What it does.
        op: CacheOp,
        /// It was suppressed on purpose, and does nothing.
        suppressed: bool,
    },
    /// A master writes.
    Written {
        /// Its number.
        master: u8,
        /// It snoops.
        snoops: bool,
    },
    /// A master reads.
    Read {
        /// Its number.
        master: u8,
        /// It snoops.
        snoops: bool,
    },
    /// It comes into the cache.
    Filled,
    /// It leaves the cache.
    Evicted {
        /// It was dirty, and memory has it now.
        written_back: bool,
    },
    /// A finding.
    Found(HazardKind),
}

impl Mark {
    /// Whether it is the cache's own doing, which differs from line to line and proves nothing.
    fn is_of_the_cache(self) -> bool {
        matches!(self, Mark::Filled | Mark::Evicted { .. })
    }
}

/// A step of one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Step {
    at: u64,
    mark: Mark,
    /// Number of the transfer or of the maintenance operation; 0 if it has none.
    number: u32,
    /// The state that it leaves.
    state: State,
}

/// One line's life.
#[derive(Debug, Clone, Default)]
struct Life {
    /// Its state now.
    now: State,
    /// At the begin of what is shown.
    begin: State,
    steps: Vec<Step>,
    /// There were more steps.
    is_cut: bool,
}

/// A step of all lines of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// What.
    pub mark: Mark,
    /// When it came to the first line, in accesses since power-on.
    pub first_at: u64,
    /// When it came to the last line.
    pub last_at: u64,
    /// Least and greatest number of transfer or operation.
    pub numbers: (u32, u32),
    /// The state that it leaves.
    pub state: State,
}

/// Adjacent lines with which the same happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// First byte.
    pub first: u64,
    /// Lines.
    pub lines: u64,
    /// State before the first step.
    pub begin: State,
    /// Steps, in order.
    pub steps: Vec<Span>,
    /// There were more.
    pub is_cut: bool,
}

impl Row {
    /// One past its last byte.
    pub fn end(&self) -> u64 {
        self.first.saturating_add(self.lines.saturating_mul(LINE))
    }

    /// Whether a finding is on it.
    pub fn has_finding(&self) -> bool {
        let mut marks = self.steps.iter().map(|span| span.mark);
        marks.any(|mark| matches!(mark, Mark::Found(_)))
    }
}

/// Rows, and what of them is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows {
    /// Those shown, ascending.
    pub rows: Vec<Row>,
    /// The cache's own fills and evictions are left out, and so is what was cached when.
    pub without_cache: bool,
    /// Rows beyond those shown.
    pub more_rows: usize,
    /// Lines on these.
    pub more_lines: u64,
}

impl Rows {
    /// Those of other lines.
    pub fn add(&mut self, more: Rows) {
        self.rows.extend(more.rows);
        self.without_cache |= more.without_cache;
        self.more_rows += more.more_rows;
        self.more_lines += more.more_lines;
    }
}

/// Follows lines through a log.
#[derive(Debug)]
pub struct Lanes {
    watch: Watch,
    /// A write that snoops stays in the cache, instead of going to memory.
    allocates: bool,
    lives: Vec<Life>,
}

impl Lanes {
    /// Of those lines; of no more than [`MAX_LINES`]. `snoop_write`: what a write that snoops does.
    pub fn of(watch: Watch, snoop_write: SnoopWrite) -> Self {
        let first = watch.first & !(LINE - 1);
        let end = watch.end.min(first.saturating_add(MAX_LINES * LINE));
        let watch = Watch {
            first,
            end,
            ..watch
        };
        // At most MAX_LINES of them.
        let lines = watch.lines() as usize;
        Lanes {
            watch,
            allocates: snoop_write == SnoopWrite::Allocate,
            lives: vec![Life::default(); lines],
        }
    }

    /// What is followed.
    pub fn watch(&self) -> Watch {
        self.watch
    }

    /// Takes the next event of the log.
    pub fn take(&mut self, at: u64, event: &Event) {
        let allocates = self.allocates;
        match *event {
            Event::UnderDma {
                pa,
                cached,
                uncleaned,
                ..
            } => self.on(pa, LINE, |life, _, _| {
                life.learn(cached);
                life.now.uncleaned = uncleaned != 0;
                if life.steps.is_empty() {
                    life.begin = life.now;
                }
            }),
            Event::Accessed {
                store,
                past,
                filled,
                pa,
                len,
                ..
            } => self.on(pa, len, |life, watch, _| {
                let state = &mut life.now;
                state.uncleaned |= store && !past;
                state.unseen |= store && past;
                if filled || (store && !past) {
                    state.cached = Some(true);
                }
                let mark = match store {
                    true => Mark::Stored { past },
                    false => Mark::Loaded { past },
                };
                life.enter(watch, (at, mark, 0));
            }),
            Event::Maintained {
                op,
                operation,
                pa,
                lines,
                found,
                dropped,
                ..
            } => self.on(pa, lines.saturating_mul(LINE), |life, watch, _| {
                life.learn(found);
                if !dropped {
                    let cleans = op != CacheOp::Invalidate;
                    let invalidates = op != CacheOp::Clean;
                    life.now.cached = Some(found != Cached::No && !invalidates);
                    // What is invalidated without being cleaned is not cleaned any more, but gone.
                    life.now.uncleaned &= !(cleans || invalidates);
                    life.now.unseen &= !invalidates;
                }
                let mark = Mark::Maintained {
                    op,
                    suppressed: dropped,
                };
                life.enter(watch, (at, mark, operation));
            }),
            Event::Moved {
                master,
                transfer,
                snoops,
                write,
                content: Content::Data | Content::Descriptor | Content::Event,
                pa,
                len,
            } => self.on(pa, len, |life, watch, whole| {
                let master = master.0;
                let mark = match write {
                    true => Mark::Written { master, snoops },
                    false => Mark::Read { master, snoops },
                };
                if write {
                    life.written(snoops, allocates, whole);
                }
                life.enter(watch, (at, mark, transfer.0));
            }),
            Event::Filled { pa, lines, .. } => {
                self.on(pa, lines.saturating_mul(LINE), |life, watch, _| {
                    life.now.cached = Some(true);
                    life.enter(watch, (at, Mark::Filled, 0));
                });
            }
            Event::Evicted {
                pa,
                lines,
                written_back,
            } => self.on(pa, lines.saturating_mul(LINE), |life, watch, _| {
                life.now.cached = Some(false);
                life.enter(watch, (at, Mark::Evicted { written_back }, 0));
            }),
            Event::Found { kind, pa, .. } => self.on(pa, 1, |life, watch, _| {
                life.enter(watch, (at, Mark::Found(kind), 0));
            }),
            Event::Opened { .. }
            | Event::Closed { .. }
            | Event::Barrier { .. }
            | Event::Started { .. }
            | Event::Interrupt { .. }
            | Event::Register { .. }
            | Event::Waited { .. }
            | Event::Called { .. } => {}
        }
    }

    /// Does something with each line that is followed and that these bytes are on; it is told whether they are
    /// all of the line.
    fn on(&mut self, pa: u64, len: u64, mut what: impl FnMut(&mut Life, &Watch, bool)) {
        let Watch { first, end, .. } = self.watch;
        let (from, to) = (pa.max(first), pa.saturating_add(len).min(end));
        if from >= to {
            return;
        }
        let index = |pa: u64| ((pa - first) / LINE) as usize;
        let (at, last) = (index(from), index(to - 1));
        let lives = self.lives.get_mut(at..=last).unwrap_or_default();
        for (life, at) in lives.iter_mut().zip(at as u64..) {
            let line = first.saturating_add(at * LINE);
            let whole = pa <= line && line.saturating_add(LINE) <= pa.saturating_add(len);
            what(life, &self.watch, whole);
        }
    }

    /// Rows for people: no more than `most`, those with findings first.
    pub fn rows(&self, most: usize) -> Rows {
        let all = self.grouped(true);
        if all.len() <= most {
            return Rows {
                rows: all,
                ..Rows::default()
            };
        }
        let mut rows = self.grouped(false);
        let all = rows.len();
        if all > most {
            // Stable: in the order of memory.
            let mut order: Vec<usize> = (0..all).collect();
            order.sort_by_key(|i| !rows.get(*i).is_some_and(Row::has_finding));
            order.truncate(most);
            let mut index = 0..;
            rows.retain(|_| index.next().is_some_and(|i| order.contains(&i)));
        }
        let shown: u64 = rows.iter().map(|row| row.lines).sum();
        Rows {
            without_cache: true,
            more_rows: all - rows.len(),
            more_lines: self.lives.len() as u64 - shown,
            rows,
        }
    }

    /// Adjacent lines with the same steps; with what the cache did of its own accord, or without.
    fn grouped(&self, with_cache: bool) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::new();
        for (life, index) in self.lives.iter().zip(0_u64..) {
            let (begin, steps) = life.shown(with_cache);
            if let Some(row) = rows.last_mut()
                && row.is_like(begin, &steps, life.is_cut)
            {
                row.add(&steps);
                continue;
            }
            rows.push(Row {
                first: self.watch.first.saturating_add(index * LINE),
                lines: 1,
                begin,
                steps: steps.iter().map(Span::of).collect(),
                is_cut: life.is_cut,
            });
        }
        rows
    }
}

impl Life {
    /// What is found in the cache was there before, if nothing is known of that.
    fn learn(&mut self, found: Cached) {
        if self.now.cached.is_none() {
            self.now.cached = Some(found != Cached::No);
            self.now.uncleaned |= found == Cached::Dirty;
            if self.steps.is_empty() {
                self.begin = self.now;
            }
        }
    }

    /// A master writes it, or a part.
    fn written(&mut self, snoops: bool, allocates: bool, whole: bool) {
        let state = &mut self.now;
        match snoops {
            false => state.unseen = true,
            true if allocates => {
                state.uncleaned = true;
                state.cached = Some(true);
            }
            true => {
                state.uncleaned &= !whole;
                state.unseen &= !whole;
            }
        }
    }

    fn enter(&mut self, watch: &Watch, (at, mark, number): (u64, Mark, u32)) {
        let step = Step {
            at,
            mark,
            number,
            state: self.now,
        };
        if at < watch.from {
            self.begin = self.now;
        } else if at <= watch.to {
            let again = |last: &Step| {
                (last.mark, last.number, last.state) == (step.mark, step.number, step.state)
            };
            if self.steps.last().is_some_and(again) {
                return;
            }
            match self.steps.len() < MAX_STEPS {
                true => self.steps.push(step),
                false => self.is_cut = true,
            }
        }
    }

    /// Its state before the first step, and its steps.
    fn shown(&self, with_cache: bool) -> (State, Vec<Step>) {
        if with_cache {
            return (self.begin, self.steps.clone());
        }
        let without = |state: State| State {
            cached: Some(false),
            ..state
        };
        let steps = self.steps.iter().filter(|s| !s.mark.is_of_the_cache());
        let steps = steps.map(|step| Step {
            state: without(step.state),
            ..*step
        });
        (without(self.begin), steps.collect())
    }
}

impl Span {
    fn of(step: &Step) -> Self {
        Span {
            mark: step.mark,
            first_at: step.at,
            last_at: step.at,
            numbers: (step.number, step.number),
            state: step.state,
        }
    }
}

impl Row {
    fn is_like(&self, begin: State, steps: &[Step], is_cut: bool) -> bool {
        let same =
            |(span, step): (&Span, &Step)| span.mark == step.mark && span.state == step.state;
        self.begin == begin
            && self.is_cut == is_cut
            && self.steps.len() == steps.len()
            && self.steps.iter().zip(steps).all(same)
    }

    fn add(&mut self, steps: &[Step]) {
        self.lines += 1;
        for (span, step) in self.steps.iter_mut().zip(steps) {
            span.last_at = step.at;
            let (least, most) = span.numbers;
            span.numbers = (least.min(step.number), most.max(step.number));
        }
    }
}

#[cfg(test)]
#[path = "lanes_tests.rs"]
mod tests;
