// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! `dc` instructions.

use super::super::findings::Finding;
use super::super::hazard::{HazardKind, Why};
use super::super::line::MAYBE_DIRTY;
use super::super::maintenance::Operations;
use super::super::mutate::{Rule, keep, off};
use super::super::who::Who;
use super::{Sanitizer, Subject};
use crate::cpu::CacheOp;

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
    /// Maintenance on a line; before an invalidate takes effect on the data.
    pub fn maintain(&mut self, s: &mut Subject<'_>, m: Maintenance) {
        // Whatever an operation has done to the line before falls away with it.
        let cleaned_before = s.cold.clean_op == m.operation;
        let dirty = s.line.flags & MAYBE_DIRTY != 0;
        s.line.flags &= !MAYBE_DIRTY;
        if m.op == CacheOp::Invalidate {
            // Until it is complete, a dirty line may still be written back.
            let dirty = dirty && !off(Rule::InvalidatedMayWriteBack);
            s.cold.cleans.add(m.operation, 0, dirty, &mut self.room);
        } else {
            let completed = self.ops.completions();
            s.cold.cleans.repeat(m.operation);
            if let Some(words) = s.cold.words.as_deref_mut() {
                words.cleaned(s.line.uncleaned, m.operation, completed);
            }
            let uncleaned = s.line.uncleaned;
            s.cold
                .cleans
                .add(m.operation, uncleaned, dirty, &mut self.room);
            s.line.uncleaned = 0;
            s.line.firmware = 0;
            s.cold.clean_op = m.operation;
        }
        if m.op != CacheOp::Clean {
            if m.op == CacheOp::Invalidate && !cleaned_before {
                // Without the last clean, this invalidate would discard the data. It is the same
                // CPU's, so it needs no barrier.
                self.cleans_were_needed(s.cold, u64::MAX, |_: &Operations, _| true);
            }
            self.invalidated(s, m);
        }
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
        let pending = s.cold.alias_pending & s.line.unseen & !stays;
        let pending = keep(Rule::OvertakenAliasStore, pending);
        if stays != 0 {
            s.cold.spoiled = Some(Why::Early);
        } else if pending != 0
            && s.cold.alias_cpu == self.cpu
            && s.cold.alias_written_at > self.barriers().stores_before_all
        {
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
            let open = !self.ops.is_complete(s.cold.settling_op);
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
            told: None,
        };
        self.record(s, f);
    }
}
