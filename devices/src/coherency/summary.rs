// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What a run has come to, and which bounds of the model it has reached.

use super::alias::{MAX_BLOCK, MAX_ENTRIES};
use super::domain::Domain;
use super::fences::MAX_OPEN;
use super::limits::{
    MAX_CAUSES, MAX_CLEANS, MAX_EXTENTS, MAX_HAZARDS, MAX_HELD_LINES, MAX_LINES, MAX_OCCURRENCES,
    MAX_OPERATIONS, MAX_OVERTAKEN, MAX_TRANSFERS,
};
use super::report::{DomainReport, Saturated};
use super::stores::SPANS;
use super::transfers::MAX_IN_FLIGHT;

impl Domain {
    /// Every single finding so far, in order; none unless
    /// [`DomainConfig::occurrences`](super::config::DomainConfig::occurrences) asks for them.
    pub fn occurrences(&self) -> &[super::Occurrence] {
        self.sanitizer.findings.occurrences()
    }

    /// What the run has come to.
    pub fn report(&self) -> DomainReport {
        let (hazards, hazards_dropped) = self.sanitizer.findings.report(self.base);
        let mut maintenance = self
            .sanitizer
            .ops
            .report(|line| self.lines.was_under_dma(line));
        for op in &mut maintenance.operations {
            op.first_pa += self.base;
            for (pa, _) in op.pieces.iter_mut().chain(&mut op.needed_at) {
                *pa += self.base;
            }
        }
        let mut census = self.counter.census();
        if let Some(census) = &mut census {
            census.full |= self.sanitizer.ops.needed_is_full();
        }
        DomainReport {
            hazards,
            hazards_dropped,
            maintenance,
            transfers: self.transfers.report(),
            faults: self.injected(),
            counted: self.counted(),
            census,
            saturated: self.saturated(),
            cache: self.cache.counters(),
            accesses: self.sanitizer.now,
            run_hash: self.hash.value(),
        }
    }

    fn saturated(&self) -> Vec<Saturated> {
        let bounds = [
            (self.transfers.overflow, "transfers", MAX_TRANSFERS),
            (
                self.transfers.in_flight_overflow,
                "transfers in flight at one time",
                MAX_IN_FLIGHT,
            ),
            (
                self.sanitizer.ops.overflow,
                "maintenance operations",
                MAX_OPERATIONS,
            ),
            (
                self.sanitizer.ops.extents_overflow,
                "runs of lines of maintenance operations",
                MAX_EXTENTS,
            ),
            (
                self.sanitizer.room.full,
                "cleans of parts of lines",
                MAX_CLEANS,
            ),
            (
                self.sanitizer.overtaken.full,
                "stores that others to their line have overtaken",
                MAX_OVERTAKEN,
            ),
            (
                self.sanitizer.overtaken.spans_full,
                "times between barriers at which a CPU started a device",
                SPANS,
            ),
            (
                self.injector.lines_full,
                "lines of maintenance that a fault makes late at one time",
                MAX_HELD_LINES,
            ),
            (self.sanitizer.findings.full, "findings", MAX_CAUSES),
            (
                self.sanitizer.findings.unlisted() > 0,
                "findings of one kind",
                MAX_HAZARDS,
            ),
            (
                self.sanitizer.findings.lines_full(),
                "lines of findings",
                MAX_LINES,
            ),
            (
                self.aliases.full,
                "translation table entries that map memory as non-cacheable",
                MAX_ENTRIES,
            ),
            (
                self.aliases.cut,
                "bytes that one translation table entry maps as non-cacheable",
                MAX_BLOCK as usize,
            ),
            (
                self.fences.misses_ends(),
                "accesses of devices to shared buffers that were not ended",
                MAX_OPEN,
            ),
            (
                self.sanitizer.findings.log_full,
                "single occurrences of findings",
                MAX_OCCURRENCES,
            ),
        ];
        let reached = bounds.into_iter().filter(|(reached, ..)| *reached);
        reached
            .map(|(_, bound, limit)| Saturated {
                bound: bound.into(),
                limit: limit as u64,
            })
            .collect()
    }
}
