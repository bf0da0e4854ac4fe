// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What happened to the lines of a finding, by the events of the log: of each line its steps, and the state that
//! each leaves it in. Lines with which the same happened, one after the other in memory, are one row.
//!
//! The log tells of loads and stores to a line only from the time on when a device touches it, and then what is
//! known of it. What follows from that for the time before is said; all else is not known.

use std::collections::BTreeSet;

use staleline_devices::coherency::{LINE, SnoopWrite};
use staleline_devices::cpu::{CacheOp, CpuId};
use staleline_devices::events::{Cached, Event};
use staleline_devices::hazard::HazardKind;

use crate::result::words::Word as _;

/// Lines that are followed for one timeline, at most.
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
    /// The finding that it is about, by its rule and when it began: all its lines are shown, however long that
    /// takes.
    pub finding: Option<(staleline_results::HazardKind, u64)>,
}

impl Watch {
    /// Lines that there are.
    pub fn lines(&self) -> u64 {
        self.end.saturating_sub(self.first).div_ceil(LINE)
    }
}

/// What software has left to do on a line before the next observer, not what the cache happens to hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct State {
    /// Whether the rest is known.
    pub known: bool,
    /// It is in the cache.
    pub cached: bool,
    /// A coherent observer has written it, and nobody cleaned it since: memory may be old.
    pub uncleaned: bool,
    /// It was written in memory, and nobody has invalidated it since: a copy in the cache may be old.
    pub unseen: bool,
    /// Maintenance has been done, and no barrier has completed it.
    pub pending: bool,
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
    /// A barrier completes maintenance, and something has happened in between.
    Completed,
    /// The device is started that goes on with a transfer to or from here.
    Started {
        /// Its number.
        master: u8,
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
    /// The maintenance that no barrier has completed.
    pending: Option<(CpuId, u32)>,
    /// A device has touched it, so that the log tells all.
    is_told: bool,
    /// At the begin of what is shown.
    begin: State,
    /// The last clean, and when it was.
    cleaned: (u32, u64),
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
    /// Lines of which the log has nothing at that time.
    pub silent: u64,
}

impl Rows {
    /// Those of other lines.
    pub fn add(&mut self, more: Rows) {
        self.rows.extend(more.rows);
        self.without_cache |= more.without_cache;
        self.more_rows += more.more_rows;
        self.more_lines += more.more_lines;
        self.silent += more.silent;
    }
}

/// Follows lines through a log.
#[derive(Debug)]
pub struct Lanes {
    watch: Watch,
    /// A write that snoops stays in the cache, instead of going to memory.
    allocates: bool,
    /// The finding's number, once it has been met.
    finding: Option<u32>,
    /// Maintenance of these lines that no barrier has completed.
    pending: BTreeSet<(CpuId, u32)>,
    lives: Vec<Life>,
}

impl Lanes {
    /// Of those lines; of no more than [`MAX_LINES`], nor than `room`. `snoop_write`: what a write that snoops
    /// does.
    pub fn of(watch: Watch, snoop_write: SnoopWrite, room: u64) -> Self {
        let first = watch.first & !(LINE - 1);
        let most = room.min(MAX_LINES) * LINE;
        let end = watch.end.min(first.saturating_add(most));
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
            finding: None,
            pending: BTreeSet::new(),
            lives: vec![Life::default(); lines],
        }
    }

    /// What is followed; once the log has been read, until when.
    pub fn watch(&self) -> Watch {
        self.watch
    }

    /// Nothing is told from that time on.
    pub fn end_at(&mut self, at: u64) {
        self.watch.to = self.watch.to.min(at);
    }

    /// Takes the next event of the log.
    pub fn take(&mut self, at: u64, event: &Event) {
        let allocates = self.allocates;
        // What is about no memory comes to no line.
        let (pa, len) = event.memory().unwrap_or_default();
        match *event {
            Event::UnderDma {
                cached,
                cached_at,
                uncleaned,
                clean_op,
                ..
            } => self.on(pa, len, |life, watch, _| {
                let uncleaned = (uncleaned != 0).then_some(match cached {
                    // It was written there then, at the latest.
                    Cached::Dirty => cached_at,
                    Cached::Clean | Cached::No => at,
                });
                life.under_dma(at, cached != Cached::No, uncleaned, clean_op);
                if at <= watch.from {
                    life.begin = life.now;
                }
            }),
            Event::Accessed {
                store,
                past,
                filled,
                ..
            } => self.on(pa, len, |life, watch, _| {
                let state = &mut life.now;
                state.known |= store && !past;
                state.uncleaned |= store && !past;
                state.unseen |= store && past;
                state.cached |= filled || (store && !past);
                let mark = match store {
                    true => Mark::Stored { past },
                    false => Mark::Loaded { past },
                };
                life.enter(watch, (at, mark, 0));
            }),
            Event::Maintained {
                cpu,
                op,
                operation,
                found,
                dropped,
                ..
            } => {
                let mut any = false;
                self.on(pa, len, |life, watch, _| {
                    any = true;
                    if !dropped {
                        life.maintained(op, found);
                        life.pending = Some((cpu, operation));
                        if op != CacheOp::Invalidate {
                            life.cleaned = (operation, at);
                        }
                    }
                    let suppressed = dropped;
                    let mark = Mark::Maintained { op, suppressed };
                    life.enter(watch, (at, mark, operation));
                });
                if any && !dropped {
                    self.pending.insert((cpu, operation));
                }
            }
            Event::Barrier {
                cpu,
                operations: (first, last),
                completes: true,
                ..
            } if first <= last => self.completed(at, cpu, first, last),
            Event::Opened {
                transfer,
                master,
                started_at,
                ..
            } => self.on(pa, len, |life, watch, _| {
                let mark = Mark::Started { master: master.0 };
                life.enter_before(watch, (started_at.min(at), mark, transfer.0));
            }),
            Event::Moved {
                master,
                transfer,
                snoops,
                write,
                ..
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
            Event::Filled { .. } => self.on(pa, len, |life, watch, _| {
                life.now.cached = true;
                life.enter(watch, (at, Mark::Filled, 0));
            }),
            Event::Evicted { written_back, .. } => self.on(pa, len, |life, watch, _| {
                life.now.cached = false;
                life.enter(watch, (at, Mark::Evicted { written_back }, 0));
            }),
            Event::Found { finding, kind, .. } => self.found(at, (finding, kind), pa),
            Event::Closed { .. }
            | Event::Barrier { .. }
            | Event::Started { .. }
            | Event::Interrupt { .. }
            | Event::Register { .. }
            | Event::Waited { .. }
            | Event::Called { .. } => {}
        }
    }

    fn found(&mut self, at: u64, (finding, kind): (u32, HazardKind), pa: u64) {
        if !(self.watch.first..self.watch.end).contains(&pa) {
            return;
        }
        if self.finding.is_none() && self.watch.finding == Some((kind.word(), at)) {
            self.finding = Some(finding);
        }
        if self.finding == Some(finding) {
            self.watch.to = self.watch.to.max(at);
        }
        self.on(pa, 1, |life, watch, _| {
            life.enter(watch, (at, Mark::Found(kind), 0));
        });
    }

    /// A barrier completes operations of its CPU.
    fn completed(&mut self, at: u64, cpu: CpuId, first: u32, last: u32) {
        let done: Vec<_> = self
            .pending
            .range((cpu, first)..=(cpu, last))
            .copied()
            .collect();
        if done.is_empty() {
            return;
        }
        for operation in &done {
            self.pending.remove(operation);
        }
        for life in &mut self.lives {
            if life.pending.is_some_and(|p| done.contains(&p)) {
                life.completed(&self.watch, at);
            }
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
        let (rows, silent) = self.grouped(true);
        if rows.len() <= most {
            return Rows {
                rows,
                silent,
                ..Rows::default()
            };
        }
        let (mut rows, silent) = self.grouped(false);
        let all = rows.len();
        let lines = |rows: &[Row]| rows.iter().map(|row| row.lines).sum::<u64>();
        let all_lines = lines(&rows);
        if all > most {
            // Stable: in the order of memory.
            let mut order: Vec<usize> = (0..all).collect();
            order.sort_by_key(|i| !rows.get(*i).is_some_and(Row::has_finding));
            order.truncate(most);
            let mut index = 0..;
            rows.retain(|_| index.next().is_some_and(|i| order.contains(&i)));
        }
        Rows {
            without_cache: true,
            more_rows: all - rows.len(),
            more_lines: all_lines - lines(&rows),
            silent,
            rows,
        }
    }

    /// Adjacent lines with the same steps; with what the cache did of its own accord, or without. And how many have
    /// none.
    fn grouped(&self, with_cache: bool) -> (Vec<Row>, u64) {
        let mut rows: Vec<Row> = Vec::new();
        let (mut silent, mut adjoins) = (0, false);
        for (life, index) in self.lives.iter().zip(0_u64..) {
            let (begin, steps) = life.shown(with_cache, self.watch.to);
            if steps.is_empty() {
                silent += 1;
                adjoins = false;
                continue;
            }
            if let Some(row) = rows.last_mut()
                && adjoins
                && row.is_like(begin, &steps, life.is_cut)
            {
                row.add(&steps);
                continue;
            }
            adjoins = true;
            rows.push(Row {
                first: self.watch.first.saturating_add(index * LINE),
                lines: 1,
                begin,
                steps: steps.iter().map(Span::of).collect(),
                is_cut: life.is_cut,
            });
        }
        (rows, silent)
    }
}

impl Life {
    /// A master touches it for the first time, and this is what is known then: whether it is cached, since when it
    /// is uncleaned, if it is, and the last operation that cleaned it. From that operation on, nothing was stored
    /// if nothing is uncleaned; else something was, and it is not known when, but no later than this.
    fn under_dma(&mut self, at: u64, cached: bool, uncleaned: Option<u64>, clean_op: u32) {
        self.is_told = true;
        // What nobody has cleaned since power-on may still be what firmware has left.
        let known = uncleaned.is_some() || clean_op != 0;
        self.now = State {
            known,
            cached,
            uncleaned: uncleaned.is_some(),
            ..self.now
        };
        let (op, cleaned_at) = self.cleaned;
        let since = match uncleaned {
            None if op != 0 && op == clean_op => cleaned_at,
            None => at,
            Some(since) => since,
        };
        for step in self.steps.iter_mut().filter(|step| step.at >= since) {
            step.state.known = known;
            step.state.uncleaned = uncleaned.is_some();
        }
    }

    fn maintained(&mut self, op: CacheOp, found: Cached) {
        let state = &mut self.now;
        let invalidates = op != CacheOp::Clean;
        state.cached = found != Cached::No && !invalidates;
        // What is invalidated without being cleaned is not uncleaned any more, but gone.
        state.uncleaned = false;
        state.unseen &= !invalidates;
        state.pending = true;
        state.known |= self.is_told;
    }

    /// A barrier completes its maintenance.
    fn completed(&mut self, watch: &Watch, at: u64) {
        self.now.pending = false;
        self.pending = None;
        match self.steps.last_mut() {
            // Nothing has happened in between: that is how it should be, and no step.
            Some(step) if matches!(step.mark, Mark::Maintained { .. }) => {
                step.state.pending = false;
            }
            None => self.begin.pending = false,
            Some(_) => self.enter(watch, (at, Mark::Completed, 0)),
        }
    }

    /// A master writes it, or a part.
    fn written(&mut self, snoops: bool, allocates: bool, whole: bool) {
        let state = &mut self.now;
        match snoops {
            false => state.unseen = true,
            true if allocates => {
                state.uncleaned = true;
                state.cached = true;
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
            return;
        }
        let again = |last: &Step| {
            (last.mark, last.number, last.state) == (step.mark, step.number, step.state)
        };
        if self.steps.last().is_some_and(again) {
            return;
        }
        match self.steps.len() < MAX_STEPS {
            true => self.steps.push(step),
            false => self.is_cut |= at <= watch.to,
        }
    }

    /// The same for what was earlier and is told only now; it changes nothing.
    fn enter_before(&mut self, watch: &Watch, (at, mark, number): (u64, Mark, u32)) {
        if at < watch.from {
            return;
        }
        let place = self.steps.partition_point(|step| step.at <= at);
        let before = place.checked_sub(1).and_then(|i| self.steps.get(i));
        let state = before.map_or(self.begin, |step| step.state);
        if self.steps.len() < MAX_STEPS {
            let step = Step {
                at,
                mark,
                number,
                state,
            };
            self.steps.insert(place, step);
        } else {
            self.is_cut |= at <= watch.to;
        }
    }

    /// Its state before the first step, and its steps up to a time.
    fn shown(&self, with_cache: bool, to: u64) -> (State, Vec<Step>) {
        let steps = self.steps.iter().filter(|step| step.at <= to);
        if with_cache {
            return (self.begin, steps.copied().collect());
        }
        let without = |state: State| State {
            cached: false,
            ..state
        };
        let steps = steps.filter(|step| !step.mark.is_of_the_cache());
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
