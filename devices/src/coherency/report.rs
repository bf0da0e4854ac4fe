// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What a run of the chip leaves behind: plain data, serialisable, no behaviour.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::census::{Census, CountedBarrier};
use crate::cpu::{CacheOp, ChainId, CpuId, LINE, SiteId};
use crate::dma::{MasterId, Transfer, TransferId};
use crate::faults::Injected;
use crate::hazard::{Hazard, LastMaintenance, line_range};

/// All that the coherency domain knows at the end of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainReport {
    /// Findings in order of first occurrence.
    pub hazards: Vec<Hazard>,
    /// Findings beyond [`super::MAX_HAZARDS`] of their kind, which are counted only.
    pub hazards_dropped: u64,
    /// What maintenance was done, and what it was good for.
    pub maintenance: MaintenanceReport,
    /// Data transfers in order of opening: transfer `n + 1` has ID `n + 1`.
    pub transfers: Vec<TransferRecord>,
    /// Counters of the cache model.
    pub cache: CacheCounters,
    /// CPU accesses seen.
    pub accesses: u64,
    /// Hash over all accesses, maintenance, barriers, DMA beats and interrupts, in order.
    pub run_hash: u64,
    /// What was to go wrong, and whether it did.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Injected>,
    /// What faults are counted by.
    #[serde(default)]
    pub counted: Counted,
    /// Each of them, if that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub census: Option<Census>,
    /// Bounds that were reached, each once: what came after was judged less, or not at all.
    #[serde(default)]
    pub saturated: Vec<Saturated>,
}

/// How many there have been of what faults are of, apart from operations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// Barriers that the engine has told of.
    pub barriers: u32,
    /// Interrupts that devices have raised.
    pub interrupts: u32,
    /// Accesses of masters to memory.
    pub accesses: u32,
}

/// A bound of the model that a run has reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saturated {
    /// What there is room for, in words: `transfers in flight`.
    pub bound: String,
    /// For how many.
    pub limit: u64,
}

/// A data transfer and what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferRecord {
    /// Its ID.
    pub id: TransferId,
    /// Whose it was.
    pub master: MasterId,
    /// As the device described it.
    pub transfer: Transfer,
    /// When it was opened, in accesses since power-on.
    pub opened_at: u64,
    /// When it was closed, if it was.
    pub closed_at: Option<u64>,
    /// Bytes moved.
    pub bytes: u64,
}

/// Maintenance by virtual address to the PoC.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaintenanceReport {
    /// Lines cleaned (`cvac`, `civac`).
    pub cleaned: u64,
    /// Lines invalidated (`ivac`, `civac`).
    pub invalidated: u64,
    /// Line operations on lines that were the target of DMA, whose loss would have been a hazard.
    pub needed: u64,
    /// Line operations on lines that were the target of DMA, whose loss would not have mattered.
    pub redundant: u64,
    /// All operations, in order. The *K* of `drop-maintenance=K` counts those with
    /// [`MaintenanceOp::touched_dma`], from 1.
    pub operations: Vec<MaintenanceOp>,
}

impl MaintenanceReport {
    /// The operation of that number.
    pub fn operation(&self, number: u32) -> Option<&MaintenanceOp> {
        let all = &self.operations;
        let at = all.binary_search_by_key(&number, |op| op.number).ok()?;
        all.get(at)
    }

    /// Whether an operation that a finding names did all of that memory.
    pub fn covers(&self, last: &LastMaintenance, memory: &Range<u64>) -> bool {
        let one = last.as_one_range();
        match self.operation(last.operation) {
            Some(op) => op.covers(memory),
            None => one.start <= memory.start && memory.end <= one.end,
        }
    }
}

/// Whether something would have been wrong without an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// Nothing.
    None,
    /// On some of the lines that masters touch.
    Part,
    /// On all of them.
    Whole,
}

/// One maintenance operation: the line instructions without a barrier, load or store in between.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaintenanceOp {
    /// The CPU.
    #[serde(default)]
    pub cpu: CpuId,
    /// Number among all maintenance operations of the run, from 1: what `drop-maintenance=@N`
    /// means.
    pub number: u32,
    /// What its first instruction does. (Edges of an invalidated range are often `civac`.)
    pub op: CacheOp,
    /// That instruction.
    pub site: SiteId,
    /// How the CPU came to that instruction, where the engine can tell; else unknown.
    pub chain: ChainId,
    /// The lowest line.
    pub first_pa: u64,
    /// Lines, all together: those that follow, where it is one range.
    pub lines: u64,
    /// Where it is not: first byte and lines of each of its ranges, ascending. As far as they are known: one of
    /// very many may lack some.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pieces: Vec<(u64, u64)>,
    /// Of these, lines cleaned (`cvac`, `civac`): none by one that was suppressed.
    #[serde(default)]
    pub cleaned: u64,
    /// Of these, lines invalidated (`ivac`, `civac`): none by one that was suppressed.
    #[serde(default)]
    pub invalidated: u64,
    /// The barrier that completed it for bus masters, by number among those that completed any; 0:
    /// none did.
    #[serde(default)]
    pub completed_by: u32,
    /// Lines that were the target of DMA at any time of the run.
    pub dma_lines: u64,
    /// Of these, lines on which the operation was needed.
    pub needed_lines: u64,
    /// Those, as first byte and lines of each range, ascending; none unless a census was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needed_at: Vec<(u64, u64)>,
    /// When, in accesses since power-on.
    pub at: u64,
    /// Whether the fault hook suppressed it.
    pub dropped: bool,
}

impl MaintenanceOp {
    /// The memory that it did, ascending. What lies between two of these it did not do.
    pub fn ranges(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let one = (self.first_pa, self.lines);
        let one = self.pieces.is_empty().then_some(one);
        let all = one.into_iter().chain(self.pieces.iter().copied());
        all.map(|(pa, lines)| line_range(pa, lines))
    }

    /// First bytes of so many of its lines, from some on, in the order in which it did them; none if that is not
    /// known. Where all is done in one way, each range is done from its start; the ends of a range that is invalidated
    /// are cleaned, too, and out of order, if others have a part of their lines, and ranges may come in any order.
    pub fn in_order(&self, from: u32, count: u32) -> Option<impl Iterator<Item = u64> + '_> {
        let is_all_or_none = |done: u64| done == 0 || done == self.lines;
        let is_one = self.pieces.is_empty()
            && is_all_or_none(self.cleaned)
            && is_all_or_none(self.invalidated);
        let all = self.ranges().flat_map(|range| range.step_by(LINE as usize));
        is_one.then(|| all.skip(from as usize).take(count as usize))
    }

    /// Whether it did all of that memory.
    pub fn covers(&self, memory: &Range<u64>) -> bool {
        let first = self.from(memory.start);
        first.is_some_and(|first| first.start <= memory.start && memory.end <= first.end)
    }

    /// The first of its ranges that ends behind an address.
    fn from(&self, pa: u64) -> Option<Range<u64>> {
        let ends = |(first, lines): &(u64, u64)| line_range(*first, *lines).end;
        match self.pieces.is_empty() {
            true => self.ranges().find(|range| range.end > pa),
            false => {
                let at = self.pieces.partition_point(|piece| ends(piece) <= pa);
                let (first, lines) = self.pieces.get(at)?;
                Some(line_range(*first, *lines))
            }
        }
    }

    /// Whether it did the line of that byte.
    pub fn does(&self, pa: u64) -> bool {
        self.covers(&(pa..pa.saturating_add(1)))
    }

    /// The first part of that memory's surroundings that it did, if it did any of it.
    pub fn met(&self, memory: &Range<u64>) -> Option<Range<u64>> {
        let first = self.from(memory.start)?;
        (first.start < memory.end).then_some(first)
    }

    /// Whether that barrier is its CPU's first behind it to complete or order it.
    pub fn waits_for(&self, barrier: &CountedBarrier) -> bool {
        let (first, last) = barrier.operations;
        self.cpu == barrier.cpu && first != 0 && (first..=last).contains(&self.number)
    }

    /// Whether it was needed on the line of that byte, as far as that was counted.
    pub fn was_needed_at(&self, pa: u64) -> bool {
        let mut all = self.needed_at.iter();
        all.any(|(first, lines)| line_range(*first, *lines).contains(&pa))
    }

    /// Whether it was on memory that masters have touched.
    pub fn touched_dma(&self) -> bool {
        self.dma_lines > 0
    }

    /// Whether it was needed, of the lines that masters touch.
    pub fn need(&self) -> Need {
        match self.needed_lines {
            0 => Need::None,
            n if n >= self.dma_lines => Need::Whole,
            _ => Need::Part,
        }
    }

    /// Lines that masters have touched, or accesses past the cache to which it mattered.
    pub fn touched_lines(&self) -> u64 {
        self.dma_lines.max(self.needed_lines)
    }
}

/// Counters of the cache model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheCounters {
    /// Lines filled.
    pub fills: u64,
    /// Lines evicted clean.
    pub evictions_clean: u64,
    /// Lines evicted dirty, that is written back.
    pub evictions_dirty: u64,
    /// Bytes read by DMA.
    pub dma_read_bytes: u64,
    /// Bytes written by DMA.
    pub dma_written_bytes: u64,
}
