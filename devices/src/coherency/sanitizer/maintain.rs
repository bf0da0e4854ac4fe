// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! `dc` instructions.

use super::memory::{Sanitizer, Subject};
use crate::coherency::findings::Finding;
use crate::coherency::line::{DESCRIPTOR, MAYBE_DIRTY, UNREPEATED};
use crate::coherency::maintenance::Operations;
use crate::coherency::mutate::{Rule, keep, off};
use crate::coherency::who::Who;
use crate::cpu::CacheOp;
use crate::dma::TransferId;
use crate::hazard::{Actor, HazardKind, Signalled, Why};

/// A `dc` instruction on one line.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Maintenance {
    pub op: CacheOp,
    pub operation: u32,
    pub site: Who,
    /// Bytes of the line that transfers in flight have written and may write again.
    pub in_flight: u64,
}

impl Sanitizer {
    /// Maintenance of `dma_buf_end_access()` on a line, after the `signal` of the transfer's fence: what it
    /// makes visible of what a device wrote should have been so by then. Others' later data it owes nobody.
    /// `opened` tells when a transfer was.
    #[cold]
    #[inline(never)]
    pub fn maintain_late(
        &mut self,
        s: &mut Subject<'_>,
        m: Maintenance,
        signal: Signalled,
        opened: impl Fn(TransferId) -> Option<u64>,
    ) {
        let by_then = |who: Who, written_at| match who.actor() {
            Actor::Device { transfer, .. } => {
                let opened = opened(transfer).is_some_and(|at| at <= signal.at);
                written_at <= signal.at || opened
            }
            _ => false,
        };
        let stale = (s.cold.poc_writer, s.cold.poc_written_at);
        let dirty = (s.line.writer, s.line.written_at);
        let (invalidates, cleans) = (m.op != CacheOp::Clean, m.op != CacheOp::Invalidate);
        let due = [
            (invalidates, s.line.unseen & !m.in_flight, stale),
            (cleans, s.line.uncleaned, dirty),
        ];
        self.maintain(s, m);
        for (does, bytes, (writer, written_at)) in due {
            if !does || bytes == 0 || !by_then(writer, written_at) {
                continue;
            }
            let f = Finding {
                kind: HazardKind::SignalledEarly,
                why: Why::Absent,
                // One for each transfer and way.
                cause: u64::from(writer.bits()) | u64::from(m.op == CacheOp::Clean) << 32,
                bytes,
                // Who reads too early is told as such.
                wrong: 0,
                writer,
                reader: m.site,
                device: writer,
                written_at,
                started: None,
                stood: None,
                signalled: Some(signal),
            };
            self.record(s, f);
        }
    }

    /// Maintenance on a line; before an invalidate takes effect on the data.
    #[inline]
    pub fn maintain(&mut self, s: &mut Subject<'_>, m: Maintenance) {
        let dirty = s.line.flags & MAYBE_DIRTY != 0;
        if dirty {
            s.line.flags &= !MAYBE_DIRTY;
        }
        if m.op == CacheOp::Invalidate {
            if dirty && !off(Rule::InvalidatedMayWriteBack) {
                // Until it is complete, a dirty line may still be written back.
                s.cold.cleans.add(m.operation, 0, dirty, &mut self.room);
                s.line.flags |= UNREPEATED;
            }
            // Whatever an operation has done to the line before falls away with it.
            if s.line.clean_op != m.operation {
                // Without the last clean, this invalidate would discard the data. It is the same
                // CPU's, so it needs no barrier.
                self.cleans_were_needed(s, u64::MAX, |_: &Operations, _| true);
            }
        } else {
            s.line.clean_op = m.operation;
            if s.line.flags & UNREPEATED != 0 && s.cold.cleans.repeat(m.operation) {
                s.line.flags &= !UNREPEATED;
            }
            if s.line.uncleaned != 0 || dirty {
                self.cleaned(s, m.operation, dirty);
            }
        }
        // After a clean of what was clean nothing else is to be watched than before.
        if m.op != CacheOp::Clean {
            self.invalidated(s, m);
            s.rewatch();
        }
    }

    /// Operation `op` cleans a line that has bytes that were not, or might be `dirty`.
    #[inline(never)]
    fn cleaned(&mut self, s: &mut Subject<'_>, op: u32, dirty: bool) {
        let uncleaned = s.line.uncleaned;
        let completed = self.ops.completions();
        let descriptors = s.line.flags & DESCRIPTOR != 0;
        let rare = s.cold.rare_if_any().filter(|_| descriptors);
        if let Some(words) = rare.and_then(|rare| rare.words.as_deref_mut()) {
            words.cleaned(uncleaned, op, completed);
        }
        s.cold.cleans.add(op, uncleaned, dirty, &mut self.room);
        s.line.flags |= UNREPEATED;
        s.line.uncleaned = 0;
        s.line.firmware = 0;
        s.rewatch();
    }

    fn invalidated(&mut self, s: &mut Subject<'_>, m: Maintenance) {
        let saved = if s.cold.invalidate_op == m.operation {
            s.cold.saved_invalidate
        } else {
            0
        };
        // What a transfer that is not over has written, it may write again.
        let mut stays = s.line.unseen & keep(Rule::EarlyInvalidate, m.in_flight);
        let rare = s.cold.rare();
        let after_barrier = rare.alias_written_at > self.barriers().stores_before_all;
        let pending = if after_barrier {
            keep(
                Rule::OvertakenAliasStore,
                rare.alias_pending & s.line.unseen & !stays,
            )
        } else {
            0
        };
        let of_this_cpu = rare.alias_cpu == self.cpu;
        if stays != 0 {
            s.cold.spoiled = Some(Why::Early);
        } else if pending != 0 && of_this_cpu {
            // The invalidate may be done before the non-cacheable store is.
            stays = pending;
            s.cold.spoiled = Some(Why::Incomplete);
        }
        if m.op == CacheOp::Invalidate {
            s.cold.discard_op = m.operation;
        }
        s.cold.saved_invalidate = saved | s.line.unseen & !stays;
        if s.line.unseen & !stays != 0 {
            // What is not complete yet will be with this one.
            let open = s.cold.settling != 0 && !self.ops.is_complete(s.cold.settling_op);
            let before = if open { s.cold.settling } else { 0 };
            s.cold.settling = before | s.line.unseen & !stays;
            s.cold.settling_op = m.operation;
        }
        s.cold.stored_behind = 0;
        s.line.unseen = stays;
        // What firmware left is nobody's data.
        let discarded = keep(Rule::Discarded, s.line.uncleaned & !s.line.firmware);
        if discarded != 0 {
            self.discarded(s, discarded, m);
        }
        s.line.uncleaned = 0;
        s.line.firmware = 0;
        s.cold.invalidate_op = m.operation;
    }

    fn discarded(&mut self, s: &mut Subject<'_>, bytes: u64, m: Maintenance) {
        let f = Finding {
            kind: HazardKind::DiscardedWrite,
            why: Why::Absent,
            cause: u64::from(m.operation),
            bytes,
            wrong: s.images.difference(s.number) & bytes,
            writer: s.line.writer,
            reader: m.site,
            device: s.line.writer,
            written_at: s.line.written_at,
            started: None,
            stood: None,
            signalled: None,
        };
        self.record(s, f);
    }
}
