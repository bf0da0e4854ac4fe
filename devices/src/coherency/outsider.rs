// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! A master of whose accesses nobody tells: a device of the host's, which works on one of the two images by
//! itself.
//!
//! If its port does not snoop, that is DRAM. What a line holds there beyond what was last known, the device
//! has written since; so that is looked for before maintenance of the line is judged, and is taken for a write
//! just then, with a copy of before it in the cache, as the architecture allows. What it reads is not seen.
//!
//! If its port snoops, it works on RAM, and what it writes cannot be told from what CPUs store: neither is
//! judged, and what is found there is taken to be in both images, where it is after a snooping write.
//!
//! Pages that are mapped as non-cacheable are one memory, by whoever runs the guest; nothing is looked for there.

use std::ops::Range;

use super::dma::note_write;
use super::domain::Domain;
use super::line::{DIVERGED, PAGE, PAGE_LINES, State};
use super::sanitizer::{ByMaster, Subject};
use super::who::Who;
use crate::cpu::{CpuId, LINE, SiteId};
use crate::dma::{Content, MasterId, TransferId};

impl Domain {
    /// The outsider, if what it works on is DRAM.
    fn outsider_at_dram(&self) -> Option<MasterId> {
        let outsider = self.outsider?;
        (!self.port(outsider).snoops_writes()).then_some(outsider)
    }

    /// Looks for what an outsider has written of a line.
    #[inline]
    pub(super) fn look_outside(&mut self, number: u64) {
        if let Some(outsider) = self.outsider_at_dram() {
            self.find_writes(outsider, number);
        }
    }

    /// Which bytes of the line it has written since that was last asked.
    #[cold]
    fn find_writes(&mut self, outsider: MasterId, number: u64) -> u64 {
        if self.aliases.mapped.contains_key(&(number * LINE / PAGE)) {
            return 0;
        }
        let bytes = self.images.changed_in_dram(number);
        if bytes == 0 {
            return 0;
        }
        self.cache.count_dma(0, bytes.count_ones() as usize);
        self.dma_writes = self.dma_writes.saturating_add(1);
        self.speculative_fill(number);
        let by = ByMaster {
            who: Who::device(outsider, TransferId::CONTROL, false),
            in_flight: false,
            bytes,
            content: Content::Data,
            release: self.sanitizer.unprompted(),
            handover: 0,
        };
        let mut s = Subject::new(&mut self.lines, &self.images, number);
        note_write(&mut s, &by, self.dma_writes);
        self.sanitizer.non_snooping_write(&mut s, &by);
        if s.line.state == State::Clean {
            s.line.flags |= DIVERGED;
        }
        bytes
    }

    /// Whether what has changed of a line in RAM need not be a CPU's; then it is in both images from now on.
    /// `is_one`: there is one memory below it anyway.
    pub(super) fn takes_for_outsiders(&mut self, number: u64, is_one: bool) -> bool {
        let Some(outsider) = self.outsider else {
            return false;
        };
        if self.port(outsider).snoops_writes() {
            self.images.write_back(number * LINE, LINE as usize);
            return true;
        }
        is_one
    }

    /// [`Domain::remapped`] where pages become one memory, right after this, or have just become two again.
    pub(super) fn remapped_beside_outsider(&mut self, pages: Range<u64>, non_cacheable: bool) {
        for page in pages {
            if !non_cacheable {
                self.images.settle(page);
                continue;
            }
            if self.aliases.mapped.contains_key(&page) {
                continue;
            }
            for number in page * PAGE_LINES as u64..(page + 1) * PAGE_LINES as u64 {
                self.look_outside(number);
                self.look_at(number * LINE, LINE);
                if self.lines.line(number).state == State::Dirty {
                    self.evict(number);
                }
            }
        }
    }

    /// The guest has ended. What an outsider has written and nobody has invalidated since, CPUs that read it now
    /// would miss; whether they do, nobody sees. So only lines count that hold something else in RAM.
    pub fn look_outside_at_the_end(&mut self) {
        let Some(outsider) = self.outsider_at_dram() else {
            return;
        };
        for page in self.images.pages_changed_in_dram() {
            for number in page * PAGE_LINES as u64..(page + 1) * PAGE_LINES as u64 {
                let written = self.find_writes(outsider, number);
                let stale = written & self.images.difference(number);
                if stale != 0 {
                    let reader = Who::cpu(CpuId::BOOT, SiteId(0));
                    let mut s = Subject::new(&mut self.lines, &self.images, number);
                    self.sanitizer.coherent_read(&mut s, stale, reader);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use vm_memory::{Bytes as _, FileOffset, MmapRegion, VolatileMemory as _};

    use super::*;
    use crate::coherency::DramImage;
    use crate::coherency::config::DomainConfig;
    use crate::coherency::poison::Poison;
    use crate::cpu::{Barrier, CacheOp, ChainId};
    use crate::dma::Port;
    use crate::hazard::HazardKind;

    const BASE: u64 = 0x4000_0000;
    const BYTES: usize = 1 << 20;

    /// Two mappings of the same memory.
    fn memory() -> [MmapRegion; 2] {
        let file = tempfile::tempfile().unwrap();
        file.set_len(BYTES as u64).unwrap();
        [file.try_clone().unwrap(), file]
            .map(|file| MmapRegion::from_file(FileOffset::new(file, 0), BYTES).unwrap())
    }

    struct Rig {
        d: Domain,
        ram: MmapRegion,
        dram: MmapRegion,
    }

    fn rig(port: Port) -> Rig {
        let ([ram, ram_too], [dram, dram_too]) = (memory(), memory());
        let mut config = DomainConfig::plain(BASE, BYTES as u64, vec![port]);
        config.lazy = Some(Poison::default());
        let dram_too = Some(DramImage::Shared(dram_too));
        let d = Domain::over(&config, (ram_too, dram_too), Some(MasterId(0))).unwrap();
        Rig { d, ram, dram }
    }

    fn put(memory: &MmapRegion, at: u64, bytes: &[u8]) {
        let slice = memory.as_volatile_slice();
        slice.write_slice(bytes, at as usize).unwrap();
    }

    fn get(memory: &MmapRegion, at: u64) -> u8 {
        memory.as_volatile_slice().read_obj(at as usize).unwrap()
    }

    impl Rig {
        fn maintain(&mut self, op: CacheOp, at: u64) {
            let pa = BASE + at;
            self.d.maintain(CpuId::BOOT, op, pa, SiteId(0), ChainId(0));
            self.d.barrier(CpuId::BOOT, Barrier::DSB_SY);
        }

        fn kinds(&mut self) -> Vec<HazardKind> {
            self.d.look_outside_at_the_end();
            self.d.report().hazards.iter().map(|f| f.kind).collect()
        }
    }

    #[test]
    fn what_it_writes_is_there_after_an_invalidate() {
        let mut r = rig(Port::Hp);
        r.maintain(CacheOp::Clean, 0);
        put(&r.dram, 0, &[7; 64]);
        assert_eq!(get(&r.ram, 0), 0);
        r.maintain(CacheOp::Invalidate, 0);
        assert_eq!(get(&r.ram, 0), 7);
        // And again, with what a CPU has made of it.
        put(&r.ram, 0, &[8; 64]);
        r.maintain(CacheOp::Clean, 0);
        assert_eq!(get(&r.dram, 0), 8);
        put(&r.dram, 0, &[9; 64]);
        r.maintain(CacheOp::Invalidate, 0);
        assert_eq!(get(&r.ram, 0), 9);
        assert_eq!(r.kinds(), []);
    }

    #[test]
    fn what_nobody_invalidates_is_found_at_the_end() {
        let mut r = rig(Port::Hp);
        put(&r.dram, 64, &[7; 64]);
        assert_eq!(r.kinds(), [HazardKind::MissingInvalidate]);
        // Where the same stands there, nothing is missed.
        let mut r = rig(Port::Hp);
        put(&r.ram, 64, &[7; 64]);
        put(&r.dram, 64, &[7; 64]);
        assert_eq!(r.kinds(), []);
    }

    #[test]
    fn a_store_beside_what_it_writes_takes_it_away() {
        let mut r = rig(Port::Hp);
        put(&r.dram, 0, &[7; 32]);
        put(&r.ram, 32, &[1; 32]);
        // A line that is only partly a buffer's.
        r.maintain(CacheOp::CleanInvalidate, 0);
        assert_eq!((get(&r.dram, 0), get(&r.ram, 0)), (0, 0));
        let kinds: Vec<_> = r.d.report().hazards.iter().map(|f| f.kind).collect();
        assert!(!kinds.contains(&HazardKind::MissingBarrier), "{kinds:?}");
    }

    #[test]
    fn one_that_snoops_works_on_the_same_memory_as_cpus() {
        let mut r = rig(Port::Hpc);
        put(&r.ram, 0, &[7; 64]);
        r.maintain(CacheOp::Invalidate, 0);
        assert_eq!((get(&r.ram, 0), get(&r.dram, 0)), (7, 7));
        assert_eq!(r.kinds(), []);
    }

    #[test]
    fn a_page_that_is_one_memory_is_left_alone() {
        let mut r = rig(Port::Hp);
        put(&r.ram, 0, &[5; 64]);
        r.d.remapped(BASE, 4096, true);
        // It was pushed out for that.
        assert_eq!(get(&r.dram, 0), 5);
        put(&r.dram, 64, &[7; 64]);
        r.maintain(CacheOp::Invalidate, 64);
        assert_eq!(r.kinds(), []);
        // Two again, with the same in both.
        put(&r.ram, 64, &[7; 64]);
        r.d.remapped(BASE, 4096, false);
        r.maintain(CacheOp::Clean, 64);
        assert_eq!(r.kinds(), []);
    }
}
