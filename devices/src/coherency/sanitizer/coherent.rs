// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Accesses that go through the caches: a CPU's, or those of a master that snoops.

use super::memory::{ByMaster, Sanitizer, Subject, by_poc_writer};
use crate::coherency::findings::Finding;
use crate::coherency::line::{DMA, Line, MAYBE_DIRTY, OVERTAKEN, WATCHED};
use crate::coherency::maintenance::Timing;
use crate::coherency::mutate::{Rule, keep, off};
use crate::coherency::stores::Stored;
use crate::coherency::who::Who;
use crate::dma::{Content, Doorbell};
use crate::hazard::{HazardKind, Why};

impl Sanitizer {
    /// A CPU or a snooping master reads.
    #[inline]
    pub fn coherent_read(&mut self, s: &mut Subject<'_>, bytes: u64, reader: Who) {
        if (s.line.unseen | s.cold.lost) & bytes != 0 {
            self.unread(s, bytes, reader);
        }
        self.invalidate_was_needed(s, bytes);
        s.line.watch_bytes(s.cold);
    }

    /// A CPU or a snooping master reads, but not what was written at the PoC.
    #[cold]
    #[inline(never)]
    fn unread(&mut self, s: &mut Subject<'_>, bytes: u64, reader: Who) {
        // A copy of before the write, or the PoC after that copy's write-back.
        let wrong = |s: &Subject<'_>| s.images.difference(s.number) | s.cold.destroyed;
        let stale = keep(Rule::Invalidate, s.line.unseen & bytes);
        if stale != 0 {
            let why = s.cold.spoiled.unwrap_or(Why::Absent);
            let kind = match why {
                Why::Incomplete => HazardKind::MissingBarrier,
                _ => by_poc_writer(s.cold.poc_writer, HazardKind::MissingInvalidate),
            };
            self.record_unread(s, kind, why, stale, wrong(s), reader);
        }
        let lost = keep(Rule::Lost, s.cold.lost & bytes & !stale);
        if lost != 0 {
            let kind = by_poc_writer(s.cold.rare().lost_writer, HazardKind::WritebackClobber);
            self.record_unread(s, kind, Why::StaleStore, lost, wrong(s), reader);
        }
    }

    /// A snooping master reads: are the stores it may be meant to see ordered before it was
    /// started?
    #[inline]
    pub fn snooping_read(&mut self, s: &mut Subject<'_>, by: &ByMaster) {
        self.check_invalidate(s, by);
        // Nothing to find, and no operation that anything was needed for.
        if s.line.flags & WATCHED != 0 {
            self.coherent_read(s, by.bytes, by.who);
        }
        self.check_order(s, by, by.bytes);
    }

    /// Whether a CPU has stored some of what a master accesses through the cache without ordering that
    /// before whatever started the master.
    #[inline]
    pub fn is_unordered(&mut self, number: u64, line: &Line, by: &ByMaster) -> bool {
        self.overtaken.judges(&by.release);
        if line.fresh & by.bytes == 0 && line.flags & OVERTAKEN == 0 {
            return false;
        }
        let unordered = |stored: Stored| stored.unordered(&by.release) & by.bytes != 0;
        let mut before = self.overtaken.of(number, line).iter().copied();
        unordered(last_stored(line)) || before.any(unordered)
    }

    /// A snooping master reads bytes that a CPU has invalidated for it: in time?
    #[inline]
    fn check_invalidate(&mut self, s: &mut Subject<'_>, by: &ByMaster) {
        let bytes = keep(Rule::SettlingInvalidate, s.cold.settling & by.bytes);
        if bytes == 0 || stored_between(s, &by.release) {
            return;
        }
        let timing = self.ops.timing(s.cold.settling_op, &by.release);
        if timing != Timing::InTime {
            self.unsettled(s, by, bytes, timing);
        }
    }

    /// It was not, for `bytes`.
    #[cold]
    #[inline(never)]
    fn unsettled(&mut self, s: &mut Subject<'_>, by: &ByMaster, bytes: u64, timing: Timing) {
        let (kind, why) = match timing {
            Timing::InTime => return,
            Timing::Incomplete => (HazardKind::MissingBarrier, Why::Incomplete),
            Timing::Late => (HazardKind::MissingInvalidate, Why::Late),
        };
        let f = Finding {
            bytes,
            wrong: s.images.difference(s.number) & bytes,
            writer: s.cold.poc_writer,
            device: s.cold.poc_writer,
            written_at: s.cold.poc_written_at,
            ..by.finding(kind, why)
        };
        self.record(s, f);
    }

    /// A snooping master is about to write into the cache. An invalidate that is not complete, or came after
    /// the master was told, may throw that away; and a store that is not ordered before may come after.
    pub fn allocating_write(&mut self, s: &mut Subject<'_>, by: &ByMaster) {
        self.check_order(s, by, by.bytes);
        let untimely = |op, bytes| match self.ops.timing(op, &by.release) {
            Timing::InTime => 0,
            Timing::Incomplete => bytes,
            Timing::Late => keep(Rule::LateInvalidate, bytes),
        };
        let discarded = untimely(s.cold.discard_op, by.bytes);
        // It may also go into the copy that is to be invalidated, and make that dirty.
        let merged = untimely(s.cold.settling_op, s.cold.settling & !by.bytes);
        let discarded = keep(Rule::DiscardedAllocation, discarded);
        let merged = keep(Rule::MergedAllocation, merged);
        if discarded | merged == 0 {
            return;
        }
        if stored_between(s, &by.release) {
            // So it stays, whoever writes next.
            s.cold.discard_op = 0;
            s.cold.settling = 0;
        } else {
            self.may_not_stay(s, by, discarded, merged);
        }
    }

    /// What a master writes into the cache may go with a copy that is invalidated (`discarded`), or bring
    /// that copy to memory (`merged`).
    #[cold]
    #[inline(never)]
    fn may_not_stay(&mut self, s: &mut Subject<'_>, by: &ByMaster, discarded: u64, merged: u64) {
        let is_late = |bytes, op| bytes != 0 && self.ops.timing(op, &by.release) == Timing::Late;
        let late_discard = is_late(discarded, s.cold.discard_op);
        let late = late_discard || is_late(merged, s.cold.settling_op);
        let bytes = discarded | merged;
        let mut f = Finding {
            bytes,
            written_at: self.now,
            ..by.finding(HazardKind::MissingBarrier, Why::Incomplete)
        };
        if late {
            f.why = Why::Late;
            f.kind = HazardKind::MissingInvalidate;
        }
        // Nobody needed that invalidate, at least not before.
        let last = self.ops.last(s.cold.discard_op);
        if let Some(last) = last.filter(|_| late_discard && s.cold.settling == 0) {
            f.kind = HazardKind::DiscardedWrite;
            f.reader = Who::cpu(last.cpu, last.site);
        }
        self.record(s, f);
    }

    /// A CPU, or a snooping master whose writes allocate, writes. Takes no [`Subject`] where the
    /// line has no history: see [`fresh_write`].
    pub fn coherent_write(&mut self, s: &mut Subject<'_>, bytes: u64, writer: Who) {
        // The store merges into whatever copy the observer has. If that copy was not invalidated
        // since the write at the PoC, its write-back destroys the other bytes.
        s.line.unseen &= !keep(Rule::StoreSettles, bytes);
        s.cold.saved_invalidate &= !bytes;
        s.cold.settling &= !bytes;
        if s.line.unseen & !s.cold.lost != 0 {
            let (lost_writer, lost_written_at) = (s.cold.poc_writer, s.cold.poc_written_at);
            let first = s.cold.lost == 0;
            let rare = s.cold.rare_mut();
            if first {
                rare.merged = 0;
            }
            (rare.merged_by, rare.merged_at) = (writer, self.now);
            (rare.lost_writer, rare.lost_written_at) = (lost_writer, lost_written_at);
        }
        let merges = s.cold.lost | s.line.unseen != 0;
        s.cold.lost = (s.cold.lost | s.line.unseen) & !bytes;
        if let Some(rare) = s.cold.rare_if_any() {
            if merges {
                rare.merged |= bytes;
            }
            rare.saved_lost.forget(bytes);
            rare.alias_fresh &= !bytes;
        }
        s.cold.cleans.forget(bytes);
        if s.cold.saved_invalidate != 0 {
            let (saved, op) = (s.cold.saved_invalidate, s.cold.invalidate_op);
            s.cold.rare_mut().saved_lost.add(saved, op);
        }
        s.cold.destroyed &= !bytes;
        fresh_write(s.line, bytes, writer, self.now, self.barriers().stores);
        if writer.device_master().is_some() {
            self.forget_stores(s, bytes);
        } else if s.cold.stored_behind == 0 {
            s.cold.stored_behind = self.now;
            s.cold.stored_behind_by = self.cpu;
        }
        s.rewatch();
    }

    /// A snooping master writes through to the PoC; cached copies are pushed out. Bytes in `in_flight` other
    /// transfers may yet write, or write again.
    pub fn write_through(&mut self, s: &mut Subject<'_>, by: &ByMaster, in_flight: u64) {
        let (bytes, writer) = (by.bytes, by.who);
        self.check_order(s, by, bytes);
        // What is not ordered before may be stored after it, and is dirty then; but the word that the
        // master has acted on was there.
        let (mut later, mut alias_later) = (0, 0);
        let stores = has_stores(s, u64::MAX).then(|| self.stores(s));
        for stored in stores.into_iter().flatten() {
            let bytes = stored.may_follow(&by.release) & !by.handover;
            if stored.alias {
                alias_later |= bytes;
            } else {
                later |= bytes;
            }
        }
        let later = keep(Rule::WriteThroughLater, later);
        let alias_later = keep(Rule::WriteThroughAliasLater, alias_later);
        let in_flight = keep(Rule::WriteThroughInFlight, in_flight);
        s.line.uncleaned &= later;
        s.line.firmware &= later;
        let all = u64::from(off(Rule::WriteThroughSettles)).wrapping_neg();
        s.line.unseen &= in_flight & !bytes | alias_later | all;
        self.forget_stores(s, bytes);
        s.line.flags |= DMA;
        // Also if somebody else has written over what was stored.
        if later == 0 && !last_stored(s.line).came_after(&by.release) {
            s.line.flags &= !MAYBE_DIRTY;
        }
        if s.line.unseen == 0 {
            s.cold.poc_writer = writer;
            s.cold.poc_written_at = self.now;
        }
        s.cold.saved_invalidate = 0;
        s.cold.settling = 0;
        s.cold.cleans.clear();
        self.overwritten(s, bytes);
    }

    /// New data at the PoC replaces whatever had been lost there.
    #[inline]
    pub(super) fn overwritten(&mut self, s: &mut Subject<'_>, bytes: u64) {
        s.cold.lost &= !keep(Rule::WriteReplacesLost, bytes);
        if let Some(rare) = s.cold.rare_if_any() {
            rare.saved_lost.forget(bytes);
        }
        s.cold.cleans.forget(bytes);
        s.cold.destroyed &= !bytes;
        s.rewatch();
    }

    /// What is known of the stores to a line, the oldest first but for those of the two views.
    fn stores(&self, s: &Subject<'_>) -> impl Iterator<Item = Stored> + use<'_> {
        let last = last_stored(s.line);
        let last_alias = Stored {
            bytes: s.cold.rare().alias_fresh,
            at: s.cold.rare().alias_written_at,
            by: s.cold.poc_writer,
            alias: true,
        };
        let both = if last.at < last_alias.at {
            [last, last_alias]
        } else {
            [last_alias, last]
        };
        let before = self.overtaken.of(s.number, s.line).iter().copied();
        before.chain(both)
    }

    /// Ordinary stores to `bytes` that are not ordered before whatever started the master.
    #[inline]
    pub(super) fn check_order(&mut self, s: &mut Subject<'_>, by: &ByMaster, bytes: u64) {
        let release = &by.release;
        if release.ordered_at == u64::MAX || off(Rule::Order) {
            return;
        }
        self.overtaken.judges(release);
        let bytes = bytes & !by.handover;
        if by.content == Content::Descriptor || has_stores(s, bytes) {
            self.check_stores(s, by, bytes);
        }
    }

    /// The same where there may be such stores.
    #[inline(never)]
    fn check_stores(&mut self, s: &mut Subject<'_>, by: &ByMaster, bytes: u64) {
        let release = &by.release;
        let rare = s.cold.rare();
        let words = rare.words.as_deref();
        let words = words.filter(|_| by.content == Content::Descriptor);
        let known = words.map_or(0, |w| w.known(bytes));
        let mut unordered = words.map_or(0, |w| w.unordered(bytes, release));
        let (mut writer, mut written_at) = (s.line.writer, s.line.written_at);
        if rare.alias_written_at > written_at {
            (writer, written_at) = (s.cold.poc_writer, rare.alias_written_at);
        }
        // Stores after the release are no matter of order where only the last one is known.
        for stored in self.stores(s) {
            let more = stored.unordered(release) & bytes & !known;
            unordered |= more;
            if more != 0 {
                (writer, written_at) = (stored.by, stored.at);
            }
        }
        // The line may have been stored to since, in order.
        if let Some(last) = words.and_then(|w| w.last(unordered & known)) {
            (writer, written_at) = last;
        }
        if unordered == 0 {
            return;
        }
        let f = Finding {
            bytes: unordered,
            writer,
            written_at,
            ..by.finding(HazardKind::MissingBarrier, Why::Unordered)
        };
        self.record(s, f);
    }
}

/// Whether [`Sanitizer::stores`] would find one to some of `bytes`. Hardly ever, where CPUs leave the
/// data to devices.
#[inline]
fn has_stores(s: &Subject<'_>, bytes: u64) -> bool {
    (s.line.fresh | s.cold.rare().alias_fresh) & bytes != 0 || s.line.flags & OVERTAKEN != 0
}

/// What is known of the last stores to a line through the cache.
fn last_stored(line: &Line) -> Stored {
    Stored {
        bytes: line.fresh,
        at: line.written_at,
        by: line.writer,
        alias: false,
    }
}

/// Whether a CPU's store to the line stands between its last invalidate and `release`, ordered
/// before that: then the invalidate is done in the caches too.
fn stored_between(s: &Subject<'_>, release: &Doorbell) -> bool {
    let at = s.cold.stored_behind;
    let ordered = s.cold.stored_behind_by != release.cpu || at <= release.ordered_at;
    !off(Rule::StoredBehind) && at != 0 && ordered && at <= release.at
}

/// The bookkeeping of a coherent write to a line without history: the hot path. `ordered_at` is
/// when the last barrier for stores was.
#[inline]
pub(in super::super) fn fresh_write(
    line: &mut Line,
    bytes: u64,
    writer: Who,
    now: u64,
    ordered_at: u64,
) {
    line.flags |= MAYBE_DIRTY;
    line.uncleaned |= bytes;
    line.firmware &= !bytes;
    // CPUs order their stores for each other: see [`super::super::stores`].
    let same_cpu = line.writer.cpu_id() == writer.cpu_id();
    let kept = if line.written_at > ordered_at && same_cpu {
        line.fresh
    } else {
        0
    };
    line.fresh = kept | bytes;
    line.writer = writer;
    line.written_at = now;
}
