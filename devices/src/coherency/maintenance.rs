// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Maintenance operations: what was done where, and what it was good for.
//!
//! An *operation* is a run of `dc` instructions of one CPU without a barrier, load or store of that CPU in
//! between: what one call of the kernel's maintenance routines does. It is the unit of the fault hook and of the accounting.
//!
//! An operation was *needed* on a line if, had the whole operation not been done, the sanitizer
//! would later have found a hazard there. That is decided by carrying along the state the line
//! would have without its last clean and without its last invalidates (the `saved_*` masks of
//! [`super::cold`]), and it is exact for programs that are correct with the operation.

pub(super) mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::limits::{MAX_COUNTED, MAX_EXTENTS, MAX_OPERATIONS};
use super::mutate::{Rule, off};
use super::report::{MaintenanceOp, MaintenanceReport};
use crate::cpu::LINE;
use crate::cpu::{Barrier, BarrierAccess, CacheOp, ChainId, CpuId, MAX_CPUS, SiteId};
use crate::dma::Doorbell;
use crate::faults::{OperationFault, Until};
use crate::hazard::LastMaintenance;

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Op {
    cpu: CpuId,
    op: CacheOp,
    site: SiteId,
    chain: ChainId,
    /// The lowest.
    first_line: u64,
    lines: u64,
    /// Of these, what was done to them; both are both. Nothing is done by one that is dropped.
    cleaned: u32,
    invalidated: u32,
    /// Lines under DMA by then, of those without an extent.
    dma_lines: u64,
    needed: u64,
    at: u64,
    dropped: bool,
    /// Its number among those that come when the guest does them, by which faults go; 0 for one that comes late.
    planned: u32,
    /// The first barrier of its CPU after it, and when.
    barrier: Option<(Barrier, u64)>,
    /// A barrier for all accesses came after it: it is ordered before what its CPU does later.
    ordered: bool,
    /// The barrier that completed it for bus masters, by number among those that completed any; 0:
    /// none yet.
    completed_by: u32,
}

/// A `dc` instruction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Instruction {
    pub cpu: CpuId,
    pub op: CacheOp,
    pub line: u64,
    /// The line is one that DMA has touched before.
    pub dma: bool,
    pub site: SiteId,
    pub chain: ChainId,
    /// When, in accesses since power-on.
    pub at: u64,
    /// When this CPU's last access was.
    pub last_access: u64,
}

/// Whether an operation was in time for a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timing {
    /// Complete before it was started.
    InTime,
    /// Begun before, but no barrier had completed it.
    Incomplete,
    /// Begun after.
    Late,
}

/// The operations of one CPU that are not over yet.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct UnderWay {
    /// The one that its next `dc` may go on with; 0: none.
    open: u32,
    /// The last access of the CPU when its last `dc` was.
    last_access: u64,
    /// Those that are not complete for bus masters.
    incomplete: Vec<u32>,
    /// Of these, how many a barrier came after, and how many are ordered: a barrier that completes
    /// none need not look at them again.
    barred: usize,
    ordered: usize,
}

/// Adjacent lines of one operation.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Extent {
    number: u32,
    line: u64,
    count: u64,
}

/// All operations of a run.
#[derive(Debug)]
pub(super) struct Operations {
    ops: Vec<Op>,
    extents: Vec<Extent>,
    cpus: [UnderWay; MAX_CPUS],
    /// Barriers so far that have completed operations for bus masters.
    completions: u32,
    /// There were more operations than [`MAX_OPERATIONS`].
    pub overflow: bool,
    /// There were more runs of lines than [`MAX_EXTENTS`]. Of lines beyond, only those that were
    /// under DMA already count as such.
    pub extents_overflow: bool,
    /// Operations so far that have come when the guest has done them.
    planned: u32,
    /// Those that come now should have come before.
    late: bool,
    faults: OperationFaults,
    /// Where operations were needed, by number and line, if anybody wants to know.
    needed_at: Option<Vec<(u32, u64)>>,
}

/// What is to go wrong with operations.
#[derive(Debug)]
struct OperationFaults {
    /// Numbers below and above which there are none.
    range: RangeInclusive<u32>,
    all: Vec<(u32, OperationFault)>,
    /// What has, and when, in accesses since power-on.
    done: Vec<(u32, OperationFault, u64)>,
}

/// What becomes of a `dc` instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// What it says.
    Done,
    /// Nothing.
    Nothing,
    /// Nothing, until then.
    Later(Until),
    /// Something else.
    As(CacheOp),
    /// What it says, and to the line before as well.
    AlsoBefore,
}

impl OperationFaults {
    fn new(all: Vec<(u32, OperationFault)>) -> Self {
        let numbers = || all.iter().map(|(number, _)| *number);
        let range = numbers().min().unwrap_or(1)..=numbers().max().unwrap_or(0);
        OperationFaults {
            range,
            all,
            done: Vec::new(),
        }
    }

    fn of(&self, number: u32) -> impl Iterator<Item = OperationFault> + '_ {
        let all = self.all.iter().filter(move |(n, _)| *n == number);
        all.map(|(_, fault)| *fault)
    }

    /// Notes that one takes place.
    fn note(&mut self, number: u32, fault: OperationFault, at: u64) {
        if !self
            .done
            .iter()
            .any(|(n, f, _)| (*n, *f) == (number, fault))
        {
            self.done.push((number, fault, at));
        }
    }

    /// What becomes of the line of that index of an operation.
    #[inline]
    fn effect(&mut self, number: u32, index: u64, at: u64) -> Effect {
        match self.range.contains(&number) {
            true => self.disturbed(number, index, at),
            false => Effect::Done,
        }
    }

    #[cold]
    #[inline(never)]
    fn disturbed(&mut self, number: u32, index: u64, at: u64) -> Effect {
        let concerns = |fault: &OperationFault| match *fault {
            OperationFault::Skip { from, count } => index
                .checked_sub(from.into())
                .is_some_and(|n| n < count.into()),
            OperationFault::WidenBefore => index == 0,
            // When the operation is over.
            OperationFault::WidenAfter => false,
            OperationFault::Drop | OperationFault::Delay(_) | OperationFault::As(_) => true,
        };
        let Some(fault) = self.of(number).find(concerns) else {
            return Effect::Done;
        };
        self.note(number, fault, at);
        match fault {
            OperationFault::Drop | OperationFault::Skip { .. } => Effect::Nothing,
            OperationFault::Delay(until) => Effect::Later(until),
            OperationFault::As(op) => Effect::As(op),
            OperationFault::WidenBefore => Effect::AlsoBefore,
            OperationFault::WidenAfter => Effect::Done,
        }
    }
}

impl Effect {
    /// What is done to the line itself.
    fn on_line(self, op: CacheOp) -> Option<CacheOp> {
        match self {
            Effect::Done | Effect::AlsoBefore => Some(op),
            Effect::As(other) => Some(other),
            Effect::Nothing | Effect::Later(_) => None,
        }
    }
}

impl Op {
    /// One more line, to which that is done.
    #[inline]
    fn count(&mut self, op: CacheOp, effect: Effect) {
        self.lines += 1;
        if let Some(op) = effect.on_line(op) {
            let cleans = u32::from(op != CacheOp::Invalidate);
            let invalidates = u32::from(op != CacheOp::Clean);
            self.cleaned = self.cleaned.saturating_add(cleans);
            self.invalidated = self.invalidated.saturating_add(invalidates);
        }
    }
}

impl Operations {
    /// With what is to go wrong, by the numbers of operations.
    pub fn new(faults: Vec<(u32, OperationFault)>) -> Self {
        Operations {
            ops: Vec::with_capacity(4096),
            extents: Vec::with_capacity(4096),
            cpus: Default::default(),
            completions: 0,
            overflow: false,
            extents_overflow: false,
            planned: 0,
            late: false,
            faults: OperationFaults::new(faults),
            needed_at: None,
        }
    }

    /// One `dc` instruction on a line. Returns the operation's number and what becomes of it.
    #[inline]
    pub fn line(&mut self, i: &Instruction) -> (u32, Effect) {
        self.next_line(i).unwrap_or_else(|| self.any_line(i))
    }

    /// The same if it is the next line of an operation that goes on: what most are.
    #[inline]
    fn next_line(&mut self, i: &Instruction) -> Option<(u32, Effect)> {
        if !self.continues(i.cpu, i.last_access) {
            return None;
        }
        let number = self.cpus[i.cpu.index()].open;
        let extent = self.extents.last_mut()?;
        if extent.number != number || extent.line + extent.count != i.line {
            return None;
        }
        let current = index(number).and_then(|n| self.ops.get_mut(n))?;
        extent.count += 1;
        let effect = self.faults.effect(current.planned, current.lines, i.at);
        current.count(i.op, effect);
        Some((number, effect))
    }

    #[inline(never)]
    fn any_line(&mut self, i: &Instruction) -> (u32, Effect) {
        let room = self.ops.len() < MAX_OPERATIONS;
        let goes_on = self.continues(i.cpu, i.last_access);
        self.overflow |= !room && !goes_on;
        let latest = self.ops.len() as u32;
        let under_way = &mut self.cpus[i.cpu.index()];
        if !goes_on {
            under_way.open = 0;
        }
        if under_way.open == 0 && room {
            let number = latest + 1;
            let planned = match self.late {
                true => 0,
                false => {
                    self.planned += 1;
                    self.planned
                }
            };
            under_way.open = number;
            under_way.incomplete.push(number);
            self.ops.push(Op {
                cpu: i.cpu,
                op: i.op,
                site: i.site,
                chain: i.chain,
                first_line: i.line,
                lines: 0,
                cleaned: 0,
                invalidated: 0,
                dma_lines: 0,
                needed: 0,
                at: i.at,
                dropped: self.faults.of(planned).any(|f| f == OperationFault::Drop),
                planned,
                barrier: None,
                ordered: false,
                completed_by: 0,
            });
        }
        under_way.last_access = i.last_access;
        // What comes after the last operation that there is room for counts as part of that, but is
        // done.
        let beyond = under_way.open == 0;
        let number = if beyond { latest } else { under_way.open };
        let Some(current) = index(number).and_then(|n| self.ops.get_mut(n)) else {
            return (0, Effect::Done);
        };
        let effect = match beyond {
            true => Effect::Done,
            false => self.faults.effect(current.planned, current.lines, i.at),
        };
        current.count(i.op, effect);
        if !beyond {
            // A range that ends within a line is often begun there.
            current.first_line = current.first_line.min(i.line);
        }
        let room = self.extents.len() < MAX_EXTENTS;
        match self.extents.last_mut() {
            Some(e) if e.number == number && e.line + e.count == i.line => e.count += 1,
            _ if room => self.extents.push(Extent {
                number,
                line: i.line,
                count: 1,
            }),
            _ => {
                self.extents_overflow = true;
                current.dma_lines += u64::from(i.dma);
            }
        }
        (number, effect)
    }

    /// An operation of `cpu` that is over with the barrier to come, and is to do the line behind its last: its
    /// number, what it does, from where, and that line. Each once.
    pub fn widened(&mut self, cpu: CpuId, now: u64) -> Option<(u32, CacheOp, SiteId, u64)> {
        let faults = &self.faults;
        let widened = faults
            .all
            .iter()
            .filter(|(_, f)| *f == OperationFault::WidenAfter);
        let under_way = &self.cpus[cpu.index()].incomplete;
        let is_done = |planned: u32| {
            let mut done = faults.done.iter();
            done.any(|(n, f, _)| (*n, *f) == (planned, OperationFault::WidenAfter))
        };
        let (planned, number) =
            widened
                .filter(|(planned, _)| !is_done(*planned))
                .find_map(|(planned, _)| {
                    let mut numbers = under_way.iter();
                    let is_it =
                        |number: &&u32| self.get(**number).is_some_and(|op| op.planned == *planned);
                    Some((*planned, *numbers.find(is_it)?))
                })?;
        let extents = self.extents.iter().rev().filter(|e| e.number == number);
        let behind = extents.map(|e| e.line + e.count).max();
        self.faults.note(planned, OperationFault::WidenAfter, now);
        let op = self.get(number)?;
        Some((number, op.op, op.site, behind?))
    }

    /// From now on, operations of `cpu` are late, until [`Operations::on_time`] is given what this returns. They are
    /// operations of their own, and change no other's number for faults: a second fault is where it is without the first.
    pub fn late(&mut self, cpu: CpuId) -> u32 {
        self.late = true;
        std::mem::take(&mut self.cpus[cpu.index()].open)
    }

    /// The CPU goes on with what it had under way.
    pub fn on_time(&mut self, cpu: CpuId, open: u32) {
        self.late = false;
        self.cpus[cpu.index()].open = open;
    }

    /// Whether an operation may have to be widened.
    #[inline]
    pub fn may_widen(&self) -> bool {
        !self.faults.all.is_empty()
    }

    /// What was to go wrong has done so already, at some time.
    pub fn has_gone_wrong(&mut self, number: u32, fault: OperationFault, at: u64) {
        self.faults.note(number, fault, at);
    }

    /// When what was to go wrong with an operation did, in accesses since power-on.
    pub fn went_wrong(&self, number: u32, fault: OperationFault) -> Option<u64> {
        let mut done = self.faults.done.iter();
        let found = done.find(|(n, f, _)| (*n, *f) == (number, fault));
        found.map(|(.., at)| *at)
    }

    /// A DMB or DSB ends the operation that its CPU has under way; those of other CPUs are none of its
    /// business (DDI 0487, D7.5.9.15: of the same PE). Only one for loads and stores orders maintenance
    /// before anything. A DMB will do for a word that a master polls (K11.5.1.1); whether it does for a
    /// doorbell, the texts do not agree on, and it is let pass.
    pub fn barrier(&mut self, cpu: CpuId, barrier: Barrier, now: u64) {
        let under_way = &mut self.cpus[cpu.index()];
        under_way.open = 0;
        if under_way.incomplete.is_empty() {
            return;
        }
        let ordered = barrier.access == BarrierAccess::Full;
        let ordered = ordered || off(Rule::CompletingAccess);
        let complete = ordered && (barrier.reaches_masters() || off(Rule::CompletingScope));
        self.completions += u32::from(complete);
        let first = match (complete, ordered) {
            (true, _) => 0,
            (false, true) => under_way.ordered,
            (false, false) => under_way.barred,
        };
        for number in under_way.incomplete.iter().skip(first) {
            if let Some(op) = index(*number).and_then(|n| self.ops.get_mut(n)) {
                op.barrier.get_or_insert((barrier, now));
                op.ordered |= ordered;
                if complete {
                    op.completed_by = self.completions;
                }
            }
        }
        if complete {
            under_way.incomplete.clear();
            under_way.ordered = 0;
        } else if ordered {
            under_way.ordered = under_way.incomplete.len();
        }
        under_way.barred = under_way.incomplete.len();
    }

    /// The first and the last operation of `cpu` that is not complete for bus masters; 0: none.
    #[inline]
    pub fn incomplete(&self, cpu: CpuId) -> (u32, u32) {
        match &self.cpus[cpu.index()].incomplete[..] {
            [] => (0, 0),
            [first, .., last] => (*first, *last),
            [one] => (*one, *one),
        }
    }

    /// Whether a `dc` of `cpu`, whose last access was number `last_access`, would be part of the
    /// operation that it has under way.
    #[inline]
    pub fn continues(&self, cpu: CpuId, last_access: u64) -> bool {
        let under_way = &self.cpus[cpu.index()];
        under_way.open != 0 && under_way.last_access == last_access
    }

    /// Operations so far.
    pub fn issued(&self) -> u32 {
        self.ops.len() as u32
    }

    /// How many barriers have completed operations for bus masters.
    pub fn completions(&self) -> u32 {
        self.completions
    }

    /// Whether an operation is complete for bus masters; 0, none, is.
    pub fn is_complete(&self, number: u32) -> bool {
        self.get(number).is_none_or(|op| op.completed_by != 0)
    }

    /// The barrier, by number among those that completed any, that completed an operation for bus
    /// masters; 0, none, is complete.
    #[inline]
    pub fn completed_by(&self, number: u32) -> Option<u32> {
        let completed_by = self.get(number).map_or(0, |op| op.completed_by);
        (number == 0 || completed_by != 0).then_some(completed_by)
    }

    /// Whether an operation is ordered before what its CPU does next, and others that know of it.
    pub fn is_ordered(&self, number: u32) -> bool {
        self.get(number).is_none_or(|op| op.ordered)
    }

    /// When an operation was, for a device that was started at `release`; 0, none, was in time.
    #[inline]
    pub fn timing(&self, number: u32, release: &Doorbell) -> Timing {
        let complete = |op: &Op| op.completed_by != 0 && op.completed_by <= release.completed;
        if self.get(number).is_none_or(complete) {
            Timing::InTime
        } else if number <= release.issued {
            Timing::Incomplete
        } else {
            Timing::Late
        }
    }

    #[inline]
    fn get(&self, number: u32) -> Option<&Op> {
        self.ops.get(index(number)?)
    }

    /// Operation `number` was needed on a line.
    #[inline]
    pub fn needed(&mut self, number: u32, line: u64) {
        if let Some(op) = index(number).and_then(|n| self.ops.get_mut(n)) {
            op.needed += 1;
            let at = self.needed_at.as_mut();
            if let Some(at) = at.filter(|at| at.len() < MAX_COUNTED) {
                at.push((number, line));
            }
        }
    }

    /// From now on, notes where operations are needed.
    pub fn count_needed(&mut self) {
        self.needed_at = Some(Vec::new());
    }

    /// Whether there was no more room for that.
    pub fn needed_is_full(&self) -> bool {
        let at = self.needed_at.as_ref();
        at.is_some_and(|at| at.len() >= MAX_COUNTED)
    }

    /// What operation `number` was, for a diagnostic; its op is that of its first line.
    pub fn last(&self, number: u32) -> Option<LastMaintenance> {
        let op = self.get(number)?;
        Some(LastMaintenance {
            cpu: op.cpu,
            op: op.op,
            site: op.site,
            chain: op.chain,
            operation: number,
            at: op.at,
            first_pa: op.first_line * LINE,
            lines: op.lines,
            barrier: op.barrier.map(|(barrier, _)| barrier),
            barrier_at: op.barrier.map_or(0, |(_, at)| at),
        })
    }

    /// The account of the run so far; `was_under_dma` tells of a line, by number, whether masters have
    /// accessed it.
    pub fn report(&self, was_under_dma: impl Fn(u64) -> bool) -> MaintenanceReport {
        let mut dma_lines: Vec<u64> = self.ops.iter().map(|op| op.dma_lines).collect();
        for extent in &self.extents {
            let hit = (extent.line..extent.line + extent.count)
                .filter(|line| was_under_dma(*line))
                .count();
            if let Some(sum) = dma_lines.get_mut(extent.number as usize - 1) {
                *sum += hit as u64;
            }
        }
        let mut pieces = self.pieces();
        let mut needed_at = self.needed_at();
        let operations: Vec<_> = self
            .ops
            .iter()
            .zip(dma_lines)
            .enumerate()
            .map(|(i, (op, dma_lines))| MaintenanceOp {
                pieces: pieces.remove(&(i as u32 + 1)).unwrap_or_default(),
                number: i as u32 + 1,
                cpu: op.cpu,
                op: op.op,
                site: op.site,
                chain: op.chain,
                first_pa: op.first_line * LINE,
                lines: op.lines,
                cleaned: op.cleaned.into(),
                invalidated: op.invalidated.into(),
                completed_by: op.completed_by,
                dma_lines,
                // A line can be done twice.
                needed_lines: op.needed.min(op.lines),
                needed_at: needed_at.remove(&(i as u32 + 1)).unwrap_or_default(),
                at: op.at,
                dropped: op.dropped,
            })
            .collect();
        let needed = operations.iter().map(|op| op.needed_lines).sum();
        let unneeded = |op: &MaintenanceOp| op.dma_lines.saturating_sub(op.needed_lines);
        let redundant = operations.iter().map(unneeded).sum();
        MaintenanceReport {
            cleaned: operations.iter().map(|op| op.cleaned).sum(),
            invalidated: operations.iter().map(|op| op.invalidated).sum(),
            needed,
            redundant,
            operations,
        }
    }
}

impl Operations {
    /// Where operations were needed, by number: the first byte and the lines of each range, ascending.
    fn needed_at(&self) -> BTreeMap<u32, Vec<(u64, u64)>> {
        let mut all: BTreeMap<u32, Vec<(u64, u64)>> = BTreeMap::new();
        let mut sorted = self.needed_at.clone().unwrap_or_default();
        sorted.sort_unstable();
        sorted.dedup();
        for (number, line) in sorted {
            let ranges = all.entry(number).or_default();
            match ranges.last_mut() {
                Some((first, lines)) if *first / LINE + *lines == line => *lines += 1,
                _ => ranges.push((line * LINE, 1)),
            }
        }
        all
    }

    /// Of operations that are not one range of lines, by number: the first byte and the lines of each of their
    /// ranges, ascending.
    fn pieces(&self) -> BTreeMap<u32, Vec<(u64, u64)>> {
        // Most have one extent, and are the range that it is.
        let whole = |e: &Extent| {
            self.get(e.number)
                .is_some_and(|op| op.first_line == e.line && op.lines == e.count)
        };
        let mut all: BTreeMap<u32, Vec<(u64, u64)>> = BTreeMap::new();
        for extent in self.extents.iter().filter(|e| !whole(e)) {
            let piece = (extent.line, extent.count);
            all.entry(extent.number).or_default().push(piece);
        }
        for (number, pieces) in &mut all {
            pieces.sort_unstable();
            let mut joined: Vec<(u64, u64)> = Vec::new();
            for (line, count) in pieces.drain(..) {
                match joined.last_mut() {
                    // A line can be done twice.
                    Some((first, lines)) if line <= *first + *lines => {
                        *lines = (*lines).max(line + count - *first);
                    }
                    _ => joined.push((line, count)),
                }
            }
            let op = self.get(*number).map(|op| (op.first_line, op.lines));
            // As an invalidate that begins with the line in which it ends.
            if let [one] = joined[..]
                && Some(one) == op
            {
                continue;
            }
            *pieces = joined.iter().map(|(line, n)| (line * LINE, *n)).collect();
        }
        all
    }
}

/// Where an operation stands; 0 is none.
fn index(number: u32) -> Option<usize> {
    (number as usize).checked_sub(1)
}
