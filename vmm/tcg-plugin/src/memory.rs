// SPDX-License-Identifier: GPL-2.0-or-later
//! Guest RAM, by physical and by virtual address.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use vm_memory::{
    Address as _, Bytes, GuestAddress, GuestMemoryBackend as _, GuestMemoryMmap,
    GuestMemoryRegion as _, GuestRegionMmap, MemoryRegionAddress, VolatileMemory as _,
};

use crate::chain::VirtualMemory;
use crate::mmu::{Registers, TableMemory};

/// Physical addresses of the first region.
fn range(memory: &GuestMemoryMmap) -> Range<u64> {
    memory.iter().next().map_or(0..0, |region| {
        let start = region.start_addr().raw_value();
        start..start + region.len()
    })
}

/// Guest RAM, in one piece.
pub struct Ram {
    memory: GuestMemoryMmap,
    /// The first region, so that nobody has to look for it on the hot path.
    region: Option<Arc<GuestRegionMmap>>,
}

impl Ram {
    /// The first region is RAM.
    pub fn new(memory: GuestMemoryMmap) -> Self {
        let Range { start, end } = range(&memory);
        let region = memory.remove_region(GuestAddress(start), end - start);
        Ram {
            region: region.ok().map(|(_, region)| region),
            memory,
        }
    }

    /// Its physical addresses.
    pub fn range(&self) -> Range<u64> {
        range(&self.memory)
    }

    /// Reads what stands at `pa`; whether all of it is RAM.
    pub fn read(&self, pa: u64, into: &mut [u8]) -> bool {
        self.memory.read_slice(into, GuestAddress(pa)).is_ok()
    }

    /// Writes zeros; whether all of it is RAM.
    pub fn zero<const BYTES: usize>(&self, pa: u64) -> bool {
        let zeros = [0; BYTES];
        self.memory.write_slice(&zeros, GuestAddress(pa)).is_ok()
    }
}

impl TableMemory for Ram {
    #[inline(always)]
    fn read_u64(&self, pa: u64) -> Option<u64> {
        // Not by way of a search for the region, nor of what is not inlined: this is on the hot path.
        let region = self.region.as_ref()?;
        let at = MemoryRegionAddress(pa.checked_sub(region.start_addr().raw_value())?);
        let slice = region.get_slice(at, size_of::<u64>()).ok()?;
        let word = slice.get_atomic_ref::<AtomicU64>(0).ok()?;
        Some(u64::from_le(word.load(Ordering::Relaxed)))
    }
}

/// The device windows, in one piece: memory that the CPU reads and writes by itself.
pub struct Windows {
    memory: GuestMemoryMmap,
    range: Range<u64>,
}

impl Windows {
    /// The first region is all of them; there may be none.
    pub fn new(memory: GuestMemoryMmap) -> Self {
        let range = range(&memory);
        Windows { memory, range }
    }

    /// Whether an address is in one.
    pub fn contains(&self, pa: u64) -> bool {
        self.range.contains(&pa)
    }

    /// What stands at `pa`, up to `size` bytes; `None` if not all of it is in windows.
    pub fn read<'a>(&self, pa: u64, into: &'a mut [u8], size: u32) -> Option<&'a [u8]> {
        let into = into.get_mut(..size as usize)?;
        self.memory.read_slice(into, GuestAddress(pa)).ok()?;
        Some(into)
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
