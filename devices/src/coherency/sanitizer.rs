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
use super::line::{Cold, DMA, Line, Lines, Who};
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
        }
        if s.cold.saved_lost & bytes != 0 {
            self.ops.needed(s.cold.lost_op);
            s.cold.saved_lost = 0;
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
        let unseen = s.line.unseen & bytes;
        // Lost bytes are unseen ones to which the observer's own line has added a store.
        let lost = s.cold.lost & bytes;
        if unseen | lost != 0 {
            let stale = unseen | if s.line.uncleaned != 0 { lost } else { 0 };
            let (kind, hit, wrong) = if stale != 0 {
                (
                    HazardKind::MissingInvalidate,
                    stale,
                    s.images.difference(s.number) & stale,
                )
            } else {
                (HazardKind::WritebackClobber, lost, s.cold.destroyed & lost)
            };
            // One hazard per writing transfer and class of reader.
            let class = reader.device_master().map_or(0, |m| u64::from(m.0) + 1);
            self.record_stale(s, kind, class, hit, wrong, reader);
        }
        self.invalidate_was_needed(s, bytes);
        s.rewatch();
    }

    fn record_stale(
        &mut self,
        s: &mut Subject<'_>,
        kind: HazardKind,
        class: u64,
        bytes: u64,
        wrong: u64,
        reader: Who,
    ) {
        let writer = s.cold.dma_writer;
        let f = Finding {
            kind,
            cause: u64::from(writer.bits()) | class << 32,
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
        s.cold.lost = (s.cold.lost | s.line.unseen) & !bytes;
        let saved = s.line.saved_invalidate & !bytes;
        if saved != 0 {
            s.cold.saved_lost = saved;
            s.cold.lost_op = s.line.invalidate_op;
        }
        s.cold.saved_lost &= !bytes;
        s.cold.destroyed &= !bytes;
        s.line.unseen = 0;
        s.line.saved_invalidate = 0;
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
        self.overwritten(s, bytes);
    }

    /// A non-snooping master reads.
    pub fn non_snooping_read(&mut self, s: &mut Subject<'_>, bytes: u64, reader: Who) {
        s.line.flags |= DMA;
        let hit = s.line.uncleaned & bytes;
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
            self.record_stale(s, HazardKind::WritebackClobber, 0, lost, wrong, reader);
        }
        if s.cold.saved_lost & bytes != 0 {
            self.ops.needed(s.cold.lost_op);
            s.cold.saved_lost = 0;
        }
        self.clean_was_needed(s.line, bytes);
        self.check_barrier(s, bytes, reader);
        s.rewatch();
    }

    /// A non-snooping master writes.
    pub fn non_snooping_write(&mut self, s: &mut Subject<'_>, bytes: u64, writer: Who) {
        s.line.flags |= DMA;
        self.check_barrier(s, bytes, writer);
        if s.line.uncleaned != 0 {
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
        s.line.uncleaned &= !bytes;
        s.line.unseen |= bytes;
        s.line.saved_invalidate &= !bytes;
        s.cold.dma_writer = writer;
        s.cold.dma_written_at = self.now;
        self.overwritten(s, bytes);
    }

    fn check_barrier(&mut self, s: &mut Subject<'_>, bytes: u64, device: Who) {
        let Some(master) = device.device_master() else {
            return;
        };
        let pending = self
            .pending
            .get(usize::from(master.0))
            .copied()
            .unwrap_or(0);
        if pending == 0 || (s.line.clean_op != pending && s.line.invalidate_op != pending) {
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
        s.cold.saved_lost &= !bytes;
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
        op: CacheOp,
        operation: u32,
        site: Who,
    ) {
        let line = lines.line(number);
        if op != CacheOp::Invalidate {
            line.saved_clean = line.uncleaned;
            line.uncleaned = 0;
            line.clean_op = operation;
        }
        if op != CacheOp::Clean {
            let discarded = line.uncleaned;
            self.clean_was_needed_before_invalidate(line, op);
            line.saved_invalidate = line.unseen;
            line.unseen = 0;
            if discarded != 0 {
                self.discarded(lines, images, number, discarded, operation, site);
            }
            lines.line(number).invalidate_op = operation;
        }
        let (page, index) = lines.page(number);
        page.lines[index].watch(page.cold.as_deref().map(|cold| &cold[index]));
    }

    fn clean_was_needed_before_invalidate(&mut self, line: &mut Line, op: CacheOp) {
        if op == CacheOp::Invalidate {
            // Without that clean, this invalidate would discard the data.
            self.clean_was_needed(line, u64::MAX);
        }
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
        // The merged line is gone before it could destroy anything.
        s.cold.lost = 0;
        s.cold.saved_lost = 0;
    }

    /// An access through a non-cacheable alias. `bytes` are stored ones, or none for a load.
    pub fn non_cacheable(&mut self, s: &mut Subject<'_>, bytes: u64, site: Who) {
        if s.line.uncleaned != 0 {
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
        }
        self.clean_was_needed(s.line, u64::MAX);
        s.line.unseen &= !bytes;
        s.line.saved_invalidate &= !bytes;
        self.overwritten(s, bytes);
    }

    /// A CPU touches a line that a transfer in flight owns.
    pub fn ownership(&mut self, s: &mut Subject<'_>, bytes: u64, cpu: Who, owner: Who) {
        let f = Finding {
            kind: HazardKind::Ownership,
            cause: u64::from(owner.bits()),
            bytes,
            wrong: 0,
            writer: owner,
            reader: cpu,
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
            let clobber = s.cold.clobber;
            self.findings.manifest(clobber, destroyed);
        }
    }
}

/// The bookkeeping of a coherent write to a line without unseen or lost bytes: the hot path.
#[inline]
pub(super) fn fresh_write(line: &mut Line, bytes: u64, writer: Who, now: u64) {
    line.uncleaned |= bytes;
    line.saved_clean &= !bytes;
    line.writer = writer;
    line.written_at = now;
}
