// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Which findings come from the maintenance operation that was suppressed on purpose: those that it
//! would have prevented. Nothing else is excused by it.

use staleline_devices::coherency::hazard::{Hazard, HazardKind, Why};
use staleline_devices::cpu::CacheOp;

use super::history;
use super::lookup::Lookup;

impl Lookup<'_> {
    /// Whether there would be no such finding had the suppressed operation been done: it was on all
    /// the lines, is of the kind that is missing, and came between the write and the finding.
    pub(super) fn suppressed(&self, h: &Hazard) -> bool {
        let Some(operation) = self.dropped else {
            return false;
        };
        let time = match self.span(h) {
            Some((from, until)) => from <= operation.at && operation.at <= until,
            None => false,
        };
        time && would_do(h, operation.op) && operation.covers(&(h.first_pa..h.end_pa))
    }

    /// When the missing operation would have done, in accesses since power-on; none if never.
    pub(super) fn span(&self, h: &Hazard) -> Option<(u64, u64)> {
        let started = h.started_at.unwrap_or(h.at);
        match h.kind {
            HazardKind::MissingBarrier | HazardKind::Ownership | HazardKind::SignalledEarly => None,
            _ if h.why == Why::StaleStore => Some((self.written(h)?, h.merged_at)),
            HazardKind::MissingInvalidate => Some((self.written(h)?, started)),
            HazardKind::MissingClean | HazardKind::WritebackClobber => {
                Some((h.written_at, started))
            }
            HazardKind::DiscardedWrite | HazardKind::MismatchedAlias => Some((h.written_at, h.at)),
        }
    }

    /// When the data was written and the transfer over that wrote it: what is invalidated before
    /// may be fetched again too early. None if it was not over when the run ended.
    pub(super) fn written(&self, h: &Hazard) -> Option<u64> {
        match self.transfer_of(h.writer) {
            Some(transfer) => Some(transfer.closed_at?.max(h.written_at)),
            None => Some(h.written_at),
        }
    }
}

/// Whether an operation is of the kind that is missing.
fn would_do(h: &Hazard, op: CacheOp) -> bool {
    let cleans = op != CacheOp::Invalidate;
    let invalidates = op != CacheOp::Clean;
    match h.kind {
        HazardKind::MissingBarrier | HazardKind::Ownership | HazardKind::SignalledEarly => false,
        _ if h.why == Why::StaleStore => invalidates,
        HazardKind::MissingClean | HazardKind::DiscardedWrite => cleans,
        HazardKind::MissingInvalidate => invalidates,
        HazardKind::WritebackClobber => true,
        HazardKind::MismatchedAlias if history::reads_through(h) => invalidates,
        HazardKind::MismatchedAlias => cleans,
    }
}

#[cfg(test)]
#[path = "suppressed_tests.rs"]
mod tests;
