// SPDX-License-Identifier: GPL-2.0-or-later
//! Guest RAM, by physical and by virtual address.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use vm_memory::{
    Address as _, Bytes, GuestAddress, GuestMemoryBackend as _, GuestMemoryMmap,
    GuestMemoryRegion as _, MemoryRegionAddress, VolatileMemory as _,
};

use crate::chain::VirtualMemory;
use crate::mmu::{Registers, TableMemory};

/// Guest RAM, in one piece.
pub struct Ram(GuestMemoryMmap);

impl Ram {
    /// The first region is RAM.
    pub fn new(memory: GuestMemoryMmap) -> Self {
        Ram(memory)
    }

    /// Its physical addresses.
    pub fn range(&self) -> Range<u64> {
        self.0.iter().next().map_or(0..0, |region| {
            let start = region.start_addr().raw_value();
            start..start + region.len()
        })
    }

    /// Writes zeros; whether all of it is RAM.
    pub fn zero<const BYTES: usize>(&self, pa: u64) -> bool {
        self.0.write_slice(&[0; BYTES], GuestAddress(pa)).is_ok()
    }
}

impl TableMemory for Ram {
    #[inline(always)]
    fn read_u64(&self, pa: u64) -> Option<u64> {
        // Not by way of a search for the region, nor of what is not inlined: this is on the hot path.
        let region = self.0.iter().next()?;
        let at = MemoryRegionAddress(pa.checked_sub(region.start_addr().raw_value())?);
        let slice = region.get_slice(at, size_of::<u64>()).ok()?;
        let word = slice.get_atomic_ref::<AtomicU64>(0).ok()?;
        Some(u64::from_le(word.load(Ordering::Relaxed)))
    }
}

/// Memory by virtual address; remembers the last few pages or blocks.
pub struct Virtual<'a> {
    registers: &'a Registers,
    ram: &'a Ram,
    /// First address, bytes minus 1, physical address.
    recent: [Option<(u64, u64, u64)>; 2],
}

impl<'a> Virtual<'a> {
    /// As the CPU sees it with these registers.
    pub fn new(registers: &'a Registers, ram: &'a Ram) -> Self {
        Virtual {
            registers,
            ram,
            recent: [None; 2],
        }
    }
}

impl VirtualMemory for Virtual<'_> {
    fn read_u64(&mut self, va: u64) -> Option<u64> {
        let known = self.recent.iter().flatten();
        let known = known.copied().find(|(start, mask, _)| va & !mask == *start);
        let (_, mask, pa) = match known {
            Some(block) => block,
            None => {
                let t = self.registers.translate(self.ram, va)?;
                let mask = 1u64.checked_shl(t.shift).map_or(u64::MAX, |size| size - 1);
                let block = (va & !mask, mask, t.pa & !mask);
                self.recent = [Some(block), self.recent[0]];
                block
            }
        };
        self.ram.read_u64(pa | va & mask)
    }
}
