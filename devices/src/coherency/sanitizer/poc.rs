// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! Accesses that go to the PoC: those of a master that does not snoop, and a CPU's through a
//! non-cacheable alias.

use super::memory::{ByMaster, Sanitizer, Subject, before, by_poc_writer};
use crate::coherency::cleans::Clean;
use crate::coherency::findings::Finding;
use crate::coherency::line::{DMA, MAYBE_DIRTY};
use crate::coherency::maintenance::{Operations, Timing};
use crate::coherency::mutate::{Rule, keep, off};
use crate::coherency::stores::Stored;
use crate::coherency::who::Who;
use crate::hazard::{HazardKind, Why};

impl Sanitizer {
    /// A non-snooping master reads.
    pub fn non_snooping_read(&mut self, s: &mut Subject<'_>, by: &ByMaster) {
        s.line.flags |= DMA;
        // A store into memory that is in flight has been reported as such.
        let rare = s.cold.rare();
        let raced = if by.in_flight && rare.raced_of == by.who {
            rare.raced
        } else {
            0
        };
        let uncleaned = s.line.uncleaned & by.bytes & !raced;
        let uncleaned = keep(Rule::Clean, uncleaned);
        if uncleaned != 0 {
            let why = match uncleaned & !s.line.firmware {
                0 => Why::PowerOn,
                _ => Why::Absent,
            };
            self.unclean(s, by, HazardKind::MissingClean, why, uncleaned);
        }
        let (late, incomplete) = self.untimely(s, by, |clean| clean.bytes & by.bytes);
        let late = keep(Rule::LateClean, late);
        let incomplete = keep(Rule::IncompleteClean, incomplete);
        if late & !uncleaned != 0 {
            let bytes = late & !uncleaned;
            self.unclean(s, by, HazardKind::MissingClean, Why::Late, bytes);
        }
        if incomplete & !(uncleaned | late) != 0 {
            let bytes = incomplete & !(uncleaned | late);
            self.unclean(s, by, HazardKind::MissingBarrier, Why::Incomplete, bytes);
        }
        self.lost_to_poc(s, by.bytes, by.who);
        self.cleans_were_needed(s, by.bytes, before(&by.release));
        self.check_order(s, by, by.bytes & !(uncleaned | late | incomplete));
        s.rewatch();
    }

    /// A non-snooping master writes.
    #[inline]
    pub fn non_snooping_write(&mut self, s: &mut Subject<'_>, by: &ByMaster) {
        let (bytes, writer) = (by.bytes, by.who);
        s.line.flags |= DMA;
        if let Some(rare) = s.cold.rare_if_any() {
            rare.clobber = 0;
        }
        let whole = |dirty: bool| if dirty { bytes } else { 0 };
        let (late, incomplete) = self.untimely(s, by, |clean| whole(clean.dirty));
        let late = keep(Rule::LateClobber, late);
        let incomplete = keep(Rule::IncompleteClobber, incomplete);
        let clean = s.line.flags & MAYBE_DIRTY == 0 && late | incomplete == 0;
        if !clean {
            self.maybe_dirty(s, by, late != 0);
        }
        self.cleans_kept_it_from_being_dirty(s, before(&by.release));
        if clean {
            self.check_order(s, by, bytes);
        }
        s.line.uncleaned &= !bytes;
        s.line.firmware &= !bytes;
        if let Some(rare) = s.cold.rare_if_any()
            && rare.alias_written_at <= by.release.ordered_at
        {
            // They were done when the master was told.
            rare.alias_pending = 0;
        }
        self.written_at_poc(s, bytes, writer);
    }

    /// Bytes of the line as `wanted` tells for each clean, by whether that clean came too late for
    /// the master, or was not complete.
    #[inline]
    fn untimely(
        &self,
        s: &Subject<'_>,
        by: &ByMaster,
        wanted: impl Fn(&Clean) -> u64,
    ) -> (u64, u64) {
        let mut found = (0, 0);
        let handover = keep(Rule::WordBringsLine, by.handover);
        s.cold.cleans.each(|clean| {
            // The clean that brought the word to the PoC brought its line with it, and came after
            // earlier ones of that line.
            if handover != 0 && clean.op <= by.release.issued {
                return;
            }
            match self.ops.timing(clean.op, &by.release) {
                Timing::InTime => {}
                Timing::Incomplete => found.1 |= wanted(clean),
                Timing::Late => found.0 |= wanted(clean),
            }
        });
        found
    }

    #[cold]
    #[inline(never)]
    fn unclean(
        &mut self,
        s: &mut Subject<'_>,
        by: &ByMaster,
        kind: HazardKind,
        why: Why,
        bytes: u64,
    ) {
        let f = Finding {
            bytes,
            wrong: s.images.difference(s.number) & bytes,
            writer: s.line.writer,
            written_at: s.line.written_at,
            ..by.finding(kind, why)
        };
        self.record(s, f);
    }

    fn clobber(&mut self, s: &mut Subject<'_>, by: &ByMaster, kind: HazardKind, why: Why) -> u32 {
        if why != Why::Late && kind != HazardKind::MissingBarrier && off(Rule::Clobber) {
            return 0;
        }
        let f = Finding {
            reader: s.line.writer,
            written_at: s.line.written_at,
            ..by.finding(kind, why)
        };
        self.record(s, f)
    }

    /// What a master writes is in a line that may be dirty, or was cleaned too late (`late`), or for which
    /// that is not complete.
    #[cold]
    #[inline(never)]
    fn maybe_dirty(&mut self, s: &mut Subject<'_>, by: &ByMaster, late: bool) {
        if s.line.flags & MAYBE_DIRTY != 0 {
            let why = match s.line.uncleaned & !s.line.firmware {
                0 if left_by_firmware(s) => Why::PowerOn,
                _ => Why::Absent,
            };
            self.threaten(s, by, why);
        } else if late {
            self.threaten(s, by, Why::Late);
        } else {
            self.clobber(s, by, HazardKind::MissingBarrier, Why::Incomplete);
        }
    }

    /// The write-back of a dirty line may yet destroy what is written.
    fn threaten(&mut self, s: &mut Subject<'_>, by: &ByMaster, why: Why) {
        let clobber = self.clobber(s, by, HazardKind::WritebackClobber, why);
        s.cold.rare_mut().clobber = clobber;
    }

    /// Somebody at the PoC reads bytes that a merged line's write-back may have destroyed.
    fn lost_to_poc(&mut self, s: &mut Subject<'_>, bytes: u64, reader: Who) {
        let lost = keep(Rule::LostAtPoc, s.cold.lost & bytes);
        if lost != 0 {
            let kind = by_poc_writer(s.cold.rare().lost_writer, HazardKind::WritebackClobber);
            let wrong = s.cold.destroyed;
            self.record_unread(s, kind, Why::StaleStore, lost, wrong, reader);
        }
        self.saved_from_loss(s, bytes);
    }

    #[inline]
    fn written_at_poc(&mut self, s: &mut Subject<'_>, bytes: u64, writer: Who) {
        s.line.unseen |= bytes;
        self.forget_stores(s, bytes);
        s.cold.saved_invalidate &= !bytes;
        s.cold.settling &= !bytes;
        s.cold.spoiled = None;
        if let Some(rare) = s.cold.rare_if_any() {
            rare.alias_pending &= !bytes;
        }
        s.cold.poc_writer = writer;
        s.cold.poc_written_at = self.now;
        self.overwritten(s, bytes);
    }

    /// A CPU loads through a non-cacheable alias.
    pub fn alias_load(&mut self, s: &mut Subject<'_>, bytes: u64, site: Who) {
        let dirty = keep(Rule::AliasLoad, s.line.uncleaned & bytes);
        if dirty != 0 {
            self.disagree(s, HazardKind::MismatchedAlias, dirty, site);
        }
        // On one CPU a clean and a non-cacheable access are not ordered by their line alone.
        let loose = |clean: &&Clean| !self.ops.is_ordered(clean.op) && !off(Rule::AliasLoadBarrier);
        let unordered = s.cold.cleans.iter().filter(loose);
        let unordered = unordered.fold(0, |all, clean| all | clean.bytes) & bytes & !dirty;
        if unordered != 0 {
            self.disagree(s, HazardKind::MissingBarrier, unordered, site);
        }
        self.lost_to_poc(s, bytes, site);
        self.cleans_were_needed(s, bytes, Operations::is_ordered);
        s.rewatch();
    }

    /// A CPU has stored through a non-cacheable alias, in both images.
    pub fn alias_store(&mut self, s: &mut Subject<'_>, bytes: u64, site: Who) {
        if s.line.flags & MAYBE_DIRTY != 0 && !off(Rule::AliasStore) {
            self.disagree(s, HazardKind::MismatchedAlias, bytes, site);
        }
        let late = |clean: &Clean| clean.dirty && !self.ops.is_ordered(clean.op);
        let late = |clean: &Clean| late(clean) && !off(Rule::AliasStoreBarrier);
        if s.line.flags & MAYBE_DIRTY == 0 && s.cold.cleans.iter().any(late) {
            self.disagree(s, HazardKind::MissingBarrier, bytes, site);
        }
        self.cleans_kept_it_from_being_dirty(s, Operations::is_ordered);
        s.line.uncleaned &= !bytes;
        s.line.firmware &= !bytes;
        let rare = s.cold.rare();
        let since = |barrier: u64, bytes: u64| {
            if rare.alias_written_at > barrier {
                bytes
            } else {
                0
            }
        };
        let mut fresh = since(self.barriers().stores, rare.alias_fresh);
        let pending = since(self.barriers().stores_before_all, rare.alias_pending);
        let before = Stored {
            bytes: rare.alias_fresh,
            at: rare.alias_written_at,
            by: s.cold.poc_writer,
            alias: true,
        };
        if self.overtaken.overtake_alias(s.number, s.line, before) {
            fresh = 0;
        }
        self.written_at_poc(s, bytes, site);
        let rare = s.cold.rare_mut();
        rare.alias_fresh = fresh | bytes;
        rare.alias_pending = pending | bytes;
        rare.alias_written_at = self.now;
        rare.alias_cpu = self.cpu;
    }

    /// What a CPU wrote into the cache and what it does past the cache meet.
    fn disagree(&mut self, s: &mut Subject<'_>, kind: HazardKind, bytes: u64, site: Who) {
        let unseen = s.line.uncleaned & bytes;
        let why = match kind {
            HazardKind::MissingBarrier => Why::Incomplete,
            _ if s.line.uncleaned & !s.line.firmware == 0 && left_by_firmware(s) => Why::PowerOn,
            _ => Why::Absent,
        };
        let f = Finding {
            kind,
            why,
            // One hazard per place that wrote into the cache.
            cause: u64::from(s.line.writer.bits()) | 1 << 32,
            bytes,
            wrong: s.images.difference(s.number) & unseen & bytes,
            writer: s.line.writer,
            reader: site,
            device: Who::default(),
            written_at: s.line.written_at,
            started: None,
            stood: None,
            signalled: None,
        };
        self.record(s, f);
    }
}

/// Whether a line that may be dirty is so only by what firmware left in it, though all of that may
/// have been overwritten past the cache.
fn left_by_firmware(s: &Subject<'_>) -> bool {
    s.line.firmware != 0 || s.line.writer == Who::default()
}
