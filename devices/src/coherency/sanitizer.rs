// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The rules. They look at what software did, not at what the cache happened to do: a line is
//! judged as if it could have been filled or evicted at any moment, which the architecture allows.
//! Only whether a finding *manifested* depends on the data.
//!
//! Each rule also carries the state along in which a line would be without its last clean or its
//! last invalidate, and marks that operation as needed where its absence would have been found.

use super::findings::{Finding, Findings};
use super::hazard::HazardKind;
use super::images::Images;
use super::line::{Cold, DMA, Late, Line, Lines, MAYBE_DIRTY, Who};
use super::maintenance::Operations;
use crate::cpu::CacheOp;

/// The sanitizer's memory beside the lines themselves.
#[derive(Debug)]
pub(super) struct Sanitizer {
    pub findings: Findings,
    pub ops: Operations,
    /// For each master, the operation no DSB had completed when it was last told to go; 0: none.
    pub pending: Vec<u32>,
    pub now: u64,
}

/// What an access through a non-cacheable alias is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alias {
    Store,
    /// A load.
    Load,
    /// A load that is the page's first since cacheable use. It ought to come from the PoC, but
    /// nobody can stop the vCPU from reading ram, where a clean copy may be stale.
    FirstLoad,
}

/// A non-snooping master's access to one line.
#[derive(Debug, Clone, Copy)]
pub(super) struct NonSnooping {
    pub who: Who,
    pub bytes: u64,
    /// The maintenance operation that no DSB had completed when the master was told to go; 0: none.
    pub incomplete: u32,
}

/// A `dc` instruction on one line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Maintenance {
    pub op: CacheOp,
    pub operation: u32,
    pub site: Who,
    /// The transfer in flight that owns bytes of the line, and which.
    pub owner: Option<(Who, u64)>,
}

/// One line under judgement: its number, its state, and both images for the question of whether
/// a finding manifested.
pub(super) struct Subject<'a> {
    pub number: u64,
    pub line: &'a mut Line,
    pub cold: &'a mut Cold,
    pub images: &'a Images,
}

impl<'a> Subject<'a> {
    pub fn new(lines: &'a mut Lines, images: &'a Images, number: u64) -> Self {
        let (line, cold) = lines.with_cold(number);
        Subject {
            number,
            line,
            cold,
            images,
        }
    }

    fn rewatch(&mut self) {
        self.line.watch(Some(self.cold));
    }
}

impl Sanitizer {
    fn record(&mut self, s: &mut Subject<'_>, f: Finding) -> u32 {
        self.findings
            .record(f, s.number, s.line, s.cold, &self.ops, self.now)
    }

    /// The last invalidate was needed if its absence would have left `bytes` unseen or lost.
    fn invalidate_was_needed(&mut self, s: &mut Subject<'_>, bytes: u64) {
        if s.line.saved_invalidate & bytes != 0 {
            self.ops.needed(s.line.invalidate_op);
            s.line.saved_invalidate = 0;
            s.cold.saved_lost.remove_latest(s.line.invalidate_op);
        }
        self.saved_from_loss(s, bytes);
    }

    /// Earlier invalidates were needed if without one of them `bytes` would have been lost.
    fn saved_from_loss(&mut self, s: &mut Subject<'_>, bytes: u64) {
        while let Some(op) = s.cold.saved_lost.take(bytes) {
            self.ops.needed(op);
            if op == s.line.invalidate_op {
                s.line.saved_invalidate = 0;
            }
        }
    }

    /// The last clean was needed if its absence would have left `bytes` uncleaned.
    fn clean_was_needed(&mut self, line: &mut Line, bytes: u64) {
        if line.saved_clean & bytes != 0 {
            self.ops.needed(line.clean_op);
            line.saved_clean = 0;
        }
    }

    /// A CPU or a snooping master reads.
    pub fn coherent_read(&mut self, s: &mut Subject<'_>, bytes: u64, reader: Who) {
        let stale = s.line.unseen & bytes;
        self.record_stale(s, HazardKind::MissingInvalidate, stale, reader);
        let lost = s.cold.lost & bytes & !stale;
        self.record_stale(s, HazardKind::WritebackClobber, lost, reader);
        self.invalidate_was_needed(s, bytes);
        s.rewatch();
    }

    /// `reader` reads `bytes` of a device's data in ram, and may not get them.
    fn record_stale(&mut self, s: &mut Subject<'_>, kind: HazardKind, bytes: u64, reader: Who) {
        if bytes != 0 {
            // A copy of before the device's write, or DRAM after that copy's write-back.
            let wrong = s.images.difference(s.number) | s.cold.destroyed;
            self.record_unread(s, kind, bytes, wrong & bytes, reader);
        }
    }

    fn record_unread(
        &mut self,
        s: &mut Subject<'_>,
        kind: HazardKind,
        bytes: u64,
        wrong: u64,
        reader: Who,
    ) {
        let writer = s.cold.dma_writer;
        let f = Finding {
            kind,
            // One hazard per writing transfer and class of reader.
            cause: u64::from(writer.bits()) | class(reader) << 32,
            bytes,
            wrong,
            writer,
            reader,
            device: writer,
            written_at: s.cold.dma_written_at,
        };
        self.record(s, f);
    }

    /// A CPU, or a snooping master whose writes allocate, writes. Takes no [`Subject`] where the
    /// line has no history: see [`fresh_write`].
    pub fn coherent_write(&mut self, s: &mut Subject<'_>, bytes: u64, writer: Who) {
        // The store merges into whatever copy the observer has. If that copy was not invalidated
        // since the device wrote, its write-back destroys the device's other bytes.
        s.line.unseen &= !bytes;
        s.line.saved_invalidate &= !bytes;
        s.cold.lost = (s.cold.lost | s.line.unseen) & !bytes;
        s.cold.saved_lost.forget(bytes);
        s.cold.late.forget(bytes);
        if s.line.saved_invalidate != 0 {
            let (saved, op) = (s.line.saved_invalidate, s.line.invalidate_op);
            s.cold.saved_lost.add(saved, op);
        }
        s.cold.destroyed &= !bytes;
        fresh_write(s.line, bytes, writer, self.now);
        s.rewatch();
    }

    /// A snooping master writes through to the PoC; cached copies are pushed out.
    pub fn write_through(&mut self, s: &mut Subject<'_>, bytes: u64, writer: Who) {
        s.line.uncleaned = 0;
        s.line.saved_clean = 0;
        s.line.unseen = 0;
        s.line.saved_invalidate = 0;
        s.line.writer = writer;
        s.line.written_at = self.now;
        s.line.flags |= DMA;
        s.line.flags &= !MAYBE_DIRTY;
        self.overwritten(s, bytes);
    }

    /// Had the operation before a clean that came too late for `who` not been done, there would be a
    /// finding now.
    fn saved_from_lateness(&mut self, s: &mut Subject<'_>, bytes: u64, who: Who) {
        let late = &mut s.cold.late;
        if late.of == who && late.saved_clean & bytes != 0 {
            self.ops.needed(late.saved_op);
            late.saved_clean = 0;
        }
    }

    /// A non-snooping master reads.
    pub fn non_snooping_read(&mut self, s: &mut Subject<'_>, by: NonSnooping) {
        let (bytes, reader) = (by.bytes, by.who);
        s.line.flags |= DMA;
        let late = s.cold.late;
        let late = if late.of == reader { late.clean } else { 0 };
        let hit = (s.line.uncleaned | late) & bytes;
        if hit != 0 {
            let f = Finding {
                kind: HazardKind::MissingClean,
                cause: u64::from(reader.bits()),
                bytes: hit,
                wrong: s.images.difference(s.number) & hit,
                writer: s.line.writer,
                reader,
                device: reader,
                written_at: s.line.written_at,
            };
            self.record(s, f);
        }
        let lost = s.cold.lost & bytes;
        if lost != 0 {
            let wrong = s.cold.destroyed & lost;
            self.record_unread(s, HazardKind::WritebackClobber, lost, wrong, reader);
        }
        self.saved_from_loss(s, bytes);
        self.clean_was_needed(s.line, bytes);
        self.saved_from_lateness(s, bytes, reader);
        self.check_barrier(s, by);
        s.rewatch();
    }

    /// A non-snooping master writes.
    pub fn non_snooping_write(&mut self, s: &mut Subject<'_>, by: NonSnooping) {
        let (bytes, writer) = (by.bytes, by.who);
        s.line.flags |= DMA;
        self.check_barrier(s, by);
        s.cold.clobber = 0;
        let late = s.cold.late.of == writer && s.cold.late.dirty;
        if s.line.flags & MAYBE_DIRTY != 0 || late {
            let f = Finding {
                kind: HazardKind::WritebackClobber,
                cause: u64::from(writer.bits()),
                bytes,
                wrong: 0,
                writer,
                reader: s.line.writer,
                device: writer,
                written_at: s.line.written_at,
            };
            s.cold.clobber = self.record(s, f);
        }
        self.clean_was_needed(s.line, u64::MAX);
        self.saved_from_lateness(s, u64::MAX, writer);
        s.line.uncleaned &= !bytes;
        s.line.unseen |= bytes;
        s.line.saved_invalidate &= !bytes;
        s.cold.dma_writer = writer;
        s.cold.dma_written_at = self.now;
        self.overwritten(s, bytes);
    }

    fn check_barrier(&mut self, s: &mut Subject<'_>, by: NonSnooping) {
        let (bytes, device, late) = (by.bytes, by.who, by.incomplete);
        if late == 0 || (s.line.clean_op != late && s.line.invalidate_op != late) {
            return;
        }
        let f = Finding {
            kind: HazardKind::MissingBarrier,
            cause: u64::from(device.bits()),
            bytes,
            wrong: 0,
            writer: s.line.writer,
            reader: device,
            device,
            written_at: s.line.written_at,
        };
        self.record(s, f);
    }

    /// New data at the PoC replaces whatever had been lost there.
    fn overwritten(&mut self, s: &mut Subject<'_>, bytes: u64) {
        s.cold.lost &= !bytes;
        s.cold.saved_lost.forget(bytes);
        s.cold.late.forget(bytes);
        s.cold.destroyed &= !bytes;
        s.rewatch();
    }

    /// Maintenance on a line. Most maintained lines have never seen DMA, so the cold part is
    /// looked up only for those that have.
    pub fn maintain(
        &mut self,
        lines: &mut Lines,
        images: &Images,
        number: u64,
        maintenance: Maintenance,
    ) {
        let Maintenance {
            op,
            operation,
            site,
            owner,
        } = maintenance;
        let mut too_late = 0;
        if let Some((who, owned)) = owner {
            let (line, cold) = lines.with_cold(number);
            if op != CacheOp::Invalidate {
                clean_in_flight(line, cold, operation, who, owned);
            }
            if cold.dma_writer == who {
                too_late = owned;
            }
        }
        let line = lines.line(number);
        // Whatever an operation has done to the line before falls away with it.
        let cleaned_before = line.clean_op == operation;
        let invalidated_before = line.invalidate_op == operation;
        line.flags &= !MAYBE_DIRTY;
        if op != CacheOp::Invalidate {
            let saved = if cleaned_before { line.saved_clean } else { 0 };
            line.saved_clean = saved | line.uncleaned;
            line.uncleaned = 0;
            line.clean_op = operation;
        }
        if op != CacheOp::Clean {
            let discarded = line.uncleaned;
            if op == CacheOp::Invalidate && !cleaned_before {
                // Without the last clean, this invalidate would discard the data.
                self.clean_was_needed(line, u64::MAX);
            }
            // What a transfer that is not over has written, it may write again.
            let saved = if invalidated_before {
                line.saved_invalidate
            } else {
                0
            };
            line.saved_invalidate = saved | line.unseen & !too_late;
            line.unseen &= too_late;
            if discarded != 0 {
                self.discarded(lines, images, number, discarded, operation, site);
            }
            lines.line(number).invalidate_op = operation;
        }
        let (page, index) = lines.page(number);
        let mut cold = page.cold.as_deref_mut().map(|cold| &mut cold[index]);
        if let Some(cold) = cold.as_deref_mut().filter(|_| owner.is_none()) {
            // Whatever came too late, it was for a transfer that is over.
            cold.late = Late::default();
        }
        page.lines[index].watch(cold.as_deref());
    }

    fn discarded(
        &mut self,
        lines: &mut Lines,
        images: &Images,
        number: u64,
        bytes: u64,
        operation: u32,
        site: Who,
    ) {
        let mut s = Subject::new(lines, images, number);
        let f = Finding {
            kind: HazardKind::DiscardedWrite,
            cause: u64::from(operation),
            bytes,
            wrong: images.difference(number) & bytes,
            writer: s.line.writer,
            reader: site,
            device: s.line.writer,
            written_at: s.line.written_at,
        };
        self.record(&mut s, f);
        s.line.uncleaned = 0;
    }

    /// An access through a non-cacheable alias, whose stored bytes are in both images.
    pub fn non_cacheable(&mut self, s: &mut Subject<'_>, bytes: u64, access: Alias, site: Who) {
        let copied = access == Alias::FirstLoad || s.line.flags & MAYBE_DIRTY != 0;
        if s.line.flags & MAYBE_DIRTY != 0 {
            let hit = s.line.uncleaned;
            let f = Finding {
                kind: HazardKind::MismatchedAlias,
                cause: u64::from(site.bits()),
                bytes: hit,
                wrong: s.images.difference(s.number) & hit,
                writer: s.line.writer,
                reader: site,
                device: Who::default(),
                written_at: s.line.written_at,
            };
            self.record(s, f);
            s.line.uncleaned = 0;
            s.line.flags &= !MAYBE_DIRTY;
        }
        self.clean_was_needed(s.line, u64::MAX);
        if access == Alias::Store {
            s.line.unseen &= !bytes;
            s.line.saved_invalidate &= !bytes;
            self.overwritten(s, bytes);
            return;
        }
        if copied {
            let stale = s.line.unseen & bytes;
            self.record_stale(s, HazardKind::MismatchedAlias, stale, site);
            self.invalidate_was_needed(s, bytes);
        }
        let lost = s.cold.lost & bytes & !if copied { s.line.unseen } else { 0 };
        self.record_stale(s, HazardKind::WritebackClobber, lost, site);
        self.saved_from_loss(s, bytes);
        s.rewatch();
    }

    /// A CPU or a snooping master touches a line that a transfer in flight owns.
    pub fn ownership(&mut self, s: &mut Subject<'_>, bytes: u64, toucher: Who, owner: Who) {
        let f = Finding {
            kind: HazardKind::Ownership,
            cause: u64::from(owner.bits()) | class(toucher) << 32,
            bytes,
            wrong: 0,
            writer: owner,
            reader: toucher,
            device: owner,
            written_at: s.cold.dma_written_at,
        };
        self.record(s, f);
    }

    /// A dirty line is about to be written back: which non-snooping data does that destroy?
    pub fn before_write_back(&mut self, s: &mut Subject<'_>) {
        let foreign = s.line.unseen | s.cold.lost;
        let destroyed = s.images.difference(s.number) & foreign & !s.cold.destroyed;
        if destroyed != 0 {
            s.cold.destroyed |= destroyed;
            self.findings.manifest(s.number, s.cold, destroyed);
        }
    }
}

/// The CPU, or one of the masters.
fn class(who: Who) -> u64 {
    who.device_master().map_or(0, |m| u64::from(m.0) + 1)
}

/// A clean, before it takes effect, of a line of which transfer `who` owns some bytes.
fn clean_in_flight(line: &Line, cold: &mut Cold, operation: u32, who: Who, owned: u64) {
    if cold.late.of != who {
        cold.late = Late {
            of: who,
            ..Late::default()
        };
    }
    let late = &mut cold.late;
    late.clean |= line.uncleaned & owned;
    late.dirty |= line.flags & MAYBE_DIRTY != 0;
    if line.saved_clean != 0 && line.clean_op != operation {
        (late.saved_op, late.saved_clean) = (line.clean_op, line.saved_clean);
    }
}

/// The bookkeeping of a coherent write to a line without unseen or lost bytes: the hot path.
#[inline]
pub(super) fn fresh_write(line: &mut Line, bytes: u64, writer: Who, now: u64) {
    line.flags |= MAYBE_DIRTY;
    line.uncleaned |= bytes;
    line.saved_clean &= !bytes;
    line.writer = writer;
    line.written_at = now;
}
