// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The naive model that the domain is tested against.
//!
//! It shares nothing with the domain but its types. Data: DRAM and a map of explicit line copies,
//! from which the coherent view is derived. Rules: a history of everything that happened to each
//! line, scanned from the end at every question. It also knows the *truth*: the byte that whoever
//! wrote last has written, which is what every reader ought to get.

mod history;

use std::collections::{BTreeMap, BTreeSet};

use history::{History, Past, bits, to_mask};

use super::SnoopWrite;
use super::hazard::HazardKind;
use crate::cpu::CacheOp;
use crate::dma::Direction;

pub(super) const LINE: usize = 64;
pub(super) const PAGE: usize = 4096;

/// A finding that the oracle expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Expected {
    pub kind: HazardKind,
    pub line: u64,
    pub bytes: u64,
    pub wrong: u64,
}

#[derive(Debug, Clone)]
struct Copy {
    data: [u8; LINE],
    dirty: bool,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct OpenTransfer {
    pub id: u32,
    pub master: u8,
    pub direction: Direction,
    pub at: usize,
    pub len: usize,
}

impl OpenTransfer {
    fn owned(&self, line: usize) -> u64 {
        let own = self.at..self.at + self.len;
        to_mask((0..LINE).filter(|b| own.contains(&(line * LINE + b))))
    }
}

/// What was cleaned of a line while a transfer owned it: for that transfer, it has not been.
#[derive(Debug, Clone, Copy, Default)]
struct Late {
    id: u32,
    bytes: u64,
    dirty: bool,
}

/// The model. Addresses are offsets in RAM.
#[derive(Debug)]
pub(super) struct Oracle {
    snoop_write: SnoopWrite,
    /// Fills before each non-snooping write, writes dirty lines back after: the `eager` policy.
    eager: bool,
    pub dram: Vec<u8>,
    cache: BTreeMap<usize, Copy>,
    /// Lines last seen through the non-cacheable alias.
    aliased: BTreeSet<usize>,
    truth: Vec<u8>,
    /// Bytes that are wrong, and whose loss has been reported as manifested.
    reported_lost: BTreeSet<usize>,
    history: History,
    open: Vec<OpenTransfer>,
    /// For each transfer so far, the run that was unfinished when its master was told to go.
    unfinished: BTreeMap<u32, Option<u32>>,
    /// By line.
    late: BTreeMap<usize, Late>,
    /// Number of the present run of maintenance, and whether it has begun.
    run: u32,
    run_begun: bool,
    /// For each master, the run that was unfinished when it was told to go.
    pending: BTreeMap<u8, u32>,
    /// What the last event should have been found guilty of.
    pub expected: Vec<Expected>,
    /// Destruction by write-back of data for which a clobber has been found: line and bytes.
    pub manifested: Vec<(u64, u64)>,
    /// Bytes read wrongly by anybody, and not reported: the model's own failure.
    pub silent: Vec<usize>,
}

/// Line by line: line, first byte in it, bytes.
pub(super) fn pieces(at: usize, len: usize) -> Vec<(usize, usize, usize)> {
    let mut out: Vec<(usize, usize, usize)> = Vec::new();
    for byte in at..at + len {
        match out.last_mut() {
            Some((line, _, n)) if *line == byte / LINE => *n += 1,
            _ => out.push((byte / LINE, byte % LINE, 1)),
        }
    }
    out
}

impl Oracle {
    pub fn new(bytes: usize, snoop_write: SnoopWrite, eager: bool) -> Self {
        Oracle {
            snoop_write,
            eager,
            dram: vec![0; bytes],
            cache: BTreeMap::new(),
            aliased: BTreeSet::new(),
            truth: vec![0; bytes],
            reported_lost: BTreeSet::new(),
            history: History::default(),
            open: Vec::new(),
            unfinished: BTreeMap::new(),
            late: BTreeMap::new(),
            run: 0,
            run_begun: false,
            pending: BTreeMap::new(),
            expected: Vec::new(),
            manifested: Vec::new(),
            silent: Vec::new(),
        }
    }

    // ---- what observers see

    /// What a CPU or a snooping master would read.
    pub fn view(&self) -> Vec<u8> {
        let mut view = self.dram.clone();
        for (line, copy) in &self.cache {
            view[line * LINE..][..LINE].copy_from_slice(&copy.data);
        }
        view
    }

    pub fn is_cached(&self, line: usize) -> bool {
        self.cache.contains_key(&line)
    }

    fn seen(&self, byte: usize) -> u8 {
        self.cache
            .get(&(byte / LINE))
            .map_or(self.dram[byte], |copy| copy.data[byte % LINE])
    }

    // ---- findings

    fn expect(&mut self, kind: HazardKind, line: usize, bytes: u64, wrong: u64) {
        let line = line as u64;
        self.expected.push(Expected {
            kind,
            line,
            bytes,
            wrong,
        });
    }

    /// Bytes of a mask for which `got` is not the truth.
    fn wrong(&self, line: usize, bytes: u64, got: impl Fn(&Self, usize) -> u8) -> u64 {
        to_mask(bits(bytes).filter(|b| got(self, line * LINE + b) != self.truth[line * LINE + b]))
    }

    /// Whoever reads: wrong bytes must have been found, now or when they were lost.
    fn audit(&mut self, line: usize, bytes: u64, found: u64, got: impl Fn(&Self, usize) -> u8) {
        for b in bits(self.wrong(line, bytes, got) & !found) {
            if !self.reported_lost.contains(&(line * LINE + b)) {
                self.silent.push(line * LINE + b);
            }
        }
    }

    fn coherent_read(&mut self, line: usize, bytes: u64) {
        let stale = self.history.unseen(line) & bytes;
        let lost = self.history.merged_over(line) & bytes & !stale;
        for (kind, hit) in [
            (HazardKind::MissingInvalidate, stale),
            (HazardKind::WritebackClobber, lost),
        ] {
            if hit != 0 {
                let wrong = self.wrong(line, hit, Self::seen);
                self.expect(kind, line, hit, wrong);
            }
        }
        self.audit(line, bytes, stale | lost, Self::seen);
    }

    fn check_barrier(&mut self, master: u8, id: u32, line: usize, bytes: u64) {
        let told = self.pending.get(&master).copied();
        let Some(pending) = self.unfinished.get(&id).copied().unwrap_or(told) else {
            return;
        };
        if self.history.last_runs(line).contains(&Some(pending)) {
            self.expect(HazardKind::MissingBarrier, line, bytes, 0);
        }
    }

    /// Somebody coherent touches bytes that a transfer in flight owns; reads only meet those that
    /// write.
    fn check_ownership(&mut self, line: usize, bytes: u64, write: bool) {
        let hit = self
            .open
            .iter()
            .filter(|t| write || t.direction == Direction::ToMemory)
            .map(|t| t.owned(line) & bytes)
            .find(|hit| *hit != 0);
        if let Some(hit) = hit {
            self.expect(HazardKind::Ownership, line, hit, 0);
        }
    }

    // ---- the cache

    /// An absent line comes in.
    pub fn fill(&mut self, line: usize) {
        let mut data = [0; LINE];
        data.copy_from_slice(&self.dram[line * LINE..][..LINE]);
        self.cache
            .entry(line)
            .or_insert(Copy { data, dirty: false });
    }

    /// A fill that nobody asked for.
    pub fn speculate(&mut self, line: usize) {
        if !self.aliased.contains(&line) {
            self.fill(line);
        }
    }

    fn write_back(&mut self, line: usize) {
        let Some(copy) = self.cache.get_mut(&line).filter(|copy| copy.dirty) else {
            return;
        };
        copy.dirty = false;
        let data = copy.data;
        let destroyed = to_mask((0..LINE).filter(|b| {
            let byte = line * LINE + b;
            matches!(
                self.history.last_write(line, *b),
                Some((Past::DeviceWrite { .. }, _))
            ) && self.dram[byte] == self.truth[byte]
                && data[*b] != self.truth[byte]
        }));
        self.dram[line * LINE..][..LINE].copy_from_slice(&data);
        if destroyed != 0 && self.history.clobbered(line) {
            self.manifested.push((line as u64, destroyed));
            self.reported_lost
                .extend(bits(destroyed).map(|b| line * LINE + b));
        }
    }

    /// A line leaves.
    pub fn evict(&mut self, line: usize) {
        self.write_back(line);
        self.cache.remove(&line);
    }

    // ---- events

    fn set_truth(&mut self, at: usize, data: &[u8]) {
        self.truth[at..at + data.len()].copy_from_slice(data);
        for byte in at..at + data.len() {
            self.reported_lost.remove(&byte);
            if let Some(late) = self.late.get_mut(&(byte / LINE)) {
                late.bytes &= !(1 << (byte % LINE));
            }
        }
    }

    fn cacheable_page(&mut self, line: usize) {
        let per_page = PAGE / LINE;
        self.aliased.retain(|l| l / per_page != line / per_page);
    }

    pub fn load(&mut self, at: usize, len: usize) {
        for (line, first, n) in pieces(at, len) {
            let bytes = to_mask(first..first + n);
            self.cacheable_page(line);
            self.fill(line);
            self.coherent_read(line, bytes);
            self.check_ownership(line, bytes, false);
        }
    }

    pub fn store(&mut self, at: usize, data: &[u8]) {
        let mut data = data;
        for (line, first, n) in pieces(at, data.len()) {
            let bytes = to_mask(first..first + n);
            self.cacheable_page(line);
            self.coherent_write(line, first, &data[..n]);
            self.check_ownership(line, bytes, true);
            data = &data[n..];
        }
    }

    fn coherent_write(&mut self, line: usize, first: usize, data: &[u8]) {
        self.fill(line);
        if let Some(copy) = self.cache.get_mut(&line) {
            copy.data[first..first + data.len()].copy_from_slice(data);
            copy.dirty = true;
        }
        self.history.happened(
            line,
            Past::CoherentWrite(to_mask(first..first + data.len())),
        );
        self.set_truth(line * LINE + first, data);
    }

    pub fn maintain(&mut self, op: CacheOp, at: usize) {
        if !self.run_begun {
            self.run_begun = true;
            self.run += 1;
        }
        let (line, run) = (at / LINE, self.run);
        let owner = self.open.iter().find(|t| t.owned(line) != 0).copied();
        self.too_late(op, line, owner);
        if op != CacheOp::Invalidate {
            self.write_back(line);
            if self.aliased.contains(&line) {
                self.cache.remove(&line);
            }
            self.history.happened(line, Past::Clean(run));
        }
        if op != CacheOp::Clean {
            let discarded = self.history.uncleaned(line);
            if discarded != 0 {
                let wrong = self.wrong(line, discarded, |s, byte| s.dram[byte]);
                self.expect(HazardKind::DiscardedWrite, line, discarded, wrong);
                self.reported_lost
                    .extend(bits(wrong).map(|b| line * LINE + b));
            }
            self.cache.remove(&line);
            // What the transfer has written of its own it may write again.
            let still_its_own = owner.map_or(0, |owner| {
                match self.history.last_device(line) == Some(owner.id) {
                    true => owner.owned(line),
                    false => 0,
                }
            });
            self.history.happened(
                line,
                Past::Invalidate {
                    run,
                    but: still_its_own,
                },
            );
        }
    }

    fn too_late(&mut self, op: CacheOp, line: usize, owner: Option<OpenTransfer>) {
        let Some(owner) = owner else {
            self.late.remove(&line);
            return;
        };
        if op == CacheOp::Invalidate {
            return;
        }
        let id = owner.id;
        let late = self.late.entry(line).or_default();
        if late.id != id {
            *late = Late {
                id,
                ..Late::default()
            };
        }
        late.bytes |= self.history.uncleaned(line) & owner.owned(line);
        late.dirty |= self.history.maybe_dirty(line);
    }

    /// What came too late for a transfer.
    fn late_for(&self, line: usize, id: u32) -> Late {
        let late = self.late.get(&line).filter(|late| late.id == id);
        late.copied().unwrap_or_default()
    }

    pub fn barrier(&mut self) {
        self.run_begun = false;
    }

    pub fn doorbell(&mut self, master: u8) {
        if self.run_begun {
            self.pending.insert(master, self.run);
        } else {
            self.pending.remove(&master);
        }
    }

    /// An access through the non-cacheable alias; `stored`: the data, if it is a store.
    pub fn non_cacheable(&mut self, at: usize, len: usize, stored: Option<&[u8]>) {
        let mut data = stored.unwrap_or(&[]);
        for (line, first, n) in pieces(at, len) {
            let bytes = to_mask(first..first + n);
            let stored_bytes = if stored.is_some() { bytes } else { 0 };
            let copied = self.history.maybe_dirty(line) || !self.aliased.contains(&line);
            if self.history.maybe_dirty(line) {
                let hit = self.history.uncleaned(line);
                let wrong = self.wrong(line, hit & !stored_bytes, |s, byte| s.dram[byte]);
                self.expect(HazardKind::MismatchedAlias, line, hit, wrong);
                self.history.happened(line, Past::AliasPush);
            }
            if stored.is_some() {
                if let Some(copy) = self.cache.get_mut(&line) {
                    copy.data[first..first + n].copy_from_slice(&data[..n]);
                }
                self.dram[line * LINE + first..][..n].copy_from_slice(&data[..n]);
                self.history.happened(line, Past::NonCacheableStore(bytes));
                self.set_truth(line * LINE + first, &data[..n]);
                data = &data[n..];
            } else {
                self.non_cacheable_load(line, bytes, copied);
            }
            if !self.aliased.contains(&line) {
                let page = line / (PAGE / LINE);
                for l in page * (PAGE / LINE)..(page + 1) * (PAGE / LINE) {
                    if self.cache.get(&l).is_some_and(|copy| !copy.dirty) {
                        self.cache.remove(&l);
                    }
                    self.aliased.insert(l);
                }
            }
            self.evict(line);
        }
    }

    /// A load ought to come from the PoC. The vCPU cannot be stopped from reading ram, so the
    /// first one after cacheable use of the page may read a stale copy, and is found to.
    fn non_cacheable_load(&mut self, line: usize, bytes: u64, copied: bool) {
        let stale = if copied {
            self.history.unseen(line) & bytes
        } else {
            0
        };
        let lost = self.history.merged_over(line) & bytes & !stale;
        for (kind, hit) in [
            (HazardKind::MismatchedAlias, stale),
            (HazardKind::WritebackClobber, lost),
        ] {
            if hit != 0 {
                let wrong = self.wrong(line, hit, Self::seen);
                self.expect(kind, line, hit, wrong);
            }
        }
        self.audit(line, bytes, stale | lost, Self::seen);
    }

    pub fn snooping_read(&mut self, at: usize, len: usize) -> Vec<u8> {
        for (line, first, n) in pieces(at, len) {
            let bytes = to_mask(first..first + n);
            self.coherent_read(line, bytes);
            self.check_ownership(line, bytes, false);
        }
        self.view()[at..at + len].to_vec()
    }

    pub fn snooping_write(&mut self, at: usize, data: &[u8]) {
        let mut rest = data;
        for (line, first, n) in pieces(at, data.len()) {
            match self.snoop_write {
                SnoopWrite::WriteThrough => {
                    self.evict(line);
                    self.dram[line * LINE + first..][..n].copy_from_slice(&rest[..n]);
                    self.history
                        .happened(line, Past::WriteThrough(to_mask(first..first + n)));
                    self.set_truth(line * LINE + first, &rest[..n]);
                }
                SnoopWrite::Allocate => {
                    self.cacheable_page(line);
                    self.coherent_write(line, first, &rest[..n]);
                }
            }
            self.check_ownership(line, to_mask(first..first + n), true);
            rest = &rest[n..];
        }
    }

    /// `id` is 0 outside of all transfers.
    pub fn device_read(&mut self, master: u8, id: u32, at: usize, len: usize) -> Vec<u8> {
        for (line, first, n) in pieces(at, len) {
            let bytes = to_mask(first..first + n);
            let dram = |s: &Self, byte: usize| s.dram[byte];
            let dirty = (self.history.uncleaned(line) | self.late_for(line, id).bytes) & bytes;
            let lost = self.history.merged_over(line) & bytes;
            for (kind, hit) in [
                (HazardKind::MissingClean, dirty),
                (HazardKind::WritebackClobber, lost),
            ] {
                if hit != 0 {
                    let wrong = self.wrong(line, hit, dram);
                    self.expect(kind, line, hit, wrong);
                }
            }
            self.check_barrier(master, id, line, bytes);
            self.audit(line, bytes, dirty | lost, dram);
        }
        self.dram[at..at + len].to_vec()
    }

    /// As [`Oracle::device_read`].
    pub fn device_write(&mut self, master: u8, id: u32, at: usize, data: &[u8]) {
        let mut rest = data;
        for (line, first, n) in pieces(at, data.len()) {
            let bytes = to_mask(first..first + n);
            if self.eager {
                self.speculate(line);
            }
            self.check_barrier(master, id, line, bytes);
            let clobbers = self.history.maybe_dirty(line) || self.late_for(line, id).dirty;
            if clobbers {
                self.expect(HazardKind::WritebackClobber, line, bytes, 0);
            }
            self.dram[line * LINE + first..][..n].copy_from_slice(&rest[..n]);
            self.history.happened(
                line,
                Past::DeviceWrite {
                    id,
                    bytes,
                    clobbers,
                },
            );
            self.set_truth(line * LINE + first, &rest[..n]);
            if self.eager && self.cache.get(&line).is_some_and(|copy| copy.dirty) {
                self.evict(line);
            }
            rest = &rest[n..];
        }
    }

    pub fn open(&mut self, transfer: OpenTransfer) {
        let unfinished = self.pending.get(&transfer.master).copied();
        self.unfinished.insert(transfer.id, unfinished);
        self.open.push(transfer);
    }

    pub fn close(&mut self, id: u32) {
        self.open.retain(|t| t.id != id);
    }
}
