// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//! CPUs' stores where no engine tells of them: they are found when a master or maintenance comes to a line.
//!
//! What RAM holds beyond what it was last seen to hold, a CPU has stored since. So each line is looked at before
//! anything happens to it, and what is found is judged as a store just then. That is sound: such a store did take
//! place after whatever has happened to the line before. What is missed are stores of what was there already, and
//! the part of a store that is so: with that in mind, bytes that hold what is at the PoC count as settled by a store
//! to their line, and when a non-cacheable mapping of it is gone. At power-on, RAM holds what nobody would store
//! ([`Poison`](super::poison::Poison)).
//!
//! Loads are not seen at all. The architecture lets a cacheable line be fetched at any time, so a copy of each is
//! taken to be in the cache when a master that does not snoop writes below it.
//!
//! When exactly a store took place, and by whom, is not known; so the rules about order and about who may
//! access what do not apply, and whoever uses such a domain leaves them out
//! ([`Fidelity`](crate::fidelity::Fidelity)).

use super::alias::ENTRY;
use super::domain::Domain;
use super::line::{PAGE, PAGE_LINES, mask, parts};
use super::sanitizer::Subject;
use super::who::Who;
use crate::cpu::{CpuId, LINE, MemoryType, SiteId};

impl Domain {
    /// Looks for stores to `len` bytes at `offset`, if nobody tells of them.
    #[inline]
    pub(super) fn look_at(&mut self, offset: u64, len: u64) {
        if self.images.watches_ram() {
            self.find_stores(offset, len);
        }
    }

    #[cold]
    #[inline(never)]
    fn find_stores(&mut self, offset: u64, len: u64) {
        for (number, ..) in parts(offset, len) {
            let lines = &self.lines;
            let changed = self.images.changed(number, || lines.loaded_of_page(number));
            if changed == 0 {
                continue;
            }
            let page = number * LINE / PAGE;
            let is_one = self.aliases.mapped.contains_key(&page);
            if self.takes_for_outsiders(number, is_one) {
                continue;
            }
            let memory = match is_one {
                true => MemoryType::NonCacheable,
                false => {
                    self.settle_alike(number);
                    MemoryType::Cacheable
                }
            };
            let mut left = changed;
            while left != 0 {
                let first = u64::from(left.trailing_zeros());
                let run = u64::from((left >> first).trailing_ones());
                left &= !mask(first, run);
                let who = Who::cpu(CpuId::BOOT, SiteId(0));
                self.store_slow(number * LINE + first, run, who, memory);
            }
        }
    }

    /// Bytes of a line that hold what is at the PoC anyway are not behind it any more. A store of just that, which
    /// settles them, is not found: what is in its way, or is told by the rest of such a store, would be told of who is
    /// right.
    fn settle_alike(&mut self, number: u64) {
        if !self.lines.has_cold(number) {
            return;
        }
        let differing = self.images.difference(number);
        let mut s = Subject::new(&mut self.lines, &self.images, number);
        s.settle_but(differing);
    }

    /// A CPU says that it has mapped `len` bytes at `pa` as non-cacheable, or that no such mapping is left. What
    /// lies outside RAM is ignored.
    pub fn remapped(&mut self, pa: u64, len: u64, non_cacheable: bool) {
        let Some(first) = self.offset(pa, len) else {
            return;
        };
        let pages = first / PAGE..(first + len).div_ceil(PAGE);
        if self.outsider.is_some() {
            self.remapped_beside_outsider(pages.clone(), non_cacheable);
        }
        self.look_at(first, len);
        for page in pages {
            // An entry of the tables is behind it that nobody has seen: beyond all that there are.
            let entry = self.len + page * ENTRY;
            self.unmap(entry);
            if non_cacheable {
                self.file(entry, (page, 1));
                continue;
            }
            for number in page * PAGE_LINES as u64..(page + 1) * PAGE_LINES as u64 {
                self.settle_alike(number);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use vm_memory::{Bytes as _, MmapRegion, VolatileMemory as _};

    use super::*;
    use crate::coherency::config::{DomainConfig, PowerOn};
    use crate::coherency::hazard::HazardKind;
    use crate::coherency::images::DramImage;
    use crate::coherency::poison::Poison;
    use crate::cpu::{Barrier, CacheOp, ChainId};
    use crate::dma::{Access, Content, Direction, DmaMemory as _, MasterId, Order, Port, Transfer};
    use crate::state::Stateful as _;

    const BASE: u64 = 0x4000_0000;
    const BYTES: u64 = 1 << 20;
    const HP: MasterId = MasterId(0);
    const HPC: MasterId = MasterId(1);

    /// A domain that nobody tells of stores.
    fn domain() -> Domain {
        Domain::new(&config(), MmapRegion::new(BYTES as usize).unwrap()).unwrap()
    }

    fn config() -> DomainConfig {
        let mut config = DomainConfig::plain(BASE, BYTES, vec![Port::Hp, Port::Hpc]);
        config.lazy = Some(Poison::default());
        config
    }

    /// Another one, over a copy of RAM, that goes on from its saved state.
    fn renewed(d: &Domain) -> Domain {
        renewed_by(&config(), d)
    }

    fn renewed_by(config: &DomainConfig, d: &Domain) -> Domain {
        let ram = MmapRegion::new(BYTES as usize).unwrap();
        let (from, to) = (d.mapping().as_volatile_slice(), ram.as_volatile_slice());
        from.copy_to_volatile_slice(to);
        let saved = d.save_state().unwrap();
        let mut fresh = Domain::new(config, ram).unwrap();
        fresh.restore_state(&saved).unwrap();
        assert!(fresh.save_state().unwrap() == saved);
        fresh
    }

    /// A CPU stores without a word.
    fn store(d: &Domain, pa: u64, data: &[u8]) {
        let slice = d.mapping().as_volatile_slice();
        slice.write_slice(data, (pa - BASE) as usize).unwrap();
    }

    fn ram(d: &Domain, pa: u64) -> u8 {
        let slice = d.mapping().as_volatile_slice();
        slice.read_obj((pa - BASE) as usize).unwrap()
    }

    fn maintain(d: &mut Domain, op: CacheOp, pa: u64) {
        d.maintain(CpuId::BOOT, op, pa, SiteId(0), ChainId(0));
        d.barrier(CpuId::BOOT, Barrier::DSB_SY);
    }

    fn read(d: &mut Domain, master: MasterId, pa: u64) -> u8 {
        let mut byte = [0];
        d.dma_read(
            master,
            Access {
                content: Content::Data,
                ..Access::event()
            },
            pa,
            &mut byte,
        )
        .unwrap();
        byte[0]
    }

    fn write(d: &mut Domain, master: MasterId, pa: u64, value: u8) {
        d.dma_write(
            master,
            Access {
                content: Content::Data,
                ..Access::event()
            },
            pa,
            &[value; 64],
        )
        .unwrap();
    }

    fn kinds(d: &Domain) -> Vec<HazardKind> {
        d.report().hazards.iter().map(|f| f.kind).collect()
    }

    #[test]
    fn what_is_not_cleaned_is_not_seen_by_who_does_not_snoop() {
        let mut d = domain();
        store(&d, BASE, &[7; 64]);
        assert_eq!(read(&mut d, HP, BASE), 0);
        assert_eq!(kinds(&d), [HazardKind::MissingClean]);

        let mut d = domain();
        store(&d, BASE, &[7; 64]);
        maintain(&mut d, CacheOp::Clean, BASE);
        assert_eq!(read(&mut d, HP, BASE), 7);
        assert_eq!(kinds(&d), []);
        // And once more: what was cleaned is old now.
        store(&d, BASE, &[8; 64]);
        assert_eq!(read(&mut d, HP, BASE), 7);
        assert_eq!(kinds(&d), [HazardKind::MissingClean]);
    }

    #[test]
    fn a_snooping_reader_gets_the_copy_that_nobody_has_invalidated() {
        let mut d = domain();
        write(&mut d, HP, BASE, 5);
        assert_eq!(read(&mut d, HPC, BASE), 0);
        assert_eq!(kinds(&d), [HazardKind::MissingInvalidate]);

        let mut d = domain();
        write(&mut d, HP, BASE, 5);
        maintain(&mut d, CacheOp::Invalidate, BASE);
        assert_eq!((read(&mut d, HPC, BASE), ram(&d, BASE)), (5, 5));
        assert_eq!(kinds(&d), []);
    }

    /// As devices do: in a transfer that is open.
    #[test]
    fn what_is_stored_anew_has_to_be_cleaned_anew() {
        let mut d = domain();
        store(&d, BASE, &[7; 64]);
        maintain(&mut d, CacheOp::Clean, BASE);
        let play = |d: &mut Domain| {
            let transfer = Transfer {
                direction: Direction::FromMemory,
                pa: BASE,
                bus: None,
                scattered: false,
                len: 64,
                descriptor: 0,
                channel: 0,
                snoop: false,
            };
            let order = Order::Doorbell(d.doorbell(HP));
            let id = d.transfer_open(HP, transfer, order);
            let mut byte = [0];
            d.dma_read(HP, Access::data(id), BASE, &mut byte).unwrap();
            d.transfer_close(HP, id);
            byte[0]
        };
        assert_eq!((play(&mut d), kinds(&d)), (7, vec![]));
        store(&d, BASE, &[8; 64]);
        assert_eq!(play(&mut d), 7);
        assert_eq!(kinds(&d), [HazardKind::MissingClean]);
    }

    #[test]
    fn a_line_that_has_to_leave_takes_what_was_stored_along() {
        let mut d = domain();
        // A copy of what was there before is in the cache, so the two memories differ.
        write(&mut d, HP, BASE, 5);
        store(&d, BASE + 8, &[7]);
        d.evict(0);
        assert_eq!(ram(&d, BASE + 8), 7);
        assert_eq!(read(&mut d, HP, BASE + 8), 7);
    }

    #[test]
    fn an_invalidate_takes_away_what_was_stored() {
        let mut d = domain();
        store(&d, BASE, &[7]);
        maintain(&mut d, CacheOp::Invalidate, BASE);
        assert_eq!(ram(&d, BASE), 0);
        assert_eq!(kinds(&d), [HazardKind::DiscardedWrite]);
    }

    /// A device that is still at work looks at its ring again, and finds what was added since its doorbell.
    #[test]
    fn who_polls_a_word_may_have_been_started_by_it() {
        let (word, data) = (BASE, BASE + 4096);
        for cleaned in [true, false] {
            let mut d = domain();
            d.remapped(word, 4096, true);
            let order = Order::Handover {
                word,
                shows: 1,
                idle_until: d.doorbell(HP),
            };
            store(&d, data, &[7; 64]);
            if cleaned {
                maintain(&mut d, CacheOp::Clean, data);
            }
            store(&d, word, &[1]);
            let mut byte = [0];
            d.dma_read(HP, Access::descriptor(order), data, &mut byte)
                .unwrap();
            let (reads, found): (_, &[_]) = match cleaned {
                true => (7, &[]),
                false => (0, &[HazardKind::MissingClean]),
            };
            assert_eq!((byte, &*kinds(&d)), ([reads], found));
        }
    }

    #[test]
    fn non_cacheable_memory_is_one_for_all() {
        let mut d = domain();
        maintain(&mut d, CacheOp::Clean, BASE);
        d.remapped(BASE, 4096, true);
        d.remapped(BASE + BYTES - 4096, 4096, true);
        let mut d = renewed(&d);
        store(&d, BASE, &[7; 64]);
        assert_eq!(read(&mut d, HP, BASE), 7);
        write(&mut d, HP, BASE + 64, 9);
        assert_eq!(ram(&d, BASE + 64), 9);
        assert_eq!(kinds(&d), []);
        // As before, when it is over.
        d.remapped(BASE, 4096, false);
        store(&d, BASE, &[1; 64]);
        assert_eq!(read(&mut d, HP, BASE), 7);
        assert_eq!(kinds(&d), [HazardKind::MissingClean]);
    }

    #[test]
    fn what_was_seen_before_a_restart_is_not_found_again() {
        let mut d = domain();
        store(&d, BASE, &[7; 64]);
        store(&d, BASE + 64, &[7; 64]);
        maintain(&mut d, CacheOp::Clean, BASE);
        maintain(&mut d, CacheOp::Clean, BASE + 64);
        // Not found yet when the state is saved.
        store(&d, BASE + 64, &[8; 64]);
        let mut d = renewed(&d);
        assert_eq!(read(&mut d, HP, BASE), 7);
        assert_eq!(kinds(&d), []);
        let mut d = renewed(&d);
        assert_eq!(read(&mut d, HP, BASE + 64), 7);
        assert_eq!(kinds(&d), [HazardKind::MissingClean]);
    }

    #[test]
    fn what_was_loaded_nobody_has_stored() {
        let ram = MmapRegion::new(BYTES as usize).unwrap();
        ram.as_volatile_slice().write_slice(&[3; 64], 0).unwrap();
        let mut config = DomainConfig::plain(BASE, BYTES, vec![Port::Hp]);
        config.lazy = Some(Poison::default());
        let mut d = Domain::new(&config, ram).unwrap();
        d.loaded(BASE, 64);
        assert_eq!(read(&mut d, HP, BASE), 3);
        assert_eq!(kinds(&d), []);
    }

    #[test]
    fn zeros_over_poison_are_a_store_and_what_both_images_hold_at_power_on_is_none() {
        let pages = BYTES / PAGE;
        for power_on in [PowerOn::Dirty, PowerOn::Clean] {
            let memory = MmapRegion::new(BYTES as usize).unwrap();
            let poisoned = [Poison::BYTE; PAGE as usize];
            for page in 2..pages {
                let slice = memory.as_volatile_slice();
                slice
                    .write_slice(&poisoned, (page * PAGE) as usize)
                    .unwrap();
            }
            let mut config = config();
            config.power_on = power_on;
            let poison = std::iter::once(2..pages);
            config.lazy = Some(Poison::new(poison.collect()));
            let mut d = Domain::new(&config, memory).unwrap();
            // Nobody has stored there, whatever is below.
            let below = match power_on {
                PowerOn::Dirty => 0xdb,
                PowerOn::Clean => Poison::BYTE,
            };
            assert_eq!(read(&mut d, HPC, BASE + 7 * PAGE), Poison::BYTE);
            maintain(&mut d, CacheOp::Invalidate, BASE + 7 * PAGE);
            assert_eq!(ram(&d, BASE + 7 * PAGE), below);
            assert_eq!(kinds(&d), []);
            store(&d, BASE + 8 * PAGE, &[0; 64]);
            maintain(&mut d, CacheOp::Invalidate, BASE + 8 * PAGE);
            assert_eq!(ram(&d, BASE + 8 * PAGE), below);
            assert_eq!(kinds(&d), [HazardKind::DiscardedWrite]);
            // One that goes on knows what a page was at power-on that nobody has looked at.
            store(&d, BASE + 9 * PAGE, &[0; 64]);
            let mut d = renewed_by(&config, &d);
            let found = |d: &Domain| d.report().hazards.iter().map(|f| f.lines).sum::<u64>();
            assert_eq!(found(&d), 1);
            maintain(&mut d, CacheOp::Invalidate, BASE + 10 * PAGE);
            assert_eq!(ram(&d, BASE + 10 * PAGE), below);
            assert_eq!(found(&d), 1);
            maintain(&mut d, CacheOp::Invalidate, BASE + 9 * PAGE);
            assert_eq!(ram(&d, BASE + 9 * PAGE), below);
            assert_eq!(found(&d), 2);
        }
    }

    #[test]
    fn what_was_stored_past_the_cache_is_in_no_ones_way_when_its_mapping_is_gone() {
        let mut d = domain();
        store(&d, BASE, &[1; 128]);
        maintain(&mut d, CacheOp::CleanInvalidate, BASE);
        maintain(&mut d, CacheOp::CleanInvalidate, BASE + 64);
        d.remapped(BASE, PAGE, true);
        store(&d, BASE, &[0; 128]);
        assert_eq!(read(&mut d, HP, BASE), 0);
        d.remapped(BASE, PAGE, false);
        // Of a page that is cleared then, nothing is seen; of what goes there later, the rest.
        assert_eq!(read(&mut d, HPC, BASE), 0);
        let data: Vec<u8> = (0..64).map(|n| n % 3).collect();
        store(&d, BASE + 64, &data);
        maintain(&mut d, CacheOp::Clean, BASE + 64);
        assert_eq!(read(&mut d, HP, BASE + 64), 0);
        assert_eq!(read(&mut d, HPC, BASE + 64), 0);
        assert_eq!(kinds(&d), []);
    }

    #[test]
    fn what_was_loaded_is_made_again_and_a_store_to_it_found_after_that() {
        let memory = || {
            let memory = MmapRegion::new(BYTES as usize).unwrap();
            let slice = memory.as_volatile_slice();
            slice.write_slice(&[3; 3 * PAGE as usize], 0).unwrap();
            memory
        };
        let config = config();
        let make = |ram| {
            let dram = Some(DramImage::Loaded(memory()));
            let mut d = Domain::over(&config, (ram, dram), None).unwrap();
            d.loaded(BASE, 3 * PAGE);
            d
        };
        let mut d = make(memory());
        // One page is looked at before it is saved, and is stored to on both sides of that.
        store(&d, BASE + PAGE, &[4]);
        maintain(&mut d, CacheOp::Clean, BASE + PAGE);
        store(&d, BASE + PAGE + 64, &[5]);
        // And one is not.
        store(&d, BASE + 64, &[6]);
        let saved = d.save_state().unwrap();
        let ram = MmapRegion::new(BYTES as usize).unwrap();
        let (from, to) = (d.mapping().as_volatile_slice(), ram.as_volatile_slice());
        from.copy_to_volatile_slice(to);
        let mut d = make(ram);
        d.restore_state(&saved).unwrap();
        assert!(d.save_state().unwrap() == saved);
        // What was cleaned has come, and nothing that was not.
        for (offset, should) in [(PAGE, 4), (0, 3), (2 * PAGE, 3)] {
            assert_eq!(read(&mut d, HP, BASE + offset), should, "{offset:#x}");
        }
        assert_eq!(kinds(&d), []);
        assert_eq!(read(&mut d, HP, BASE + PAGE + 64), 3);
        assert_eq!(read(&mut d, HP, BASE + 64), 3);
        assert_eq!(kinds(&d), [HazardKind::MissingClean]);
        assert_eq!(d.report().hazards[0].lines, 2);
    }
}
