// SPDX-License-Identifier: GPL-2.0-or-later
//! A software TLB in front of [`crate::mmu`]: one comparison on the hot path.
//!
//! Direct-mapped, by 4 KiB page. A tag holds the page number and a *context*: a small number for
//! the tables and the ASID in use. To forget everything is to take new contexts. Only when their
//! numbers run out are the entries cleared.

mod state;

use std::collections::HashMap;

use staleline_devices::cpu::MemoryType;

pub use self::state::TlbState;
use crate::mmu::{PAGE, Registers, Translation};

const ENTRIES: usize = 1 << 12;
/// Bits of the virtual address in a tag: all that select a page, without the address tag in bits
/// 63 to 56. Bits 11 to 0 are the context.
const TAG_PAGE: u64 = 0x00ff_ffff_ffff_f000;
const CONTEXTS: u64 = 1 << 12;
/// No address makes this tag.
const EMPTY: u64 = u64::MAX;

/// Log2 of a GiB.
const GIB_SHIFT: u32 = 30;

const NON_CACHEABLE: u64 = 1 << 0;
const FOREIGN: u64 = 1 << 1;
const WINDOW: u64 = 1 << 2;
/// The page's or block's log2 size, in bits 9 to 3.
const SHIFT_AT: u32 = 3;
const SHIFT_MASK: u64 = 0x7f;

/// What stands behind a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Guest RAM.
    Ram,
    /// A window of the machine's devices.
    Window,
    /// None of the machine's.
    Foreign,
}

/// What the TLB knows of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hit(u64);

impl Hit {
    /// The entry for a translation.
    pub fn new(translation: &Translation, target: Target) -> Self {
        let mut value = translation.pa & !(PAGE - 1);
        value |= u64::from(translation.shift) << SHIFT_AT;
        if translation.memory == MemoryType::NonCacheable {
            value |= NON_CACHEABLE;
        }
        value |= match target {
            Target::Ram => 0,
            Target::Window => WINDOW,
            Target::Foreign => FOREIGN,
        };
        Hit(value)
    }

    /// The physical address behind `va`.
    #[inline(always)]
    pub fn pa(self, va: u64) -> u64 {
        self.0 & !(PAGE - 1) | va & (PAGE - 1)
    }

    /// The memory attribute.
    #[inline(always)]
    pub fn memory(self) -> MemoryType {
        if self.0 & NON_CACHEABLE == 0 {
            MemoryType::Cacheable
        } else {
            MemoryType::NonCacheable
        }
    }

    /// Whether it is guest RAM, and cacheable.
    #[inline(always)]
    pub fn is_cacheable_ram(self) -> bool {
        self.0 & (FOREIGN | WINDOW | NON_CACHEABLE) == 0
    }

    /// Whether it is guest RAM, as nearly always.
    #[inline(always)]
    pub fn is_ram(self) -> bool {
        self.0 & (FOREIGN | WINDOW) == 0
    }

    /// Whether the machine is not concerned.
    #[inline(always)]
    pub fn is_foreign(self) -> bool {
        self.0 & FOREIGN != 0
    }

    fn shift(self) -> u32 {
        (self.0 >> SHIFT_AT & SHIFT_MASK) as u32
    }
}

#[derive(Clone, Copy)]
struct Entry {
    tag: u64,
    hit: Hit,
}

const NONE: Entry = Entry {
    tag: EMPTY,
    hit: Hit(0),
};

/// The TLB.
pub struct Tlb {
    /// Contexts of the lower and the upper half, now.
    current: [u64; 2],
    entries: Box<[Entry; ENTRIES]>,
    // Only looked up, never iterated: the order cannot reach a result.
    lower: HashMap<(u64, u64), u64>,
    upper: HashMap<u64, u64>,
    next: u64,
    /// An entry of the upper half may belong to an ASID.
    upper_not_global: bool,
    /// Where there may be entries for pages of larger blocks: for each half of the address space, a bit
    /// for each GiB, modulo 64. So that to forget a page is not to look through all entries.
    blocks: [u64; 2],
}

/// Its half of the address space, and its bit in [`Tlb::blocks`].
fn block_bit(va: u64) -> (usize, u64) {
    ((va >> 55 & 1) as usize, 1 << (va >> GIB_SHIFT & 63))
}

impl Tlb {
    /// An empty TLB for `registers`.
    pub fn new(registers: &Registers) -> Self {
        let mut tlb = Tlb {
            current: [0; 2],
            entries: Box::new([NONE; ENTRIES]),
            lower: HashMap::new(),
            upper: HashMap::new(),
            next: 0,
            upper_not_global: false,
            blocks: [0; 2],
        };
        tlb.switch(registers);
        tlb
    }

    #[inline(always)]
    fn tag(&self, va: u64) -> u64 {
        va & TAG_PAGE | self.current[(va >> 55 & 1) as usize]
    }

    #[inline(always)]
    fn index(va: u64) -> usize {
        (va / PAGE) as usize % ENTRIES
    }

    /// The entry for `va`.
    #[inline(always)]
    pub fn lookup(&self, va: u64) -> Option<Hit> {
        let entry = &self.entries[Self::index(va)];
        (entry.tag == self.tag(va)).then_some(entry.hit)
    }

    /// Enters the page of `va`.
    pub fn insert(&mut self, va: u64, translation: &Translation, target: Target) -> Hit {
        let hit = Hit::new(translation, target);
        self.upper_not_global |= va >> 55 & 1 != 0 && translation.not_global;
        if translation.shift > PAGE.ilog2() {
            let (half, bit) = block_bit(va);
            self.blocks[half] |= bit;
            if translation.shift > GIB_SHIFT {
                // It reaches further; with the MMU off, everywhere.
                self.blocks = [u64::MAX; 2];
            }
        }
        self.entries[Self::index(va)] = Entry {
            tag: self.tag(va),
            hit,
        };
        hit
    }

    /// TTBR0, TTBR1 or the like have changed: entries for others stay, for their return.
    pub fn switch(&mut self, registers: &Registers) {
        // At most two new numbers.
        if self.next + 2 > CONTEXTS {
            self.entries.fill(NONE);
            self.lower.clear();
            self.upper.clear();
            self.next = 0;
        }
        let mut number = || {
            self.next += 1;
            self.next - 1
        };
        self.current = [
            *self
                .lower
                .entry(registers.lower_key())
                .or_insert_with(&mut number),
            *self
                .upper
                .entry(registers.upper_key())
                .or_insert_with(&mut number),
        ];
    }

    /// Forgets everything.
    pub fn flush(&mut self, registers: &Registers) {
        self.lower.clear();
        self.upper.clear();
        self.upper_not_global = false;
        self.blocks = [0; 2];
        self.switch(registers);
    }

    /// Forgets what belongs to an ASID, any ASID.
    pub fn flush_asid(&mut self, registers: &Registers) {
        if self.upper_not_global {
            return self.flush(registers);
        }
        self.lower.clear();
        self.switch(registers);
    }

    /// Forgets the page or block around `va`, in every context.
    pub fn flush_va(&mut self, va: u64) {
        let (half, bit) = block_bit(va);
        if self.blocks[half] & bit == 0 {
            // A page has one place, whatever the context.
            let entry = &mut self.entries[Self::index(va)];
            if (entry.tag ^ va) & TAG_PAGE == 0 {
                *entry = NONE;
            }
            return;
        }
        for entry in self.entries.iter_mut() {
            let differing = (entry.tag ^ va) & TAG_PAGE;
            if differing.checked_shr(entry.hit.shift()).unwrap_or(0) == 0 {
                *entry = NONE;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UPPER: u64 = 0xffff_8000_0000_0000;

    fn translation(pa: u64, shift: u32) -> Translation {
        Translation {
            pa,
            memory: MemoryType::Cacheable,
            shift,
            writable: true,
            user: true,
            accessed: true,
            not_global: false,
        }
    }

    fn space(ttbr0: u64) -> Registers {
        Registers {
            ttbr0,
            ..Registers::default()
        }
    }

    #[test]
    fn a_page_is_found_until_it_is_flushed() {
        let registers = space(1);
        let mut tlb = Tlb::new(&registers);
        assert_eq!(tlb.lookup(0x1234), None);
        tlb.insert(0x1234, &translation(0x8234, 12), Target::Ram);
        let hit = tlb.lookup(0x1ff8).unwrap();
        assert_eq!(hit.pa(0x1ff8), 0x8ff8);
        assert_eq!(hit.memory(), MemoryType::Cacheable);
        assert!(!hit.is_foreign());
        // The address tag of bits 63 to 56 does not matter.
        assert!(tlb.lookup(0xab00_0000_0000_1000).is_some());
        assert_eq!(tlb.lookup(0x2000), None);
        tlb.flush_va(0x2000);
        assert!(tlb.lookup(0x1000).is_some());
        tlb.flush_va(0x1000);
        assert_eq!(tlb.lookup(0x1000), None);
    }

    #[test]
    fn an_address_space_is_remembered_while_others_run() {
        let mut tlb = Tlb::new(&space(1));
        tlb.insert(0x1000, &translation(0x8000, 12), Target::Ram);
        tlb.insert(UPPER, &translation(0x9000, 12), Target::Foreign);
        tlb.switch(&space(2));
        assert_eq!(tlb.lookup(0x1000), None);
        assert!(tlb.lookup(UPPER).unwrap().is_foreign());
        tlb.switch(&space(1));
        assert!(tlb.lookup(0x1000).is_some());
        tlb.flush_asid(&space(1));
        assert_eq!(tlb.lookup(0x1000), None);
        assert!(tlb.lookup(UPPER).is_some());
        tlb.flush(&space(1));
        assert_eq!(tlb.lookup(UPPER), None);
    }

    #[test]
    fn an_asid_flush_takes_upper_pages_that_are_not_global() {
        let mut tlb = Tlb::new(&space(1));
        let mut local = translation(0x8000, 12);
        local.not_global = true;
        tlb.insert(UPPER, &local, Target::Ram);
        tlb.flush_asid(&space(1));
        assert_eq!(tlb.lookup(UPPER), None);
    }

    #[test]
    fn flushing_one_address_of_a_block_flushes_the_block() {
        let mut tlb = Tlb::new(&space(1));
        for page in 0..4 {
            let offset = 0x20_0000 + page * PAGE;
            tlb.insert(UPPER + offset, &translation(offset, 21), Target::Ram);
        }
        tlb.insert(UPPER, &translation(0, 12), Target::Ram);
        tlb.flush_va(UPPER + 0x3f_f000);
        for page in 0..4 {
            assert_eq!(tlb.lookup(UPPER + 0x20_0000 + page * PAGE), None);
        }
        assert!(tlb.lookup(UPPER).is_some());
        tlb.flush_va(UPPER);
        assert_eq!(tlb.lookup(UPPER), None, "a page among blocks");
        // With the MMU off, everything is one block.
        tlb.insert(0x1000, &translation(0x1000, 64), Target::Ram);
        tlb.flush_va(UPPER);
        assert_eq!(tlb.lookup(0x1000), None);
        // Blocks are no longer looked for where all have been forgotten.
        tlb.flush(&space(1));
        tlb.insert(0x1000, &translation(0x1000, 12), Target::Ram);
        tlb.insert(UPPER, &translation(0, 21), Target::Ram);
        tlb.flush_va(0x1000);
        assert!(tlb.lookup(0x1000).is_none() && tlb.lookup(UPPER).is_some());
        tlb.flush_va(UPPER + PAGE);
        assert_eq!(tlb.lookup(UPPER), None);
    }

    #[test]
    fn contexts_may_run_out() {
        let mut tlb = Tlb::new(&space(0));
        for round in 0..3 * CONTEXTS {
            let registers = space(round << 12);
            tlb.switch(&registers);
            assert_eq!(tlb.lookup(0x1000), None, "round {round}");
            tlb.insert(0x1000, &translation(round * PAGE, 12), Target::Ram);
            assert_eq!(tlb.lookup(0x1000).unwrap().pa(0x1000), round * PAGE);
            tlb.flush(&registers);
            assert_eq!(tlb.lookup(0x1000), None, "round {round}");
        }
    }
}
