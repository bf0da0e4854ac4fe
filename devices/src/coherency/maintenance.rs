// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Maintenance operations: what was done where, and what it was good for.
//!
//! An *operation* is a run of `dc` instructions without a barrier, load or store in between: what one
//! call of the kernel's maintenance routines does. It is the unit of the fault hook and of the accounting.
//!
//! An operation was *needed* on a line if, had the whole operation not been done, the sanitizer
//! would later have found a hazard there. That is decided by carrying along the state the line
//! would have without its last clean and without its last invalidates (the `saved_*` masks of
//! [`super::cold`]), and it is exact for programs that are correct with the operation.

use super::hazard::LastMaintenance;
use super::line::{DMA, Lines};
use super::report::{MaintenanceOp, MaintenanceReport};
use super::{LINE, MAX_EXTENTS, MAX_OPERATIONS};
use crate::cpu::{Barrier, BarrierAccess, CacheOp, ChainId, SiteId};

#[derive(Debug, Clone, Copy)]
struct Op {
    op: CacheOp,
    site: SiteId,
    chain: ChainId,
    first_line: u64,
    lines: u64,
    /// Lines under DMA by then, of those without an extent.
    dma_lines: u64,
    needed: u64,
    at: u64,
    dropped: bool,
    /// The first barrier after it, and when.
    barrier: Option<(Barrier, u64)>,
}

/// Adjacent lines of one operation.
#[derive(Debug, Clone, Copy)]
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
    open: bool,
    /// When the last `dc` was.
    last_at: u64,
    /// The last operation that was complete for bus masters: a barrier for all accesses that
    /// reaches them came after it.
    completed: u32,
    /// The last one that is ordered before later accesses of the CPU itself.
    ordered: u32,
    /// Operations that a barrier came after.
    ended: usize,
    /// There were more operations than [`MAX_OPERATIONS`].
    pub overflow: bool,
    /// There were more runs of lines than [`MAX_EXTENTS`]. Of lines beyond, only those that were
    /// under DMA already count as such.
    pub extents_overflow: bool,
    suppress: Option<u32>,
    cleaned: u64,
    invalidated: u64,
}

impl Operations {
    /// `suppress`: the number of the operation that the fault hook drops.
    pub fn new(suppress: Option<u32>) -> Self {
        Operations {
            ops: Vec::with_capacity(4096),
            extents: Vec::with_capacity(4096),
            open: false,
            last_at: 0,
            completed: 0,
            ordered: 0,
            ended: 0,
            overflow: false,
            extents_overflow: false,
            suppress,
            cleaned: 0,
            invalidated: 0,
        }
    }

    /// One `dc` instruction on a line; `dma`: one that DMA has touched before. Returns the
    /// operation's number and whether it is to be done.
    pub fn line(
        &mut self,
        op: CacheOp,
        line: u64,
        dma: bool,
        site: SiteId,
        chain: ChainId,
        at: u64,
    ) -> (u32, bool) {
        let room = self.ops.len() < MAX_OPERATIONS;
        self.overflow |= !room && !self.continues(at);
        if !self.continues(at) {
            self.open = false;
        }
        if !self.open && room {
            self.open = true;
            let number = self.ops.len() as u32 + 1;
            let dropped = self.suppress == Some(number);
            let first_line = line;
            self.ops.push(Op {
                op,
                site,
                chain,
                first_line,
                lines: 0,
                dma_lines: 0,
                needed: 0,
                at,
                dropped,
                barrier: None,
            });
        }
        let number = self.ops.len() as u32;
        self.last_at = at;
        // What comes after the last operation counts as part of it, but is done.
        let beyond = !self.open;
        let Some(current) = self.ops.last_mut() else {
            return (0, true);
        };
        current.lines += 1;
        let room = self.extents.len() < MAX_EXTENTS;
        match self.extents.last_mut() {
            Some(e) if e.number == number && e.line + e.count == line => e.count += 1,
            _ if room => self.extents.push(Extent {
                number,
                line,
                count: 1,
            }),
            _ => {
                self.extents_overflow = true;
                current.dma_lines += u64::from(dma);
            }
        }
        let effective = !current.dropped || beyond;
        if effective {
            self.cleaned += u64::from(op != CacheOp::Invalidate);
            self.invalidated += u64::from(op != CacheOp::Clean);
        }
        (number, effective)
    }

    /// A DMB or DSB ends the operation under way. Only one for loads and stores orders maintenance
    /// before anything (DDI 0487, D7.5.9.15). A DMB will do for a word that a master polls
    /// (K11.5.1.1); whether it does for a doorbell, the texts do not agree on, and it is let pass.
    pub fn barrier(&mut self, barrier: Barrier, now: u64) {
        self.open = false;
        for op in self.ops.iter_mut().skip(self.ended) {
            op.barrier = Some((barrier, now));
        }
        self.ended = self.ops.len();
        if barrier.access == BarrierAccess::Full {
            self.ordered = self.issued();
            if barrier.reaches_masters() {
                self.completed = self.issued();
            }
        }
    }

    /// Whether a `dc` after access number `at` would be part of the operation under way.
    pub fn continues(&self, at: u64) -> bool {
        self.open && self.last_at == at
    }

    /// Operations so far.
    pub fn issued(&self) -> u32 {
        self.ops.len() as u32
    }

    /// The last operation that is complete for bus masters; 0: none.
    pub fn completed(&self) -> u32 {
        self.completed
    }

    /// The last operation that is ordered before what the CPU does next; 0: none.
    pub fn ordered(&self) -> u32 {
        self.ordered
    }

    /// Operation `number` was needed on one line.
    pub fn needed(&mut self, number: u32) {
        if let Some(op) = (number as usize)
            .checked_sub(1)
            .and_then(|i| self.ops.get_mut(i))
        {
            op.needed += 1;
        }
    }

    /// What operation `number` was, for a diagnostic; its op is that of its first line.
    pub fn last(&self, number: u32) -> Option<LastMaintenance> {
        let op = self.ops.get((number as usize).checked_sub(1)?)?;
        Some(LastMaintenance {
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

    /// The account of the run so far.
    pub fn report(&self, lines: &Lines) -> MaintenanceReport {
        let mut dma_lines: Vec<u64> = self.ops.iter().map(|op| op.dma_lines).collect();
        for extent in &self.extents {
            let hit = (extent.line..extent.line + extent.count)
                .filter(|line| lines.peek(*line).is_some_and(|l| l.flags & DMA != 0))
                .count();
            if let Some(sum) = dma_lines.get_mut(extent.number as usize - 1) {
                *sum += hit as u64;
            }
        }
        let operations: Vec<_> = self
            .ops
            .iter()
            .zip(dma_lines)
            .enumerate()
            .map(|(i, (op, dma_lines))| MaintenanceOp {
                number: i as u32 + 1,
                op: op.op,
                site: op.site,
                chain: op.chain,
                first_pa: op.first_line * LINE,
                lines: op.lines,
                dma_lines,
                // A line can be done twice.
                needed_lines: op.needed.min(op.lines),
                at: op.at,
                dropped: op.dropped,
            })
            .collect();
        let needed = operations.iter().map(|op| op.needed_lines).sum();
        let unneeded = |op: &MaintenanceOp| op.dma_lines.saturating_sub(op.needed_lines);
        let redundant = operations.iter().map(unneeded).sum();
        MaintenanceReport {
            cleaned: self.cleaned,
            invalidated: self.invalidated,
            needed,
            redundant,
            operations,
        }
    }
}
