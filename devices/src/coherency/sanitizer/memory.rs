// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! What the rules go by beside the lines themselves, and what they have in common.

use serde::{Deserialize, Serialize};

use crate::coherency::cleans::{Clean, Room};
use crate::coherency::cold::Cold;
use crate::coherency::findings::{Finding, Findings};
use crate::coherency::images::Images;
use crate::coherency::line::Line;
use crate::coherency::lines::Lines;
use crate::coherency::maintenance::{Operations, Timing};
use crate::coherency::order::Barriers;
use crate::coherency::stores::Overtaken;
use crate::coherency::who::Who;
use crate::cpu::LINE;
use crate::cpu::{Barrier, ChainId, CpuId, MAX_CPUS, SiteId};
use crate::dma::{Content, Doorbell, StartedBy};
use crate::events::{Event, Kind, Maintained, Tap};
use crate::hazard::{HazardKind, Why};

/// The sanitizer's memory beside the lines themselves.
#[derive(Debug)]
pub(in crate::coherency) struct Sanitizer {
    pub findings: Findings,
    pub ops: Operations,
    /// What each CPU has done.
    pub cpus: [OfCpu; MAX_CPUS],
    /// The one that is at it.
    pub cpu: CpuId,
    pub overtaken: Overtaken,
    /// For the cleans of lines.
    pub room: Room,
    /// Accesses of the CPU since power-on.
    pub now: u64,
    /// When the last one outside RAM was: of a register, say.
    pub outside_at: u64,
    /// Who is told of what happens.
    pub tap: Tap,
    /// Physical address of the first line.
    pub base: u64,
}

/// What one CPU has done.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(in crate::coherency) struct OfCpu {
    pub barriers: Barriers,
    /// When its last access was, in accesses of all CPUs since power-on.
    pub last_access: u64,
}

/// A master's access to one line.
#[derive(Debug, Clone, Copy)]
pub(in crate::coherency) struct ByMaster {
    pub who: Who,
    /// Its transfer is in flight: what meets that has been reported as such.
    pub in_flight: bool,
    pub bytes: u64,
    pub content: Content,
    /// When the master was started, and what was in place by then.
    pub release: Doorbell,
    /// Of `bytes`, the word that handed the memory over.
    pub handover: u64,
}

impl ByMaster {
    /// A finding about the access, of which the master is writer and reader as far as nobody else is
    /// named.
    pub(super) fn finding(self, kind: HazardKind, why: Why) -> Finding {
        Finding {
            kind,
            why,
            cause: u64::from(self.who.bits()),
            bytes: self.bytes,
            wrong: 0,
            writer: self.who,
            reader: self.who,
            device: self.who,
            written_at: 0,
            started: Some(self.release),
            stood: None,
            signalled: None,
        }
    }
}

/// One line under judgement: its number, its state, and both images for the question of whether
/// a finding manifested.
pub(in crate::coherency) struct Subject<'a> {
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

    pub(super) fn rewatch(&mut self) {
        self.line.watch(self.cold);
    }

    /// Of what was written at the PoC, no more than these bytes is missed by who reads through the cache, or lost.
    pub fn settle_but(&mut self, bytes: u64) {
        self.line.unseen &= bytes;
        self.cold.lost &= bytes;
        self.rewatch();
    }
}

impl Sanitizer {
    /// A load or store of `cpu`.
    #[inline]
    pub fn access(&mut self, cpu: CpuId) {
        self.now += 1;
        self.cpu = cpu;
        self.cpus[cpu.index()].last_access = self.now;
    }

    /// A DMB or DSB of `cpu`.
    pub fn barrier(&mut self, cpu: CpuId, barrier: Barrier) {
        self.cpu = cpu;
        let operations = self.ops.incomplete(cpu);
        let before = self.ops.completions();
        self.ops.barrier(cpu, barrier, self.now);
        let kind = match operations {
            (0, 0) => Kind::Fence,
            _ => Kind::Barrier,
        };
        let completes = self.ops.completions() != before;
        self.note(kind, |_| Event::Barrier {
            cpu,
            barrier,
            operations,
            completes,
        });
        self.cpus[cpu.index()].barriers.add(barrier, self.now);
    }

    /// The barriers of the CPU that is at it.
    #[inline]
    pub fn barriers(&self) -> &Barriers {
        &self.cpus[self.cpu.index()].barriers
    }

    /// The state of things now, as a device that is started now finds it.
    pub(super) fn state(&self) -> Doorbell {
        Doorbell {
            at: self.now,
            ordered_at: self.barriers().stores,
            issued: self.ops.issued(),
            completed: self.ops.completions(),
            cpu: self.cpu,
            by: StartedBy::Doorbell,
        }
    }

    /// The same, for a device that a register write tells now.
    pub fn doorbell(&mut self) -> Doorbell {
        let release = self.state();
        let by_last = self.outside_at == self.now;
        self.overtaken.release(&release, by_last);
        release
    }

    /// The same, for a device that may be told by the word that was just stored.
    pub fn word_stored(&mut self) -> Doorbell {
        let release = self.state();
        self.overtaken.release(&release, true);
        release
    }

    /// What it is for a device that goes by itself: it may come at any time, so only what is not
    /// complete now is judged.
    pub fn unprompted(&self) -> Doorbell {
        Doorbell {
            ordered_at: u64::MAX,
            issued: u32::MAX,
            by: StartedBy::Itself,
            ..self.state()
        }
    }

    /// Somebody else has written `bytes`: who stored them before, and in which order, is no matter.
    #[inline]
    pub(super) fn forget_stores(&mut self, s: &mut Subject<'_>, bytes: u64) {
        s.line.fresh &= !bytes;
        if let Some(rare) = s.cold.rare_if_any() {
            rare.alias_fresh &= !bytes;
        }
        self.overtaken.forget(s.number, s.line, bytes);
    }

    #[cold]
    #[inline(never)]
    pub fn record(&mut self, s: &mut Subject<'_>, f: Finding) -> u32 {
        let (slot, first) = self
            .findings
            .record(f, s.number, s.line, s.cold, &self.ops, self.now);
        if first {
            self.note(Kind::Finding, |base| Event::Found {
                finding: slot,
                kind: f.kind,
                why: f.why,
                pa: base + s.number * LINE,
                bytes: f.bytes,
                wrong: f.wrong,
                writer: f.writer.actor(),
                reader: f.reader.actor(),
            });
        }
        slot
    }

    /// Tells an event, if anybody wants to know; it is given the address of RAM's first byte.
    #[inline(always)]
    pub fn note(&mut self, kind: Kind, event: impl FnOnce(u64) -> Event) {
        if self.tap.wants(kind) {
            let event = event(self.base);
            self.tap.note(self.now, event);
        }
    }

    /// Tells of a maintained line, and if it begins an operation, what that is.
    #[inline]
    pub fn maintained(&mut self, line: &Maintained, site: SiteId, chain: ChainId) {
        if self.tap.maintains(self.now, line) {
            return;
        }
        let Maintained {
            cpu,
            op,
            operation,
            pa,
            found,
            dropped,
        } = *line;
        let event = Event::Maintained {
            cpu,
            op,
            operation,
            site,
            chain,
            pa,
            lines: 1,
            found,
            dropped,
        };
        self.tap.note(self.now, event);
    }

    /// The last invalidate was needed if its absence would have left `bytes` unseen or lost.
    #[inline]
    pub(super) fn invalidate_was_needed(&mut self, s: &mut Subject<'_>, bytes: u64) {
        if s.cold.saved_invalidate & bytes != 0 {
            self.ops.needed(s.cold.invalidate_op, s.number);
            s.cold.saved_invalidate = 0;
            let op = s.cold.invalidate_op;
            if let Some(rare) = s.cold.rare_if_any() {
                rare.saved_lost.remove_latest(op);
            }
        }
        self.saved_from_loss(s, bytes);
    }

    /// Earlier invalidates were needed if without one of them `bytes` would have been lost.
    #[inline]
    pub(super) fn saved_from_loss(&mut self, s: &mut Subject<'_>, bytes: u64) {
        if !s.cold.rare().saved_lost.is_empty() {
            self.some_saved_from_loss(s, bytes);
        }
    }

    #[inline(never)]
    fn some_saved_from_loss(&mut self, s: &mut Subject<'_>, bytes: u64) {
        let next = |s: &mut Subject<'_>| s.cold.rare_if_any()?.saved_lost.take(bytes);
        while let Some(op) = next(s) {
            self.ops.needed(op, s.number);
            if op == s.cold.invalidate_op {
                s.cold.saved_invalidate = 0;
            }
        }
    }

    /// Cleans of `bytes` that were in time, as `in_time` says of operations, were needed, unless a later
    /// one that was too would have done.
    pub(super) fn cleans_were_needed(
        &mut self,
        s: &mut Subject<'_>,
        bytes: u64,
        in_time: impl InTime,
    ) {
        self.needed_of(s, in_time, |clean| clean.bytes & bytes != 0);
    }

    /// The same of those that found the line dirty, whatever its bytes.
    pub(super) fn cleans_kept_it_from_being_dirty(
        &mut self,
        s: &mut Subject<'_>,
        in_time: impl InTime,
    ) {
        self.needed_of(s, in_time, |clean| clean.dirty);
    }

    #[inline]
    fn needed_of(
        &mut self,
        s: &mut Subject<'_>,
        in_time: impl InTime,
        which: impl Fn(&Clean) -> bool,
    ) {
        let number = s.number;
        s.cold.cleans.each_mut(|clean| {
            if clean.counted || !which(clean) {
                return;
            }
            let alone = clean.repeated_by == 0 || !in_time(&self.ops, clean.repeated_by);
            if alone && in_time(&self.ops, clean.op) {
                clean.counted = true;
                self.ops.needed(clean.op, number);
            }
        });
    }

    /// `reader` reads `bytes` that were written at the PoC, and may not get them.
    #[cold]
    #[inline(never)]
    pub(super) fn record_unread(
        &mut self,
        s: &mut Subject<'_>,
        kind: HazardKind,
        why: Why,
        bytes: u64,
        wrong: u64,
        reader: Who,
    ) {
        let (writer, written_at) = match why {
            // Others may have written other bytes since.
            Why::StaleStore => (s.cold.rare().lost_writer, s.cold.rare().lost_written_at),
            _ => (s.cold.poc_writer, s.cold.poc_written_at),
        };
        let f = Finding {
            kind,
            why,
            // One hazard per writing transfer and class of reader.
            cause: u64::from(writer.bits()) | class(reader) << 32,
            bytes,
            wrong: wrong & bytes,
            writer,
            reader,
            device: writer,
            written_at,
            started: None,
            stood: None,
            signalled: None,
        };
        self.record(s, f);
    }

    /// A CPU or a snooping master touches a line that a transfer in flight owns.
    pub fn ownership(
        &mut self,
        s: &mut Subject<'_>,
        bytes: u64,
        write: bool,
        toucher: Who,
        owner: Who,
    ) {
        if write {
            let rare = s.cold.rare_mut();
            let before = if rare.raced_of == owner {
                rare.raced
            } else {
                0
            };
            (rare.raced_of, rare.raced) = (owner, before | bytes);
        }
        let f = Finding {
            kind: HazardKind::Ownership,
            why: Why::Absent,
            cause: u64::from(owner.bits()) | class(toucher) << 32,
            bytes,
            wrong: 0,
            writer: owner,
            reader: toucher,
            device: owner,
            written_at: s.cold.poc_written_at,
            started: None,
            stood: None,
            signalled: None,
        };
        self.record(s, f);
    }

    /// A dirty line is about to be written back: which data of the PoC does that destroy?
    pub fn before_write_back(&mut self, s: &mut Subject<'_>) {
        let foreign = s.line.unseen | s.cold.lost;
        let destroyed = s.images.difference(s.number) & foreign & !s.cold.destroyed;
        if destroyed != 0 {
            s.cold.destroyed |= destroyed;
            self.findings.manifest(s.number, s.cold, destroyed);
        }
    }
}

/// Whether an operation, by number, was in time for whoever is being judged.
pub(super) trait InTime: Fn(&Operations, u32) -> bool {}

impl<F: Fn(&Operations, u32) -> bool> InTime for F {}

/// In time for a master that was started at `release`.
pub(super) fn before(release: &Doorbell) -> impl InTime {
    move |ops: &Operations, op| ops.timing(op, release) == Timing::InTime
}

/// The kind of a finding about what was written at the PoC: what a CPU stored past the cache is
/// missed, or lost, by the aliases' fault; what a device wrote, by `kind`.
pub(super) fn by_poc_writer(writer: Who, kind: HazardKind) -> HazardKind {
    match writer.device_master() {
        Some(_) => kind,
        None => HazardKind::MismatchedAlias,
    }
}

/// Kernel code, code of user space, or one of the masters.
fn class(who: Who) -> u64 {
    match who.device_master() {
        Some(master) => u64::from(master.0) + 2,
        None => u64::from(who.is_user()),
    }
}
