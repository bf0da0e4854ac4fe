// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Maintenance operations: what was done where, and what it was good for.
//!
//! An *operation* is the run of `dc` instructions up to a DSB: what one call of the kernel's
//! maintenance routines does. It is the unit of the fault hook and of the accounting.
//!
//! An operation was *needed* on a line if, had the whole operation not been done, the sanitizer
//! would later have found a hazard there. That is decided by carrying along the state the line
//! would have without its last clean and without its last invalidates (the `saved_*` masks of
//! [`super::line`]), and it is exact for programs that are correct with the operation.

use super::line::{DMA, Lines};
use super::report::{MaintenanceOp, MaintenanceReport};
use super::{LINE, MAX_OPERATIONS};
use crate::cpu::{CacheOp, ChainId, SiteId};

/// Extents kept per run. Of lines beyond, only those that were under DMA already count as such.
const MAX_EXTENTS: usize = 1 << 22;

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
        if !self.open && self.ops.len() < MAX_OPERATIONS {
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
            });
        }
        let number = self.ops.len() as u32;
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
            _ => current.dma_lines += u64::from(dma),
        }
        let effective = !current.dropped || beyond;
        if effective {
            self.cleaned += u64::from(op != CacheOp::Invalidate);
            self.invalidated += u64::from(op != CacheOp::Clean);
        }
        (number, effective)
    }

    /// A DSB: the operation is complete.
    pub fn barrier(&mut self) {
        self.open = false;
    }

    /// Whether an operation is under way.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// The operation that no DSB has completed yet; 0: none.
    pub fn incomplete(&self) -> u32 {
        if self.open { self.ops.len() as u32 } else { 0 }
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

    /// What operation `number` was; its op is that of its first line.
    pub fn get(&self, number: u32) -> Option<(CacheOp, SiteId, ChainId, u64)> {
        let op = self.ops.get((number as usize).checked_sub(1)?)?;
        Some((op.op, op.site, op.chain, op.at))
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
            .filter(|(_, (_, dma_lines))| *dma_lines > 0)
            .map(|(i, (op, dma_lines))| MaintenanceOp {
                number: i as u32 + 1,
                op: op.op,
                site: op.site,
                chain: op.chain,
                first_pa: op.first_line * LINE,
                lines: op.lines,
                dma_lines,
                // A line can be done twice, and needs no DMA for an invalidate to discard what
                // the clean before it has saved.
                needed_lines: op.needed.min(dma_lines),
                at: op.at,
                dropped: op.dropped,
            })
            .collect();
        let needed = operations.iter().map(|op| op.needed_lines).sum();
        let touched: u64 = operations.iter().map(|op| op.dma_lines).sum();
        MaintenanceReport {
            cleaned: self.cleaned,
            invalidated: self.invalidated,
            needed,
            redundant: touched - needed,
            operations,
        }
    }
}
