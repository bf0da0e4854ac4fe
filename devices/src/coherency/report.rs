// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What a run of the chip leaves behind: plain data, serialisable, no behaviour.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::cpu::{CacheOp, ChainId, CpuId, SiteId};
use crate::dma::{MasterId, Transfer, TransferId};
use crate::hazard::{Hazard, line_range};

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
    /// Bounds that were reached, each once: what came after was judged less, or not at all.
    #[serde(default)]
    pub saturated: Vec<Saturated>,
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

/// One maintenance operation: the line instructions without a barrier, load or store in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
    /// When, in accesses since power-on.
    pub at: u64,
    /// Whether the fault hook suppressed it.
    pub dropped: bool,
}

impl MaintenanceOp {
    /// The memory that it did, as one range.
    pub fn range(&self) -> Range<u64> {
        line_range(self.first_pa, self.lines)
    }

    /// Whether it was on memory that masters have touched.
    pub fn touched_dma(&self) -> bool {
        self.dma_lines > 0
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
