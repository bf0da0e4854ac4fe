// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Accesses that go through the caches: a CPU's, or those of a master that snoops.

use super::super::cleans::{Timing, timing};
use super::super::findings::Finding;
use super::super::hazard::{HazardKind, Why};
use super::super::line::{DMA, Line, MAYBE_DIRTY, Who};
use super::{ByMaster, Sanitizer, Subject, by_poc_writer};
use crate::dma::{Content, Doorbell};

impl Sanitizer {
    /// A CPU or a snooping master reads.
    pub fn coherent_read(&mut self, s: &mut Subject<'_>, bytes: u64, reader: Who) {
        let kind = by_poc_writer(s.cold, HazardKind::MissingInvalidate);
        // A copy of before the write, or the PoC after that copy's write-back.
        let wrong = |s: &Subject<'_>| s.images.difference(s.number) | s.cold.destroyed;
        let stale = s.line.unseen & bytes;
        if stale != 0 {
            let why = s.cold.spoiled.unwrap_or(Why::Absent);
            let kind = match why {
                Why::Incomplete => HazardKind::MissingBarrier,
                _ => kind,
            };
            self.record_unread(s, kind, why, stale, wrong(s), reader);
        }
        let lost = s.cold.lost & bytes & !stale;
        if lost != 0 {
            let kind = by_poc_writer(s.cold, HazardKind::WritebackClobber);
            self.record_unread(s, kind, Why::StaleStore, lost, wrong(s), reader);
        }
        self.invalidate_was_needed(s, bytes);
        s.rewatch();
    }

    /// A snooping master reads: are the stores it may be meant to see ordered before it was told
    /// to go?
    pub fn snooping_read(&mut self, s: &mut Subject<'_>, by: ByMaster) {
        self.check_invalidate(s, by);
        self.coherent_read(s, by.bytes, by.who);
        self.check_order(s, by, by.bytes);
    }

    /// A snooping master reads bytes that a CPU has invalidated for it: in time?
    fn check_invalidate(&mut self, s: &mut Subject<'_>, by: ByMaster) {
        let bytes = s.cold.settling & by.bytes;
        if bytes == 0 || stored_between(s, &by.release) {
            return;
        }
        let (kind, why) = match timing(s.cold.settling_op, &by.release) {
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

    /// A snooping master is about to write into the cache. An invalidate that is not complete may
    /// throw that away, and a store that is not ordered before may come after.
    pub fn allocating_write(&mut self, s: &mut Subject<'_>, by: ByMaster) {
        self.check_order(s, by, by.bytes);
        let incomplete = |op| op != 0 && timing(op, &by.release) == Timing::Incomplete;
        let discarded = if incomplete(s.cold.discard_op) {
            by.bytes
        } else {
            0
        };
        // It may also go into the copy that is to be invalidated, and make that dirty.
        let merged = if incomplete(s.cold.settling_op) {
            s.cold.settling & !by.bytes
        } else {
            0
        };
        let bytes = discarded | merged;
        if bytes != 0 && stored_between(s, &by.release) {
            // So it stays, whoever writes next.
            s.cold.discard_op = 0;
            s.cold.settling = 0;
        } else if bytes != 0 {
            let f = Finding {
                bytes,
                written_at: self.now,
                ..by.finding(HazardKind::MissingBarrier, Why::Incomplete)
            };
            self.record(s, f);
        }
    }

    /// A CPU, or a snooping master whose writes allocate, writes. Takes no [`Subject`] where the
    /// line has no history: see [`fresh_write`].
    pub fn coherent_write(&mut self, s: &mut Subject<'_>, bytes: u64, writer: Who) {
        // The store merges into whatever copy the observer has. If that copy was not invalidated
        // since the write at the PoC, its write-back destroys the other bytes.
        s.line.unseen &= !bytes;
        s.cold.saved_invalidate &= !bytes;
        s.cold.settling &= !bytes;
        if s.line.unseen & !s.cold.lost != 0 {
            s.cold.merged_by = writer;
            s.cold.merged_at = self.now;
        }
        s.cold.lost = (s.cold.lost | s.line.unseen) & !bytes;
        s.cold.saved_lost.forget(bytes);
        s.cold.cleans.forget(bytes);
        if s.cold.saved_invalidate != 0 {
            let (saved, op) = (s.cold.saved_invalidate, s.cold.invalidate_op);
            s.cold.saved_lost.add(saved, op);
        }
        s.cold.destroyed &= !bytes;
        s.cold.alias_fresh &= !bytes;
        fresh_write(s.line, bytes, writer, self.now, self.barriers.stores);
        if writer.device_master().is_some() {
            s.line.fresh &= !bytes;
        }
        s.rewatch();
    }

    /// A snooping master writes through to the PoC; cached copies are pushed out. Of bytes in
    /// `in_flight`, other transfers that are not over have written some, and may write them again.
    pub fn write_through(&mut self, s: &mut Subject<'_>, by: ByMaster, in_flight: u64) {
        let (bytes, writer) = (by.bytes, by.who);
        self.check_order(s, by, bytes);
        // What is not ordered before may be stored after it, and is dirty then; but the word that the
        // master has acted on was there.
        let unordered = s.line.written_at > by.release.ordered_at;
        let later = unordered && s.line.written_at <= by.release.at;
        let later = if later {
            s.line.fresh & !by.handover
        } else {
            0
        };
        s.line.uncleaned &= later;
        s.line.firmware &= later;
        let unordered = s.cold.alias_written_at > by.release.ordered_at;
        let alias_later = unordered && s.cold.alias_written_at <= by.release.at;
        let alias_later = if alias_later {
            s.cold.alias_fresh & !by.handover
        } else {
            0
        };
        s.line.unseen &= in_flight & !bytes | alias_later;
        s.line.fresh &= !bytes;
        s.line.flags |= DMA;
        if later == 0 {
            s.line.flags &= !MAYBE_DIRTY;
        }
        if alias_later == 0 {
            s.cold.poc_writer = writer;
            s.cold.poc_written_at = self.now;
        }
        s.cold.saved_invalidate = 0;
        s.cold.settling = 0;
        s.cold.cleans.clear();
        s.cold.alias_fresh &= !bytes;
        self.overwritten(s, bytes);
    }

    /// New data at the PoC replaces whatever had been lost there.
    pub(super) fn overwritten(&mut self, s: &mut Subject<'_>, bytes: u64) {
        s.cold.lost &= !bytes;
        s.cold.saved_lost.forget(bytes);
        s.cold.cleans.forget(bytes);
        s.cold.destroyed &= !bytes;
        s.rewatch();
    }

    /// Ordinary stores to `bytes` that are not ordered before whatever told the master to go.
    pub(super) fn check_order(&mut self, s: &mut Subject<'_>, by: ByMaster, bytes: u64) {
        let release = &by.release;
        if release.ordered_at == u64::MAX {
            return;
        }
        let bytes = bytes & !by.handover;
        let words = s.cold.words.as_deref();
        let words = words.filter(|_| by.content == Content::Descriptor);
        let known = words.map_or(0, |w| w.known(bytes));
        let in_words = words.map_or(0, |w| w.unordered(bytes, release));
        // Stores after the release are no matter of order where only the last one is known.
        let between = |at: u64| at > release.ordered_at && at <= release.at;
        let mut loose = in_words;
        let (mut writer, mut written_at) = (s.line.writer, s.line.written_at);
        if between(s.line.written_at) {
            loose |= s.line.fresh & bytes & !known;
        }
        if s.cold.alias_written_at > s.line.written_at {
            (writer, written_at) = (s.cold.poc_writer, s.cold.alias_written_at);
        }
        if between(s.cold.alias_written_at) {
            loose |= s.cold.alias_fresh & bytes & !known;
        }
        if loose == 0 {
            return;
        }
        let f = Finding {
            bytes: loose,
            writer,
            written_at,
            ..by.finding(HazardKind::MissingBarrier, Why::Unordered)
        };
        self.record(s, f);
    }
}

/// Whether a CPU's store to the line stands between its last invalidate and `release`, ordered
/// before that: then the invalidate is done in the caches too.
fn stored_between(s: &Subject<'_>, release: &Doorbell) -> bool {
    let at = s.line.written_at;
    let by_cpu = s.line.writer.device_master().is_none();
    by_cpu && at > s.cold.invalidated_at && at <= release.ordered_at && at <= release.at
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
    let kept = if line.written_at > ordered_at {
        line.fresh
    } else {
        0
    };
    line.fresh = kept | bytes;
    line.writer = writer;
    line.written_at = now;
}
