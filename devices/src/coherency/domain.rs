// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! The domain and the CPU's side of it.

use serde::{Deserialize, Serialize};
use vm_memory::MmapRegion;

use super::findings::Findings;
use super::hash::{Item, RunHash};
use super::images::{ImageError, Images};
use super::line::{
    DMA, IN_FLIGHT_READ, IN_FLIGHT_WRITE, Lines, MAYBE_DIRTY, NON_CACHEABLE, PAGE_LINES, SLOW,
    State, WATCHED, Who, mask, parts,
};
use super::maintenance::Operations;
use super::physical::Cache;
use super::replacement::Policy;
use super::report::DomainReport;
use super::sanitizer::{Alias, Maintenance, Sanitizer, Subject, fresh_write};
use super::transfers::{Owner, Transfers};
use super::{LINE, report};
use crate::cpu::{CacheOp, ChainId, MemoryType, SiteId};
use crate::dma::MasterId;

/// What a snooping master's write does to the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SnoopWrite {
    /// ACE-Lite: cached copies are pushed out, dirty bytes merged, and DRAM is written.
    WriteThrough,
    /// ACP or a system cache: the line becomes dirty in the cache.
    Allocate,
}

/// How a domain behaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainConfig {
    /// First address of RAM, a multiple of the page size.
    pub base: u64,
    /// Bytes of RAM, a multiple of the page size.
    pub ram_bytes: u64,
    /// Replacement policy.
    pub policy: Policy,
    /// What snooping writes do.
    pub snoop_write: SnoopWrite,
    /// Seed of every random choice.
    pub seed: u64,
    /// For each master, by ID, whether its port snoops.
    pub snoops: Vec<bool>,
    /// Number of the maintenance operation to suppress, from 1.
    pub drop_operation: Option<u32>,
}

/// The coherency domain. See the module's documentation.
#[derive(Debug)]
pub struct Domain {
    pub(super) base: u64,
    pub(super) len: u64,
    pub(super) snoops: Vec<bool>,
    pub(super) snoop_write: SnoopWrite,
    pub(super) images: Images,
    pub(super) lines: Lines,
    pub(super) cache: Cache,
    pub(super) sanitizer: Sanitizer,
    pub(super) transfers: Transfers,
    pub(super) hash: RunHash,
}

impl Domain {
    /// A domain over `ram`, whose first `config.ram_bytes` are guest RAM. Both images are zero
    /// but for what the caller put into `ram` before and then announced by [`Domain::loaded`].
    ///
    /// # Errors
    /// [`ImageError`] if the sizes don't fit or there is no memory.
    pub fn new(config: &DomainConfig, ram: MmapRegion) -> Result<Self, ImageError> {
        Ok(Domain {
            base: config.base,
            len: config.ram_bytes,
            snoops: config.snoops.clone(),
            snoop_write: config.snoop_write,
            images: Images::new(ram, config.ram_bytes)?,
            lines: Lines::new(config.ram_bytes),
            cache: Cache::new(config.policy, config.seed),
            sanitizer: Sanitizer {
                findings: Findings::default(),
                ops: Operations::new(config.drop_operation),
                pending: vec![0; config.snoops.len()],
                now: 0,
            },
            transfers: Transfers::default(),
            hash: RunHash::new(),
        })
    }

    /// The loader put `len` bytes at `pa` into RAM before power-on: DRAM gets them too.
    pub fn loaded(&mut self, pa: u64, len: u64) {
        if let Some(offset) = self.offset(pa, len) {
            self.images.write_back(offset, len as usize);
        }
    }

    /// Offset of a range that lies wholly in RAM.
    #[inline]
    pub(super) fn offset(&self, pa: u64, len: u64) -> Option<u64> {
        let offset = pa.wrapping_sub(self.base);
        (offset < self.len && len <= self.len - offset).then_some(offset)
    }

    /// The mapping of RAM and what follows it.
    pub fn mapping(&self) -> &MmapRegion {
        self.images.ram_mapping()
    }

    /// Accesses of the CPU since power-on.
    #[inline]
    pub fn now(&self) -> u64 {
        self.sanitizer.now
    }

    /// How many different findings there are so far.
    pub fn findings(&self) -> usize {
        self.sanitizer.findings.len()
    }

    /// Adds something that happened outside the domain (a register access, an interrupt) to the
    /// run hash.
    #[inline]
    pub fn hash_external(&mut self, value: u64) {
        self.hash.add(Item::External, value);
    }

    /// The CPU has loaded `size` bytes (1 to 64) at `pa`. Outside RAM: ignored.
    #[inline]
    pub fn load(&mut self, pa: u64, size: u32, site: SiteId, memory: MemoryType) {
        let Some(offset) = self.begin(Item::Load, pa, size) else {
            return;
        };
        let len = u64::from(size);
        let within = offset % LINE;
        if memory == MemoryType::Cacheable && within + len <= LINE {
            let number = offset / LINE;
            let line = self.lines.line(number);
            if line.cached() && line.flags & SLOW == 0 {
                let way = line.way;
                self.cache.touch(number, way);
                return;
            }
        }
        self.load_slow(offset, len, site, memory);
    }

    /// The CPU has stored `size` bytes (1 to 64) at `pa`. Outside RAM: ignored.
    #[inline]
    pub fn store(&mut self, pa: u64, size: u32, site: SiteId, memory: MemoryType) {
        let Some(offset) = self.begin(Item::Store, pa, size) else {
            return;
        };
        let len = u64::from(size);
        let within = offset % LINE;
        if memory == MemoryType::Cacheable && within + len <= LINE {
            let number = offset / LINE;
            let now = self.sanitizer.now;
            let line = self.lines.line(number);
            if line.cached() && line.flags & SLOW == 0 {
                line.state = State::Dirty;
                line.cached_by = site;
                fresh_write(line, mask(within, len), Who::cpu(site), now);
                let way = line.way;
                self.cache.touch(number, way);
                return;
            }
        }
        self.store_slow(offset, len, site, memory);
    }

    /// Counts and hashes an access; its offset if it lies in RAM.
    #[inline]
    fn begin(&mut self, item: Item, pa: u64, size: u32) -> Option<u64> {
        self.sanitizer.now += 1;
        self.hash.add(item, pa);
        if size == 0 || size > LINE as u32 {
            return None;
        }
        self.offset(pa, u64::from(size))
    }

    #[inline(never)]
    fn load_slow(&mut self, offset: u64, len: u64, site: SiteId, memory: MemoryType) {
        for (number, bytes, _) in parts(offset, len) {
            if memory == MemoryType::NonCacheable {
                self.non_cacheable(number, bytes, false, site);
                continue;
            }
            self.cacheable_again(number);
            if !self.lines.line(number).cached() {
                self.fill(number, site);
            }
            let line = self.lines.line(number);
            let (flags, way) = (line.flags, line.way);
            self.cache.touch(number, way);
            if flags & SLOW != 0 {
                let mut s = Subject::new(&mut self.lines, &self.images, number);
                if flags & WATCHED != 0 {
                    self.sanitizer.coherent_read(&mut s, bytes, Who::cpu(site));
                }
                if flags & IN_FLIGHT_WRITE != 0 {
                    self.check_ownership(number, bytes, false, Who::cpu(site));
                }
            }
        }
        self.disturb(offset / LINE);
    }

    #[inline(never)]
    fn store_slow(&mut self, offset: u64, len: u64, site: SiteId, memory: MemoryType) {
        if memory == MemoryType::NonCacheable {
            // All of it before anything else: where a store crosses lines, dropping the page's
            // clean copies must not take its second half along.
            self.images.write_back(offset, len as usize);
        }
        for (number, bytes, _) in parts(offset, len) {
            if memory == MemoryType::NonCacheable {
                self.non_cacheable(number, bytes, true, site);
                continue;
            }
            self.cacheable_again(number);
            if !self.lines.line(number).cached() {
                self.fill(number, site);
            }
            let line = self.lines.line(number);
            line.state = State::Dirty;
            line.cached_by = site;
            let (flags, way) = (line.flags, line.way);
            self.cache.touch(number, way);
            if flags & WATCHED != 0 {
                let mut s = Subject::new(&mut self.lines, &self.images, number);
                self.sanitizer.coherent_write(&mut s, bytes, Who::cpu(site));
            } else {
                let now = self.sanitizer.now;
                fresh_write(self.lines.line(number), bytes, Who::cpu(site), now);
            }
            if flags & (IN_FLIGHT_WRITE | IN_FLIGHT_READ) != 0 {
                self.check_ownership(number, bytes, true, Who::cpu(site));
            }
        }
        self.disturb(offset / LINE);
    }

    /// A `dc` instruction on the line that holds `pa`. Outside RAM: ignored.
    pub fn maintain(&mut self, op: CacheOp, pa: u64, site: SiteId, chain: ChainId) {
        self.hash.add(Item::Maintain, pa << 2 | op as u64);
        let Some(offset) = self.offset(pa, 1) else {
            return;
        };
        let number = offset / LINE;
        let now = self.sanitizer.now;
        let dma = self.lines.peek(number).is_some_and(|l| l.flags & DMA != 0);
        let ops = &mut self.sanitizer.ops;
        let (operation, effective) = ops.line(op, number, dma, site, chain, now);
        if !effective {
            self.hash.add(Item::Suppressed, number);
            return;
        }
        let maintenance = Maintenance {
            op,
            operation,
            site: Who::cpu(site),
            owner: self.owner(number, u64::MAX, true),
        };
        if op != CacheOp::Invalidate {
            self.clean_line(number);
        }
        // Judged before an invalidate takes the evidence away.
        self.sanitizer
            .maintain(&mut self.lines, &self.images, number, maintenance);
        if op != CacheOp::Clean {
            self.drop_line(number);
        }
    }

    /// A DSB.
    pub fn barrier(&mut self) {
        self.hash.add(Item::Barrier, 0);
        self.sanitizer.ops.barrier();
    }

    /// `master` was told to go (a register of it was written): maintenance that no DSB has
    /// completed by now comes too late for it.
    pub fn doorbell(&mut self, master: MasterId) {
        let incomplete = self.sanitizer.ops.incomplete();
        if let Some(pending) = self.sanitizer.pending.get_mut(usize::from(master.0)) {
            *pending = incomplete;
        }
    }

    /// An access through a non-cacheable alias, after a store took effect in both images.
    fn non_cacheable(&mut self, number: u64, bytes: u64, store: bool, site: SiteId) {
        let line = *self.lines.line(number);
        let access = match (store, line.flags & NON_CACHEABLE != 0) {
            (true, _) => Alias::Store,
            (false, true) => Alias::Load,
            (false, false) => Alias::FirstLoad,
        };
        if line.flags & (WATCHED | MAYBE_DIRTY) != 0 || line.saved_clean != 0 {
            let mut s = Subject::new(&mut self.lines, &self.images, number);
            self.sanitizer
                .non_cacheable(&mut s, bytes, access, Who::cpu(site));
        }
        if line.flags & NON_CACHEABLE == 0 {
            // From now on the page has no clean copies and gets none by speculation.
            let first = number / PAGE_LINES as u64 * PAGE_LINES as u64;
            for n in first..first + PAGE_LINES as u64 {
                if self.lines.line(n).state == State::Clean {
                    self.drop_line(n);
                }
                self.lines.line(n).flags |= NON_CACHEABLE;
            }
        }
        if self.lines.line(number).cached() {
            // Dirty, and through a snooping master's or another alias' fault: pushed out, so that
            // the views agree from here on. The disagreement has been reported.
            self.evict(number);
        }
    }

    /// A cacheable access ends the time of the non-cacheable alias, for the whole page.
    pub(super) fn cacheable_again(&mut self, number: u64) {
        let (page, index) = self.lines.page(number);
        if page.lines[index].flags & NON_CACHEABLE != 0 {
            for line in &mut page.lines {
                line.flags &= !NON_CACHEABLE;
            }
        }
    }

    /// A coherent observer has touched what may belong to a transfer in flight.
    pub(super) fn check_ownership(&mut self, number: u64, bytes: u64, write: bool, who: Who) {
        if let Some((owner, hit)) = self.owner(number, bytes, write) {
            let mut s = Subject::new(&mut self.lines, &self.images, number);
            self.sanitizer.ownership(&mut s, hit, who, owner);
        }
    }

    /// The transfer in flight that owns some of `bytes`, and which. A read meets only transfers that
    /// write.
    fn owner(&mut self, number: u64, bytes: u64, write: bool) -> Option<(Who, u64)> {
        if self.lines.line(number).flags & (IN_FLIGHT_WRITE | IN_FLIGHT_READ) == 0 {
            return None;
        }
        match self.transfers.owner(number, bytes, write) {
            Owner::Transfer(owner, hit) => Some((owner, hit)),
            Owner::Elsewhere => None,
            // The transfers that had marked the line are over.
            Owner::Nobody => {
                self.lines.line(number).flags &= !(IN_FLIGHT_WRITE | IN_FLIGHT_READ);
                None
            }
        }
    }

    /// What the run has come to.
    pub fn report(&self) -> DomainReport {
        let (hazards, hazards_dropped) = self.sanitizer.findings.report(self.base);
        let (transfers, transfers_dropped) = self.transfers.report();
        let mut maintenance = self.sanitizer.ops.report(&self.lines);
        for op in &mut maintenance.operations {
            op.first_pa += self.base;
        }
        report::DomainReport {
            hazards,
            hazards_dropped,
            maintenance,
            transfers,
            transfers_dropped,
            cache: self.cache.counters(),
            accesses: self.sanitizer.now,
            run_hash: self.hash.value(),
            saturated: Vec::new(),
        }
    }
}
